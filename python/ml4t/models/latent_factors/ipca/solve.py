"""From moments to a solution: one start or several, and the form that is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import listed
from ml4t.models.latent_factors.ipca.inputs import factors_for, kernel_settings
from ml4t.models.latent_factors.ipca.normalization import identity_on, instrument_rows
from ml4t.models.latent_factors.ipca.penalty_path import shrunk
from ml4t.models.types.arrays import as_floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig
    from ml4t.models.latent_factors.ipca.fit import Sample

SAME_OPTIMUM = 1e-8
"""Objectives closer than this, relative to the sum of squared returns, are one optimum."""
STILL = 1e-6
"""An instrument that varies by less than this share of its level gives no direction to start in."""
NO_DIRECTION = 1e-10
"""An eigenvalue of the correlations below this share of the largest is no direction to start in."""


@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """A solution in the form of the settings, with what else there is to report.

    Attributes
    ----------
    solution : IPCASolution
    metrics : dict of str to float
    """

    solution: kernels.IPCASolution
    metrics: dict[str, float] = field(default_factory=dict)


def solve(
    config: IPCAConfig, sample: Sample, start: NDArray[Any] | None, names: Sequence[str]
) -> Solved:
    """Estimate by the settings of a model; `names` are those of the instruments.

    Raises
    ------
    ValueError
        When settings and data do not fit each other.
    """
    rows = instrument_rows(config.identity_on, names, "identity_on")
    size = (len(names), config.n_factors)
    if start is not None and lacks_rank(as_floats("start", start, "P K"), *size):
        if config.gamma_penalty == 0.0:
            raise ValueError(
                f"start must have {config.n_factors} independent columns for the latent factors"
            )
        start = None  # of a window in which the penalty left fewer directions
    found = best_of_starts(config, sample, start)
    if config.gamma_penalty > 0.0:
        solution, metrics = shrunk(config, sample, found.solution)
        found = Solved(solution, found.metrics | metrics)
    if config.normalization == "identity":
        return replace(found, solution=_turned(found.solution, sample, rows, names))
    return found


def lacks_rank(start: NDArray[Any], n_instruments: int, n_factors: int) -> bool:
    """Say whether the first K columns are dependent; other faults are for the kernel to name."""
    latent = start[:, :n_factors].astype(np.float64)
    fits = latent.shape == (n_instruments, n_factors) and n_factors <= n_instruments
    sound = fits and bool(np.isfinite(latent).all())
    return sound and bool(np.linalg.matrix_rank(latent) < n_factors)


def require_something_to_estimate(config: IPCAConfig, sample: Sample) -> None:
    """Refuse a model without any factor; only `fit` knows whether some are observed."""
    if config.n_factors == 0 and sample.observed is None:
        raise ValueError(
            "n_factors must be at least 1 without observed_factors and intercept; got 0"
        )


def best_of_starts(config: IPCAConfig, sample: Sample, start: NDArray[Any] | None) -> Solved:
    """Estimate from the usual start and `n_starts - 1` random ones; the lowest objective wins."""
    require_something_to_estimate(config, sample)
    first = _from(config, sample, start, near=True)
    if config.n_starts == 1:
        return Solved(first)
    found, n_failed = [first], 0
    for gamma in random_starts(config, first):
        try:
            found.append(_from(config, sample, gamma))
        except RuntimeError:  # the loadings lost rank on the way from a random start
            n_failed += 1
    converged = [one for one in found if one.converged] or found
    best = min(converged, key=lambda one: one.certificate.objective)
    if best.certificate.objective > first.certificate.objective - SAME_OPTIMUM and first.converged:
        best = first  # the usual start is as good: its bits do not depend on luck
    metrics = {
        "n_starts": float(config.n_starts),
        "n_starts_failed": float(n_failed),
        "n_starts_not_converged": float(sum(not one.converged for one in found)),
        "n_distinct_optima": float(n_distinct([one.certificate.objective for one in converged])),
    }
    return Solved(best, metrics)


def random_starts(config: IPCAConfig, first: kernels.IPCASolution) -> list[NDArray[np.float64]]:
    """Draw loadings (P, K + M): latent ones uniform over the K-dimensional subspaces.

    Uniform in instruments that are whitened, about their means where there is a constant, so that
    no recombination of characteristics changes the distribution. Observed factors begin with the
    loadings that the first start led to.
    """
    rng = np.random.default_rng(config.seed % 2**64)  # NumPy takes no negative one
    moment, mean = first.instrument_second_moment, np.zeros(len(first.gamma))
    if config.constant:  # a level is no direction
        mean[1:] = moment[0, 1:]
        moment = moment - np.outer(mean, moment[0])
    scale = np.sqrt(np.maximum(np.diag(moment), 0.0))
    still = scale <= STILL * np.sqrt(np.diag(first.instrument_second_moment))
    moment = np.where(still | still[:, None], 0.0, moment)
    scale[still] = 1.0
    values, vectors = np.linalg.eigh(moment / np.outer(scale, scale))
    there = values > NO_DIRECTION * values[-1]
    whitening = vectors[:, there] / np.sqrt(values[there]) / scale[:, None]
    whitening[0] -= mean @ whitening
    shape = (whitening.shape[1], config.n_factors)
    return [
        np.hstack([whitening @ rng.standard_normal(shape), first.gamma_observed])
        for _ in range(config.n_starts - 1)
    ]


def unidentified_note(
    solution: kernels.IPCASolution, names: Sequence[str], *, constant: bool
) -> tuple[str, ...]:
    """Name the instruments that the estimate leaves out, wholly or along some direction."""
    if not len(solution.unidentified):
        return ()
    count, level = solution.certificate.n_unidentified, " about its mean" if constant else ""
    involved = [names[row] for row in solution.unidentified]
    return (
        f"No date spans {count} of {len(names)} directions of the instruments beyond rounding; the "
        f"loadings along them are zero. An instrument does not vary{level}, or repeats others: "
        f"{listed(involved)}.",
    )


def n_distinct(objectives: Sequence[float]) -> int:
    """Count optima: neighbours in order of the objective that differ by more than rounding."""
    return 1 + int((np.diff(np.sort(objectives)) > SAME_OPTIMUM).sum())


def _from(
    config: IPCAConfig, sample: Sample, start: NDArray[Any] | None, *, near: bool = False
) -> kernels.IPCASolution:
    return kernels.ipca(
        sample.moments,
        config.n_factors,
        observed=sample.observed,
        start=start,
        near=near,
        **kernel_settings(config),
    )


def _turned(
    solution: kernels.IPCASolution, sample: Sample, rows: Sequence[int], names: Sequence[str]
) -> kernels.IPCASolution:
    turned = replace(solution, gamma=identity_on(solution.gamma, rows, names))
    return replace(turned, factors=factors_for(sample, turned))
