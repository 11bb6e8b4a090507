"""Risk-premium principal components of a stable panel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import NAN_IS_MISSING, require_shape
from ml4t.models.configs import RPPCAConfig
from ml4t.models.latent_factors.base import StablePanelModel, missing_note
from ml4t.models.latent_factors.tables import Table
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.types import FitSummary
from ml4t.models.types.arrays import FloatArray, as_asset_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


TREATMENT = (
    "moments are of the dates when both assets are observed, factors and slopes by least squares "
    "on what is observed"
)


@dataclass(frozen=True, slots=True)
class RPPCAFit:
    """Fitted parameters of `RPPCAModel`.

    Attributes
    ----------
    asset_betas : ndarray, shape (N, K)
        Time-series slopes of each asset on the factors.
    factor_weights : ndarray, shape (N, K)
        Portfolio weights of the factors.
    train_factor_returns : ndarray, shape (T, K)
        Realized return of each factor portfolio per period.
    eigenvalues : ndarray, shape (K,)
        Leading eigenvalues of the risk-premium matrix, largest first, in squared return units.
    asset_ids : tuple of str
        In the order of the rows of `asset_betas`; empty when the batch had none.
    rms_alpha : float, optional
        Root mean square over assets of the intercepts on the factors, return per period; None, as
        the next, in files from before it was kept.
    idiosyncratic_share : float, optional
        Mean residual variance over mean variance of the assets.
    """

    asset_betas: FloatArray
    factor_weights: FloatArray
    train_factor_returns: FloatArray = field(metadata=NAN_IS_MISSING)
    eigenvalues: FloatArray
    asset_ids: tuple[str, ...] = ()
    rms_alpha: float | None = None
    idiosyncratic_share: float | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` where shapes disagree; `load` relies on it."""
        n_assets, n_factors = self.asset_betas.shape
        n_periods = len(self.train_factor_returns)
        require_shape("factor_weights", (n_assets, n_factors), self.factor_weights.shape)
        require_shape(
            "train_factor_returns", (n_periods, n_factors), self.train_factor_returns.shape
        )
        require_shape("eigenvalues", (n_factors,), self.eigenvalues.shape)
        if as_asset_ids(self.asset_ids):
            require_shape("asset_ids", (n_assets,), (len(self.asset_ids),))


def factor_sharpe(factors: NDArray[np.float64]) -> float:
    """Mean over factors of |mean / std| (population), 0 for a factor that does not vary."""
    mean, std = np.nanmean(factors, axis=0), np.nanstd(factors, axis=0)
    varies = std > 1e-12
    ratio = np.zeros_like(mean)
    np.divide(np.abs(mean), std, out=ratio, where=varies)
    return float(ratio.mean())


def share(part: float, whole: float) -> float:
    """`part` of `whole`; 0 of nothing."""
    return float(part / whole) if whole > 0 else 0.0


class RPPCAModel(StablePanelModel[RPPCAConfig, RPPCAFit]):
    r"""Latent factors that explain both co-movement and mean returns.

    Loadings are the leading eigenvectors of

    .. math:: M = \tfrac1T X'X + \gamma\, \bar x \bar x'

    (or of the covariance plus the same term); a larger :math:`\gamma` favours factors
    with a premium. Moments come from the observed entries: of two assets that are never observed
    together, only the product of their means is known. Each factor's training mean is at
    least zero.

    Parameters
    ----------
    config : RPPCAConfig
        `gamma` of 10 to 20 is usual; -1 on second moments is PCA.

    References
    ----------
    Lettau and Pelger (2020), Factors that fit the time series and cross-section of stock returns,
    RFS 33(5), and Estimating latent asset-pricing factors, JoE 218(1).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models import PersistentPanelBatch, RPPCAConfig, RPPCAModel
    >>> rng = np.random.default_rng(0)
    >>> market = 0.01 + 0.04 * rng.standard_normal((120, 1))
    >>> panel = market @ np.array([[0.8, 1.0, 1.2]]) + 1e-3 * rng.standard_normal((120, 3))
    >>> model = RPPCAModel(RPPCAConfig(n_factors=1, gamma=10.0))
    >>> model.fit(PersistentPanelBatch(panel)).converged
    True
    """

    config_type: ClassVar[type] = RPPCAConfig
    fit_type: ClassVar[type] = RPPCAFit
    method: ClassVar[str] = "RP-PCA"

    def _estimate(self, returns: NDArray[Any], asset_ids: tuple[str, ...]) -> Estimated[RPPCAFit]:
        result = kernels.rp_pca(returns, self.config.n_factors, **self._settings())
        return self._estimated(result, asset_ids, returns)

    def _estimate_windows(
        self,
        returns: NDArray[Any],
        asset_ids: tuple[str, ...],
        windows: Sequence[tuple[int, int]],
    ) -> Iterator[Estimated[RPPCAFit]]:
        result = kernels.rolling_rp_pca(returns, self.config.n_factors, windows, **self._settings())
        for i, (start, stop) in enumerate(windows):
            one = kernels.RPPCAFactors(
                eigenvalues=result.eigenvalues[i],
                loadings=result.loadings[i],
                factor_weights=result.factor_weights[i],
                factors=kernels.project_rp_pca(returns[start:stop], result.factor_weights[i]),
                asset_betas=result.asset_betas[i],
                alphas=result.alphas[i],
                residual_variances=result.residual_variances[i],
                variances=np.nanvar(returns[start:stop], axis=0),
            )
            yield self._estimated(one, asset_ids, returns[start:stop])

    def _settings(self) -> dict[str, Any]:
        """Give the settings of the kernels."""
        config = self.config
        return {
            "gamma": config.gamma,
            "base_moment": config.base_moment,
            "scale_by_asset_volatility": config.scale_by_asset_volatility,
            "normalize_loadings": config.normalize_loadings,
            "orthogonalize_factors": config.orthogonalize_factors,
        }

    def _estimated(
        self, factors: kernels.RPPCAFactors, asset_ids: tuple[str, ...], returns: NDArray[Any]
    ) -> Estimated[RPPCAFit]:
        dtype = np.dtype(self.config.dtype)
        fit = RPPCAFit(
            asset_betas=factors.asset_betas.astype(dtype, copy=False),
            factor_weights=factors.factor_weights.astype(dtype, copy=False),
            train_factor_returns=factors.factors.astype(dtype, copy=False),
            eigenvalues=factors.eigenvalues.astype(dtype, copy=False),
            asset_ids=asset_ids,
            rms_alpha=float(np.sqrt((factors.alphas**2).mean())),
            idiosyncratic_share=share(factors.residual_variances.mean(), factors.variances.mean()),
        )
        premia = np.nanmean(factors.factors, axis=0)
        metrics = {
            "mean_abs_factor_premium": float(np.abs(premia).mean()),
            "mean_factor_sharpe": factor_sharpe(factors.factors),
            "mean_abs_alpha": float(np.abs(factors.alphas).mean()),
            "mean_residual_variance": float(factors.residual_variances.mean()),
        }
        notes = missing_note(returns, TREATMENT)
        return Estimated(fit, FitSummary(converged=True, train_metrics=metrics, notes=notes))

    def _metadata(self, fit: RPPCAFit) -> dict[str, Any]:
        return {
            "model_name": self.config.model_name,
            "persistent_entities": True,
            "gamma": self.config.gamma,
            "base_moment": self.config.base_moment,
            "eigenvalues": tuple(float(value) for value in fit.eigenvalues),
        }

    def _fitted_betas(self, fit: RPPCAFit) -> tuple[NDArray[Any], Sequence[str]]:
        return fit.asset_betas, fit.asset_ids

    def _train_factors(self, fit: RPPCAFit) -> NDArray[Any]:
        return fit.train_factor_returns

    def _explained(self, fit: RPPCAFit) -> tuple[Table, ...]:
        if fit.rms_alpha is None or fit.idiosyncratic_share is None:
            return ()
        rows = (
            ("R squared (centered)", (1.0 - fit.idiosyncratic_share,)),
            ("idiosyncratic share", (fit.idiosyncratic_share,)),
            ("RMS alpha", (fit.rms_alpha,)),
        )
        return (Table("Time-series regressions", (), rows),)

    def _realized(
        self, fit: RPPCAFit, returns: NDArray[Any], order: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        return kernels.project_rp_pca(returns, fit.factor_weights[order])
