"""The arrays of IPCA: instruments, exposures, observed factors. No state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_shape, require_type
from ml4t.models.latent_factors.ipca.fit import IPCAFit, Sample
from ml4t.models.moments.characteristic_moments import CONSTANT, CharacteristicMoments
from ml4t.models.panel.imputation import at_middle, count_gaps, moments_at_middle, rows_there
from ml4t.models.panel.masks import known, observed_columns, require_returns
from ml4t.models.types import CrossSectionBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig

# Pooled second moments of the same rows agree to far better than this.
SAME_PANEL = 1e-5


def moments_of(
    config: IPCAConfig, batch: CrossSectionBatch | CharacteristicMoments
) -> kernels.Moments:
    """Moments over the instruments of the settings."""
    if isinstance(batch, CharacteristicMoments):
        return batch.moments if config.constant else batch.moments.without_constant()
    returns = require_returns("IPCAModel", batch.returns)
    if config.dtype == "float64":  # two float32 inputs would be multiplied as such
        returns = returns.astype(np.float64, copy=False)
    if config.missing == "middle":
        return moments_at_middle(batch, returns, constant=config.constant)
    return kernels.panel_moments(
        batch.characteristics, returns, batch.mask, constant=config.constant
    )


def instrument_names(
    config: IPCAConfig, batch: CrossSectionBatch | CharacteristicMoments
) -> tuple[str, ...]:
    """Name the rows of Gamma as the batch names its characteristics."""
    if isinstance(batch, CharacteristicMoments):
        return batch.feature_names if config.constant else batch.feature_names[1:]
    if batch.feature_names:
        return (CONSTANT, *batch.feature_names) if config.constant else batch.feature_names
    return numbered_names(config, batch.characteristics.shape[2])


def numbered_names(config: IPCAConfig, n_features: int) -> tuple[str, ...]:
    """Name the rows of Gamma where nobody else does."""
    first = (CONSTANT,) if config.constant else ()
    return (*first, *(f"characteristic_{i}" for i in range(n_features)))


def factors_for(sample: Sample, solution: kernels.IPCASolution) -> NDArray[np.float64]:
    """Latent factors (T_used, K) that suit the loadings, as `extract` gives them, bit by bit."""
    factors = kernels.ipca_factors(
        sample.moments,
        solution.gamma,
        gamma_observed=solution.gamma_observed,
        observed=sample.observed,
        instrument_second_moment=solution.instrument_second_moment,
        ridge=solution.ridge,
    )
    return factors[solution.dates_used]


def kernel_settings(config: IPCAConfig) -> kernels.IPCASettings:
    """Give the settings as the kernels take them."""
    return {
        "tol": config.tol,
        "max_iter": config.max_iter,
        "factor_ridge": config.factor_ridge,
        "gamma_ridge": config.gamma_ridge,
        "weighting": config.weighting,
        "min_assets": config.min_assets,
        # Single precision moments err by 1e-7: a direction below that is noise.
        "rank_tolerance": 1e-6 if config.dtype == "float32" else 1e-11,
    }


def factors_of(
    fit: IPCAFit,
    config: IPCAConfig,
    moments: kernels.Moments,
    observed: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """Realise the latent factors of dates and put the observed ones beside them, (T, K + M)."""
    latent = kernels.ipca_factors(
        moments,
        fit.gamma,
        gamma_observed=fit.gamma_observed,
        observed=observed,
        instrument_second_moment=fit.instrument_second_moment,
        ridge=config.factor_ridge if fit.ridge is None else fit.ridge,
    )
    return latent if observed is None else np.hstack([latent, observed])


def require_fitted_features(fit: IPCAFit, batch: CrossSectionBatch | CharacteristicMoments) -> None:
    """Refuse what is no panel, or has other characteristics than the fit, or in another order.

    Names are compared where both sides have some: a panel without names is taken by position.
    """
    require_type("batch", batch, CrossSectionBatch, CharacteristicMoments)
    if isinstance(batch, CharacteristicMoments):
        n_features = batch.n_instruments - 1
    else:
        n_features = batch.characteristics.shape[2]
    if n_features != fit.n_features:
        raise ValueError(
            f"IPCAModel: the feature dimension must be the fitted {fit.n_features}; "
            f"got {n_features}"
        )
    fitted, given = _given_names(fit.feature_names), _given_names(batch.feature_names)
    if fitted and given and fitted != given:
        raise ValueError(
            "batch must have the characteristics of the fit in their order; expected "
            f"feature_names {fitted}, got {given}. Read or scan them with feature_cols in the "
            "order of the fit"
        )


def _given_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Give the names of characteristics that somebody chose: neither the constant nor numbers."""
    chosen = tuple(name for name in names if name != CONSTANT)
    numbered = tuple(f"characteristic_{place}" for place in range(len(chosen)))
    return () if chosen == numbered else chosen


def fitted_moments(
    config: IPCAConfig, fit: IPCAFit, batch: CrossSectionBatch | CharacteristicMoments
) -> kernels.Moments:
    """Moments over the instruments of a fit."""
    require_fitted_features(fit, batch)
    return moments_of(config, batch)


def sample_of(
    config: IPCAConfig,
    fit: IPCAFit,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
) -> Sample:
    """Take a panel with the instruments and the number of observed factors of a fit."""
    moments = fitted_moments(config, fit, batch)
    observed = observed_panel(observed_factors, batch.n_periods, intercept=config.intercept)
    n_given = 0 if observed is None else observed.shape[1]
    if n_given != fit.gamma_observed.shape[1]:
        raise ValueError(
            "observed_factors must have the fitted number of columns "
            f"{fit.gamma_observed.shape[1] - config.intercept}; got {n_given - config.intercept}"
        )
    return Sample(moments, observed)


def require_same_sample(fit: IPCAFit, config: IPCAConfig, sample: Sample) -> None:
    """Refuse a sample other than that of the fit: it must leave the same residuals."""
    moments, proof = sample.moments, fit.certificate
    require_same_panel(fit, moments, min_assets=config.min_assets)
    if proof is None:
        return
    factors = factors_of(fit, config, moments, sample.observed)
    factors[moments.n_assets < config.min_assets] = np.nan
    gamma = np.hstack([fit.gamma, fit.gamma_observed]).astype(np.float64)
    explained = kernels.ipca_fit_measures(moments, gamma, factors).total
    square = float(moments.return_squares[moments.n_assets >= config.min_assets].sum())
    if not abs((1.0 - explained) * square - proof.ssr) <= SAME_PANEL * square:
        raise ValueError(
            "batch and observed_factors must be those that the model was fitted on; got others"
        )


def require_same_panel(fit: IPCAFit, moments: kernels.Moments, *, min_assets: int) -> None:
    """Refuse moments of instruments other than those of the fit."""
    n_instruments = moments.cross.shape[1]
    require_shape("batch instruments", (len(fit.gamma),), (n_instruments,))
    used = moments.n_assets >= min_assets
    packed = moments.gram[used].sum(axis=0) / max(int(moments.n_assets[used].sum()), 1)
    known_moment = fit.instrument_second_moment[np.triu_indices(n_instruments)]
    same = used.sum() == len(fit.train_factor_returns) and np.allclose(
        packed, known_moment, rtol=SAME_PANEL, atol=SAME_PANEL * np.abs(known_moment).max()
    )
    if not same and fit.certificate is not None:  # a fit of 0.1.x has no second moment
        raise ValueError("batch must be the panel that the model was fitted on; got another one")


def exposures(config: IPCAConfig, batch: CrossSectionBatch, gamma: NDArray[Any]) -> NDArray[Any]:
    r"""Conditional exposures :math:`\beta_{ti} = \Gamma' z_{ti}`, shape (T, N, K), as `gamma` is.

    NaN where the mask excludes a cell, or a characteristic is missing and stays so. Returns are not
    read. Sums are in float64 and of one order, whatever the type and the strides of the panel.

    Parameters
    ----------
    config : IPCAConfig
    batch : CrossSectionBatch
        `characteristics` (T, N, L).
    gamma : ndarray, shape (P, K)
        One row for each instrument, the constant first where there is one.
    """
    z, middle = batch.characteristics, config.missing == "middle"
    there = np.empty(z.shape[:2], dtype=np.bool_) if middle else known(batch)
    wide = np.ascontiguousarray(gamma, dtype=np.float64)
    level, slopes = (wide[0], wide[1:]) if config.constant else (0.0, wide)
    betas = np.empty((*z.shape[:2], gamma.shape[1]), dtype=gamma.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # of cells that become NaN below
        for t, date in enumerate(z):  # one date at a time: the panel is never upcast
            if middle:
                there[t] = rows_there(batch, t)
            filled = at_middle(date, there[t]) if middle else date
            betas[t] = np.ascontiguousarray(filled, dtype=np.float64) @ slopes + level
    betas[~there] = np.nan
    return betas


def observed_panel(
    observed_factors: NDArray[Any] | None, n_periods: int, *, intercept: bool
) -> NDArray[np.float64] | None:
    """Observed factors (T, M), the constant 1 of the instrumented alpha last; None without any."""
    columns = []
    if observed_factors is not None:
        given = observed_columns(observed_factors, n_periods)
        bad = np.argwhere(~np.isfinite(given))
        if bad.size:
            raise ValueError(
                "observed_factors must be finite on every date; "
                f"got {given[tuple(bad[0])]} at date {bad[0][0]}, factor {bad[0][1]}"
            )
        columns.append(given)
    if intercept:
        columns.append(np.ones((n_periods, 1)))
    return np.hstack(columns) if columns else None


def panel_metrics(config: IPCAConfig, batch: CrossSectionBatch, n_usable: int) -> dict[str, float]:
    """Say what moments do not tell of a panel, of whose rows `n_usable` are usable."""
    if batch.returns is None:
        return {}
    metrics = {"mean_abs_return": mean_absolute_return(batch, batch.returns, n_usable)}
    if config.missing == "middle":
        metrics["n_filled"] = float(count_gaps(batch, batch.returns))
    return metrics


def mean_absolute_return(batch: CrossSectionBatch, returns: NDArray[Any], n_usable: int) -> float:
    """Average |return| over the usable cells, of which the moments counted `n_usable`."""
    cells = np.isfinite(returns)
    if batch.mask is not None:
        cells &= batch.mask
    if int(cells.sum()) != n_usable:  # some characteristics are missing: look at them, too
        cells &= known(batch)
    return float(np.abs(returns[cells], dtype=np.float64).mean())
