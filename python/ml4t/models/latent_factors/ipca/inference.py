r"""Inference on Gamma: tests by the residual wild bootstrap, asymptotic standard errors.

A test draws managed portfolios under its null hypothesis,

.. math:: \tilde x_t = W_t \Gamma^0 f_t + q_t d_{s(t)}, \quad d_t = x_t - W_t \Gamma f_t,

with :math:`x_t = Z_t'r_t/n_t`, :math:`W_t = Z_t'Z_t/n_t`, :math:`\Gamma^0` the estimate with the
loadings under test set to zero, q Student's t with five degrees of freedom scaled to the variance
`t_variance`, and s a date drawn uniformly. It estimates the whole model from each draw, starting at
:math:`\Gamma^0`, and compares the statistics.

Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_bool, require_int
from ml4t.models.configs.rules import require_label
from ml4t.models.latent_factors.ipca.inputs import kernel_settings, require_same_sample, sample_of
from ml4t.models.latent_factors.ipca.normalization import instrument_rows, orthonormal
from ml4t.models.progress import counting
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import FittedIPCA, Sample
    from ml4t.models.moments.characteristic_moments import CharacteristicMoments
    from ml4t.models.types import CrossSectionBatch

CHUNK = 100
"""Draws of one call of the kernel: a bar moves and an interrupt takes effect after each."""
MOST_DRAWS = 10_000_000
"""Upper limit of draws, which are in memory at once."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BootstrapTest(Record):
    """Bootstrap test of a hypothesis on loadings.

    Attributes
    ----------
    statistic : float
        Statistic of the estimate.
    p_value : float
        Share of draws with a larger statistic. A failed draw counts as larger, so that failures
        never make a result significant.
    draws : ndarray of float64, shape (n_draws,)
        Statistics under the null; NaN where the estimate of a draw failed.
    n_failed : int
        Draws whose estimate failed or did not converge.
    hypothesis : str
        The null hypothesis.
    """

    statistic: float
    p_value: float
    draws: NDArray[np.float64] = field(repr=False)
    n_failed: int
    hypothesis: str = ""


@dataclass(frozen=True, slots=True)
class Draws:
    """Settings of a bootstrap.

    Attributes
    ----------
    n_draws : int
    seed : int
        Draw i of a seed is the same in every test.
    t_variance : float
        Variance of the multipliers.
    progress : bool
        Show a bar.
    """

    n_draws: int = 1000
    seed: int = 0
    t_variance: float = 1.0
    progress: bool = False

    def __post_init__(self) -> None:
        """Raise `ValueError` for a number of draws out of range."""
        if require_int("n_draws", self.n_draws, at_least=1) > MOST_DRAWS:
            raise ValueError(f"n_draws must be at most {MOST_DRAWS}; got {self.n_draws}")
        require_bool("progress", self.progress)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IPCAStandardErrors(Record):
    """Standard errors of loadings, in the units of the loadings.

    Attributes
    ----------
    gamma : ndarray of float64, shape (P, K)
        Of the latent loadings.
    alpha : ndarray of float64, shape (P,), or None
        Of the instrumented alpha, return per period; None without one.
    gamma_observed : ndarray of float64, shape (P, M)
        Of the observed factors that were passed to `fit`.
    covariance : ndarray of float64, shape (P (K + M'), P (K + M'))
        Of all loadings, one factor after the other, latent ones first and the alpha last.
    """

    gamma: NDArray[np.float64]
    alpha: NDArray[np.float64] | None
    gamma_observed: NDArray[np.float64]
    covariance: NDArray[np.float64]


def alpha_test(fitted: FittedIPCA, sample: Sample, draws: Draws) -> BootstrapTest:
    """Test that there is no alpha."""
    weights = np.zeros_like(fitted.loadings)
    weights[:, -1] = 1.0
    return bootstrap_test(fitted, sample, weights, draws, "alpha = 0")


def characteristic_test(
    fitted: FittedIPCA, sample: Sample, rows: Sequence[int], draws: Draws
) -> BootstrapTest:
    """Test that latent factors do not load on the instruments in these rows of Gamma."""
    if fitted.n_latent == 0:
        raise ValueError("test_characteristics needs latent factors; the model has none")
    weights = np.zeros_like(fitted.loadings)
    weights[list(rows), : fitted.n_latent] = 1.0
    names = ", ".join(fitted.instrument_names[row] for row in rows)
    return bootstrap_test(fitted, sample, weights, draws, f"no loading on {names}")


def observed_factor_test(
    fitted: FittedIPCA, sample: Sample, indices: int | Iterable[int] | None, draws: Draws
) -> BootstrapTest:
    """Test that observed factors, weighted by their mean squares, add nothing."""
    weights = np.zeros_like(fitted.loadings)
    n_observed = weights.shape[1] - fitted.n_latent - fitted.config.intercept
    wanted = range(n_observed) if indices is None else indices
    listed = wanted if isinstance(wanted, Iterable) else [wanted]
    columns = list(dict.fromkeys(require_int("indices", one, at_least=0) for one in listed))
    if sample.observed is None or not columns or max(columns) >= n_observed:
        raise ValueError(f"indices must name some of {n_observed} observed factors; got {columns}")
    used = sample.moments.n_assets >= fitted.config.min_assets
    squares = np.array([(sample.observed[used, column] ** 2).mean() for column in columns])
    weights[:, [fitted.n_latent + column for column in columns]] = squares / squares.mean()
    names = ", ".join(map(str, columns))
    return bootstrap_test(fitted, sample, weights, draws, f"no loading on observed factor {names}")


def standard_errors(fitted: FittedIPCA, sample: Sample) -> IPCAStandardErrors:
    r"""Sum the contributions of dates, :math:`\sum_t \psi_t\psi_t'`: the sandwich by date."""
    config, gamma = fitted.config, identified(fitted)
    settings = kernel_settings(config)
    psi = kernels.ipca_influence(sample.moments, gamma, observed=sample.observed, **settings)
    if rows := instrument_rows(config.identity_on, fitted.instrument_names, "identity_on"):
        psi = on_the_identity(psi, gamma, fitted.n_latent, rows)
    return summed(psi, n_latent=fitted.n_latent, intercept=config.intercept)


def training_sample(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    observed_factors: NDArray[Any] | None,
) -> Sample:
    """Sample of the fit: kept in the process of the fit, or that of the given panel."""
    if fitted.config.penalty > 0.0:
        raise ValueError(
            f"inference needs an estimate without penalty; got penalty={fitted.config.penalty}"
        )
    if batch is None:
        return kept_sample(fitted)
    sample = sample_of(fitted, batch, observed_factors)
    require_same_sample(fitted, sample)
    return sample


def kept_sample(fitted: FittedIPCA) -> Sample:
    """Sample that the model keeps from its fit, or raise `ValueError`."""
    if fitted.sample is None:
        raise ValueError(
            "batch must be given: a model that was loaded or copied has not kept the moments "
            "of its panel; got None"
        )
    return fitted.sample


def named_rows(fitted: FittedIPCA, names: str | int | Iterable[str | int]) -> tuple[int, ...]:
    """Rows of Gamma by name or position."""
    known = fitted.instrument_names
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


def identified(fitted: FittedIPCA) -> NDArray[np.float64]:
    """Give loadings (P, K + M) in the form of the paper, to which tests refer."""
    gamma, n_latent = fitted.loadings, fitted.n_latent
    if fitted.config.normalization != "orthonormal":
        factors = fitted.fit.train_factor_returns.astype(np.float64)
        gamma[:, :n_latent], _ = orthonormal(gamma[:, :n_latent], factors)
    return gamma


def bootstrap_test(
    fitted: FittedIPCA,
    sample: Sample,
    weights: NDArray[np.float64],
    draws: Draws,
    hypothesis: str,
) -> BootstrapTest:
    """Test that the loadings of positive weight are zero.

    Parameters
    ----------
    fitted : FittedIPCA
    sample : Sample
        The training sample.
    weights : ndarray, shape (P, K + M)
        The statistic is the weighted sum of squared loadings.
    draws : Draws
    hypothesis : str
    """
    gamma, numbers = identified(fitted), range(draws.n_draws)
    settings = kernel_settings(fitted.config)
    statistics = []
    with counting(hypothesis, unit="draw", total=len(numbers), shown=draws.progress) as count:
        for first in numbers[::CHUNK]:
            chunk = numbers[first : first + CHUNK]
            options: dict[str, Any] = {"seed": draws.seed, "t_variance": draws.t_variance}
            statistics.append(
                kernels.ipca_bootstrap(
                    sample.moments,
                    gamma,
                    weights,
                    observed=sample.observed,
                    draws=chunk,
                    **options,
                    **settings,
                )
            )
            count(len(chunk))
    return verdict(float((weights * gamma**2).sum()), np.concatenate(statistics), hypothesis)


def verdict(statistic: float, draws: NDArray[np.float64], hypothesis: str) -> BootstrapTest:
    """Compare a statistic with its draws under the null, NaN for those that failed."""
    failed = np.isnan(draws)
    p_value = float((failed | (draws > statistic)).mean())
    draws.flags.writeable = False
    return BootstrapTest(statistic, p_value, draws, int(failed.sum()), hypothesis)


def on_the_identity(
    psi: NDArray[np.float64], gamma: NDArray[np.float64], n_latent: int, rows: list[int]
) -> NDArray[np.float64]:
    r"""Contributions (T, P, Q) to loadings that are the identity on `rows`.

    With :math:`\Gamma_I = \Gamma A^{-1}` and :math:`A` the rows of :math:`\Gamma`,
    :math:`d\Gamma_I = (d\Gamma - \Gamma_I\,dA)A^{-1}`. Loadings of observed factors are the same in
    both forms.
    """
    latent = gamma[:, :n_latent]
    inverse = np.linalg.inv(latent[rows])
    latent_part, observed_part = psi[..., :n_latent], psi[..., n_latent:]
    turned = (latent_part - latent @ inverse @ latent_part[:, rows]) @ inverse
    return np.concatenate([turned, observed_part], axis=2)


def summed(psi: NDArray[np.float64], *, n_latent: int, intercept: bool) -> IPCAStandardErrors:
    """Sum standard errors from the contributions (T, P, Q) of the dates."""
    rows = psi.transpose(0, 2, 1).reshape(len(psi), -1)
    covariance = rows.T @ rows
    errors = np.sqrt(np.diag(covariance)).reshape(psi.shape[2], psi.shape[1]).T
    observed = errors[:, n_latent:]
    return IPCAStandardErrors(
        gamma=errors[:, :n_latent],
        alpha=observed[:, -1] if intercept else None,
        gamma_observed=observed[:, :-1] if intercept else observed,
        covariance=covariance,
    )
