"""`IPCAModel`: estimation, inference, evaluation and reports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from ml4t.models.checks import require_bool, require_shape, require_type
from ml4t.models.configs import IPCAConfig
from ml4t.models.latent_factors.base import BaseLatentFactorModel, refuse_checkpoint
from ml4t.models.latent_factors.ipca import evaluation, inference, report
from ml4t.models.latent_factors.ipca.fit import FittedIPCA, IPCAFit, Sample
from ml4t.models.latent_factors.ipca.inputs import (
    moments_of,
    observed_panel,
    require_fitted_features,
    sample_with_factors,
    state_of,
)
from ml4t.models.latent_factors.ipca.penalty_path import IPCAPenaltyPath, penalty_path
from ml4t.models.latent_factors.ipca.solve import best_of_starts, estimate
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.types import CrossSectionBatch, FitSummary, LatentFactorState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from ml4t.models import kernels
    from ml4t.models.latent_factors.ipca.evaluation import FactorPortfolio, FitMeasures
    from ml4t.models.latent_factors.ipca.inference import BootstrapTest, IPCAStandardErrors
    from ml4t.models.latent_factors.ipca.report import CharacteristicImportance
    from ml4t.models.latent_factors.tables import ModelSummary


class IPCAModel(BaseLatentFactorModel[IPCAConfig, IPCAFit]):
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
        """Realized latent factors on the dates that entered the fit, shape (T_used, K)."""
        return self._fitted("train_factor_returns is read").train_factor_returns

    @property
    def certificate(self) -> kernels.IPCACertificate | None:
        """Convergence certificate; None for a fit read from a file of 0.1.x."""
        return self._fitted("certificate is read").certificate

    @property
    def instrument_names(self) -> tuple[str, ...]:
        """Names of the rows of Gamma, length P, the constant first where there is one."""
        return self._fitted_ipca("instrument_names is read").instrument_names

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the characteristics, length L."""
        names = self._fitted_ipca("feature_names is read").instrument_names
        return names[1:] if self.config.constant else names

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
            Gamma to start from, latent factors first; by default it comes from the data. The fit
            ends in the optimum that it leads to, which need not be the lowest of a weak model.

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
            lambda: estimate(self.config, batch, observed_factors, start),
            batch,
            _as_array(observed_factors),
        )

    def penalty_path(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        observed_factors: NDArray[Any] | None = None,
        penalties: Sequence[float] | int = 20,
        n_folds: int = 5,
        score: str = "total",
    ) -> IPCAPenaltyPath:
        """Estimate along a path of penalties, and score each on the blocks of dates left out.

        The model itself, its fit included, does not change.

        Parameters
        ----------
        batch, observed_factors
            As in `fit`.
        penalties : sequence of float or int, default 20
            Values for `penalty`, or how many of them, spaced evenly in logarithms below the
            one from which on nothing is left.
        n_folds : int, default 5
            Blocks of consecutive dates. Each is predicted from all others, later ones included: a
            choice to be judged by dates after the batch.
        score : {"total", "predictive"}
            What explains a date left out: its realized factors, by cross-sectional regression on
            the exposures, or the mean factors of the other dates. Observed factors are given in
            the former.

        Returns
        -------
        IPCAPenaltyPath

        Raises
        ------
        ValueError
            When `fit` rejects the batch, or an argument is out of range.
        """
        require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
        config = self.config
        observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
        sample = Sample(moments_of(config, batch), observed)
        first, _ = best_of_starts(config, sample, None)
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
        """Conditional exposures of `batch`, and realized factors where it has returns.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            The fitted characteristics, in the fitted order; any assets, any dates. Moments give
            factors, and exposures of no asset.
        checkpoint : None
            IPCA has no checkpoints.
        observed_factors : array_like, shape (T, M), optional
            The observed factors of these dates, where the fit had some; realized factors need them.

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
        fitted = self._fitted_ipca("extract")
        require_fitted_features(fitted.fit, batch)
        sample = sample_with_factors(fitted, batch, observed_factors)
        rows = None if isinstance(batch, CharacteristicMoments) else batch
        return state_of(fitted, batch, sample, rows)

    def fit_extract(
        self, batch: CrossSectionBatch | CharacteristicMoments, **options: Any
    ) -> tuple[FitSummary, LatentFactorState]:
        """Fit, and realize the factors of the same dates from the moments of the fit.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            As in `fit`.
        **options
            Keyword arguments of `fit`.

        Returns
        -------
        FitSummary
        LatentFactorState
            The factors that `extract` gives, and exposures of no asset: no forecaster reads them.
        """
        summary = self.fit(batch, **options)
        fitted = self._fitted_ipca("fit_extract")
        return summary, state_of(fitted, batch, fitted.sample)

    def walk_data(
        self, batch: CrossSectionBatch | CharacteristicMoments
    ) -> CharacteristicMoments | CrossSectionBatch:
        """Moments of a batch, without labels: no estimation of a walk needs the rows again."""
        if not isinstance(batch, CrossSectionBatch):
            return batch
        return CharacteristicMoments.from_batch(
            replace(batch, timestamps=()), dtype=self.config.dtype, missing=self.config.missing
        )

    def reference_loadings(self, batch: object) -> NDArray[Any]:
        """Gamma: loadings on instruments match factors whatever the date."""
        del batch
        return self.gamma

    def test_alpha(
        self,
        *,
        n_draws: int = 1000,
        seed: int = 0,
        progress: bool = False,
        t_variance: float = 1.0,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> BootstrapTest:
        r"""Test that there is no alpha: :math:`W_\alpha = \Gamma_\alpha'\Gamma_\alpha`.

        The residual wild bootstrap draws managed portfolios without alpha and estimates the model
        from each draw.

        Parameters
        ----------
        n_draws : int, default 1000
        seed : int, default 0
            Draw i of a seed has the same random numbers in every test, on any number of threads.
        progress : bool, default False
            Show a bar (tqdm).
        t_variance : float, default 1
            Variance of the multipliers. As in the paper; 5/3 leaves Student's t as it is, as some
            implementations do.
        batch : CrossSectionBatch or CharacteristicMoments, optional
            The panel of the fit, for a model that was loaded, copied or unpickled. A model that was
            fitted in this process keeps its moments.
        observed_factors : array_like, shape (T, M), optional
            Those of the fit, next to `batch`.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without `intercept`, under a penalty, or when the panel of the fit is needed or another
            one is given.

        References
        ----------
        Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
        """
        if not self.config.intercept:
            raise ValueError("test_alpha needs a model with intercept=True; got intercept=False")
        fitted = self._fitted_ipca("test_alpha")
        sample = inference.training_sample(fitted, batch, observed_factors)
        draws = inference.Draws(n_draws, seed, t_variance, progress)
        return inference.alpha_test(fitted, sample, draws)

    @overload
    def test_characteristics(
        self,
        names: None = None,
        *,
        n_draws: int = ...,
        seed: int = ...,
        progress: bool = ...,
        t_variance: float = ...,
        batch: CrossSectionBatch | CharacteristicMoments | None = ...,
        observed_factors: NDArray[Any] | None = ...,
    ) -> dict[str, BootstrapTest]: ...
    @overload
    def test_characteristics(
        self,
        names: str | int | Iterable[str | int],
        *,
        n_draws: int = ...,
        seed: int = ...,
        progress: bool = ...,
        t_variance: float = ...,
        batch: CrossSectionBatch | CharacteristicMoments | None = ...,
        observed_factors: NDArray[Any] | None = ...,
    ) -> BootstrapTest: ...
    def test_characteristics(
        self,
        names: str | int | Iterable[str | int] | None = None,
        *,
        n_draws: int = 1000,
        seed: int = 0,
        progress: bool = False,
        t_variance: float = 1.0,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> BootstrapTest | dict[str, BootstrapTest]:
        r"""Test that latent factors do not load on characteristics.

        :math:`W_\beta = \sum_l \gamma_l'\gamma_l` over the rows of :math:`\Gamma_\beta` under test.

        Parameters
        ----------
        names : str, int, sequence of these, or None
            Instruments by name (see `instrument_names`) or by row of Gamma; several are tested
            together. None tests every characteristic by itself, the constant left out.
        n_draws, seed, progress, t_variance, batch, observed_factors
            See `test_alpha`.

        Returns
        -------
        BootstrapTest, or dict of str to BootstrapTest where `names` is None

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            For an unknown name, without latent factors, or when the panel of the fit is needed or
            another one is given.
        """
        fitted = self._fitted_ipca("test_characteristics")
        sample = inference.training_sample(fitted, batch, observed_factors)
        draws = inference.Draws(n_draws, seed, t_variance, progress)
        if names is not None:
            rows = inference.named_rows(fitted, names)
            return inference.characteristic_test(fitted, sample, rows, draws)
        first = int(self.config.constant)
        return {
            name: inference.characteristic_test(fitted, sample, (row,), draws)
            for row, name in enumerate(fitted.instrument_names)
            if row >= first
        }

    def test_observed_factors(
        self,
        indices: int | Iterable[int] | None = None,
        *,
        n_draws: int = 1000,
        seed: int = 0,
        progress: bool = False,
        t_variance: float = 1.0,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> BootstrapTest:
        r"""Test that observed factors add nothing: :math:`W_\delta = \Gamma_\delta'\Gamma_\delta`.

        Several are tested together by :math:`\sum_m v_m \Gamma_{\delta m}'\Gamma_{\delta m}`, with
        v their mean squares over the mean of these: no unit of a factor matters.

        Parameters
        ----------
        indices : int, sequence of int, or None
            Columns of the observed factors passed to `fit`; all of them by default.
        n_draws, seed, progress, t_variance, batch, observed_factors
            See `test_alpha`.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            For a column that is not there, or when the panel of the fit is needed or another one
            is given.
        """
        fitted = self._fitted_ipca("test_observed_factors")
        sample = inference.training_sample(fitted, batch, observed_factors)
        draws = inference.Draws(n_draws, seed, t_variance, progress)
        return inference.observed_factor_test(fitted, sample, indices, draws)

    def standard_errors(
        self,
        *,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        observed_factors: NDArray[Any] | None = None,
    ) -> IPCAStandardErrors:
        r"""Asymptotic standard errors of Gamma, robust and clustered by date.

        .. math:: \widehat{Var}\,\mathrm{vec}(\hat\Gamma) = \sum_t \psi_t\psi_t', \qquad
            \psi_t = J H^{-1} \mathrm{vec}(s_t), \quad s_t = Z_t'\hat\varepsilon_t \tilde f_t'

        with H the Hessian of half the sum of squares, factors projected out, and J the derivative
        of the identified form. The rotation of the latent factors is that of the estimate: a
        standard error measures the error of the space of the loadings in this basis, and not the
        rotation of two factors of similar strength into each other. With
        `normalization="identity"` there is no rotation, and the loadings set to one and
        zero are exact.

        Parameters
        ----------
        batch, observed_factors
            See `test_alpha`.

        Raises
        ------
        RuntimeError
            Before a fit, or when the estimate is no strict minimum.
        ValueError
            When the panel of the fit is needed or another one is given, or under a penalty.

        References
        ----------
        Kelly, Pruitt and Su (2020), Instrumented principal component analysis, SSRN 2983919.
        """
        fitted = self._fitted_ipca("standard_errors")
        sample = inference.training_sample(fitted, batch, observed_factors)
        return inference.standard_errors(fitted, sample)

    def fit_measures(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        observed_factors: NDArray[Any] | None = None,
    ) -> FitMeasures:
        """Measure how much of a panel the fitted model explains.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            With returns; the panel of the fit or any other.
        observed_factors : array_like, shape (T, M), optional
            Of these dates, where the fit had some.

        Returns
        -------
        FitMeasures
            Realized factors are those of the panel, mean factors those of the fit.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without returns, without the observed factors of the fit, or with other characteristics.

        References
        ----------
        Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
        """
        fitted = self._fitted_ipca("fit_measures")
        return evaluation.fit_measures(fitted, batch, observed_factors)

    def tangency_portfolio(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        target_volatility: float,
        observed_factors: NDArray[Any] | None = None,
    ) -> FactorPortfolio:
        r"""Combine the latent factors by :math:`\Sigma_f^{-1}\bar f` of the training dates.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            Whose factors the portfolio earns: later dates make it out of sample. By default the
            training dates.
        target_volatility : float
            Standard deviation per period over the training dates.
        observed_factors : array_like, shape (T, M), optional
            Of the dates of `batch`, where the fit had some.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without latent factors, or when `fit_measures` rejects the panel.
        """
        fitted = self._fitted_ipca("tangency_portfolio")
        return evaluation.tangency_portfolio(
            fitted, batch, observed_factors, target_volatility=target_volatility
        )

    def arbitrage_portfolio(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        target_volatility: float,
        training: CrossSectionBatch | CharacteristicMoments | None = None,
    ) -> FactorPortfolio:
        r"""Earn the alpha without exposure to the latent factors.

        Asset weights :math:`Z_t(Z_t'Z_t)^{-1}\Gamma_\alpha c` have a return of
        :math:`c\,\Gamma_\alpha'(Z_t'Z_t)^{-1}Z_t'r_t`, of which the latent factors have no part,
        since :math:`\Gamma_\alpha'\Gamma_\beta = 0`.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            What the portfolio earns: later dates make it out of sample. By default the training
            dates.
        target_volatility : float
            Standard deviation per period over the training dates.
        training : CrossSectionBatch or CharacteristicMoments, optional
            The panel of the fit, for a model that was loaded or copied.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without `intercept`, or when the panel of the fit is needed or another one is given.

        References
        ----------
        Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 5.
        """
        fitted = self._fitted_ipca("arbitrage_portfolio")
        return evaluation.arbitrage_portfolio(
            fitted, batch, training, target_volatility=target_volatility
        )

    def summary(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        observed_factors: NDArray[Any] | None = None,
        standard_errors: bool = True,
    ) -> ModelSummary:
        """Tables of the fit.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            With returns, to measure the fit on: the panel of the fit, which is the default in the
            process that fitted the model, or another one.
        observed_factors : array_like, shape (T, M), optional
            The observed factors of these dates, where the fit had some.
        standard_errors : bool, default True
            Give them for Gamma, if the panel of the fit is at hand; see `standard_errors`.

        Returns
        -------
        ModelSummary
            Text when printed, HTML in a notebook.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch has other characteristics than the fit.
        """
        fitted = self._fitted_ipca("summary")
        with_errors = require_bool("standard_errors", standard_errors)
        record = self._require_fitted("summary").record
        return report.summary(fitted, record, batch, observed_factors, with_errors=with_errors)

    def characteristic_importance(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        observed_factors: NDArray[Any] | None = None,
    ) -> CharacteristicImportance:
        """Fall of the total R squared without each instrument, Gamma and factors fixed.

        Parameters
        ----------
        batch, observed_factors
            See `summary`.

        Returns
        -------
        CharacteristicImportance

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the batch has other characteristics than the fit, or is needed and not given.
        """
        fitted = self._fitted_ipca("characteristic_importance")
        return report.importance_on(fitted, batch, observed_factors)

    def _fitted_ipca(self, verb: str) -> FittedIPCA:
        """Fitted record, or raise `RuntimeError` before `verb`."""
        result = self._require_fitted(verb)
        return FittedIPCA(self.config, result.fit, result.sample)

    @classmethod
    def _require_settings(cls, config: IPCAConfig, fit: IPCAFit) -> None:
        shape = fit.n_features + config.constant, config.n_factors
        require_shape("gamma", shape, fit.gamma.shape)
        if fit.gamma_observed.shape[1] < config.intercept:
            raise ValueError("gamma_observed must have a column for the alpha; it has none")


def _as_array(observed_factors: Any) -> NDArray[Any] | None:
    """Observed factors as an array, for the fingerprint; `fit` rejects everything else."""
    try:
        return None if observed_factors is None else np.asarray(observed_factors, np.float64)
    except (TypeError, ValueError):
        return None
