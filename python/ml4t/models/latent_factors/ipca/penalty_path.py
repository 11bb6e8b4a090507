"""The penalized estimate, and the choice of the penalty by blocks of dates."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models import kernels
from ml4t.models.checks import require_int, require_one_of
from ml4t.models.latent_factors.ipca.fit import Sample
from ml4t.models.latent_factors.ipca.inputs import factors_for, kernel_settings
from ml4t.models.latent_factors.ipca.normalization import orthonormal
from ml4t.models.latent_factors.ipca.penalty import (
    Penalized,
    Penalty,
    Problem,
    minimize,
    path,
    start_from,
)
from ml4t.models.types.arrays import as_float_array
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ml4t.models.configs import IPCAConfig
    from ml4t.models.latent_factors.ipca.penalty import Point

SMALLEST = 1e-3
"""Smallest penalty of a path, relative to the one that leaves nothing."""
MOSTLY_RIDGE = 1e-3
"""Least `l1_ratio` that the upper end of a path is computed for: no ridge leaves nothing."""
MOST_PENALTIES = 10_000


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class IPCAPenaltyPath(Record):
    """Estimates along a path of penalties, and their scores on dates left out.

    Attributes
    ----------
    penalties : ndarray of float64, shape (S,)
        Descending, for `IPCAConfig(penalty=...)`.
    l1_ratio : float
    fold_scores : ndarray of float64, shape (S, B)
        Share of squared returns explained on each of the blocks left out (benchmark zero).
    mean_score : ndarray of float64, shape (S,)
        The same over all blocks together.
    standard_error : ndarray of float64, shape (S,)
        Of the mean over blocks.
    gammas : ndarray of float64, shape (S, P, K + M)
        Loadings from all dates, latent ones first.
    n_instruments : ndarray of int64, shape (S,)
        Rows that are not zero.
    converged : ndarray of bool, shape (S,)
        Whether the estimate from all dates and those of all blocks converged.
    best_penalty : float
        Penalty with the highest `mean_score`.
    one_se_penalty : float
        Largest penalty within one standard error of the best.
    """

    penalties: NDArray[np.float64]
    l1_ratio: float
    fold_scores: NDArray[np.float64]
    mean_score: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    gammas: NDArray[np.float64]
    n_instruments: NDArray[np.int64]
    converged: NDArray[np.bool_]
    best_penalty: float
    one_se_penalty: float


def shrunk(
    config: IPCAConfig, sample: Sample, first: kernels.IPCASolution
) -> tuple[kernels.IPCASolution, dict[str, float]]:
    """Penalize an estimate by the settings, and count the active instruments."""
    problem = Problem.of(sample, first, config.weighting)
    result = minimize(
        problem,
        Penalty(config.penalty, config.l1_ratio),
        _start(problem, sample, first),
        n_latent=config.n_factors,
        tol=config.tol,
        max_sweeps=config.max_iter,
    )
    solution = _solution(sample, first, problem, result)
    n_left = int(np.hstack([solution.gamma, solution.gamma_observed]).any(axis=1).sum())
    return solution, {"n_active_instruments": float(n_left)}


def penalty_path(
    config: IPCAConfig,
    sample: Sample,
    first: kernels.IPCASolution,
    *,
    penalties: Sequence[float] | int,
    n_folds: int,
    score: str,
) -> IPCAPenaltyPath:
    """Estimate along a path, from all dates and without each of `n_folds` blocks of dates."""
    require_int("n_folds", n_folds, at_least=2)
    require_one_of("score", score, ("total", "predictive"))
    n_dates = len(first.dates_used)
    if n_folds > n_dates:
        raise ValueError(f"n_folds must be at most the {n_dates} dates used; got {n_folds}")
    problem = Problem.of(sample, first, config.weighting)
    sizes = _sizes(config, problem, penalties)
    whole = _along(config, sample, first, sizes)
    blocks = np.array_split(first.dates_used, n_folds)
    explained, total = np.zeros((len(sizes), n_folds)), np.zeros(n_folds)
    converged = np.array([one.certificate.stopping == "converged" for one in whole])
    for fold, block in enumerate(blocks):
        training = _part(sample, np.setdiff1d(first.dates_used, block))
        left_out = _part(sample, block)
        parts = _along(config, training, _estimate(config, training, first), sizes)
        converged &= [one.certificate.stopping == "converged" for one in parts]
        total[fold] = _squares(left_out, config.weighting)
        explained[:, fold] = [
            _explained(one, training, left_out, config.weighting, score) for one in parts
        ]
    scores = explained / total
    pooled = explained.sum(axis=1) / total.sum()
    errors = scores.std(axis=1, ddof=1) / np.sqrt(n_folds)
    best = int(np.argmax(pooled))
    near = np.flatnonzero(pooled >= pooled[best] - errors[best])
    gammas = np.array([np.hstack([one.gamma, one.gamma_observed]) for one in whole])
    return IPCAPenaltyPath(
        penalties=sizes,
        l1_ratio=config.l1_ratio,
        fold_scores=scores,
        mean_score=pooled,
        standard_error=errors,
        gammas=gammas,
        n_instruments=gammas.any(axis=2).sum(axis=1),
        converged=converged,
        best_penalty=float(sizes[best]),
        one_se_penalty=float(sizes[near[0]]),
    )


def _sizes(
    config: IPCAConfig, problem: Problem, penalties: Sequence[float] | int
) -> NDArray[np.float64]:
    """Penalties of a path, descending."""
    if isinstance(penalties, (int, np.integer)):
        require_int("penalties", penalties, at_least=1, at_most=MOST_PENALTIES)
        largest = problem.strongest(config.n_factors) / max(config.l1_ratio, MOSTLY_RIDGE)
        return np.geomspace(largest, SMALLEST * largest, penalties)
    given = np.unique(as_float_array("penalties", penalties))[::-1].astype(np.float64)
    if not given.size or not (np.isfinite(given) & (given > 0.0)).all():
        raise ValueError(f"penalties must be finite numbers > 0, at least one; got {penalties}")
    return given


def _along(
    config: IPCAConfig, sample: Sample, first: kernels.IPCASolution, sizes: NDArray[np.float64]
) -> list[kernels.IPCASolution]:
    """Estimates for each penalty, from the smallest, where the usual estimate is close."""
    problem = Problem.of(sample, first, config.weighting)
    result = path(
        problem,
        [Penalty(float(size), config.l1_ratio) for size in sizes[::-1]],
        _start(problem, sample, first),
        n_latent=config.n_factors,
        tol=config.tol,
        max_sweeps=config.max_iter,
    )
    return [_solution(sample, first, problem, one) for one in result][::-1]


def _estimate(
    config: IPCAConfig, sample: Sample, near: kernels.IPCASolution
) -> kernels.IPCASolution:
    return kernels.ipca(
        sample.moments,
        config.n_factors,
        observed=sample.observed,
        start=np.hstack([near.gamma, near.gamma_observed]),
        **kernel_settings(config),
    )


def _part(sample: Sample, dates: NDArray[np.int64]) -> Sample:
    part = sample.moments.select(dates)
    return Sample(part, None if sample.observed is None else sample.observed[dates])


def _start(problem: Problem, sample: Sample, first: kernels.IPCASolution) -> Point:
    slopes = first.factors @ first.gamma.T
    if sample.observed is not None:
        slopes = slopes + sample.observed[first.dates_used] @ first.gamma_observed.T
    return start_from(problem, slopes / problem.scale, first.gamma.shape[1])


def _solution(
    sample: Sample, first: kernels.IPCASolution, problem: Problem, penalized: Penalized
) -> kernels.IPCASolution:
    """Solution in the identified form: the span of the rows, and the factors of `extract`."""
    n_observed, (n_rows, n_latent) = problem.observed.shape[1], first.gamma.shape
    rows = penalized.point.rows * problem.scale[:, None]
    own = np.array(np.linalg.solve(problem.observed_root, rows[:, :n_observed].T).T, np.float64)
    latent = rows[:, n_observed:]
    if latent.size:
        latent, _ = orthonormal(latent, np.zeros((1, latent.shape[1])))
        latent[~rows.any(axis=1)] = 0.0
        own = own - latent @ (latent.T @ own)
    # Directions that the penalty took away have no loadings, and a factor that is zero.
    latent = np.hstack([latent, np.zeros((n_rows, n_latent - latent.shape[1]))])
    raw = replace(first, gamma=latent, gamma_observed=own)
    n_left = penalized.point.rows.shape[1] - n_observed
    turned, _ = orthonormal(latent[:, :n_left], factors_for(sample, raw)[:, :n_left])
    turned[~rows.any(axis=1)] = 0.0
    final = replace(raw, gamma=np.hstack([turned, latent[:, n_left:]]))
    final = replace(final, factors=factors_for(sample, final))
    return replace(final, certificate=_certificate(sample, final, penalized))


def _certificate(
    sample: Sample, solution: kernels.IPCASolution, penalized: Penalized
) -> kernels.IPCACertificate:
    used = _part(sample, solution.dates_used)
    g = np.empty((len(solution.factors), 0)) if used.observed is None else used.observed
    slopes = (
        np.hstack([solution.factors, g]) @ np.hstack([solution.gamma, solution.gamma_observed]).T
    )
    return replace(
        solution.certificate,
        stopping="converged" if penalized.converged else "max_iter",
        gamma_condition=penalized.row_condition,
        factor_condition=penalized.factor_condition,
        subspace_step=penalized.step,
        objective_delta=2.0 * penalized.objective_delta,
        n_als=penalized.n_sweeps,
        n_newton=0,
        objective=2.0 * penalized.objective,
        ssr=float(used.moments.return_squares.sum() - _explained_by(used.moments, slopes).sum()),
        monotone=penalized.monotone,
        objectives=tuple(2.0 * value for value in penalized.objectives),
        steps=penalized.steps,
    )


def _explained_by(moments: kernels.Moments, slopes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared returns that slopes (T, P) explain, date by date."""
    curved = np.einsum("tpq,tq->tp", moments.full_gram, slopes)
    explained: NDArray[np.float64] = np.einsum("tp,tp->t", slopes, 2.0 * moments.cross - curved)
    return explained


def _weights(sample: Sample, weighting: str) -> NDArray[np.float64]:
    counts = sample.moments.n_assets.astype(np.float64)
    return np.ones(len(counts)) if weighting == "panel" else 1.0 / counts


def _squares(sample: Sample, weighting: str) -> float:
    return float(_weights(sample, weighting) @ sample.moments.return_squares)


def _explained(
    solution: kernels.IPCASolution, training: Sample, left_out: Sample, weighting: str, score: str
) -> float:
    """Weighted squared returns of dates left out that the loadings explain."""
    both = np.hstack([solution.gamma, solution.gamma_observed])
    given: Any = left_out.observed
    g = np.empty((len(left_out.moments.n_assets), 0)) if given is None else given
    everywhere = replace(solution, dates_used=np.arange(len(g)))
    paths = np.hstack([factors_for(left_out, everywhere), g])
    if score == "predictive":
        known = (
            np.empty((len(solution.factors), 0)) if training.observed is None else training.observed
        )
        means = np.concatenate([solution.factors.mean(axis=0), known.mean(axis=0)])
        paths = np.broadcast_to(means, paths.shape)
    return float(_weights(left_out, weighting) @ _explained_by(left_out.moments, paths @ both.T))
