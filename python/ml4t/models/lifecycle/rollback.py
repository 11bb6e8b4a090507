"""Several fits as one: all of them succeed, or none is taken."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def restored_on_failure(*parts: object) -> Iterator[None]:
    """Give the parts back what they held if the body raises; records of attempts stay.

    Works on any object that replaces its attributes when it is fitted, as all of this package do.
    What has no attributes of its own has nothing to give back.
    """
    parts = tuple(part for part in parts if hasattr(part, "__dict__"))
    before = [dict(vars(part)) for part in parts]
    try:
        yield
    except BaseException:
        for part, held in zip(parts, before, strict=True):
            now = vars(part)
            records = {name: now[name] for name in now if name.endswith("last_fit_record")}
            now.clear()
            now.update(held | records)
        raise
