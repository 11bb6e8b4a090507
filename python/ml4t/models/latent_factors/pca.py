"""Principal components of a stable panel."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import NAN_IS_MISSING, require_shape
from ml4t.models.configs import PCAConfig
from ml4t.models.kernels.factors import CompletedPCAFactors
from ml4t.models.kernels.rolling import CompletedRollingPCAFactors
from ml4t.models.latent_factors.base import StablePanelModel, missing_note
from ml4t.models.latent_factors.statistics import factor_names
from ml4t.models.latent_factors.tables import Table
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.types import FitSummary
from ml4t.models.types.arrays import FloatArray, as_asset_ids

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray


STATIONARY = 1e-8
"""Largest last step of EM, relative to the panel, that counts as converged."""
TREATMENT = {
    "em": "the factors complete them (EM), and those of a date are by least squares on what it has",
    "mean": "they count as the mean of their asset, which shrinks its loadings by their share",
}


@dataclass(frozen=True, slots=True)
class PCAFit:
    """Fitted parameters of `PCAModel`.

    Attributes
    ----------
    asset_mean : ndarray, shape (N,)
        Mean return per period: of the completed panel, or over the observed dates.
    loadings : ndarray, shape (N, K)
        Leading right singular vectors of the demeaned panel, orthonormal.
    train_factor_returns : ndarray, shape (T, K)
        Raw returns times loadings: realized return of each factor portfolio per period.
    asset_ids : tuple of str
        In the order of the rows of `loadings`; empty when the batch had none.
    explained_variance_ratio : ndarray of float64, shape (K,), optional
        Share of the panel's variance that each factor has; None in files from before it was kept.
    """

    asset_mean: FloatArray
    loadings: FloatArray
    train_factor_returns: FloatArray = field(metadata=NAN_IS_MISSING)
    asset_ids: tuple[str, ...] = ()
    explained_variance_ratio: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` where shapes disagree; `load` relies on it."""
        n_assets, n_factors = self.loadings.shape
        require_shape("asset_mean", (n_assets,), self.asset_mean.shape)
        n_periods = len(self.train_factor_returns)
        require_shape(
            "train_factor_returns", (n_periods, n_factors), self.train_factor_returns.shape
        )
        if as_asset_ids(self.asset_ids):
            require_shape("asset_ids", (n_assets,), (len(self.asset_ids),))
        if self.explained_variance_ratio is not None:
            shape = self.explained_variance_ratio.shape
            require_shape("explained_variance_ratio", (n_factors,), shape)


class PCAModel(StablePanelModel[PCAConfig, PCAFit]):
    """Latent factors as principal components of returns.

    Every asset is demeaned; the loadings are the leading right singular vectors of the demeaned
    panel. Factors are portfolios: their realized returns are raw returns times loadings, so their
    means are premia. Missing returns are completed by the factors until they are stationary (EM),
    and the factors of a date with gaps are the least-squares coefficients of its observed returns;
    or they count as the mean of their asset (`missing="mean"`).
    Signs are pinned: each factor has a mean of at least zero over the training dates, or a
    positive largest loading where the mean is nothing but rounding.

    Parameters
    ----------
    config : PCAConfig
        `n_factors` K, at most min(T, N); the treatment of `missing` returns.

    References
    ----------
    Stock and Watson (2002), Macroeconomic forecasting using diffusion indexes, JBES 20(2).
    Connor and Korajczyk (1986), Performance measurement with the arbitrage pricing theory,
    JFE 15(3).

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models import PCAConfig, PCAModel, PersistentPanelBatch
    >>> rng = np.random.default_rng(0)
    >>> market = 0.01 + 0.04 * rng.standard_normal((120, 1))
    >>> model = PCAModel(PCAConfig(n_factors=1))
    >>> summary = model.fit(PersistentPanelBatch(market * np.array([[0.8, 1.0, 1.2]])))
    >>> round(summary.train_metrics["explained_variance_ratio"], 6)
    1.0
    """

    config_type: ClassVar[type] = PCAConfig
    fit_type: ClassVar[type] = PCAFit
    method: ClassVar[str] = "PCA"

    def _estimate(self, returns: NDArray[Any], asset_ids: tuple[str, ...]) -> Estimated[PCAFit]:
        result = kernels.pca(returns, self.config.n_factors, missing=self.config.missing)
        return self._estimated(result, asset_ids, returns)

    def _estimate_windows(
        self,
        returns: NDArray[Any],
        asset_ids: tuple[str, ...],
        windows: Sequence[tuple[int, int]],
    ) -> Iterator[Estimated[PCAFit]]:
        missing = self.config.missing
        result = kernels.rolling_pca(returns, self.config.n_factors, windows, missing=missing)
        for i, (start, stop) in enumerate(windows):
            mean, loadings = result.mean[i], result.loadings[i]
            parts = (
                mean,
                loadings,
                kernels.project_pca(returns[start:stop], mean, loadings, missing=missing),
                result.singular_values[i],
                result.explained_variance_ratio[i],
            )
            one = kernels.PCAFactors(*parts)
            if isinstance(result, CompletedRollingPCAFactors):
                one = CompletedPCAFactors(*parts, float(result.step[i]))
            yield self._estimated(one, asset_ids, returns[start:stop])

    def _estimated(
        self, factors: kernels.PCAFactors, asset_ids: tuple[str, ...], returns: NDArray[Any]
    ) -> Estimated[PCAFit]:
        dtype = np.dtype(self.config.dtype)
        fit = PCAFit(
            asset_mean=factors.mean.astype(dtype, copy=False),
            loadings=factors.loadings.astype(dtype, copy=False),
            train_factor_returns=factors.factors.astype(dtype, copy=False),
            asset_ids=asset_ids,
            explained_variance_ratio=factors.explained_variance_ratio,
        )
        share = min(1.0, float(factors.explained_variance_ratio.sum()))  # the sum may round above
        summary = FitSummary(
            converged=not isinstance(factors, CompletedPCAFactors) or factors.step <= STATIONARY,
            train_metrics={"explained_variance_ratio": share},
            notes=(
                "Factors are raw returns times loadings of the demeaned panel.",
                *missing_note(returns, TREATMENT[self.config.missing]),
            ),
        )
        return Estimated(fit, summary)

    def _fitted_betas(self, fit: PCAFit) -> tuple[NDArray[Any], Sequence[str]]:
        return fit.loadings, fit.asset_ids

    def _train_factors(self, fit: PCAFit) -> NDArray[Any]:
        return fit.train_factor_returns

    def _explained(self, fit: PCAFit) -> tuple[Table, ...]:
        shares = fit.explained_variance_ratio
        if shares is None:
            return ()
        sums = shares.cumsum()
        rows = tuple(
            (name, (float(shares[k]), float(sums[k])))
            for k, name in enumerate(factor_names(len(shares)))
        )
        return (Table("Explained variance", ("share", "sum"), rows),)

    def _realized(
        self, fit: PCAFit, returns: NDArray[Any], order: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        mean, loadings = fit.asset_mean[order], fit.loadings[order]
        return kernels.project_pca(returns, mean, loadings, missing=self.config.missing)
