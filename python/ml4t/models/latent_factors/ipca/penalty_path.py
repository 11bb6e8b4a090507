"""How strong a penalty on Gamma should be: a path, judged on blocks of dates left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_int, require_real, require_type
from ml4t.models.configs import IPCAConfig
from ml4t.models.latent_factors.ipca.estimate import kernel_settings, moments_of, observed_panel
from ml4t.models.latent_factors.ipca.fit import Sample
from ml4t.models.latent_factors.ipca.penalised import Penalty, penalised, strongest
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from ml4t.models.panel.moments import CharacteristicMoments
    from ml4t.models.types import CrossSectionBatch

# The weakest penalty of a path, relative to the strongest.
WEAKEST = 1e-3


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PenaltyPath(Record):
    """Penalties of IPCA from none to strong, and what each is worth.

    Attributes
    ----------
    penalties : ndarray of float64, shape (n,)
        Ascending.
    total_r2 : ndarray of float64, shape (n, B)
        Uncentred total R2 of each block of dates by the Gamma estimated without it, factors being
        those of the block; NaN where the penalty left too few characteristics for K factors.
    n_active : ndarray of int64, shape (n,)
        Rows of Gamma that are not zero when all dates are used; 0 likewise.
    best : float
        The penalty whose R2 is highest on average over the blocks.
    """

    penalties: NDArray[np.float64]
    total_r2: NDArray[np.float64]
    n_active: NDArray[np.int64]
    best: float


def penalty_path(
    config: IPCAConfig,
    batch: CrossSectionBatch | CharacteristicMoments,
    *,
    penalties: Sequence[float] | None = None,
    n_penalties: int = 10,
    n_blocks: int = 5,
    observed_factors: NDArray[Any] | None = None,
) -> PenaltyPath:
    """Estimate IPCA along a path of penalties, and judge each by cross-validation over time.

    Dates are cut into `n_blocks` spans; each is left out in turn, so that what is judged is never
    next to itself in the estimate, as single dates drawn at random would be.

    Parameters
    ----------
    config : IPCAConfig
        `l1_ratio` and everything else but `penalty`.
    batch : CrossSectionBatch or CharacteristicMoments
        With returns.
    penalties : sequence of float, optional
        By default 0 and a geometric path up to where the first characteristics remain.
    n_penalties : int, default 10
        Length of the default path.
    n_blocks : int, default 5
    observed_factors : array_like, shape (T, M), optional

    Returns
    -------
    PenaltyPath
        Take its `best` for `IPCAConfig.penalty`.

    Raises
    ------
    ValueError
        For settings that make no sense, when a block or what it leaves has too few dates, or when
        no penalty can be judged.
    """
    require_type("config", config, IPCAConfig)
    n_blocks = require_int("n_blocks", n_blocks, at_least=2)
    n_penalties = require_int("n_penalties", n_penalties, at_least=2)
    observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
    whole = _used(Sample(moments_of(config, batch), observed), config.min_assets)
    n_dates = len(whole.moments.n_assets)
    if n_dates < 2 * n_blocks:
        raise ValueError(f"n_blocks={n_blocks} needs {2 * n_blocks} usable dates; got {n_dates}")
    start = _plain(whole, config)
    strengths = _default_path(whole, start, config, n_penalties)
    if penalties is not None:
        listed = [require_real("penalties", value, at_least=0.0) for value in penalties]
        strengths = np.unique(np.array(listed, dtype=np.float64))
    scores = _scores(whole, config, strengths, n_blocks)
    active = np.zeros(len(strengths), dtype=np.int64)
    for row, found in _along(whole, start, config, strengths):
        both = np.hstack([found.gamma, found.gamma_observed])
        active[row] = int(both.any(axis=1).sum())
    means = scores.mean(axis=1)
    if not np.isfinite(means).any():
        raise ValueError("penalties leave too few characteristics in every case; choose smaller")
    return PenaltyPath(strengths, scores, active, float(strengths[np.nanargmax(means)]))


def _default_path(
    sample: Sample, start: kernels.IPCASolution, config: IPCAConfig, n_penalties: int
) -> NDArray[np.float64]:
    """None, then a geometric path that ends before all characteristics are left out."""
    top = strongest(sample, start, _penalty(config, 1.0), config.weighting)
    return np.append(0.0, top * np.geomspace(WEAKEST, 1.0, n_penalties)[:-1])


def _scores(
    whole: Sample, config: IPCAConfig, strengths: NDArray[np.float64], n_blocks: int
) -> NDArray[np.float64]:
    """R2 (n, B) of every block by the estimate without it."""
    dates = np.arange(len(whole.moments.n_assets))
    scores = np.full((len(strengths), n_blocks), np.nan)
    for block, left_out in enumerate(np.array_split(dates, n_blocks)):
        rest, judge = _cut(whole, np.setdiff1d(dates, left_out)), _cut(whole, left_out)
        for row, found in _along(rest, _plain(rest, config), config, strengths):
            scores[row, block] = _total_r2(judge, found)
    return scores


def _along(
    sample: Sample,
    start: kernels.IPCASolution,
    config: IPCAConfig,
    strengths: NDArray[np.float64],
) -> Iterator[tuple[int, kernels.IPCASolution]]:
    """Estimate from weak to strong, each from the one before, until a factor is lost."""
    found = start
    for row, strength in enumerate(strengths):
        if strength > 0.0:
            penalty = _penalty(config, float(strength))
            try:
                found = penalised(sample, found, penalty, kernel_settings(config))
            except ValueError:  # a stronger one would lose the factor, too
                return
        yield row, found


def _total_r2(sample: Sample, found: kernels.IPCASolution) -> float:
    latent = kernels.ipca_factors(
        sample.moments,
        found.gamma,
        gamma_observed=found.gamma_observed,
        observed=sample.observed,
        ridge=found.ridge,
        instrument_second_moment=found.instrument_second_moment,
    )
    factors = latent if sample.observed is None else np.hstack([latent, sample.observed])
    gamma = np.hstack([found.gamma, found.gamma_observed])
    return kernels.ipca_fit_measures(sample.moments, gamma, factors).total


def _plain(sample: Sample, config: IPCAConfig) -> kernels.IPCASolution:
    return kernels.ipca(
        sample.moments, config.n_factors, observed=sample.observed, **kernel_settings(config)
    )


def _penalty(config: IPCAConfig, strength: float) -> Penalty:
    return Penalty(strength, config.l1_ratio, int(config.constant))


def _used(sample: Sample, min_assets: int) -> Sample:
    return _cut(sample, np.flatnonzero(sample.moments.n_assets >= min_assets))


def _cut(sample: Sample, dates: NDArray[np.intp]) -> Sample:
    """Take some dates."""
    moments, observed = sample.moments, sample.observed
    cut = replace(
        moments,
        n_assets=moments.n_assets[dates],
        gram=moments.gram[dates],
        cross=moments.cross[dates],
        return_squares=moments.return_squares[dates],
    )
    return Sample(cut, None if observed is None else observed[dates])
