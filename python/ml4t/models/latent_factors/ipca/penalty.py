r"""Ridge and elastic net on the slopes of each instrument.

With :math:`b_t = \Gamma_\beta f_t + \Gamma_g g_t` the slopes of date t, the penalty is on the size
of the slopes of each instrument over time,

.. math:: \min \frac{1}{2}\,\frac{\sum_t w_t \lVert r_t - Z_t b_t\rVert^2}{\sum_t w_t r_t'r_t}
    + \lambda \sum_l \Bigl[\kappa u_l + \tfrac{1-\kappa}{2} u_l^2\Bigr], \qquad
    u_l^2 = \frac{s_l^2}{\sigma^2}\,\frac{1}{T} \sum_t b_{tl}^2

with :math:`s_l` the root mean square of instrument l, :math:`\sigma` that of returns, and
:math:`\kappa` the `l1_ratio`. A penalty on Gamma itself would say nothing: Gamma half as large,
with factors twice as large, is the same model. In factors that are orthonormal over time,
:math:`u_l` is the norm of row l of Gamma, so that this is the elastic net with one group for each
row; it depends on no rotation, and no scale of factors, returns or characteristics. With a single
observed factor and no latent one it is the elastic net of standardized regressors.

Each sweep solves for the rows by FISTA, then for the latent factors with the penalty replaced by a
quadratic that touches it from above: no sweep raises the objective, and rows become zero exactly.

Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm, SIAM J. Imaging 2(1).
Yuan and Lin (2006), Model selection and estimation with grouped variables, JRSS B 68(1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ml4t.models import kernels
    from ml4t.models.latent_factors.ipca.fit import Sample

DEPENDENT = 1e-10
"""A singular value below this share of the largest is no direction."""
INNER = 200
"""Steps of FISTA in a sweep; the next sweep goes on where one ends."""
ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Penalty:
    """Size and kind of the penalty.

    Attributes
    ----------
    size : float
    l1_ratio : float
    """

    size: float
    l1_ratio: float

    def value(self, rows: NDArray[np.float64]) -> float:
        """Compute the penalty of rows (P, Q) in orthonormal factors."""
        u = np.linalg.norm(rows, axis=1)
        kinds = self.l1_ratio * u + 0.5 * (1.0 - self.l1_ratio) * u**2
        return self.size * float(kinds.sum())

    def shrunk(self, rows: NDArray[np.float64], step: float) -> NDArray[np.float64]:
        """Minimize half the squared distance to `rows` plus `step` times the penalty."""
        u = np.linalg.norm(rows, axis=1, keepdims=True)
        left = np.maximum(u - step * self.size * self.l1_ratio, 0.0)
        kept = np.divide(left, u, out=np.zeros_like(u), where=u > 0.0)
        shrunk: NDArray[np.float64] = rows * kept / (1.0 + step * self.size * (1.0 - self.l1_ratio))
        return shrunk

    def weights(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights (P,) of the squared slopes that bound the penalty; rows of zeros have none."""
        u = np.linalg.norm(rows, axis=1)
        inverse = np.divide(1.0, u, out=np.zeros_like(u), where=u > 0.0)
        weights: NDArray[np.float64] = self.size * (self.l1_ratio * inverse + 1.0 - self.l1_ratio)
        return weights


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Moments of standardized instruments and returns, each date by its weight.

    Attributes
    ----------
    gram : ndarray, shape (T, P, P)
        Ridge included.
    cross : ndarray, shape (T, P)
    observed : ndarray, shape (T, M)
        Orthonormal over time.
    observed_root : ndarray, shape (M, M)
        Turns these into the given ones.
    scale : ndarray, shape (P,)
        Slopes in units of the panel for one of these.
    """

    gram: NDArray[np.float64]
    cross: NDArray[np.float64]
    observed: NDArray[np.float64]
    observed_root: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Sample, solution: kernels.IPCASolution, weighting: str) -> Problem:
        """Standardize the dates that an estimate without penalty used."""
        moments, dates = sample.moments, solution.dates_used
        counts = moments.n_assets[dates].astype(np.float64)
        weights = np.ones(len(dates)) if weighting == "panel" else 1.0 / counts
        total = float(weights @ moments.return_squares[dates])
        rms = np.sqrt(total / (weights @ counts))
        size = np.sqrt(np.diag(solution.instrument_second_moment))
        size[size == 0.0] = 1.0
        metric = np.outer(size, size) * (weights @ counts)
        packed = moments.select(dates)
        gram = packed.full_gram + solution.ridge * solution.instrument_second_moment
        cross = packed.cross * (weights / (weights @ counts))[:, None] / (size * rms)
        g = np.empty((len(dates), 0)) if sample.observed is None else sample.observed[dates]
        basis, root = np.linalg.qr(g)
        scale_of_time = np.sqrt(len(dates))
        return cls(
            gram * weights[:, None, None] / metric,
            cross,
            basis * scale_of_time,
            root / scale_of_time,
            rms / size,
        )

    def strongest(self, n_latent: int) -> float:
        """Smallest lasso penalty from which on every row is zero."""
        if n_latent:
            return float(np.sqrt(len(self.cross)) * np.linalg.norm(self.cross, axis=0).max())
        return float(np.linalg.norm(self.cross.T @ self.observed, axis=1).max())


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """Factors that are orthonormal over time, observed ones first, and their rows.

    Attributes
    ----------
    factors : ndarray, shape (T, M + R)
        R at most K: a penalty may leave fewer directions.
    rows : ndarray, shape (P, M + R)
    """

    factors: NDArray[np.float64]
    rows: NDArray[np.float64]

    @property
    def slopes(self) -> NDArray[np.float64]:
        """Standardized slopes b, shape (T, P)."""
        return self.factors @ self.rows.T


@dataclass(frozen=True, slots=True, eq=False)
class Penalized:
    """Result of the sweeps.

    Attributes
    ----------
    point : Point
    objective : float
    objective_delta, step : float
        Fall of the objective and relative change of the slopes in the last sweep.
    row_condition, factor_condition : float
        Relative norms of the first-order conditions.
    n_sweeps : int
    converged, monotone : bool
    objectives, steps : tuple of float
        At the start and after each sweep; of each sweep.
    """

    point: Point
    objective: float
    objective_delta: float
    step: float
    row_condition: float
    factor_condition: float
    n_sweeps: int
    converged: bool
    monotone: bool
    objectives: tuple[float, ...]
    steps: tuple[float, ...] = ()


def start_from(problem: Problem, slopes: NDArray[np.float64], n_latent: int) -> Point:
    """Write standardized slopes (T, P) in orthonormal factors, at most K of them latent."""
    g = problem.observed
    own = slopes.T @ g / len(g)
    left, sizes, right = np.linalg.svd(slopes - g @ own.T, full_matrices=False)
    keep = sizes[:n_latent] > DEPENDENT * max(float(np.linalg.norm(slopes)), ROUNDING)
    n = int(keep.sum())
    root = np.sqrt(len(g))
    latent = right[:n].T * (sizes[:n] / root)
    latent[~slopes.any(axis=0)] = 0.0  # not rounding: instruments that have left
    return Point(np.hstack([g, left[:, :n] * root]), np.hstack([own, latent]))


def minimize(
    problem: Problem,
    penalty: Penalty,
    start: Point,
    *,
    n_latent: int,
    tol: float,
    max_sweeps: int,
) -> Penalized:
    """Sweep until both first-order conditions and the last step are within `tol`."""
    point, monotone = start, True
    value = objective(problem, penalty, point)
    result = Penalized(point, value, 0.0, np.inf, np.inf, np.inf, 0, False, True, (value,))
    objectives, steps = [value], list[float]()
    for sweep in range(1, max_sweeps + 1):
        rows, row_condition = best_rows(problem, penalty, point, tol)
        at = Point(point.factors, rows)
        condition, slopes = factor_step(problem, penalty, at)
        done = max(row_condition, condition) <= tol
        following = at if done else start_from(problem, slopes, n_latent)
        after = objective(problem, penalty, following)
        monotone &= after <= value + ROUNDING
        size = max(float(np.linalg.norm(following.slopes)), ROUNDING)
        step = float(np.linalg.norm(following.slopes - point.slopes)) / size
        objectives.append(after)
        steps.append(step)
        result = Penalized(
            following,
            after,
            value - after,
            step,
            row_condition,
            condition,
            sweep,
            done,
            monotone,
            (),
        )
        if done:
            break
        point, value = following, after
    return replace(result, objectives=tuple(objectives), steps=tuple(steps))


def objective(problem: Problem, penalty: Penalty, point: Point) -> float:
    """Half the unexplained share of squared returns, plus the penalty."""
    b = point.slopes
    curved = np.einsum("tpq,tq->tp", problem.gram, b)
    explained = np.einsum("tp,tp->", b, 2.0 * problem.cross - curved)
    return 0.5 * (1.0 - float(explained)) + penalty.value(point.rows)


def best_rows(
    problem: Problem, penalty: Penalty, point: Point, tol: float
) -> tuple[NDArray[np.float64], float]:
    """Improve the rows (P, Q) for given factors; also the length of the last step, relative."""
    f, (n_rows, n_factors) = point.factors, point.rows.shape
    pull = problem.cross.T @ f
    products = np.einsum("tq,ts->tqs", f, f).reshape(len(f), -1)
    normal = (problem.gram.reshape(len(f), -1).T @ products).reshape(
        n_rows, n_rows, n_factors, n_factors
    )
    normal = normal.transpose(0, 2, 1, 3).reshape(n_rows * n_factors, -1)
    if not normal.size:
        return point.rows, 0.0
    step = 1.0 / max(float(np.linalg.eigvalsh(normal)[-1]), ROUNDING)
    scale = max(float(np.linalg.norm(pull)) * step, ROUNDING)
    rows = ahead = point.rows
    momentum, length = 1.0, np.inf
    for _ in range(INNER):
        slope = (normal @ ahead.ravel()).reshape(n_rows, n_factors) - pull
        moved = penalty.shrunk(ahead - step * slope, step)
        length = float(np.linalg.norm(moved - ahead)) / scale
        if ((ahead - moved) * (moved - rows)).sum() > 0.0:  # momentum points uphill: start over
            momentum = 1.0
        following = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * momentum**2))
        ahead = moved + (momentum - 1.0) / following * (moved - rows)
        rows, momentum = moved, following
        if length <= 0.1 * tol:
            break
    return rows, length


def factor_step(
    problem: Problem, penalty: Penalty, point: Point
) -> tuple[float, NDArray[np.float64]]:
    """Norm of the condition of the latent factors, relative, and improved slopes."""
    n_observed = problem.observed.shape[1]
    n_dates = len(problem.cross)
    latent, b = point.rows[:, n_observed:], point.slopes
    if not latent.shape[1]:
        return 0.0, b
    bound = np.diag(penalty.weights(point.rows) / n_dates)
    pulled = np.einsum("tpq,qk->tpk", problem.gram + bound, latent)
    matrix = np.einsum("pj,tpk->tjk", latent, pulled)
    explained = np.einsum("tpk,tp->tk", pulled, b)
    pull = problem.cross @ latent
    size = max(float(np.linalg.norm(pull)), ROUNDING)
    condition = float(np.linalg.norm(pull - explained)) / size
    move = np.linalg.pinv(matrix, rcond=DEPENDENT, hermitian=True) @ (pull - explained)[..., None]
    return condition, b + move[..., 0] @ latent.T


def path(
    problem: Problem,
    penalties: Sequence[Penalty],
    start: Point,
    *,
    n_latent: int,
    tol: float,
    max_sweeps: int,
) -> Iterator[Penalized]:
    """Solve for each of the penalties, best ascending, each from the solution before."""
    point = start
    for penalty in penalties:
        result = minimize(
            problem, penalty, point, n_latent=n_latent, tol=tol, max_sweeps=max_sweeps
        )
        point = result.point
        yield result
