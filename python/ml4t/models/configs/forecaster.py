"""Settings of the factor forecasters."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.rules import Positive, Share


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
    """

    model_name: ClassVar[str] = "ar1"

    _: KW_ONLY
    shrinkage: Share = 0.0
