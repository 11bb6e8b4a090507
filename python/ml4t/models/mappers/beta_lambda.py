"""Expected return = exposure times premium."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ml4t.models.mappers.base import BaseAssetMapper, expected_returns, require_agreement

if TYPE_CHECKING:
    from ml4t.models.types import AssetForecastResult, FactorForecastResult, LatentFactorState


class BetaLambdaMapper(BaseAssetMapper):
    """Map conditional betas and ex-ante premia to expected returns.

    Parameters
    ----------
    config : MapperConfig, optional

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models.types import FactorForecastResult, LatentFactorState
    >>> state = LatentFactorState(np.array([[[1.0], [0.5]]]))
    >>> BetaLambdaMapper().predict(state, FactorForecastResult([[0.02]])).expected_returns
    array([[0.02, 0.01]])
    """

    def predict(
        self, state: LatentFactorState, factor_forecast: FactorForecastResult
    ) -> AssetForecastResult:
        r"""Forecast the return of every asset.

        .. math:: E_t[r_{n,t+1}] = \beta_{tn}' \lambda_t

        Parameters
        ----------
        state : LatentFactorState
            `asset_betas` (T, N, K); NaN where an asset has no exposure.
        factor_forecast : FactorForecastResult
            `factor_premia` (T, K), return per period for one unit of exposure.

        Returns
        -------
        AssetForecastResult
            `expected_returns` (T, N) per period; NaN where a beta is.

        Raises
        ------
        ValueError
            When the two disagree on T or K.
        """
        require_agreement(state, factor_forecast)
        return expected_returns(state, factor_forecast.factor_premia, self.config.model_name)
