"""What models give back: states, forecasts, signals, weights.

Axes: `T` dates, `N` assets or slots, `K` factors, `B` windows. Returns and premia are simple
returns per period, as fractions; weights are fractions of capital. NaN marks missing.
Arrays are read-only views of what the model computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ml4t.models.checks import require_shape
from ml4t.models.types.arrays import (
    FloatArray,
    Timestamps,
    as_floats,
    as_names,
    as_optional_floats,
    require_agreement,
    require_label_counts,
    with_frame_labels,
)
from ml4t.models.types.time_axis import DatedRecord


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LatentFactorState(DatedRecord):
    """Factor exposures of every asset at every date, and the factors that were realised.

    Attributes
    ----------
    asset_betas : ndarray of float, shape (T, N, K)
    factor_returns : ndarray of float, shape (T, K), optional
        Realised, in sample: not a forecast.
    checkpoint_epoch : int, optional
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    context_features : ndarray of float, shape (T, Q), optional
        What was known of every date before its returns were earned: predictors of premia, states
        that they depend on. A pipeline takes them over from its batch.
    context_names : tuple of str, length Q, optional
    """

    time_axes: ClassVar[Mapping[str, int]] = {
        "asset_betas": 0,
        "factor_returns": 0,
        "context_features": 0,
    }

    asset_betas: FloatArray
    factor_returns: FloatArray | None = None
    checkpoint_epoch: int | None = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    context_features: FloatArray | None = None
    context_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take the arrays, then check them against the exposures."""
        given = {
            "factor_returns": (self.factor_returns, "T K"),
            "context_features": (self.context_features, "T Q"),
        }
        timestamps, asset_ids = with_frame_labels(self.timestamps, self.asset_ids, given)
        betas = as_floats("asset_betas", self.asset_betas, "T N K")
        n_periods, n_assets, n_factors = betas.shape
        self._hold(
            asset_betas=betas,
            factor_returns=as_optional_floats("factor_returns", self.factor_returns, "T K"),
            timestamps=timestamps,
            asset_ids=asset_ids,
            context_features=as_optional_floats("context_features", self.context_features, "T Q"),
        )
        if self.factor_returns is not None:
            expected, got = (n_periods, n_factors), self.factor_returns.shape
            require_shape("factor_returns", expected, got, axes="(T, K)")
        if self.context_features is not None:
            what = "asset_betas and context_features disagree on T"
            require_agreement(what, (n_periods,), self.context_features.shape[:1])
        n_context = 0 if self.context_features is None else self.context_features.shape[1]
        self._hold(context_names=as_names("context_names", self.context_names, n_context))
        require_label_counts(self.timestamps, n_periods, self.asset_ids, n_assets)

    @property
    def n_periods(self) -> int:
        """Number of dates, T."""
        return int(self.asset_betas.shape[0])

    @property
    def n_assets(self) -> int:
        """Number of assets, N."""
        return int(self.asset_betas.shape[1])

    @property
    def n_factors(self) -> int:
        """Number of factors, K."""
        return int(self.asset_betas.shape[2])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FactorForecastResult(DatedRecord):
    """Expected factor returns, known before the date of the returns.

    Attributes
    ----------
    factor_premia : ndarray of float, shape (T, K)
    timestamps : sequence of length T, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"factor_premia": 0}

    factor_premia: FloatArray
    timestamps: Timestamps = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the array and its labels, and validate shapes."""
        given = {"factor_premia": (self.factor_premia, "T K")}
        self._hold(
            factor_premia=as_floats("factor_premia", self.factor_premia, "T K"),
            timestamps=with_frame_labels(self.timestamps, (), given)[0],
        )
        require_label_counts(self.timestamps, self.factor_premia.shape[0])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AssetForecastResult(DatedRecord):
    """Expected returns of assets.

    Attributes
    ----------
    expected_returns : ndarray of float, shape (T, N)
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"expected_returns": 0}

    expected_returns: FloatArray
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the array and its labels, and validate shapes."""
        _hold_panel(self, "expected_returns")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AssetSignalResult(DatedRecord):
    """Signals of assets, in the unit of the model that gave them.

    Attributes
    ----------
    signal_values : ndarray of float, shape (T, N)
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"signal_values": 0}

    signal_values: FloatArray
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the array and its labels, and validate shapes."""
        _hold_panel(self, "signal_values")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AssetWeightsResult(DatedRecord):
    """Weights of assets.

    Attributes
    ----------
    weights : ndarray of float, shape (T, N)
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"weights": 0}

    weights: FloatArray
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the array and its labels, and validate shapes."""
        _hold_panel(self, "weights")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class StochasticDiscountFactorState(DatedRecord):
    r"""Weights of the stochastic discount factor's portfolio, and its realised values.

    Attributes
    ----------
    asset_weights : ndarray of float, shape (T, N)
    sdf_values : ndarray of float, shape (T,), optional
        :math:`M_t = 1 - \sum_i w_{it} R_{it}`.
    checkpoint_epoch : label, optional
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"asset_weights": 0, "sdf_values": 0}

    asset_weights: FloatArray
    sdf_values: FloatArray | None = None
    checkpoint_epoch: Any = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Take the arrays, then check them against the weights."""
        _hold_panel(self, "asset_weights", sdf_values=(self.sdf_values, "T"))
        sdf_values = as_optional_floats("sdf_values", self.sdf_values, "T")
        if sdf_values is not None:
            require_shape("sdf_values", (self.n_periods,), sdf_values.shape, axes="(T,)")
        self._hold(sdf_values=sdf_values)

    @property
    def n_periods(self) -> int:
        """Number of dates, T."""
        return int(self.asset_weights.shape[0])

    @property
    def n_assets(self) -> int:
        """Number of assets, N."""
        return int(self.asset_weights.shape[1])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PortfolioWeightsResult(DatedRecord):
    """Weights of slots over windows.

    Attributes
    ----------
    weights : ndarray of float, shape (B, T, N)
    checkpoint_step : int, optional
    timestamps : sequence of length T, optional
    asset_ids : tuple of str, length N, optional
    metadata : dict
    """

    time_axes: ClassVar[Mapping[str, int]] = {"weights": 1}

    weights: FloatArray
    checkpoint_step: int | None = None
    timestamps: Timestamps = ()
    asset_ids: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Convert the array and its labels, and validate shapes."""
        _hold_panel(self, "weights", "B T N")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LatentFactorPrediction(DatedRecord):
    """Predictions of a latent factor pipeline, by step.

    Attributes
    ----------
    state : LatentFactorState
    factor_forecast : FactorForecastResult
    asset_forecast : AssetForecastResult
    """

    state: LatentFactorState
    factor_forecast: FactorForecastResult
    asset_forecast: AssetForecastResult


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PortfolioPrediction(DatedRecord):
    """Predictions of an allocation pipeline, before and after its postprocessors.

    Attributes
    ----------
    raw_weights : PortfolioWeightsResult
    processed_weights : PortfolioWeightsResult
    """

    raw_weights: PortfolioWeightsResult
    processed_weights: PortfolioWeightsResult


def _hold_panel(result: Any, name: str, axes: str = "T N", **others: tuple[Any, str]) -> None:
    """Take the one array of a result, whose last two axes are (T, N), and the labels of both."""
    value = getattr(result, name)
    array = as_floats(name, value, axes)
    labels = with_frame_labels(result.timestamps, result.asset_ids, {name: (value, axes), **others})
    result._hold(**{name: array, "timestamps": labels[0], "asset_ids": labels[1]})
    n_periods, n_assets = array.shape[-2:]
    require_label_counts(result.timestamps, n_periods, result.asset_ids, n_assets)
