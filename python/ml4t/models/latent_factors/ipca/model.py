"""`IPCAModel`: what is fitted, and what it says about a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs import IPCAConfig
from ml4t.models.latent_factors.base import BaseLatentFactorModel, refuse_checkpoint
from ml4t.models.latent_factors.ipca.estimate import (
    batch_moments,
    exposures,
    mean_absolute_return,
    observed_panel,
)
from ml4t.models.lifecycle.fittable import Estimated
from ml4t.models.panel.identity import labels
from ml4t.models.panel.moments import CharacteristicMoments
from ml4t.models.panel.observed import require_returns
from ml4t.models.types import CrossSectionBatch, FitSummary, LatentFactorState
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ml4t.models.lifecycle.fittable import V1State


@dataclass(frozen=True, slots=True)
class IPCAFit:
    """What `IPCAModel.fit` learned.

    Attributes
    ----------
    gamma : ndarray, shape (P, K)
        Loadings of the latent factors on the instruments, the constant first.
    gamma_observed : ndarray, shape (P, M)
        Loadings of the observed factors, the instrumented alpha last.
    train_factor_returns : ndarray, shape (T_used, K)
        Realised latent factors on the dates that entered the fit.
    instrument_second_moment : ndarray of float64, shape (P, P)
        Pooled second moment of the instruments per asset: the metric of the ridges.
    ridge : float or None
        Pseudo-assets a date; None takes `factor_ridge` from the settings.
    n_features : int
        Characteristics L.
    fit_iterations : int
        Sweeps, alternating and Newton.
    fit_converged : bool
    asset_ids : tuple of str
    certificate : IPCACertificate or None
        None for a fit read from a file of 0.1.x.
    """

    gamma: FloatArray
    gamma_observed: FloatArray
    train_factor_returns: FloatArray
    instrument_second_moment: NDArray[np.float64]
    ridge: float | None
    n_features: int
    fit_iterations: int
    fit_converged: bool
    asset_ids: tuple[str, ...] = ()
    certificate: kernels.IPCACertificate | None = None

    def __post_init__(self) -> None:
        """Refuse a fit whose parts disagree; `load` relies on it."""
        n_instruments, n_factors = self.gamma.shape
        n_periods, n_observed = len(self.train_factor_returns), self.gamma_observed.shape[-1]
        if n_instruments not in (self.n_features, self.n_features + 1):
            require_shape("gamma", (self.n_features + 1, n_factors), self.gamma.shape)
        require_shape("gamma_observed", (n_instruments, n_observed), self.gamma_observed.shape)
        require_shape(
            "train_factor_returns", (n_periods, n_factors), self.train_factor_returns.shape
        )
        square = (n_instruments, n_instruments)
        require_shape("instrument_second_moment", square, self.instrument_second_moment.shape)


class IPCAModel(BaseLatentFactorModel[IPCAConfig, IPCAFit]):
    r"""Latent factors whose exposures are linear in observed characteristics.

    .. math:: r_{i,t+1} = z_{it}'\Gamma f_{t+1} + z_{it}'\Gamma_g g_{t+1} + \varepsilon_{i,t+1}

    with :math:`z` a constant and the L characteristics, K latent factors f and, when asked for,
    observed factors g, of which the instrumented alpha (`intercept=True`) is the one that is
    always 1. Estimation needs each row once, for the moments of its date; alternating least
    squares is then finished by Newton steps, and convergence comes with a certificate.

    The identified form is :math:`\Gamma'\Gamma = I`, factor second moment diagonal and descending,
    factor means at least zero, :math:`\Gamma'\Gamma_g = 0`.

    Parameters
    ----------
    config : IPCAConfig
        `n_factors` K, at most the number of instruments.

    References
    ----------
    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3); (2020), Instrumented
    principal component analysis, SSRN 2983919.

    Examples
    --------
    >>> import numpy as np
    >>> from ml4t.models import CrossSectionBatch, IPCAConfig, IPCAModel
    >>> rng = np.random.default_rng(0)
    >>> z = rng.uniform(-0.5, 0.5, (60, 80, 3))
    >>> f = 0.02 + 0.05 * rng.standard_normal(60)
    >>> returns = (z @ np.array([0.6, 0.0, 0.8])) * f[:, None]
    >>> model = IPCAModel(IPCAConfig(n_factors=1))
    >>> model.fit(CrossSectionBatch(z, returns=returns)).converged
    True
    >>> np.abs(model.gamma[:, 0]).round(6).tolist()
    [0.0, 0.6, 0.0, 0.8]
    """

    config_type: ClassVar[type] = IPCAConfig
    fit_type: ClassVar[type] = IPCAFit

    @property
    def gamma(self) -> NDArray[Any]:
        """Loadings of the latent factors on the instruments (constant first), shape (P, K)."""
        return self._fitted("gamma is read").gamma

    @property
    def alpha(self) -> NDArray[Any] | None:
        """Instrumented alpha, shape (P,), return per period; None unless `intercept`."""
        observed = self._fitted("alpha is read").gamma_observed
        return observed[:, -1] if self.config.intercept else None

    @property
    def gamma_observed(self) -> NDArray[Any]:
        """Loadings of the observed factors that were passed to `fit`, shape (P, M)."""
        observed = self._fitted("gamma_observed is read").gamma_observed
        return observed[:, :-1] if self.config.intercept else observed

    @property
    def train_factor_returns(self) -> NDArray[Any]:
        """Realised latent factors on the dates that entered the fit, shape (T_used, K)."""
        return self._fitted("train_factor_returns is read").train_factor_returns

    @property
    def certificate(self) -> kernels.IPCACertificate | None:
        """Why the fit may be believed; None for a fit read from a file of 0.1.x."""
        return self._fitted("certificate is read").certificate

    def fit(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        observed_factors: NDArray[Any] | None = None,
        start: NDArray[Any] | None = None,
    ) -> FitSummary:
        """Estimate Gamma and the factors.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            `characteristics` (T, N, L) known before `returns` (T, N) are earned. A row is used
            where the mask admits it and all of its values are finite; a date is used from
            `min_assets` rows on. Moments of the same rows give the same bits.
        observed_factors : array_like, shape (T, M), optional
            Factors with loadings of their own, return per period.
        start : array_like, shape (P, K + M), optional
            Gamma to start from, latent factors first; of a window before, say. It saves sweeps and
            does not change what is converged to.

        Returns
        -------
        FitSummary
            `converged` only with a certificate. The metric `mean_abs_return` needs a batch.

        Raises
        ------
        TypeError
            When `batch` is neither of the two.
        ValueError
            Without returns or a usable date, or when K exceeds the number of instruments.
        """
        return self._run(lambda: self._estimate(batch, observed_factors, start), batch)

    def _estimate(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        observed_factors: NDArray[Any] | None,
        start: NDArray[Any] | None,
    ) -> Estimated[IPCAFit]:
        require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
        config, dtype = self.config, np.dtype(self.config.dtype)
        moments = self._moments_of(batch)
        observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
        found = kernels.ipca(
            moments,
            config.n_factors,
            observed=observed,
            start=start,
            tol=config.tol,
            max_iter=config.max_iter,
            factor_ridge=config.factor_ridge,
            gamma_ridge=config.gamma_ridge,
            weighting=config.weighting,
            min_assets=config.min_assets,
            # Single precision moments err by 1e-7: a direction below that is noise.
            rank_tolerance=1e-6 if config.dtype == "float32" else 1e-11,
        )
        n_used = int(moments.n_assets[found.dates_used].sum())
        fit = IPCAFit(
            gamma=found.gamma.astype(dtype, copy=False),
            gamma_observed=found.gamma_observed.astype(dtype, copy=False),
            train_factor_returns=found.factors.astype(dtype, copy=False),
            instrument_second_moment=found.instrument_second_moment,
            ridge=found.ridge,
            n_features=moments.cross.shape[1] - config.constant,
            fit_iterations=found.certificate.n_als + found.certificate.n_newton,
            fit_converged=found.converged,
            asset_ids=() if isinstance(batch, CharacteristicMoments) else tuple(batch.asset_ids),
            certificate=found.certificate,
        )
        metrics = {
            "n_train_periods": float(len(found.dates_used)),
            "n_instruments": float(len(found.gamma)),
            "train_mse": found.certificate.ssr / n_used,
        }
        if isinstance(batch, CrossSectionBatch) and batch.returns is not None:
            n_usable = int(moments.n_assets.sum())
            mean = mean_absolute_return(batch, batch.returns, n_usable)
            metrics["mean_abs_return"] = mean
        return Estimated(fit, FitSummary(converged=found.converged, train_metrics=metrics))

    def _moments_of(self, batch: CrossSectionBatch | CharacteristicMoments) -> kernels.Moments:
        """Moments over the instruments of the settings."""
        config = self.config
        if isinstance(batch, CharacteristicMoments):
            return batch.moments if config.constant else batch.without_constant()
        returns = require_returns(type(self).__name__, batch.returns)
        return batch_moments(batch, returns, constant=config.constant, dtype=config.dtype)

    def extract(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        checkpoint: int | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> LatentFactorState:
        """Conditional exposures of `batch`, and realised factors where it has returns.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            The fitted characteristics, in the fitted order; any assets, any dates. Moments give
            factors, and exposures of no asset.
        checkpoint : None
            IPCA has no checkpoints.
        observed_factors : array_like, shape (T, M), optional
            The observed factors of these dates, where the fit had some; realised factors need them.

        Returns
        -------
        LatentFactorState
            `asset_betas` (T, N, K + M), latent factors first, the alpha last; NaN where a
            characteristic is missing, whatever the return. `factor_returns` (T, K + M) per period,
            NaN on dates without a usable row; None without returns.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the feature dimension differs from the fit's, or a checkpoint is asked for.
        """
        refuse_checkpoint(type(self).__name__, checkpoint)
        fit = self._fitted("extract")
        require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
        n_features = _n_features(batch)
        if n_features != fit.n_features:
            raise ValueError(
                f"IPCAModel: the feature dimension must be the fitted {fit.n_features}; "
                f"got {n_features}"
            )
        gamma = np.hstack([fit.gamma, fit.gamma_observed])
        if isinstance(batch, CharacteristicMoments):
            betas = np.empty((batch.n_periods, 0, gamma.shape[1]), dtype=gamma.dtype)
            asset_ids: tuple[str, ...] = ()
        else:
            betas = exposures(batch, gamma, constant=self.config.constant, dtype=gamma.dtype)
            asset_ids = labels(batch.asset_ids, fit.asset_ids, batch.n_assets)
        return LatentFactorState(
            betas,
            factor_returns=self._realised(fit, batch, observed_factors),
            timestamps=batch.timestamps,
            asset_ids=asset_ids,
            metadata=self._metadata(fit),
        )

    def _realised(
        self,
        fit: IPCAFit,
        batch: CrossSectionBatch | CharacteristicMoments,
        observed_factors: NDArray[Any] | None,
    ) -> NDArray[Any] | None:
        """Realised factors (T, K + M); None without returns, or observed factors where needed."""
        if isinstance(batch, CrossSectionBatch) and batch.returns is None:
            return None
        observed = observed_panel(
            observed_factors, batch.n_periods, intercept=self.config.intercept
        )
        n_observed = 0 if observed is None else observed.shape[1]
        if n_observed != fit.gamma_observed.shape[1]:
            if observed_factors is None:
                return None
            n_given, n_fitted = n_observed, fit.gamma_observed.shape[1]
            raise ValueError(
                f"observed_factors must have the fitted number of columns "
                f"{n_fitted - self.config.intercept}; got {n_given - self.config.intercept}"
            )
        latent = kernels.ipca_factors(
            self._moments_of(batch),
            fit.gamma,
            gamma_observed=fit.gamma_observed,
            observed=observed,
            instrument_second_moment=fit.instrument_second_moment,
            ridge=self.config.factor_ridge if fit.ridge is None else fit.ridge,
        ).astype(fit.gamma.dtype, copy=False)
        return latent if observed is None else np.hstack([latent, observed])

    def _metadata(self, fit: IPCAFit) -> dict[str, Any]:
        proof = fit.certificate
        return {
            "model_name": self.config.model_name,
            "persistent_entities": False,
            "fit_iterations": fit.fit_iterations,
            "fit_converged": fit.fit_converged,
            "fit_parameter_delta": None if proof is None else proof.subspace_step,
            "fit_objective_delta": None if proof is None else proof.objective_delta,
            "fit_forecast_delta": None if proof is None else proof.forecast_delta,
        }

    @classmethod
    def _from_v1(cls, state: V1State, arrays: Mapping[str, NDArray[Any]]) -> IPCAFit:
        """0.1.x had an absolute ridge, which is one in the metric of the identity."""
        gamma = arrays["gamma"]
        return IPCAFit(
            gamma=gamma,
            gamma_observed=np.empty((len(gamma), 0), dtype=gamma.dtype),
            train_factor_returns=arrays["train_factor_returns"],
            instrument_second_moment=np.eye(len(gamma)),
            ridge=None,
            n_features=int(state["n_features"]),
            fit_iterations=int(state["fit_iterations"]),
            fit_converged=bool(state["fit_converged"]),
            asset_ids=tuple(state["asset_ids"]),
        )


def _n_features(batch: CrossSectionBatch | CharacteristicMoments) -> int:
    if isinstance(batch, CharacteristicMoments):
        return batch.n_instruments - 1
    return int(batch.characteristics.shape[2])
