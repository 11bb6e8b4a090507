r"""IPCA with an elastic net on the rows of Gamma.

A rotation of the latent factors mixes the columns of Gamma and leaves its rows what they are, so a
penalty that should not depend on the rotation takes rows whole. In units in which returns,
characteristics and factors have mean square one, and factors are orthogonal,

.. math:: \Gamma \leftarrow \arg\min\;
    \tfrac12 \frac{\sum_t w_t\|r_t - Z_t\Gamma\tilde f_t\|^2}{\sum_t w_t\|r_t\|^2}
    + \lambda \sum_l \left(\rho\|\gamma_l\| + \tfrac{1-\rho}{2}\|\gamma_l\|^2\right)

and the regression of every date's returns on its exposures take turns until nothing moves. The
constant is not penalised. Realised factors give back the size that the penalty takes from the
latent loadings: what it changes of these is their space.

Yuan and Lin (2006), Model selection and estimation in regression with grouped variables, JRSS B 68.
Beck and Teboulle (2009), A fast iterative shrinkage-thresholding algorithm, SIAM J. Imaging 2(1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import Sample

# Of the loadings step: relative change at which it ends, and its most iterations.
INNER_TOL, INNER_ITER = 1e-10, 5000
# A second moment of factors below this share of the largest has lost a factor.
LOST = 1e-10
# A mean below this share of the root mean square decides no sign.
NO_MEAN = 1e-10


@dataclass(frozen=True, slots=True)
class Penalty:
    r"""How much of which penalty.

    Attributes
    ----------
    strength : float
        :math:`\lambda`.
    l1_ratio : float
        :math:`\rho`: 1 leaves characteristics out, 0 (ridge) only shrinks.
    n_free : int
        Leading rows without a penalty: the constant.
    """

    strength: float
    l1_ratio: float
    n_free: int

    def value(self, theta: NDArray[np.float64]) -> float:
        """Give the penalty of loadings (P, Q)."""
        rows = np.linalg.norm(theta[self.n_free :], axis=1)
        ridge = 0.5 * (1.0 - self.l1_ratio) * (rows**2).sum()
        return float(self.strength * (self.l1_ratio * rows.sum() + ridge))

    def shrunk(self, theta: NDArray[np.float64], step: float) -> NDArray[np.float64]:
        """Take the proximal step of length `step` from loadings (P, Q)."""
        out = theta.copy()
        rows = np.linalg.norm(theta[self.n_free :], axis=1, keepdims=True)
        cut = step * self.strength * self.l1_ratio
        keep = np.maximum(1.0 - cut / np.maximum(rows, np.finfo(float).tiny), 0.0)
        out[self.n_free :] *= keep / (1.0 + step * self.strength * (1.0 - self.l1_ratio))
        return out


@dataclass(frozen=True, slots=True)
class Units:
    """The dates used, weighted, in units of mean square one.

    Attributes
    ----------
    packed : ndarray, shape (T, P (P + 1) / 2)
        Triangles of the second moments over their sum of weights.
    cross : ndarray, shape (T, P)
    observed : ndarray, shape (T, M)
    scale : ndarray, shape (P,)
        Root mean square return over root mean square instrument: Gamma in units of theta.
    g_scale : ndarray, shape (M,)
    """

    packed: NDArray[np.float64]
    cross: NDArray[np.float64]
    observed: NDArray[np.float64]
    scale: NDArray[np.float64]
    g_scale: NDArray[np.float64]

    @classmethod
    def of(cls, sample: Sample, dates: NDArray[np.int64], *, portfolio: bool) -> Units:
        """Scale the dates of a sample."""
        moments = sample.moments
        n = moments.n_assets[dates].astype(np.float64)
        weights = 1.0 / n if portfolio else np.ones(len(n))
        mass, p = float(weights @ n), moments.cross.shape[1]
        packed = moments.gram[dates] * (weights[:, None] / mass)
        rows, columns = np.triu_indices(p)
        squares = packed.sum(axis=0)[rows == columns]
        instrument = np.sqrt(np.where(squares > 0.0, squares, 1.0))
        returns = float(np.sqrt(weights @ moments.return_squares[dates] / mass))
        observed = np.zeros((len(n), 0)) if sample.observed is None else sample.observed[dates]
        return cls(
            packed=packed / (instrument[rows] * instrument[columns]),
            cross=moments.cross[dates] * (weights[:, None] / mass) / (instrument * returns),
            observed=observed,
            scale=returns / instrument,
            g_scale=np.sqrt((observed**2).mean(axis=0)),
        )

    def normal(
        self, factors: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Give normal matrix (P Q, P Q) and right side (P, Q) of the regression on z x f."""
        p, q = self.cross.shape[1], factors.shape[1]
        pairs = np.einsum("ta,tb->tab", factors, factors).reshape(len(factors), q * q)
        sums = (self.packed.T @ pairs).reshape(-1, q, q)
        full = np.empty((p, p, q, q))
        rows, columns = np.triu_indices(p)
        full[rows, columns], full[columns, rows] = sums, sums
        return full.transpose(0, 2, 1, 3).reshape(p * q, p * q), self.cross.T @ factors


def shrink(
    normal: NDArray[np.float64],
    right: NDArray[np.float64],
    theta: NDArray[np.float64],
    penalty: Penalty,
) -> NDArray[np.float64]:
    """Minimise 1/2 theta'A theta - b'theta plus the penalty, from `theta`, shape (P, Q)."""
    step = 1.0 / np.linalg.eigvalsh(normal)[-1]
    ahead, momentum = theta, 1.0
    for _ in range(INNER_ITER):
        slope = (normal @ ahead.ravel()).reshape(right.shape) - right
        new = penalty.shrunk(ahead - step * slope, step)
        moved = new - theta
        if (moved * (ahead - new)).sum() > 0.0:  # past the minimum: lose the momentum
            momentum = 1.0
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = new + (momentum - 1.0) / following * moved
        theta, momentum = new, following
        if np.abs(moved).max() <= INNER_TOL * np.abs(new).max():
            break
    return theta


def penalised(
    sample: Sample,
    start: kernels.IPCASolution,
    penalty: Penalty,
    settings: kernels.IPCASettings,
) -> kernels.IPCASolution:
    """Estimate with a penalty, starting from an estimate without one or with a smaller one.

    Parameters
    ----------
    sample : Sample
    start : IPCASolution
        Says the dates used, the ridge and where to start.
    penalty : Penalty
    settings : IPCASettings
        `tol` bounds the last relative change of Gamma.

    Returns
    -------
    IPCASolution
        Rows of Gamma that the penalty leaves out are zero. In its certificate `gamma_condition` is
        the relative change that the last round made; conditions of matrices are those of `start`.

    Raises
    ------
    ValueError
        When the penalty leaves too few characteristics for K factors.
    """
    dates, k = start.dates_used, start.gamma.shape[1]
    units = Units.of(sample, dates, portfolio=settings["weighting"] == "portfolio")
    gamma = np.hstack([start.gamma, start.gamma_observed])
    last, step, n_steps = None, np.inf, 0
    objective, monotone, fall = np.inf, True, np.inf
    while step > settings["tol"] and n_steps < settings["max_iter"]:
        factors, turn, shift = _standardised(_factors(sample, start, gamma, k), units, k)
        normal, right = units.normal(factors)
        before = _to_units(gamma, units, turn, shift, k)
        after = shrink(normal, right, before, penalty)
        step = np.inf if last is None else _distance(last, after, k)
        last, gamma = after, _from_units(after, units, k)
        value = float(after.ravel() @ (0.5 * normal @ after.ravel()) - (after * right).sum())
        value += 0.5 + penalty.value(after)
        fall = objective - value
        monotone &= fall >= -1e-12
        objective, n_steps = value, n_steps + 1
    found = _finished(sample, start, gamma, k)
    proof = replace(
        found.certificate,
        stopping="converged" if step <= settings["tol"] else "max_iter",
        gamma_condition=step,
        subspace_step=step,
        objective_delta=2.0 * fall,
        n_als=n_steps,
        n_newton=0,
        objective=2.0 * objective,
        monotone=bool(monotone),
    )
    return replace(found, certificate=proof)


def strongest(
    sample: Sample, start: kernels.IPCASolution, penalty: Penalty, weighting: str
) -> float:
    """Find the strength at which, factors given, no penalised characteristic is left."""
    units = Units.of(sample, start.dates_used, portfolio=weighting == "portfolio")
    k, free = start.gamma.shape[1], penalty.n_free
    gamma = np.hstack([start.gamma, start.gamma_observed])
    factors, _, _ = _standardised(_factors(sample, start, gamma, k), units, k)
    normal, right = units.normal(factors)
    n_free = free * right.shape[1]
    alone = np.linalg.pinv(normal[:n_free, :n_free]) @ right[:free].ravel()
    slope = right - (normal[:, :n_free] @ alone).reshape(right.shape)
    largest = float(np.linalg.norm(slope[free:], axis=1).max())
    return largest / max(penalty.l1_ratio, 1e-2)


def _factors(
    sample: Sample, start: kernels.IPCASolution, gamma: NDArray[np.float64], k: int
) -> NDArray[np.float64]:
    """Latent factors (T_used, K) for loadings (P, K + M)."""
    found = kernels.ipca_factors(
        sample.moments,
        gamma[:, :k],
        gamma_observed=gamma[:, k:],
        observed=sample.observed,
        ridge=start.ridge,
        instrument_second_moment=start.instrument_second_moment,
    )
    latent: NDArray[np.float64] = found[start.dates_used]
    return latent


def _standardised(
    factors: NDArray[np.float64], units: Units, k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Orthogonal factors of mean square one beside the observed ones, (T, K + M).

    Also `turn` (K, K) and `shift` (M, K) with f = F turn' + g shift.
    """
    g = units.observed
    shift: NDArray[np.float64] = np.linalg.lstsq(g, factors)[0].astype(np.float64)
    rest = factors - g @ shift
    values, vectors = np.linalg.eigh(rest.T @ rest / len(rest))
    if k and values[0] <= LOST * values[-1]:
        raise ValueError(f"penalty leaves too few characteristics for n_factors={k}; choose less")
    root = np.sqrt(np.maximum(values, np.finfo(float).tiny))
    turn: NDArray[np.float64] = (vectors * root) @ vectors.T
    latent = rest @ ((vectors / root) @ vectors.T)
    return np.hstack([latent, g / units.g_scale]), turn, shift


def _to_units(
    gamma: NDArray[np.float64],
    units: Units,
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    k: int,
) -> NDArray[np.float64]:
    """Give loadings (P, K + M) on standardised factors, in units of mean square one."""
    latent, own = gamma[:, :k], gamma[:, k:]
    both = np.hstack([latent @ turn, (own + latent @ shift.T) * units.g_scale])
    return both / units.scale[:, None]


def _from_units(theta: NDArray[np.float64], units: Units, k: int) -> NDArray[np.float64]:
    gamma = theta * units.scale[:, None]
    return np.hstack([gamma[:, :k], gamma[:, k:] / units.g_scale])


def _distance(before: NDArray[np.float64], after: NDArray[np.float64], k: int) -> float:
    """Relative change of what no rotation of the latent factors changes."""
    pairs = [(part[:, :k] @ part[:, :k].T, part[:, k:]) for part in (before, after)]
    changes = [np.linalg.norm(new - old) for old, new in zip(*pairs, strict=True)]
    sizes = [np.linalg.norm(new) for new in pairs[1]]
    return float(max(c / s if s > 0.0 else c for c, s in zip(changes, sizes, strict=True)))


def _finished(
    sample: Sample, start: kernels.IPCASolution, gamma: NDArray[np.float64], k: int
) -> kernels.IPCASolution:
    """Bring loadings into the identified form; rows of zeros stay zeros."""
    latent, own = gamma[:, :k], gamma[:, k:]
    if k:
        latent = latent @ np.linalg.inv(np.linalg.qr(latent)[1])
        own = own - latent @ (latent.T @ own)
        factors = _factors(sample, start, np.hstack([latent, own]), k)
        latent = latent @ np.linalg.eigh(factors.T @ factors)[1][:, ::-1]
        latent = latent * _signs(_factors(sample, start, np.hstack([latent, own]), k), latent)
    factors = _factors(sample, start, np.hstack([latent, own]), k)
    path = np.full((len(sample.moments.n_assets), gamma.shape[1]), np.nan)
    path[start.dates_used, :k] = factors
    if sample.observed is not None:
        path[start.dates_used, k:] = sample.observed[start.dates_used]
    total = kernels.ipca_fit_measures(sample.moments, np.hstack([latent, own]), path).total
    ssr = (1.0 - total) * float(sample.moments.return_squares[start.dates_used].sum())
    certificate = replace(start.certificate, ssr=ssr)
    return replace(
        start, gamma=latent, gamma_observed=own, factors=factors, certificate=certificate
    )


def _signs(factors: NDArray[np.float64], latent: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signs (K,) that make factor means, or else the largest loadings, positive."""
    mean, size = factors.mean(axis=0), np.sqrt((factors**2).mean(axis=0))
    largest = np.take_along_axis(latent, np.abs(latent).argmax(axis=0)[None], axis=0)[0]
    decides = np.where(np.abs(mean) > NO_MEAN * size, mean, largest)
    return np.where(decides < 0.0, -1.0, 1.0)
