"""What IPCA says about its own loadings: tests and standard errors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ml4t.models.checks import require_int
from ml4t.models.configs import IPCAConfig
from ml4t.models.configs.rules import require_label
from ml4t.models.latent_factors.base import BaseLatentFactorModel
from ml4t.models.latent_factors.ipca.bootstrap import BootstrapTest, Draws, bootstrap_test
from ml4t.models.latent_factors.ipca.fit import IPCAFit, Sample
from ml4t.models.latent_factors.ipca.inputs import (
    fitted_moments,
    kernel_settings,
    numbered_names,
    require_same_panel,
    require_same_sample,
    sample_of,
)
from ml4t.models.latent_factors.ipca.normalization import instrument_rows, orthonormal
from ml4t.models.latent_factors.ipca.standard_errors import IPCAStandardErrors, standard_errors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models import kernels
    from ml4t.models.moments.characteristic_moments import CharacteristicMoments
    from ml4t.models.types import CrossSectionBatch


class IPCAInference(BaseLatentFactorModel[IPCAConfig, IPCAFit]):
    r"""Inference on Gamma, as a part of `IPCAModel`.

    The tests share their parameters. Each draws managed portfolios under its null,

    .. math:: \tilde x_t = W_t \Gamma^0 f_t + q_t d_{s(t)}, \quad d_t = x_t - W_t \Gamma f_t,

    with :math:`x_t = Z_t'r_t/n_t`, :math:`W_t = Z_t'Z_t/n_t`, :math:`\Gamma^0` the estimate with
    the loadings under test set to zero, q Student's t with five degrees of freedom scaled to the
    variance `t_variance`, and s a date drawn uniformly; estimates the whole model anew from each
    draw, starting at :math:`\Gamma^0`; and compares.

    n_draws : int, default 1000
    seed : int, default 0
        Draw i of a seed has the same random numbers in every test, on any number of threads.
    progress : bool, default False
        Show a bar (tqdm).
    t_variance : float, default 1
        As in the paper; 5/3 leaves the t as it is, as some implementations do.
    batch : CrossSectionBatch or CharacteristicMoments, optional
        The panel of the fit. Needed by a model that was loaded, copied or unpickled: one that was
        fitted in this process still has its moments.
    observed_factors : array_like, shape (T, M), optional
        Those of the fit, next to `batch`.

    Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
    """

    @property
    def _sample(self) -> Sample | None:
        """Moments and observed factors of the fit, where it was made by this object."""
        result = self._state.result
        return None if result is None else result.sample

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the instruments, length P, the constant first where there is one."""
        fit = self._fitted("feature_names is read")
        return fit.feature_names or numbered_names(self.config, fit.n_features)

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

        Parameters: see `IPCAInference`.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without `intercept`, or when the panel of the fit is needed or another one is given.
        """
        if not self.config.intercept:
            raise ValueError("test_alpha needs a model with intercept=True; got intercept=False")
        gamma, sample = self._identified(), self._sample_for(batch, observed_factors)
        weights = np.zeros_like(gamma)
        weights[:, -1] = 1.0
        draws = Draws(n_draws, seed, t_variance, progress)
        return self._test(sample, weights, draws, "alpha = 0")

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
            Instruments by name (see `feature_names`) or by row of Gamma; several are tested
            together. None tests every characteristic by itself, the constant left out.
        n_draws, seed, progress, t_variance, batch, observed_factors
            See `IPCAInference`.

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
        gamma, sample = self._identified(), self._sample_for(batch, observed_factors)
        n_latent = self._fitted("a test").gamma.shape[1]
        if n_latent == 0:
            raise ValueError("test_characteristics needs latent factors; the model has none")
        draws = Draws(n_draws, seed, t_variance, progress)

        def test(rows: tuple[int, ...]) -> BootstrapTest:
            weights = np.zeros_like(gamma)
            weights[list(rows), :n_latent] = 1.0
            told = ", ".join(self.feature_names[row] for row in rows)
            return self._test(sample, weights, draws, f"no loading on {told}")

        if names is not None:
            return test(self._rows(names))
        first = int(self.config.constant)
        return {name: test((row,)) for row, name in enumerate(self.feature_names) if row >= first}

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
            See `IPCAInference`.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            For a column that is not there, or when the panel of the fit is needed or another one
            is given.
        """
        gamma, sample = self._identified(), self._sample_for(batch, observed_factors)
        n_latent = self._fitted("a test").gamma.shape[1]
        n_observed = gamma.shape[1] - n_latent - self.config.intercept
        columns = _positions("indices", range(n_observed) if indices is None else indices)
        if not columns or max(columns) >= n_observed:
            raise ValueError(
                f"indices must name some of {n_observed} observed factors; got {columns}"
            )
        weights = np.zeros_like(gamma)
        strengths = np.array([self._strength(sample, column) for column in columns])
        weights[:, [n_latent + column for column in columns]] = strengths / strengths.mean()
        told = ", ".join(map(str, columns))
        draws = Draws(n_draws, seed, t_variance, progress)
        return self._test(sample, weights, draws, f"no loading on observed factor {told}")

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
        standard error says how far the space of the loadings may be off, seen in this basis, and
        not how far two factors of similar strength may be rotated into each other. With
        `normalization="identity"` there is no rotation to hold, and the loadings set to one and
        zero are exact.

        Parameters
        ----------
        batch, observed_factors
            See `IPCAInference`.

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
        gamma, sample = self._identified(), self._sample_for(batch, observed_factors)
        n_latent = self._fitted("standard errors").gamma.shape[1]
        return standard_errors(
            sample,
            gamma,
            self._settings(),
            n_latent=n_latent,
            intercept=self.config.intercept,
            identity_on=instrument_rows(self.config.identity_on, self.feature_names, "identity_on"),
        )

    def _loadings(self) -> NDArray[np.float64]:
        """Estimated loadings (P, K + M), latent ones first."""
        fit = self._fitted("inference")
        return np.hstack([fit.gamma, fit.gamma_observed]).astype(np.float64)

    def _identified(self) -> NDArray[np.float64]:
        """Give the same in the form of the paper, to which tests refer."""
        fit, gamma = self._fitted("inference"), self._loadings()
        if self.config.normalization != "orthonormal":
            n_latent = fit.gamma.shape[1]
            factors = fit.train_factor_returns.astype(np.float64)
            gamma[:, :n_latent], _ = orthonormal(gamma[:, :n_latent], factors)
        return gamma

    def _sample_for(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None,
        observed_factors: NDArray[Any] | None,
    ) -> Sample:
        """Find what the fit has seen: it was kept, or it is given."""
        fit = self._fitted("inference")
        if self.config.gamma_penalty > 0.0:
            raise ValueError(
                "inference needs an estimate without penalty; "
                f"got gamma_penalty={self.config.gamma_penalty}"
            )
        if batch is None:
            return self._kept_sample()
        sample = sample_of(self.config, fit, batch, observed_factors)
        require_same_sample(fit, self.config, sample)
        return sample

    def _seen_moments(
        self, batch: CrossSectionBatch | CharacteristicMoments | None
    ) -> kernels.Moments:
        """Moments of the panel of the fit: kept, or those of `batch`."""
        fit = self._fitted("inference")
        if batch is None:
            return self._kept_sample().moments
        moments = fitted_moments(self.config, fit, batch)
        require_same_panel(fit, moments, min_assets=self.config.min_assets)
        return moments

    def _kept_sample(self) -> Sample:
        if self._sample is None:
            raise ValueError(
                "batch must be given: a model that was loaded or copied has not kept the moments "
                "of its panel; got None"
            )
        return self._sample

    def _settings(self) -> kernels.IPCASettings:
        return kernel_settings(self.config)

    def _test(
        self, sample: Sample, weights: NDArray[np.float64], draws: Draws, hypothesis: str
    ) -> BootstrapTest:
        gamma = self._identified()
        return bootstrap_test(sample, gamma, weights, draws, self._settings(), hypothesis)

    def _rows(self, names: str | int | Iterable[str | int]) -> tuple[int, ...]:
        """Rows of Gamma by name or position."""
        known = self.feature_names
        wanted = [names] if isinstance(names, str) or not isinstance(names, Iterable) else names
        wanted = [require_label("names", name) for name in wanted]
        for name in wanted:
            if not (name in known if isinstance(name, str) else name < len(known)):
                raise ValueError(f"names must be among {', '.join(known)}; got {name!r}")
        if not wanted:
            raise ValueError("names must not be empty; None tests every characteristic")
        return tuple(
            known.index(name) if isinstance(name, str) else name for name in dict.fromkeys(wanted)
        )

    def _strength(self, sample: Sample, column: int) -> float:
        """Mean square of an observed factor over the dates of the fit."""
        used = sample.moments.n_assets >= self.config.min_assets
        if sample.observed is None:
            return 1.0
        return float((sample.observed[used, column] ** 2).mean())


def _positions(name: str, values: int | Iterable[int]) -> list[int]:
    listed = values if isinstance(values, Iterable) else [values]
    return list(dict.fromkeys(require_int(name, value, at_least=0) for value in listed))
