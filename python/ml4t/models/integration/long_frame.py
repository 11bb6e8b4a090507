"""Long frame in memory: columns, keys and grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_mapping, require_names, require_text
from ml4t.models.integration.frame_reader import Column, read_columns
from ml4t.models.integration.grid import Grid, lay_out, scatter

if TYPE_CHECKING:
    from ml4t.models.integration.schema import ResolvedDatasetSchema


@dataclass(frozen=True, slots=True)
class LongFrame:
    """Columns of a frame with one row per date and asset.

    Attributes
    ----------
    columns : dict of str to Column
        Columns that the caller names.
    grid : Grid
    keys : ResolvedDatasetSchema
    dtype : numpy dtype
        float32 when all value columns are, else float64.
    """

    columns: dict[str, Column]
    grid: Grid
    keys: ResolvedDatasetSchema
    dtype: np.dtype[Any]

    @classmethod
    def read(
        cls,
        frame: Any,
        keys: ResolvedDatasetSchema,
        values: Sequence[str],
        *,
        label: str | None = None,
    ) -> LongFrame:
        """Read the key columns, `values` and a `label` (no number), and lay the rows out."""
        labels = (keys.timestamp_col, keys.entity_col, *([] if label is None else [label]))
        columns = read_columns(frame, (*labels, *values))
        columns |= {name: columns[name].numeric() for name in values if name not in labels}
        single = bool(values) and all(columns[name].is_single() for name in values)
        return cls(
            columns,
            lay_out(columns[keys.timestamp_col], columns[keys.entity_col]),
            keys,
            np.dtype(np.float32 if single else np.float64),
        )

    def tensor(self, names: Sequence[str]) -> NDArray[Any]:
        """Put columns on the grid, shape (T, N, L)."""
        return scatter([self.columns[name] for name in names], self.grid, self.dtype)

    def panel(self, name: str | None) -> NDArray[Any] | None:
        """Put one column on the grid, shape (T, N); None without a name."""
        return None if name is None else self.tensor([name])[:, :, 0]

    def metadata(self, given: Mapping[str, Any] | None) -> dict[str, Any]:
        """Add the names of the key columns to the caller's metadata.

        Types are added where labels do not determine them: ids that are not text, and timestamps
        of a frame without rows.
        """
        given = {} if given is None else require_mapping("metadata", given)
        metadata = {**given, **self.keys.metadata}
        if self.grid.entity_dtype not in (None, ("String",)):
            metadata["entity_dtype"] = self.grid.entity_dtype
        if not self.grid.timestamps and self.grid.timestamp_dtype is not None:
            metadata["timestamp_dtype"] = self.grid.timestamp_dtype
        return metadata


def listed(argument: str, names: Sequence[str]) -> list[str]:
    """Check a sequence of column names; a text is not one."""
    return list(require_names(argument, names))


def one_name(argument: str, name: str | None) -> list[str]:
    """Check the name of a column; empty for None."""
    return [] if name is None else [require_text(argument, name)]
