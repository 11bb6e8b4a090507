"""`IPCAModel`: what is fitted, and what it says about a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ml4t.models.checks import require_shape, require_type
from ml4t.models.configs import IPCAConfig
from ml4t.models.latent_factors.base import refuse_checkpoint
from ml4t.models.latent_factors.ipca.fit import IPCAFit, Sample
from ml4t.models.latent_factors.ipca.inputs import (
    exposures,
    instrument_names,
    moments_of,
    observed_panel,
    panel_metrics,
    require_fitted_features,
)
from ml4t.models.latent_factors.ipca.penalty_path import IPCAPenaltyPath, penalty_path
from ml4t.models.latent_factors.ipca.reading import IPCAReading
from ml4t.models.latent_factors.ipca.solve import best_of_starts, solve, unidentified_note
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.panel.matching import labels
from ml4t.models.types import CrossSectionBatch, FitSummary, LatentFactorState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models import kernels


class IPCAModel(IPCAReading):
    r"""Latent factors whose exposures are linear in observed characteristics.

    .. math:: r_{i,t+1} = z_{it}'\Gamma f_{t+1} + z_{it}'\Gamma_g g_{t+1} + \varepsilon_{i,t+1}

    with :math:`z` a constant and the L characteristics, K latent factors f and, when asked for,
    observed factors g, of which the instrumented alpha (`intercept=True`) is the one that is
    always 1. Estimation needs each row once, for the moments of its date; alternating least
    squares is then finished by Newton steps, and convergence comes with a certificate.

    The identified form is :math:`\Gamma'\Gamma = I`, factor second moment diagonal and descending,
    factor means at least zero, :math:`\Gamma'\Gamma_g = 0`; or the identity on chosen instruments.

    Parameters
    ----------
    config : IPCAConfig
        `n_factors` K, at most the number of instruments; 0 for observed factors or an alpha alone.

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
            does not change what is converged to: where several optima are in sight, it is not used.

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
        return self._run(
            lambda: self._estimate(batch, observed_factors, start),
            batch,
            _as_told(observed_factors),
        )

    def _estimate(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        observed_factors: NDArray[Any] | None,
        start: NDArray[Any] | None,
    ) -> Estimated[IPCAFit]:
        require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
        config, dtype = self.config, np.dtype(self.config.dtype)
        moments = moments_of(config, batch)
        observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
        names, sample = instrument_names(config, batch), Sample(moments, observed)
        solved = solve(config, sample, start, names)
        found = solved.solution
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
            feature_names=names,
            observed_means=()
            if observed is None
            else tuple(observed[found.dates_used].mean(axis=0).tolist()),
        )
        metrics = {
            "n_train_periods": float(len(found.dates_used)),
            "n_instruments": float(len(found.gamma)),
            "train_mse": found.certificate.ssr / n_used,
            **solved.metrics,
        }
        if isinstance(batch, CrossSectionBatch):
            metrics |= panel_metrics(config, batch, int(moments.n_assets.sum()))
        notes = unidentified_note(found, names, constant=config.constant)
        summary = FitSummary(converged=found.converged, train_metrics=metrics, notes=notes)
        return Estimated(fit, summary, sample=sample)

    def penalty_path(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        observed_factors: NDArray[Any] | None = None,
        penalties: Sequence[float] | int = 20,
        n_folds: int = 5,
        score: str = "total",
    ) -> IPCAPenaltyPath:
        """Estimate along a path of penalties, and score each on blocks of dates left out.

        The model itself, its fit included, does not change.

        Parameters
        ----------
        batch, observed_factors
            As in `fit`.
        penalties : sequence of float or int, default 20
            Values for `gamma_penalty`, or how many of them, spaced evenly in logarithms below the
            one from which on nothing is left.
        n_folds : int, default 5
            Blocks of consecutive dates. Each is predicted from all others, later ones included: a
            choice to be judged by dates after the batch.
        score : {"total", "predictive"}
            What explains a date left out: its realised factors, by cross-sectional regression on
            the exposures, or the mean factors of the other dates. Observed factors are given in
            the former.

        Returns
        -------
        IPCAPenaltyPath

        Raises
        ------
        ValueError
            When `fit` would refuse the batch, or an argument makes no sense.
        """
        require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
        config = self.config
        observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
        sample = Sample(moments_of(config, batch), observed)
        first = best_of_starts(config, sample, None).solution
        return penalty_path(
            config, sample, first, penalties=penalties, n_folds=n_folds, score=score
        )

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
        require_fitted_features(fit, batch)
        gamma = np.hstack([fit.gamma, fit.gamma_observed])
        if isinstance(batch, CharacteristicMoments):
            betas = np.empty((batch.n_periods, 0, gamma.shape[1]), dtype=gamma.dtype)
            asset_ids: tuple[str, ...] = ()
        else:
            betas = exposures(self.config, batch, gamma)
            asset_ids = labels(batch.asset_ids, fit.asset_ids, batch.n_assets)
        return LatentFactorState(
            betas,
            factor_returns=self._realised(fit, batch, observed_factors),
            timestamps=batch.timestamps,
            asset_ids=asset_ids,
            metadata=self._metadata(fit),
        )

    def walk_data(
        self, batch: CrossSectionBatch | CharacteristicMoments
    ) -> CharacteristicMoments | CrossSectionBatch:
        """Moments of a batch, without labels: no estimation of a walk needs the rows again."""
        if not isinstance(batch, CrossSectionBatch):
            return batch
        config = self.config
        return CharacteristicMoments.from_batch(
            replace(batch, timestamps=()), dtype=config.dtype, missing=config.missing
        )

    def continued_from(self, previous: IPCAModel) -> dict[str, Any]:
        """Keyword arguments for a `fit` that starts from the Gamma of another.

        Parameters
        ----------
        previous : IPCAModel
            Fitted, with the same instruments and numbers of factors.
        """
        fit = require_type("previous", previous, IPCAModel)._fitted("continued_from")
        return {"start": np.hstack([fit.gamma, fit.gamma_observed])}

    def reference_loadings(self, batch: object) -> NDArray[Any]:
        """Gamma: loadings on instruments match factors whatever the date."""
        del batch
        return self.gamma

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
    def _require_settings(cls, config: IPCAConfig, fit: IPCAFit) -> None:
        shape = fit.n_features + config.constant, config.n_factors
        require_shape("gamma", shape, fit.gamma.shape)
        if fit.gamma_observed.shape[1] < config.intercept:
            raise ValueError("gamma_observed must have a column for the alpha; it has none")


def _as_told(observed_factors: Any) -> NDArray[Any] | None:
    """Give observed factors as an array, for the fingerprint; `fit` refuses what is none."""
    try:
        return None if observed_factors is None else np.asarray(observed_factors, np.float64)
    except (TypeError, ValueError):
        return None
