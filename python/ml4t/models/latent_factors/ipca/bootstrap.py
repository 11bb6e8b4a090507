"""Tests of IPCA loadings by the residual wild bootstrap: arrays in, a record out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_bool, require_int
from ml4t.models.progress import counting
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import Sample

# Draws of one call of the kernel: how often a bar moves, and an interrupt is heard.
CHUNK = 100


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BootstrapTest(Record):
    """A hypothesis on loadings, tested by bootstrap.

    Attributes
    ----------
    statistic : float
        Of the estimate.
    p_value : float
        Share of draws with a larger statistic. A failed draw counts as larger, so that failures
        never make a result significant.
    draws : ndarray of float64, shape (n_draws,)
        Statistics under the null; NaN where the estimate of a draw failed.
    n_failed : int
        Draws whose estimate failed or did not converge.
    hypothesis : str
        What the null says.
    """

    statistic: float
    p_value: float
    draws: NDArray[np.float64] = field(repr=False)
    n_failed: int
    hypothesis: str = ""


MOST_DRAWS = 10_000_000
"""Ten thousand p-values' worth; more is surely a mistake, and would take the memory first."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How a bootstrap draws.

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
        """Refuse a bootstrap without draws."""
        if require_int("n_draws", self.n_draws, at_least=1) > MOST_DRAWS:
            raise ValueError(f"n_draws must be at most {MOST_DRAWS}; got {self.n_draws}")
        require_bool("progress", self.progress)


def bootstrap_test(
    sample: Sample,
    gamma: NDArray[np.float64],
    weights: NDArray[np.float64],
    draws: Draws,
    settings: kernels.IPCASettings,
    hypothesis: str,
) -> BootstrapTest:
    """Test that the loadings of positive weight are zero.

    Parameters
    ----------
    sample : Sample
    gamma : ndarray, shape (P, K + M)
        The estimate: latent loadings orthonormal, and orthogonal to the observed ones.
    weights : ndarray, shape (P, K + M)
        The statistic is the weighted sum of squared loadings.
    draws : Draws
    settings : IPCASettings
        Of the estimate, and of those of the draws.
    hypothesis : str
    """
    numbers = range(draws.n_draws)
    found = []
    with counting(hypothesis, unit="draw", total=len(numbers), shown=draws.progress) as count:
        for first in numbers[::CHUNK]:
            chunk = numbers[first : first + CHUNK]
            options: dict[str, Any] = {"seed": draws.seed, "t_variance": draws.t_variance}
            found.append(
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
    return verdict(float((weights * gamma**2).sum()), np.concatenate(found), hypothesis)


def verdict(statistic: float, draws: NDArray[np.float64], hypothesis: str) -> BootstrapTest:
    """Compare a statistic with its draws under the null, NaN for those that failed."""
    failed = np.isnan(draws)
    p_value = float((failed | (draws > statistic)).mean())
    draws.flags.writeable = False
    return BootstrapTest(statistic, p_value, draws, int(failed.sum()), hypothesis)
