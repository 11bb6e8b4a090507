"""From batches to moments, exposures, realized and observed factors of IPCA."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_shape, require_type
from ml4t.models.latent_factors.ipca.fit import FittedIPCA, IPCAFit, Sample, numbered_names
from ml4t.models.moments.characteristic_moments import CONSTANT, CharacteristicMoments
from ml4t.models.panel.imputation import (
    count_missing,
    fill_with_median,
    median_filled_moments,
    present_rows,
)
from ml4t.models.panel.masks import known, observed_columns, require_returns
from ml4t.models.panel.matching import labels
from ml4t.models.types import CrossSectionBatch, LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig

# Pooled second moments of the same rows agree to far better than this.
SAME_PANEL = 1e-5


def moments_of(
    config: IPCAConfig, batch: CrossSectionBatch | CharacteristicMoments
) -> kernels.Moments:
    """Moments over the instruments: with a constant, or without."""
    if isinstance(batch, CharacteristicMoments):
        return batch.moments if config.constant else batch.moments.without_constant()
    returns = require_returns("IPCAModel", batch.returns)
    if config.dtype == "float64":  # two float32 inputs would be multiplied as such
        returns = returns.astype(np.float64, copy=False)
    if config.missing == "median":
        return median_filled_moments(batch, returns, constant=config.constant)
    return kernels.panel_moments(
        batch.characteristics, returns, batch.mask, constant=config.constant
    )


def instrument_names(
    config: IPCAConfig, batch: CrossSectionBatch | CharacteristicMoments
) -> tuple[str, ...]:
    """Names of the rows of Gamma, after the characteristics of the batch."""
    if isinstance(batch, CharacteristicMoments):
        return batch.instrument_names if config.constant else batch.feature_names
    if batch.feature_names:
        return (CONSTANT, *batch.feature_names) if config.constant else batch.feature_names
    return numbered_names(config, batch.characteristics.shape[2])


def factors_for(sample: Sample, solution: kernels.IPCASolution) -> NDArray[np.float64]:
    """Latent factors (T_used, K) of given loadings, with the bits of `extract`."""
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
    """Translate the settings for the kernels."""
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


def factors_of(fitted: FittedIPCA, sample: Sample) -> NDArray[np.float64]:
    """Realized latent factors and observed factors side by side, (T, K + M)."""
    config, fit = fitted.config, fitted.fit
    latent = kernels.ipca_factors(
        sample.moments,
        fit.gamma,
        gamma_observed=fit.gamma_observed,
        observed=sample.observed,
        instrument_second_moment=fit.instrument_second_moment,
        ridge=config.factor_ridge if fit.ridge is None else fit.ridge,
    )
    return latent if sample.observed is None else np.hstack([latent, sample.observed])


def factors_of_used_dates(fitted: FittedIPCA, sample: Sample) -> NDArray[np.float64]:
    """Factors (T, K + M); NaN on dates with fewer than `min_assets` usable rows."""
    factors = factors_of(fitted, sample)
    factors[sample.moments.n_assets < fitted.config.min_assets] = np.nan
    return factors


def require_fitted_features(fit: IPCAFit, batch: CrossSectionBatch | CharacteristicMoments) -> None:
    """Reject a batch whose characteristics are not those of the fit, in their order.

    Names are compared where both sides have names; a panel without names is matched by position.
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
    fitted, given = _given_names(fit.instrument_names), _given_names(batch.feature_names)
    if fitted and given and fitted != given:
        raise ValueError(
            "batch must have the characteristics of the fit in their order; expected "
            f"feature_names {fitted}, got {given}. Read or scan them with feature_cols in the "
            "order of the fit"
        )


def _given_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Chosen names of characteristics, without the constant; empty where they are numbered."""
    chosen = tuple(name for name in names if name != CONSTANT)
    numbered = tuple(f"characteristic_{place}" for place in range(len(chosen)))
    return () if chosen == numbered else chosen


def fitted_moments(
    fitted: FittedIPCA, batch: CrossSectionBatch | CharacteristicMoments
) -> kernels.Moments:
    """Moments over the fitted instruments."""
    require_fitted_features(fitted.fit, batch)
    return moments_of(fitted.config, batch)


def sample_of(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
) -> Sample:
    """Moments over the fitted instruments, and as many observed factors as in the fit."""
    require_fitted_features(fitted.fit, batch)
    intercept, n_fitted = fitted.config.intercept, fitted.fit.gamma_observed.shape[1]
    observed = observed_panel(observed_factors, batch.n_periods, intercept=intercept)
    n_given = 0 if observed is None else observed.shape[1]
    if n_given != n_fitted:
        raise ValueError(
            f"observed_factors must have the fitted number of columns {n_fitted - intercept}; "
            f"got {n_given - intercept}"
        )
    return Sample(moments_of(fitted.config, batch), observed)


def sample_with_factors(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments,
    observed_factors: NDArray[Any] | None,
) -> Sample | None:
    """Sample of a batch; None without returns, or without the observed factors of the fit."""
    if isinstance(batch, CrossSectionBatch) and batch.returns is None:
        return None
    if observed_factors is None and fitted.fit.gamma_observed.shape[1] > fitted.config.intercept:
        return None
    return sample_of(fitted, batch, observed_factors)


def require_same_sample(fitted: FittedIPCA, sample: Sample) -> None:
    """Reject a sample other than the training sample: its residuals differ."""
    moments, certificate = sample.moments, fitted.fit.certificate
    require_same_panel(fitted, moments)
    if certificate is None:
        return
    factors = factors_of_used_dates(fitted, sample)
    explained = kernels.ipca_fit_measures(moments, fitted.loadings, factors).total
    used = moments.n_assets >= fitted.config.min_assets
    square = float(moments.return_squares[used].sum())
    if not abs((1.0 - explained) * square - certificate.ssr) <= SAME_PANEL * square:
        raise ValueError(
            "batch and observed_factors must be those that the model was fitted on; got others"
        )


def require_same_panel(fitted: FittedIPCA, moments: kernels.Moments) -> None:
    """Reject moments of other instruments than those of the training sample."""
    fit, n_instruments = fitted.fit, moments.cross.shape[1]
    require_shape("batch instruments", (len(fit.gamma),), (n_instruments,))
    used = moments.n_assets >= fitted.config.min_assets
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
    z, filled = batch.characteristics, config.missing == "median"
    admitted = np.empty(z.shape[:2], dtype=np.bool_) if filled else known(batch)
    wide = np.ascontiguousarray(gamma, dtype=np.float64)
    level, slopes = (wide[0], wide[1:]) if config.constant else (0.0, wide)
    betas = np.empty((*z.shape[:2], gamma.shape[1]), dtype=gamma.dtype)
    with np.errstate(over="ignore", invalid="ignore"):  # of cells that become NaN below
        for t, date in enumerate(z):  # one date at a time: the panel is never upcast
            if filled:
                admitted[t] = present_rows(batch, t)
            rows = fill_with_median(date, admitted[t]) if filled else date
            betas[t] = np.ascontiguousarray(rows, dtype=np.float64) @ slopes + level
    betas[~admitted] = np.nan
    return betas


def state_of(
    fitted: FittedIPCA,
    dates: CrossSectionBatch | CharacteristicMoments,
    sample: Sample | None,
    rows: CrossSectionBatch | None = None,
) -> LatentFactorState:
    """Combine realized factors of a sample with exposures of rows, by default of no asset."""
    config, fit = fitted.config, fitted.fit
    gamma, certificate = np.hstack([fit.gamma, fit.gamma_observed]), fit.certificate
    factors = None
    if sample is not None:
        factors = factors_of(fitted, sample).astype(gamma.dtype, copy=False)
    betas = np.empty((dates.n_periods, 0, gamma.shape[1]), dtype=gamma.dtype)
    asset_ids: tuple[str, ...] = ()
    if rows is not None:
        betas = exposures(config, rows, gamma)
        asset_ids = labels(rows.asset_ids, fit.asset_ids, rows.n_assets)
    return LatentFactorState(
        betas,
        factor_returns=factors,
        timestamps=dates.timestamps,
        asset_ids=asset_ids,
        metadata={
            "model_name": config.model_name,
            "persistent_entities": False,
            "fit_iterations": fit.fit_iterations,
            "fit_converged": fit.fit_converged,
            "fit_parameter_delta": certificate and certificate.subspace_step,
            "fit_objective_delta": certificate and certificate.objective_delta,
            "fit_forecast_delta": certificate and certificate.forecast_delta,
        },
    )


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
    """Metrics of a panel that moments do not hold; `n_usable` rows are usable."""
    if batch.returns is None:
        return {}
    metrics = {"mean_abs_return": mean_absolute_return(batch, batch.returns, n_usable)}
    if config.missing == "median":
        metrics["n_filled"] = float(count_missing(batch, batch.returns))
    return metrics


def mean_absolute_return(batch: CrossSectionBatch, returns: NDArray[Any], n_usable: int) -> float:
    """Average |return| over the usable cells, of which the moments counted `n_usable`."""
    cells = np.isfinite(returns)
    if batch.mask is not None:
        cells &= batch.mask
    if int(cells.sum()) != n_usable:  # some characteristics are missing: read them as well
        cells &= known(batch)
    return float(np.abs(returns[cells], dtype=np.float64).mean())
