"""Settings of the factor forecasters."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, TypeAlias, get_args

from ml4t.models.checks import require_real, require_type
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.rules import (
    Count,
    NonNegative,
    Positive,
    PositiveShare,
    Share,
    one_of,
    optional,
    tuple_of,
)


@dataclass(frozen=True, slots=True)
class ExpandingMeanForecasterConfig(BaseModelConfig):
    """Settings of `ExpandingMeanFactorForecaster`."""

    model_name: ClassVar[str] = "expanding_mean"


@dataclass(frozen=True, slots=True)
class EWMABaseForecasterConfig(BaseModelConfig):
    """Settings of `EWMABaseFactorForecaster`.

    Attributes
    ----------
    half_life : float, default 12.0
        Periods after which an observation weighs half.
    """

    model_name: ClassVar[str] = "ewma"

    half_life: Positive = 12.0


@dataclass(frozen=True, slots=True)
class AR1ForecasterConfig(BaseModelConfig):
    """Settings of `AR1FactorForecaster`.

    Attributes
    ----------
    shrinkage : float, default 0.0
        Pulls the slope to zero, and so the forecast to the mean; 1 forecasts the mean.
    max_root : float, default 0.99
        Largest size of the slope; one beyond is cut to it, but for that of a straight line, 1.
    """

    model_name: ClassVar[str] = "ar1"

    _: KW_ONLY
    shrinkage: Share = 0.0
    max_root: PositiveShare = 0.99


@dataclass(frozen=True, slots=True)
class VAR1ForecasterConfig(BaseModelConfig):
    """Settings of `VAR1FactorForecaster`.

    Attributes
    ----------
    shrinkage : float, default 0.0
        Pulls the slopes to zero, and so the forecast to the mean; 1 forecasts the mean.
    max_root : float, default 0.99
        Largest modulus that an eigenvalue of the slopes may have; slopes beyond are scaled down.
    """

    model_name: ClassVar[str] = "var1"

    _: KW_ONLY
    shrinkage: Share = 0.0
    max_root: PositiveShare = 0.99


@dataclass(frozen=True, slots=True)
class MacroForecasterConfig(BaseModelConfig):
    """Settings of `MacroFactorForecaster`.

    Attributes
    ----------
    method : {"ols", "ridge", "three-pass"}
        Least squares, ridge regression, or the three-pass regression filter.
    ridge : float, default 1.0
        Of "ridge": in units of observations, per observation, of predictors with unit variance; a
        single predictor's slope becomes 1 / (1 + ridge) of least squares.
    n_proxies : int, default 1
        Of "three-pass": automatic proxies, so also filtered factors; fewer than predictors.
    """

    model_name: ClassVar[str] = "macro"

    _: KW_ONLY
    method: Annotated[str, one_of("ols", "ridge", "three-pass")] = "ols"
    ridge: NonNegative = 1.0
    n_proxies: Count = 1


SingleForecasterConfig: TypeAlias = (
    ExpandingMeanForecasterConfig
    | EWMABaseForecasterConfig
    | AR1ForecasterConfig
    | VAR1ForecasterConfig
    | MacroForecasterConfig
)
"""Settings of a forecaster that is not made of others."""


def _require_single(name: str, value: Any) -> Any:
    return require_type(name, value, *get_args(SingleForecasterConfig))


_Members = Annotated[tuple[SingleForecasterConfig, ...], tuple_of(_require_single)]
_Weights = Annotated[
    tuple[float, ...] | None, optional(tuple_of(partial(require_real, at_least=0.0)))
]


@dataclass(frozen=True, slots=True)
class CombinedForecasterConfig(BaseModelConfig):
    """Settings of `CombinedFactorForecaster`.

    Attributes
    ----------
    members : tuple of forecaster configs
        Which forecasters are combined; by default the mean and AR(1).
    weights : tuple of float, optional
        Of the members, not negative, scaled to sum to one; equal by default.
    """

    model_name: ClassVar[str] = "combined"

    _: KW_ONLY
    members: _Members = (ExpandingMeanForecasterConfig(), AR1ForecasterConfig())
    weights: _Weights = None

    def _require_consistent(self) -> None:
        if not self.members:
            raise ValueError("members must name at least one forecaster; got none")
        if self.weights is None:
            return
        if len(self.weights) != len(self.members):
            raise ValueError(
                f"weights must be one for each of the {len(self.members)} members; "
                f"got {len(self.weights)}"
            )
        if not sum(self.weights) > 0:
            raise ValueError(f"weights must have a positive sum; got {self.weights}")
