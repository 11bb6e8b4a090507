r"""Gaussian regimes that follow a Markov chain: filter, smoother, maximum likelihood.

.. math:: x_t \mid s_t = j \sim N(\mu_j, \Sigma_j), \qquad P(s_{t+1} = j \mid s_t = i) = P_{ij}

Axes: `R` starts of the estimation, side by side; `T` dates; `S` regimes; `K` variables. A date
with a missing value says nothing of its regime.

References
----------
Hamilton (1989), A new approach to the economic analysis of nonstationary time series and the
business cycle, Econometrica 57(2); Kim (1994), Dynamic linear models with Markov-switching, JoE 60.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


# A regime this many log units less likely than the likeliest counts as that far, and no move is
# less likely than that: so no product of probabilities vanishes.
_FARTHEST, _RAREST = 200.0, 1e-12


@dataclass(frozen=True, slots=True)
class Chain:
    """Parameters, with any number of leading axes.

    Attributes
    ----------
    initial : ndarray of float64, shape (..., S)
        Probabilities of the regimes at the first date.
    transition : ndarray of float64, shape (..., S, S)
        Row i: probabilities of the next regime after regime i.
    means : ndarray of float64, shape (..., S, K)
    covariances : ndarray of float64, shape (..., S, K, K)
    """

    initial: NDArray[np.float64]
    transition: NDArray[np.float64]
    means: NDArray[np.float64]
    covariances: NDArray[np.float64]

    def pick(self, index: int | NDArray[np.intp]) -> Chain:
        """Take one of the starts, or some."""
        return Chain(
            self.initial[index], self.transition[index], self.means[index], self.covariances[index]
        )

    def ordered(self, order: NDArray[np.intp]) -> Chain:
        """Renumber the regimes of a chain without leading axes."""
        return Chain(
            self.initial[order],
            self.transition[np.ix_(order, order)],
            self.means[order],
            self.covariances[order],
        )


@dataclass(frozen=True, slots=True)
class Filtered:
    """Probabilities of the regimes, date by date.

    Attributes
    ----------
    predicted : ndarray of float64, shape (..., T, S)
        Probabilities given the dates before.
    filtered : ndarray of float64, shape (..., T, S)
        Probabilities given the dates up to this one.
    log_likelihood : ndarray of float64, shape (...)
    """

    predicted: NDArray[np.float64]
    filtered: NDArray[np.float64]
    log_likelihood: NDArray[np.float64]


def log_densities(x: NDArray[np.float64], chain: Chain) -> NDArray[np.float64]:
    """Log density of every date in every regime, (..., T, S); 0 where a value is missing."""
    known = np.isfinite(x).all(axis=1)
    complete = x[known]
    root = np.linalg.cholesky(chain.covariances)
    deviations = np.swapaxes(complete - chain.means[..., None, :], -1, -2)  # (..., S, K, T)
    distance = (np.linalg.solve(root, deviations) ** 2).sum(axis=-2)
    diagonal = np.diagonal(root, axis1=-2, axis2=-1)
    size = 2.0 * np.log(diagonal).sum(axis=-1)[..., None] + x.shape[1] * np.log(2.0 * np.pi)
    densities = np.zeros((*chain.means.shape[:-1], len(x)))
    densities[..., known] = -0.5 * (distance + size)
    return np.swapaxes(densities, -1, -2)


def hamilton_filter(log_density: NDArray[np.float64], chain: Chain) -> Filtered:
    """Probabilities of the regimes from the past of every date, and the likelihood."""
    density, top = _relative(log_density)
    steps = chain.transition[..., None, :, :] * density[..., 1:, None, :]
    first = _shares(chain.initial * density[..., 0, :])
    filtered = np.concatenate([first[..., None, :], _directions(first, steps)], axis=-2)
    predicted = np.concatenate(
        [chain.initial[..., None, :], filtered[..., :-1, :] @ chain.transition], axis=-2
    )
    likelihood = np.log((predicted * density).sum(axis=-1)) + top
    return Filtered(predicted, filtered, likelihood.sum(axis=-1))


def smoothed(
    log_density: NDArray[np.float64], chain: Chain, filtered: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probabilities given all dates: of regimes (..., T, S), and of moves summed, (..., S, S)."""
    density, _ = _relative(log_density)
    moves = chain.transition[..., None, :, :] * density[..., 1:, None, :]
    last = np.full_like(chain.initial, 1.0 / chain.initial.shape[-1])
    back = _directions(last, np.swapaxes(moves, -1, -2)[..., ::-1, :, :])[..., ::-1, :]
    ahead = np.concatenate([back, last[..., None, :]], axis=-2)
    joint = filtered[..., :-1, :, None] * moves * ahead[..., 1:, None, :]
    joint /= joint.sum(axis=(-1, -2), keepdims=True)
    return _shares(filtered * ahead), joint.sum(axis=-3)


def _directions(first: NDArray[np.float64], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry a vector (..., S) through matrices (..., T, S, S), scaled to sum one each time.

    Dates are cut into blocks, which are multiplied through side by side: about 2 sqrt(T) steps of
    NumPy where a plain loop takes T.
    """
    lead, (n_steps, n_states) = steps.shape[:-3], steps.shape[-3:-1]
    length = max(1, int(np.ceil(np.sqrt(n_steps))))
    n_blocks = -(-n_steps // length)
    padding = np.broadcast_to(
        np.eye(n_states), (*lead, n_blocks * length - n_steps, n_states, n_states)
    )
    whole = np.concatenate([steps, padding], axis=-3)
    blocks = whole.reshape(*lead, n_blocks, length, n_states, n_states)
    products = np.empty_like(blocks)
    for i in range(length):
        here = blocks[..., i, :, :]
        product = here if i == 0 else products[..., i - 1, :, :] @ here
        products[..., i, :, :] = product / product.sum(axis=(-1, -2), keepdims=True)
    starts = np.empty((*lead, n_blocks, n_states))
    vector = first
    for i in range(n_blocks):
        starts[..., i, :] = vector
        vector = _shares((vector[..., None, :] @ products[..., i, -1, :, :])[..., 0, :])
    carried = (starts[..., None, None, :] @ products)[..., 0, :]
    flat = carried.reshape(*lead, n_blocks * length, n_states)
    return _shares(flat[..., :n_steps, :])


def _relative(
    log_density: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Densities next to the largest of their date, and the logarithm of that one."""
    top = log_density.max(axis=-1)
    return np.exp(np.maximum(log_density - top[..., None], -_FARTHEST)), top


def _shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = values / values.sum(axis=-1, keepdims=True)
    return shares


def starting_chains(x: NDArray[np.float64], n_regimes: int, n_starts: int, seed: int) -> Chain:
    """Lay out the points (R) from which the likelihood is climbed.

    The first splits the dates by their distance from the mean, so by volatility; the others put
    the means of the regimes on random dates. Regimes last ten dates on average.
    """
    complete = x[np.isfinite(x).all(axis=1)]
    spread = np.cov(complete.T, ddof=0).reshape(x.shape[1], x.shape[1])
    prior = np.diag(np.diag(spread))
    deviations = (((complete - complete.mean(axis=0)) ** 2) / np.diag(spread)).sum(axis=1)
    groups = np.array_split(np.argsort(deviations, kind="stable"), n_regimes)
    rng = np.random.default_rng(seed % 2**64)  # NumPy takes no negative one
    means, covariances = [], []
    for start in range(n_starts):
        if start == 0:
            parts = [complete[group] for group in groups]
            means.append([part.mean(axis=0) for part in parts])
            # The prior counts as one date: no split is too small.
            scatter = [(part - part.mean(axis=0)).T @ (part - part.mean(axis=0)) for part in parts]
            sizes = [len(part) for part in parts]
            covariances.append(
                [(one + prior) / (size + 1) for one, size in zip(scatter, sizes, strict=True)]
            )
        else:
            means.append(list(complete[rng.choice(len(complete), n_regimes, replace=False)]))
            covariances.append([0.5 * (spread + prior)] * n_regimes)
    stay = 0.9
    move = np.full((n_regimes, n_regimes), (1.0 - stay) / (n_regimes - 1))
    np.fill_diagonal(move, stay)
    return Chain(
        np.full((n_starts, n_regimes), 1.0 / n_regimes),
        np.broadcast_to(move, (n_starts, n_regimes, n_regimes)).copy(),
        np.array(means),
        np.array(covariances),
    )


@dataclass(frozen=True, slots=True)
class Climb:
    """Maximum of the likelihood.

    Attributes
    ----------
    chain : Chain
        Of the highest peak, calmest regime first.
    log_likelihood : float
        Without the prior.
    history : tuple of float
        Log posterior (log likelihood and prior) step by step, from the start that won.
    converged : bool
        Whether all climbs had ended before they ran out of steps.
    """

    chain: Chain
    log_likelihood: float
    history: tuple[float, ...]
    converged: bool


@dataclass(frozen=True, slots=True)
class Prior:
    """Prior of the covariance of a regime: an inverse Wishart density.

    Attributes
    ----------
    spread : ndarray of float64, shape (K, K)
    weight : float
        Dates that it counts as.
    """

    spread: NDArray[np.float64]
    weight: float

    def log_density(self, covariances: NDArray[np.float64]) -> NDArray[np.float64]:
        """Log density of covariances (..., S, K, K), up to a constant, summed over regimes."""
        _, size = np.linalg.slogdet(covariances)
        distance = np.trace(np.linalg.solve(covariances, self.spread), axis1=-2, axis2=-1)
        total: NDArray[np.float64] = -0.5 * self.weight * (size + distance).sum(axis=-1)
        return total


def maximum_likelihood(
    x: NDArray[np.float64], start: Chain, *, prior_weight: float, tol: float, max_iter: int
) -> Climb:
    """Climb the log posterior from every start by expectation and maximisation.

    Parameters
    ----------
    x : ndarray of float64, shape (T, K)
        NaN is missing. Every column varies.
    start : Chain
        With one leading axis, R.
    prior_weight : float
        Dates that the variances of x count as in every covariance.
    tol : float
        Gain per date at which a climb ends.
    max_iter : int
    """
    prior = Prior(np.diag(x[np.isfinite(x).all(axis=1)].var(axis=0)), prior_weight)
    chain, heights, done = start, [], False
    while True:
        log_density = log_densities(x, chain)
        filtered = hamilton_filter(log_density, chain)
        heights.append(filtered.log_likelihood + prior.log_density(chain.covariances))
        done = len(heights) > 1 and bool((heights[-1] - heights[-2] <= tol * len(x)).all())
        if done or len(heights) > max_iter:
            break
        chain = _maximised(x, *smoothed(log_density, chain, filtered.filtered), prior)
    best = int(np.argmax(heights[-1]))
    chosen = chain.pick(best)
    size = np.trace(chosen.covariances / np.diag(prior.spread), axis1=-2, axis2=-1)
    return Climb(
        chosen.ordered(np.argsort(size, kind="stable")),
        float(filtered.log_likelihood[best]),
        tuple(float(height[best]) for height in heights),
        done,
    )


def _maximised(
    x: NDArray[np.float64],
    regimes: NDArray[np.float64],
    moves: NDArray[np.float64],
    prior: Prior,
) -> Chain:
    """Parameters that explain x best, if regimes and moves are what was expected of them."""
    known = np.isfinite(x).all(axis=1)
    complete, weights = x[known], np.swapaxes(regimes[..., known, :], -1, -2)  # (..., S, T)
    dates = weights.sum(axis=-1)
    means = weights @ complete / np.maximum(dates, 1e-12)[..., None]
    deviations = complete - means[..., None, :]
    scatter = np.swapaxes(weights[..., None] * deviations, -1, -2) @ deviations
    covariances = (scatter + prior.weight * prior.spread) / (dates + prior.weight)[..., None, None]
    transition = _shares(np.maximum(_shares(moves + _RAREST), _RAREST))
    return Chain(regimes[..., 0, :], transition, means, covariances)
