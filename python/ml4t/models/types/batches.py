"""Inputs of models: panels, cross-sections, windows of portfolio features.

Axes: `T` dates, `N` assets or slots, `L` characteristics, `Q` context features, `B` windows,
`F` portfolio features. Returns are simple returns per period, as fractions. NaN marks what is
missing. Arrays are read-only views of the caller's memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ml4t.models.types.arrays import (
    BoolArray,
    FloatArray,
    IntArray,
    Timestamps,
    as_bools,
    as_float_array,
    as_floats,
    as_integers,
    as_names,
    as_optional_floats,
    require_agreement,
    require_label_counts,
    with_frame_labels,
)
from ml4t.models.types.time_axis import DatedRecord


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PersistentPanelBatch(DatedRecord):
    """A panel of the same assets at every date.

    The panel has the shape of its returns; without returns that of its characteristics; without
    either, as many dates and assets as there are labels of both.

    Attributes
    ----------
    returns : ndarray of float, shape (T, N), optional
    characteristics : ndarray of float, shape (T, N, L), optional
    timestamps : sequence of length T, optional
        Stored as given. By default the index of a pandas frame among the arrays.
    asset_ids : tuple of str, length N, optional
        Unique. Lists, arrays and integer ids are accepted; 10001.0 is "10001". By default the
        columns of a frame (pandas, polars, Arrow) among the arrays. Labels that are given beside
        a frame must agree with its own.
    metadata : dict
        Passed through; no model reads it.
    context_features : ndarray of float, shape (T, Q), optional
        Shared by all assets of a date, known before its returns are earned.
    feature_names : tuple of str, length L, optional
        Names of the characteristics.
    context_names : tuple of str, length Q, optional

    Raises
    ------
    ValueError
        When shapes or labels disagree, or no shape can be determined.
    """

    time_axes: ClassVar[Mapping[str, int]] = {
        "returns": 0,
        "characteristics": 0,
        "context_features": 0,
    }

    returns: FloatArray | None = None
    characteristics: FloatArray | None = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    context_features: FloatArray | None = None
    feature_names: tuple[str, ...] = ()
    context_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Convert the arrays and labels, and validate shapes."""
        given = {
            "returns": (self.returns, "T N"),
            "context_features": (self.context_features, "T Q"),
        }
        timestamps, asset_ids = with_frame_labels(self.timestamps, self.asset_ids, given)
        self._hold(
            returns=as_optional_floats("returns", self.returns, "T N"),
            characteristics=as_optional_floats("characteristics", self.characteristics, "T N L"),
            timestamps=timestamps,
            asset_ids=asset_ids,
            context_features=as_optional_floats("context_features", self.context_features, "T Q"),
        )
        if self.returns is not None and self.characteristics is not None:
            require_agreement(
                "characteristics and returns disagree on (T, N)",
                self.returns.shape,
                self.characteristics.shape[:2],
            )
        n_periods, n_assets = self._shape()
        require_label_counts(self.timestamps, n_periods, self.asset_ids, n_assets)
        if self.context_features is not None:
            what = "returns and context_features disagree on T"
            require_agreement(what, (n_periods,), self.context_features.shape[:1])
        self._hold(
            feature_names=_named("feature_names", self.feature_names, self.characteristics),
            context_names=_named("context_names", self.context_names, self.context_features),
        )

    @property
    def n_periods(self) -> int:
        """Number of dates, T."""
        return self._shape()[0]

    @property
    def n_assets(self) -> int:
        """Number of assets, N."""
        return self._shape()[1]

    def _shape(self) -> tuple[int, int]:
        for array in (self.returns, self.characteristics):
            if array is not None:
                return array.shape[0], array.shape[1]
        if len(self.timestamps) and self.asset_ids:
            return len(self.timestamps), len(self.asset_ids)
        raise ValueError(
            "cannot determine panel shape: give returns, characteristics, or both timestamps "
            "and asset_ids"
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CrossSectionBatch(DatedRecord):
    """One cross-section of characteristics per date; the assets may change from date to date.

    Attributes
    ----------
    characteristics : ndarray of float, shape (T, N, L)
    returns : ndarray of float, shape (T, N), optional
        The target; class labels in classification.
    factor_returns : ndarray of float, shape (T, N), optional
        Continuous returns of the assets, from which managed portfolios are built.
    context_features : ndarray of float, shape (T, Q), optional
        Shared by all assets of a date, known before its returns are earned, as characteristics
        are.
    timestamps : sequence of length T, optional
        Stored as given. By default the index of a pandas frame among the arrays.
    asset_ids : tuple of str, length N, optional
        Unique. Lists, arrays and integer ids are accepted; 10001.0 is "10001". By default the
        columns of a frame (pandas, polars, Arrow) among the arrays. Labels that are given beside
        a frame must agree with its own.
    mask : ndarray of bool, shape (T, N), optional
        True where the asset exists. An array of 0 and 1 is accepted.
    metadata : dict
        Passed through; no model reads it.
    feature_names : tuple of str, length L, optional
        Names of the characteristics.
    context_names : tuple of str, length Q, optional

    Raises
    ------
    ValueError
        When shapes or labels disagree, or the mask is not one.
    """

    time_axes: ClassVar[Mapping[str, int]] = {
        "characteristics": 0,
        "returns": 0,
        "factor_returns": 0,
        "context_features": 0,
        "mask": 0,
    }

    characteristics: FloatArray
    returns: FloatArray | None = None
    factor_returns: FloatArray | None = None
    context_features: FloatArray | None = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    mask: BoolArray | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()
    context_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Convert the arrays and labels, and validate shapes."""
        given = {
            "returns": (self.returns, "T N"),
            "factor_returns": (self.factor_returns, "T N"),
            "mask": (self.mask, "T N"),
            "context_features": (self.context_features, "T Q"),
        }
        timestamps, asset_ids = with_frame_labels(self.timestamps, self.asset_ids, given)
        characteristics = as_floats("characteristics", self.characteristics, "T N L")
        panel = characteristics.shape[:2]
        self._hold(
            characteristics=characteristics,
            returns=as_optional_floats("returns", self.returns, "T N"),
            factor_returns=as_optional_floats("factor_returns", self.factor_returns, "T N"),
            context_features=as_optional_floats("context_features", self.context_features, "T Q"),
            timestamps=timestamps,
            asset_ids=asset_ids,
            mask=None if self.mask is None else as_bools("mask", self.mask),
        )
        for name, array in (("returns", self.returns), ("factor_returns", self.factor_returns)):
            if array is not None:
                what = f"characteristics and {name} disagree on (T, N)"
                require_agreement(what, panel, array.shape)
        if self.context_features is not None:
            what = "characteristics and context_features disagree on T"
            require_agreement(what, panel[:1], self.context_features.shape[:1])
        if self.mask is not None:
            require_agreement("mask must match characteristics on (T, N)", panel, self.mask.shape)
        require_label_counts(self.timestamps, panel[0], self.asset_ids, panel[1])
        self._hold(
            feature_names=_named("feature_names", self.feature_names, characteristics),
            context_names=_named("context_names", self.context_names, self.context_features),
        )

    @property
    def n_periods(self) -> int:
        """Number of dates, T."""
        return int(self.characteristics.shape[0])

    @property
    def n_assets(self) -> int:
        """Number of assets, N."""
        return int(self.characteristics.shape[1])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PortfolioSequenceBatch(DatedRecord):
    """Windows of features from which a policy chooses weights.

    Attributes
    ----------
    features : ndarray of float, shape (B, T, N, F)
    returns : ndarray of float, shape (B, T, N), optional
        Returns over the period that follows the weights.
    vol_scale : ndarray of float, shape (B, T, N), optional
        Positions per unit of weight.
    prev_weights : ndarray of float, shape (B, N), optional
        Weights before the first date.
    mask : ndarray of bool, shape (B, T, N), optional
        True where the slot is available. An array of 0 and 1 is accepted.
    group_ids : ndarray of int64, shape (N,), optional
    costs : ndarray of float, shape (N, 1), optional
        Cost per unit traded, as a fraction. Shape (N,) is accepted.
    adjacency_mask : ndarray of bool, shape (N, N), optional
        True where attention is blocked.
    timestamps : sequence of length T, optional
        Stored as given. By default the index of a pandas frame among the arrays.
    asset_ids : tuple of str, length N, optional
        Unique. Lists, arrays and integer ids are accepted; 10001.0 is "10001". By default the
        columns of a frame (pandas, polars, Arrow) among the arrays. Labels that are given beside
        a frame must agree with its own.
    metadata : dict
        Passed through; no model reads it.
    feature_names : tuple of str, length F, optional

    Raises
    ------
    ValueError
        When shapes or labels disagree, or masks or group ids do not convert without loss.
    """

    time_axes: ClassVar[Mapping[str, int]] = {
        "features": 1,
        "returns": 1,
        "vol_scale": 1,
        "mask": 1,
    }

    features: FloatArray
    returns: FloatArray | None = None
    vol_scale: FloatArray | None = None
    prev_weights: FloatArray | None = None
    mask: BoolArray | None = None
    group_ids: IntArray | None = None
    costs: FloatArray | None = None
    adjacency_mask: BoolArray | None = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    feature_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Convert the arrays and labels, and validate shapes."""
        given = {
            "prev_weights": (self.prev_weights, "B N"),
            "group_ids": (self.group_ids, "N"),
            "costs": (self.costs, "N"),
            "adjacency_mask": (self.adjacency_mask, "N N"),
        }
        timestamps, asset_ids = with_frame_labels(self.timestamps, self.asset_ids, given)
        features = as_floats("features", self.features, "B T N F")
        n_windows, n_periods, n_assets, _ = features.shape
        self._hold(
            features=features,
            returns=as_optional_floats("returns", self.returns, "B T N"),
            vol_scale=as_optional_floats("vol_scale", self.vol_scale, "B T N"),
            prev_weights=as_optional_floats("prev_weights", self.prev_weights, "B N"),
            mask=None if self.mask is None else as_bools("mask", self.mask),
            group_ids=None if self.group_ids is None else as_integers("group_ids", self.group_ids),
            costs=None if self.costs is None else _costs(self.costs, n_assets),
            adjacency_mask=None
            if self.adjacency_mask is None
            else as_bools("adjacency_mask", self.adjacency_mask),
            timestamps=timestamps,
            asset_ids=asset_ids,
        )
        self._hold(feature_names=_named("feature_names", self.feature_names, features))
        self._require_shapes(n_windows, n_periods, n_assets)
        require_label_counts(self.timestamps, n_periods, self.asset_ids, n_assets)

    def _require_shapes(self, n_windows: int, n_periods: int, n_assets: int) -> None:
        window = (n_windows, n_periods, n_assets)
        for name, panel in (("returns", self.returns), ("vol_scale", self.vol_scale)):
            if panel is not None:
                both = f"{name} and features disagree on"
                require_agreement(f"{both} (B, T)", window[:2], panel.shape[:2])
                require_agreement(f"{both} N", window[2:], panel.shape[2:])
        for what, array, shape in (
            ("prev_weights must have shape (B, N)", self.prev_weights, (n_windows, n_assets)),
            ("mask must match features on (B, T, N)", self.mask, window),
            ("group_ids must have shape (N,)", self.group_ids, (n_assets,)),
            ("adjacency_mask must have shape (N, N)", self.adjacency_mask, (n_assets, n_assets)),
        ):
            if array is not None:
                require_agreement(what, shape, array.shape)

    @property
    def batch_size(self) -> int:
        """Number of windows, B."""
        return int(self.features.shape[0])

    @property
    def n_periods(self) -> int:
        """Number of dates of a window, T."""
        return int(self.features.shape[1])

    @property
    def n_assets(self) -> int:
        """Number of slots, N."""
        return int(self.features.shape[2])


def _named(argument: str, names: Any, array: FloatArray | None) -> tuple[str, ...]:
    """Names of the last axis of an array; none without the array."""
    return as_names(argument, names, 0 if array is None else array.shape[-1])


def _costs(value: Any, n_assets: int) -> FloatArray:
    """One cost per asset as a column, shape (N, 1)."""
    costs = as_float_array("costs", value)
    if costs.shape not in ((n_assets,), (n_assets, 1)):
        raise ValueError(
            f"costs must have shape (N,) or (N, 1): expected ({n_assets},) or ({n_assets}, 1), "
            f"got {costs.shape}"
        )
    return costs.reshape(n_assets, 1)
