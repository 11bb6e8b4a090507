"""Moments of every date as something to keep: merged, extended, cut, saved.

Linear cross-sectional estimation needs each row once, for these. A new month costs one more date,
a window is a slice, and shards of a universe on other machines are a sum.
"""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.artifacts import records
from ml4t.models.checks import (
    require_finite,
    require_items,
    require_one_of,
    require_shape,
    require_type,
)
from ml4t.models.kernels import Moments, panel_moments
from ml4t.models.moments.dated import Dated, merged
from ml4t.models.moments.scan import Plan, scan
from ml4t.models.panel.imputation import POLICIES, median_filled_moments
from ml4t.models.panel.masks import require_returns
from ml4t.models.types import CrossSectionBatch
from ml4t.models.types.arrays import read_only, require_label_counts
from ml4t.models.types.instants import (
    in_time,
    instant,
    listed,
    require_ascending,
    require_one_kind,
)
from ml4t.models.types.time_axis import DatedRecord

if TYPE_CHECKING:
    from ml4t.models.moments.blocks import Source
    from ml4t.models.parallel import Executor

CONSTANT = "constant"
_MODEL_TYPE = "ml4t.models.CharacteristicMoments"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CharacteristicMoments(DatedRecord):
    r"""Second moments of instruments and returns, date by date: all that IPCA needs of a panel.

    With :math:`Z_t` the instruments of date t (a constant, then the L characteristics; P = L + 1
    columns) over the rows whose characteristics and return :math:`r_t` are all finite.

    Attributes
    ----------
    packed_gram : ndarray of float64, shape (T, P (P + 1) / 2)
        Upper triangle of :math:`Z_t'Z_t`, row by row; see `gram`.
    cross : ndarray of float64, shape (T, P)
        :math:`Z_t'r_t`.
    return_squares : ndarray of float64, shape (T,)
        :math:`r_t'r_t`.
    n_assets : ndarray of uint32, shape (T,)
        Rows; 0 where a date has none.
    timestamps : tuple of length T
        Strictly ascending in time; empty when the dates have no names. Text must be ISO 8601 of one
        form, or an ordered category of a column.
    instrument_names : tuple of str, length P
        The constant, then the characteristics.

    Raises
    ------
    ValueError
        When shapes, names or labels disagree, or timestamps do not ascend.

    References
    ----------
    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models import CharacteristicMoments, CrossSectionBatch
    >>> z = np.array([[[1.0], [2.0]], [[3.0], [np.nan]]])
    >>> batch = CrossSectionBatch(
    ...     z, returns=np.full((2, 2), 0.1), timestamps=(2001, 2002), feature_names=("size",)
    ... )
    >>> moments = CharacteristicMoments.from_batch(batch)
    >>> moments.n_assets.tolist(), moments.gram[0].tolist()
    ([2, 1], [[2.0, 3.0], [3.0, 5.0]])
    >>> (moments.slice(0, 1) + moments).n_assets.tolist()
    [4, 1]
    """

    time_axes: ClassVar[Mapping[str, int]] = {
        "packed_gram": 0,
        "cross": 0,
        "return_squares": 0,
        "n_assets": 0,
    }

    packed_gram: NDArray[np.float64]
    cross: NDArray[np.float64]
    return_squares: NDArray[np.float64]
    n_assets: NDArray[np.uint32]
    timestamps: tuple[Any, ...] = ()
    instrument_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Store read-only views of parts whose shapes agree."""
        cross = _view("cross", self.cross, np.float64)
        if cross.ndim != 2 or cross.shape[1] < 1:
            raise ValueError(f"cross must have shape (T, P); got {cross.shape}")
        n_dates, n_instruments = cross.shape
        packed = _view("packed_gram", self.packed_gram, np.float64)
        squares = _view("return_squares", self.return_squares, np.float64)
        counts = _view("n_assets", self.n_assets, np.uint32)
        n_pairs = n_instruments * (n_instruments + 1) // 2
        require_shape("packed_gram", (n_dates, n_pairs), packed.shape)
        require_shape("return_squares", (n_dates,), squares.shape)
        require_shape("n_assets", (n_dates,), counts.shape)
        labels = tuple(listed(self.timestamps))
        require_label_counts(labels, n_dates)
        require_ascending("timestamps", labels)
        self._hold(
            packed_gram=packed,
            cross=cross,
            return_squares=squares,
            n_assets=counts,
            timestamps=labels,
            instrument_names=_instrument_names(self.instrument_names, n_instruments),
        )

    @classmethod
    def from_batch(
        cls,
        batch: CrossSectionBatch,
        *,
        dtype: str = "float64",
        missing: str = "skip",
    ) -> CharacteristicMoments:
        """Take the moments of a panel in memory.

        Parameters
        ----------
        batch : CrossSectionBatch
            With returns. Its `feature_names` name the instruments, else `characteristic_0` and so
            on. float32 panels are read where they lie.
        dtype : {"float64", "float32"}
            Precision of the products of a float32 panel: "float32" is faster, with a relative error
            below 1e-6. A float64 panel is computed in float64 always.
        missing : {"skip", "median"}
            Leave out rows with a missing characteristic, or give it the median of its date (0 where
            none is known). Rows are those of the mask, or by default those with any
            characteristic.

        Raises
        ------
        ValueError
            Without returns.
        """
        require_one_of("dtype", dtype, ("float64", "float32"))
        require_type("batch", batch, CrossSectionBatch)
        returns = require_returns("CharacteristicMoments", batch.returns)
        if dtype == "float64":  # two float32 inputs would be multiplied as such
            returns = returns.astype(np.float64, copy=False)
        if require_one_of("missing", missing, POLICIES) == "median":
            moments = median_filled_moments(batch, returns)
        else:
            moments = panel_moments(batch.characteristics, returns, batch.mask)
        require_ascending("timestamps", batch.timestamps)
        names = (CONSTANT, *batch.feature_names) if batch.feature_names else ()
        return _of(Dated(tuple(listed(batch.timestamps)), moments), names)

    @classmethod
    def scan(
        cls,
        source: Source,
        *,
        feature_cols: Sequence[str],
        return_col: str,
        timestamp_col: str | None = None,
        entity_col: str | None = None,
        rank: bool = False,
        missing: str = "skip",
        executor: Executor | None = None,
        progress: bool = False,
    ) -> CharacteristicMoments:
        """Take the moments of a long frame that need not fit into memory.

        Rows are read once, in blocks, and only the columns named; memory does not grow with
        the number of rows. Products are computed in float64.

        Parameters
        ----------
        source : polars DataFrame or LazyFrame, path, glob, folder, or list of paths
            One row per date and asset; paths of Parquet files. A column that a file lacks and its
            folder names (``date=2001-01-31``) is taken from there. Where rows of a date follow each
            other, it has the bits of the panel in memory, unless it is larger than four blocks (512
            MiB in float64, or four million rows), or in two files, over 16,384 rows in one; such
            dates, and rows in no order, are summed in parts (relative difference below 1e-13). Lazy
            frames with joins, lags or over 64 files are streamed: polars reads some GiB ahead.
        feature_cols : sequence of str
            Known before the return is earned. Null, NaN and infinite are missing: the row does
            not count, unless `rank` or `missing` fills the gap.
        return_col : str
            Simple return per period.
        timestamp_col : str, optional
            By default the first of timestamp, datetime, date, time.
        entity_col : str, optional
            Read to reject an asset twice at a date (rows in no order: in one block).
        rank : bool, default False
            Replace each characteristic by (rank - 1) / (n - 1) - 1/2 within its date, ties
            averaged, missing values 0, with or without a return. Needs rows in order of date.
        missing : {"skip", "median"}
            Leave out rows with a missing characteristic, or give it the median of its date, with or
            without a return. Needs rows in order of date. (Ranks have their median at 0.)
        executor : object with submit(function, *arguments), optional
            Dask's `Client` or a pool of `concurrent.futures` (of processes: by spawn, not fork).
            The bits are the same with any number of workers, and without.
        progress : bool, default False
            Show a bar with rows per second (tqdm).

        Raises
        ------
        FileNotFoundError, KeyError
            When a path names no file, or a column is missing.
        ValueError
            When a timestamp is missing, a column is not numeric, an asset appears twice at a date,
            or `rank` or `missing="median"` meets rows out of order.
        """
        keys = {"timestamp_col": timestamp_col, "entity_col": entity_col}
        plan = Plan.of(feature_cols, return_col, rank=rank, missing=missing, **keys)
        names = _instrument_names((CONSTANT, *plan.features), 1 + len(plan.features))
        return _of(scan(source, plan, executor=executor, progress=progress), names)

    @property
    def moments(self) -> Moments:
        """The same arrays as the kernels take them."""
        return Moments(self.n_assets, self.packed_gram, self.cross, self.return_squares)

    @property
    def gram(self) -> NDArray[np.float64]:
        """Z'Z of every date as symmetric matrices, shape (T, P, P); built on every call."""
        return read_only(self.moments.full_gram)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the characteristics, length L."""
        return self.instrument_names[1:]

    @property
    def n_periods(self) -> int:
        """Number of dates, T."""
        return len(self.cross)

    @property
    def n_instruments(self) -> int:
        """Number of instruments, P: the constant and the characteristics."""
        return int(self.cross.shape[1])

    def __add__(self, other: object) -> CharacteristicMoments:
        """Merge with moments of other rows: dates of both are added.

        Raises
        ------
        ValueError
            When the instruments differ, or one side has dates without names.
        """
        if not isinstance(other, CharacteristicMoments):
            return NotImplemented
        self._require_same_instruments(other)
        for side in (self, other):
            if side.n_periods and not side.timestamps:
                raise ValueError("timestamps must name the dates of both sides; one has none")
        return _of(merged(self._dated(), other._dated()), self.instrument_names)

    def __radd__(self, other: object) -> CharacteristicMoments:
        """Merge shards by `sum`, which starts from 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented

    def append(self, later: CharacteristicMoments) -> CharacteristicMoments:
        """Append later dates.

        Raises
        ------
        ValueError
            When the instruments differ, or `later` does not begin after these dates; `+` adds
            assets to a date.
        """
        require_type("later", later, CharacteristicMoments)
        self._require_same_instruments(later)
        if self.n_periods and later.n_periods and bool(self.timestamps) != bool(later.timestamps):
            raise ValueError("later must have timestamps exactly when these moments have them")
        if self.timestamps and later.timestamps:
            require_one_kind("timestamps", self.timestamps, later.timestamps)
            ends = in_time("timestamps must be", (self.timestamps[-1], later.timestamps[0]))
            if not ends[0] < ends[1]:
                raise ValueError(
                    f"later must begin after {self.timestamps[-1]}; got {later.timestamps[0]} "
                    "(+ adds assets to a date)"
                )
        return _of(self._dated().followed_by(later._dated()), self.instrument_names)

    def drop(self, timestamps: Sequence[Any]) -> CharacteristicMoments:
        """Return the moments without the dates of these labels.

        Raises
        ------
        KeyError
            When a label is not among the timestamps.
        """
        unwanted = set(map(instant, require_items("timestamps", timestamps)))
        labels = list(map(instant, self.timestamps))
        if unknown := unwanted.difference(labels):
            raise KeyError(f"timestamps to drop must be among the dates; {len(unknown)} are not")
        kept = [i for i, label in enumerate(labels) if label not in unwanted]
        if not unwanted:
            return self
        return _of(self._dated().select(np.array(kept, dtype=np.intp)), self.instrument_names)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write one file, whole or not at all.

        Raises
        ------
        OSError
            When the target cannot be written; an earlier file stays.
        """
        return records.save_record(path, _MODEL_TYPE, self, name="moments")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CharacteristicMoments:
        """Read a file of `save`; every bit is the same.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged or holds something else.
        """
        loaded: CharacteristicMoments = records.load_record(
            path, _MODEL_TYPE, cls, name="moments", check=require_finite
        )
        return loaded

    def _dated(self) -> Dated:
        return Dated(self.timestamps, self.moments)

    def _require_same_instruments(self, other: CharacteristicMoments) -> None:
        if other.instrument_names != self.instrument_names:
            raise ValueError(
                "instrument_names must be the same on both sides: expected "
                f"{self.instrument_names}, got {other.instrument_names}"
            )


def _of(dated: Dated, names: Sequence[str]) -> CharacteristicMoments:
    moments = dated.moments
    return CharacteristicMoments(
        packed_gram=moments.gram,
        cross=moments.cross,
        return_squares=moments.return_squares,
        n_assets=moments.n_assets,
        timestamps=dated.labels,
        instrument_names=tuple(names),
    )


def _view(name: str, value: Any, dtype: type[np.generic]) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype != dtype:
        raise ValueError(f"{name} must hold {dtype.__name__}; got dtype {array.dtype}")
    view = array.view()
    view.flags.writeable = False
    return view


def _instrument_names(names: Sequence[str], n_instruments: int) -> tuple[str, ...]:
    if not names:
        return (CONSTANT, *(f"characteristic_{i}" for i in range(n_instruments - 1)))
    require_shape("instrument_names", (n_instruments,), (len(names),))
    if names[0] != CONSTANT or len(set(names)) != len(names):
        raise ValueError(
            f"instrument_names must be unique and begin with {CONSTANT!r}; got {tuple(names)}"
        )
    return tuple(names)
