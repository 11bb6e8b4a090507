"""Tables of a fit, as text and as HTML.

Estimators give records of numbers (`Table`); their layout is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, TypeAlias

from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Estimate:
    """An estimate with its standard error.

    Attributes
    ----------
    value : float
    error : float or None
        None where there is none.
    """

    value: float
    error: float | None = None

    @property
    def stars(self) -> str:
        """Three, two or one where the two-sided normal test rejects zero at 1, 5 or 10 per cent."""
        if self.error is None or not self.error > 0:
            return ""
        ratio = abs(self.value) / self.error
        return "*" * sum(ratio > bound for bound in (1.6448536, 1.9599640, 2.5758293))


Cell: TypeAlias = str | int | float | bool | Estimate | None

STARS = "Standard errors in parentheses. *, **, ***: not zero at 10, 5, 1 per cent."


@dataclass(frozen=True, slots=True)
class Table:
    """A table of numbers and words.

    Attributes
    ----------
    title : str
    columns : tuple of str
        Heads of the columns after the first; empty for pairs of a name and a value.
    rows : tuple of (str, tuple of cells)
        Name and cells of every row.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]

    def column(self, name: str) -> tuple[Cell, ...]:
        """Cells under a head."""
        position = self.columns.index(name)
        return tuple(cells[position] for _, cells in self.rows)

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Yield rows of text; an estimate's standard error stands in a row below it."""
        for name, cells in self.rows:
            yield (name, *map(written, cells))
            if any(isinstance(cell, Estimate) and cell.error is not None for cell in cells):
                yield ("", *map(_error, cells))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ModelSummary(Record):
    """Tables and notes of a fit.

    Printing shows text; a notebook shows HTML.

    Attributes
    ----------
    title : str
    tables : tuple of Table
    notes : tuple of str
        Below the tables.
    """

    title: str
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()

    def table(self, title: str) -> Table:
        """Table of a title."""
        known = {table.title: table for table in self.tables}
        if title not in known:
            raise ValueError(f"title must be among {', '.join(known)}; got {title!r}")
        return known[title]

    def as_text(self) -> str:
        """Lay out in columns of equal width."""
        blocks = [(table, [*_head(table), *table.lines()]) for table in self.tables]
        width = max([len(self.title), *(_width(lines) for _, lines in blocks)])
        text_lines = [self.title.center(width).rstrip(), "=" * width]
        for table, lines in blocks:
            text_lines.append(table.title.center(width).rstrip())
            text_lines.append("-" * width)
            text_lines += _aligned(lines, width)
            text_lines.append("=" * width)
        return "\n".join([*text_lines, *self.notes])

    def as_html(self) -> str:
        """Lay out as one HTML table for each table, without styles of its own."""
        parts = [f"<h3>{escape(self.title)}</h3>"]
        for table in self.tables:
            heads = "".join(
                f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>"
                for head in _head(table)
            )
            rows = "".join(
                f"<tr><th>{escape(name)}</th>{_cells(texts)}</tr>" for name, *texts in table.lines()
            )
            parts.append(f"<table><caption>{escape(table.title)}</caption>{heads}{rows}</table>")
        parts += [f"<p>{escape(note)}</p>" for note in self.notes]
        return "".join(parts)

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        # At a prompt a summary shows its text.
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.as_html()


def written(cell: Cell) -> str:
    """Write a cell."""
    if cell is None:
        return ""
    if isinstance(cell, Estimate):
        return f"{written(cell.value)}{cell.stars}"
    if isinstance(cell, (bool, int, str)):
        return str(cell)
    size = abs(cell)
    if size != 0 and not 1e-3 <= size < 1e5:
        return f"{cell:.3e}"
    return f"{cell:.4f}"


def _error(cell: Cell) -> str:
    has_error = isinstance(cell, Estimate) and cell.error is not None
    return f"({written(cell.error)})" if has_error and isinstance(cell, Estimate) else ""


def _head(table: Table) -> list[tuple[str, ...]]:
    """Build the row of heads, where there are columns."""
    return [("", *table.columns)] if table.columns else []


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"<td>{escape(text)}</td>" for text in texts)


def _widths(lines: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) + 2 for column in zip(*lines, strict=True)]


def _width(lines: Sequence[tuple[str, ...]]) -> int:
    return sum(_widths(lines)) if lines else 0


def _aligned(lines: Sequence[tuple[str, ...]], width: int) -> Iterator[str]:
    """Names to the left, cells to the right, spread over the width."""
    if not lines:
        return
    first, *rest = _widths(lines)
    spare = max(0, width - first - sum(rest))
    for name, *texts in lines:
        cells = "".join(text.rjust(size) for text, size in zip(texts, rest, strict=True))
        yield f"{name.ljust(first + spare)}{cells}".rstrip()
