"""Stochastic discount factors estimated with networks (Chen, Pelger and Zhu, 2024)."""

from ml4t.models.stochastic_discount_factor.beta_head import StochasticDiscountFactorBetaNetworkHead
from ml4t.models.stochastic_discount_factor.model import StochasticDiscountFactorModel
from ml4t.models.stochastic_discount_factor.return_mapper import (
    LinearStochasticDiscountFactorReturnMapper,
)

__all__ = [
    "LinearStochasticDiscountFactorReturnMapper",
    "StochasticDiscountFactorBetaNetworkHead",
    "StochasticDiscountFactorModel",
]
