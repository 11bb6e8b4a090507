"""Names of the key columns of a long frame."""

from __future__ import annotations

from collections.abc import Sequence

TIMESTAMP_CANDIDATES = ("timestamp", "datetime", "date", "time")
ENTITY_CANDIDATES = ("asset", "symbol", "ticker", "instrument", "security")


def resolve_column(
    role: str, named: str | None, candidates: Sequence[str], names: Sequence[str]
) -> str:
    """Resolve a key column: the named one, else the first candidate in the frame.

    Parameters
    ----------
    role : {"timestamp", "entity"}
    named : str, optional
    candidates : sequence of str
        Tried in order when nothing names the column.
    names : sequence of str
        Columns of the frame.

    Raises
    ------
    ValueError
        When the named column is not in the frame, or no candidate is.
    """
    if named is not None:
        if named not in names:
            raise ValueError(f"{role} column {named!r} was not found in columns {list(names)}")
        return named
    for candidate in candidates:
        if candidate in names:
            return candidate
    article = "an" if role == "entity" else "a"
    raise ValueError(
        f"Could not resolve {article} {role} column: none of {list(candidates)} in columns "
        f"{list(names)}; name it with {role}_col or schema"
    )
