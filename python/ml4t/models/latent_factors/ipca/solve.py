"""Estimation of IPCA: one start or several, the penalty, and the form of the settings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import listed, require_type
from ml4t.models.latent_factors.ipca.fit import IPCAFit, Sample
from ml4t.models.latent_factors.ipca.inputs import (
    factors_for,
    instrument_names,
    kernel_settings,
    moments_of,
    observed_panel,
    panel_metrics,
)
from ml4t.models.latent_factors.ipca.normalization import identity_on, instrument_rows
from ml4t.models.latent_factors.ipca.penalty_path import shrunk
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.moments.characteristic_moments import CharacteristicMoments
from ml4t.models.types import CrossSectionBatch, FitSummary
from ml4t.models.types.arrays import as_floats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig

Solution: TypeAlias = tuple["kernels.IPCASolution", dict[str, float]]
"""A solution, and metrics for the summary."""
SAME_OPTIMUM = 1e-8
"""Objectives closer than this, relative to the sum of squared returns, are one optimum."""
STILL = 1e-6
"""An instrument that varies by less than this share of its level gives no direction to start in."""
NO_DIRECTION = 1e-10
"""An eigenvalue of the correlations below this share of the largest is no direction to start in."""


def estimate(
    config: IPCAConfig,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
    start: NDArray[Any] | None,
) -> Estimated[IPCAFit]:
    """Estimate on a batch, and keep its sample for inference."""
    require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
    dtype = np.dtype(config.dtype)
    moments = moments_of(config, batch)
    observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
    names, sample = instrument_names(config, batch), Sample(moments, observed)
    solution, metrics = solve(config, sample, start, names)
    n_used = int(moments.n_assets[solution.dates_used].sum())
    fit = IPCAFit(
        gamma=solution.gamma.astype(dtype, copy=False),
        gamma_observed=solution.gamma_observed.astype(dtype, copy=False),
        train_factor_returns=solution.factors.astype(dtype, copy=False),
        instrument_second_moment=solution.instrument_second_moment,
        ridge=solution.ridge,
        n_features=moments.cross.shape[1] - config.constant,
        fit_iterations=solution.certificate.n_als + solution.certificate.n_newton,
        fit_converged=solution.converged,
        asset_ids=() if isinstance(batch, CharacteristicMoments) else tuple(batch.asset_ids),
        certificate=solution.certificate,
        instrument_names=names,
        observed_means=()
        if observed is None
        else tuple(observed[solution.dates_used].mean(axis=0).tolist()),
    )
    metrics = {
        "n_train_periods": float(len(solution.dates_used)),
        "n_instruments": float(len(solution.gamma)),
        "train_mse": solution.certificate.ssr / n_used,
        **metrics,
    }
    if isinstance(batch, CrossSectionBatch):
        metrics |= panel_metrics(config, batch, int(moments.n_assets.sum()))
    notes = unidentified_note(solution, names, constant=config.constant)
    summary = FitSummary(converged=solution.converged, train_metrics=metrics, notes=notes)
    return Estimated(fit, summary, sample=sample)


def solve(
    config: IPCAConfig, sample: Sample, start: NDArray[Any] | None, names: Sequence[str]
) -> Solution:
    """Estimate in the form of the settings, with metrics; `names` are those of the instruments.

    Raises
    ------
    ValueError
        When settings and data do not fit each other.
    """
    rows = instrument_rows(config.identity_on, names, "identity_on")
    size = (len(names), config.n_factors)
    if start is not None and lacks_rank(as_floats("start", start, "P K"), *size):
        raise ValueError(
            f"start must have {config.n_factors} independent columns for the latent factors"
        )
    solution, metrics = best_of_starts(config, sample, start)
    if config.penalty > 0.0:
        solution, of_penalty = shrunk(config, sample, solution)
        metrics |= of_penalty
    if config.normalization == "identity":
        solution = _turned(solution, sample, rows, names)
    return solution, metrics


def lacks_rank(start: NDArray[Any], n_instruments: int, n_factors: int) -> bool:
    """Check the first K columns for dependence; the kernel reports every other fault."""
    latent = start[:, :n_factors].astype(np.float64)
    fits = latent.shape == (n_instruments, n_factors) and n_factors <= n_instruments
    sound = fits and bool(np.isfinite(latent).all())
    return sound and bool(np.linalg.matrix_rank(latent) < n_factors)


def require_something_to_estimate(config: IPCAConfig, sample: Sample) -> None:
    """Raise `ValueError` for a model without latent and observed factors."""
    if config.n_factors == 0 and sample.observed is None:
        raise ValueError(
            "n_factors must be at least 1 without observed_factors and intercept; got 0"
        )


def best_of_starts(config: IPCAConfig, sample: Sample, start: NDArray[Any] | None) -> Solution:
    """Estimate from the usual start and `n_starts - 1` random ones; the lowest objective wins."""
    require_something_to_estimate(config, sample)
    first = _from(config, sample, start)
    if config.n_starts == 1:
        return first, {}
    solutions, n_failed = [first], 0
    for gamma in random_starts(config, first):
        try:
            solutions.append(_from(config, sample, gamma))
        except RuntimeError:  # the loadings lost rank on the way from a random start
            n_failed += 1
    converged = [one for one in solutions if one.converged] or solutions
    best = min(converged, key=lambda one: one.certificate.objective)
    if best.certificate.objective > first.certificate.objective - SAME_OPTIMUM and first.converged:
        best = first  # the usual start is as good: its bits do not depend on luck
    metrics = {
        "n_starts": float(config.n_starts),
        "n_starts_failed": float(n_failed),
        "n_starts_not_converged": float(sum(not one.converged for one in solutions)),
        "n_distinct_optima": float(n_distinct([one.certificate.objective for one in converged])),
    }
    return best, metrics


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
    spanned = values > NO_DIRECTION * values[-1]
    whitening = vectors[:, spanned] / np.sqrt(values[spanned]) / scale[:, None]
    whitening[0] -= mean @ whitening
    shape = (whitening.shape[1], config.n_factors)
    return [
        np.hstack([whitening @ rng.standard_normal(shape), first.gamma_observed])
        for _ in range(config.n_starts - 1)
    ]


def unidentified_note(
    solution: kernels.IPCASolution, names: Sequence[str], *, constant: bool
) -> tuple[str, ...]:
    """List the instruments with an unidentified direction."""
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


def _from(config: IPCAConfig, sample: Sample, start: NDArray[Any] | None) -> kernels.IPCASolution:
    return kernels.ipca(
        sample.moments,
        config.n_factors,
        observed=sample.observed,
        start=start,
        **kernel_settings(config),
    )


def _turned(
    solution: kernels.IPCASolution, sample: Sample, rows: Sequence[int], names: Sequence[str]
) -> kernels.IPCASolution:
    turned = replace(solution, gamma=identity_on(solution.gamma, rows, names))
    return replace(turned, factors=factors_for(sample, turned))
