"""Models of portfolio weights, and postprocessors that impose constraints."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ml4t.models.portfolio.linear import LinearFeaturePortfolioModel
    from ml4t.models.portfolio.model import DeepPortfolioModel, LSTMPortfolioModel
    from ml4t.models.portfolio.postprocessors import (
        VolatilityTargetPostprocessor,
        WeightConstraintPostprocessor,
    )

__all__ = [
    "DeepPortfolioModel",
    "LSTMPortfolioModel",
    "LinearFeaturePortfolioModel",
    "VolatilityTargetPostprocessor",
    "WeightConstraintPostprocessor",
]

_MODULE_OF = {
    "DeepPortfolioModel": "model",
    "LSTMPortfolioModel": "model",
    "LinearFeaturePortfolioModel": "linear",
    "VolatilityTargetPostprocessor": "postprocessors",
    "WeightConstraintPostprocessor": "postprocessors",
}


def __getattr__(name: str) -> Any:
    """Load a public name at its first use."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
