"""Tables of a fitted IPCA, and the importance of each characteristic."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels
from ml4t.models.latent_factors.ipca.evaluation import measures_of
from ml4t.models.latent_factors.ipca.inference import kept_sample, standard_errors, training_sample
from ml4t.models.latent_factors.ipca.inputs import factors_of_used_dates, sample_of
from ml4t.models.latent_factors.statistics import (
    counted,
    factor_names,
    sample_table,
    statistics_table,
)
from ml4t.models.latent_factors.tables import STARS, Estimate, ModelSummary, Table
from ml4t.models.types.base import Record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.evaluation import FitMeasures
    from ml4t.models.latent_factors.ipca.fit import FittedIPCA
    from ml4t.models.moments.characteristic_moments import CharacteristicMoments
    from ml4t.models.types import CrossSectionBatch, FitRunRecord


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CharacteristicImportance(Record):
    """Fall of the total R squared without each instrument.

    Attributes
    ----------
    names : tuple of str
        The P instruments.
    total_r2 : float
        Uncentered, of asset returns, with all of them.
    drop : ndarray of float64, shape (P,)
        By how much it falls when the instrument's row of Gamma is zero and all else, the factors
        included, stays.
    """

    names: tuple[str, ...]
    total_r2: float
    drop: NDArray[np.float64]

    @property
    def share(self) -> NDArray[np.float64]:
        """Drops scaled to sum to one; zeros where nothing is lost at all."""
        whole = self.drop.sum()
        shares: NDArray[np.float64] = self.drop / whole if whole != 0 else np.zeros_like(self.drop)
        return shares


def characteristic_importance(
    moments: kernels.Moments,
    gamma: NDArray[np.float64],
    factors: NDArray[np.float64],
    names: Sequence[str],
) -> CharacteristicImportance:
    """Zero the rows of Gamma one by one.

    Parameters
    ----------
    moments : Moments
        Of T dates over P instruments.
    gamma : ndarray of float64, shape (P, Q)
        Latent and observed loadings side by side.
    factors : ndarray of float64, shape (T, Q)
    names : sequence of str, length P

    References
    ----------
    Gu, Kelly and Xiu (2021), Autoencoder asset pricing models, JoE 222(1), section 3.6.
    """
    total = kernels.ipca_fit_measures(moments, gamma, factors).total
    drop = np.zeros(len(gamma))
    for row in range(len(gamma)):
        without = gamma.copy()
        without[row] = 0.0
        drop[row] = total - kernels.ipca_fit_measures(moments, without, factors).total
    return CharacteristicImportance(tuple(names), total, drop)


def certificate_table(certificate: kernels.IPCACertificate) -> Table:
    """Entries of the certificate, each under its name."""
    values = {one.name: getattr(certificate, one.name) for one in fields(certificate)}
    rows = tuple((name, (one,)) for name, one in values.items() if not isinstance(one, tuple))
    return Table("Convergence", (), rows)


def measures_table(measures: FitMeasures) -> Table:
    """R squared against zero of assets and of managed portfolios; blank where undetermined."""
    rows: list[tuple[str, tuple[float | None, ...]]] = []
    for suffix, part in (("", measures), (", without alpha", measures.without_alpha)):
        if part is None:
            continue
        levels = (part.assets, part.managed_portfolios)
        for name in ("total", "predictive", "cross_sectional"):
            values = [float(getattr(level, name).against_zero) for level in levels]
            cells = tuple(None if np.isnan(value) else value for value in values)
            rows.append((f"{name.replace('_', '-')}{suffix}", cells))
    columns = ("assets", "managed portfolios")
    return Table("R squared (uncentered)", columns, tuple(rows))


def gamma_table(
    gamma: NDArray[Any],
    errors: NDArray[Any] | None,
    names: Sequence[str],
    columns: Sequence[str],
) -> Table:
    """Lay out loadings (P, Q), with standard errors of the same shape where there are any."""
    rows = []
    for i, name in enumerate(names):
        cells = tuple(
            Estimate(float(value), None if errors is None else float(errors[i, k]))
            for k, value in enumerate(gamma[i])
        )
        rows.append((name, cells))
    return Table("Gamma", tuple(columns), tuple(rows))


def loading_names(n_latent: int, n_observed: int, *, intercept: bool) -> tuple[str, ...]:
    """Names of the columns of Gamma: f1, f2, ..., g1, g2, ..., alpha."""
    observed = tuple(f"g{m + 1}" for m in range(n_observed - intercept))
    return (*factor_names(n_latent), *observed, *(("alpha",) if intercept else ()))


def summary(
    fitted: FittedIPCA,
    record: FitRunRecord,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    observed_factors: NDArray[Any] | None,
    *,
    with_errors: bool,
) -> ModelSummary:
    """Tables of a fit, measured on `batch` or on the training sample.

    Parameters
    ----------
    fitted : FittedIPCA
    record : FitRunRecord
    batch : CrossSectionBatch or CharacteristicMoments, optional
    observed_factors : array_like, shape (T, M), optional
    with_errors : bool
        Give standard errors of Gamma, or a note that says why there are none.
    """
    fit, intercept = fitted.fit, fitted.config.intercept
    errors, notes = _errors(fitted, batch, observed_factors) if with_errors else (None, ())
    n_instruments, n_latent = fit.gamma.shape
    n_observed = fit.gamma_observed.shape[1]
    sizes = {
        "Periods": len(fit.train_factor_returns),
        "Instruments": n_instruments,
        "Latent factors": n_latent,
        "Observed factors": n_observed - intercept,
    }
    columns = loading_names(n_latent, n_observed, intercept=intercept)
    gamma = np.hstack([fit.gamma, fit.gamma_observed])
    tables = [sample_table(record, sizes)]
    if fit.certificate is not None:
        tables.append(certificate_table(fit.certificate))
    sample = fitted.sample if batch is None else sample_of(fitted, batch, observed_factors)
    if sample is not None:
        factors = factors_of_used_dates(fitted, sample)
        tables.append(measures_table(measures_of(fitted, sample.moments, factors, batch)))
    tables.append(statistics_table(fit.train_factor_returns, columns[:n_latent]))
    tables.append(gamma_table(gamma, errors, fitted.instrument_names, columns))
    title = f"IPCAModel: {counted(n_latent)}{' and alpha' if intercept else ''}"
    return ModelSummary(title, tuple(tables), notes if errors is None else (STARS, *notes))


def importance_on(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    observed_factors: NDArray[Any] | None,
) -> CharacteristicImportance:
    """Measure the importance on `batch` or on the training sample."""
    sample = kept_sample(fitted) if batch is None else sample_of(fitted, batch, observed_factors)
    factors = factors_of_used_dates(fitted, sample)
    return characteristic_importance(
        sample.moments, fitted.loadings, factors, fitted.instrument_names
    )


def _errors(
    fitted: FittedIPCA,
    batch: CrossSectionBatch | CharacteristicMoments | None,
    observed_factors: NDArray[Any] | None,
) -> tuple[NDArray[Any] | None, tuple[str, ...]]:
    """Compute standard errors (P, K + M), or a note that says why there are none."""
    if fitted.sample is not None:
        batch = observed_factors = None
    try:
        errors = standard_errors(fitted, training_sample(fitted, batch, observed_factors))
    except (RuntimeError, ValueError) as error:
        return None, (f"No standard errors: {error}.",)
    parts = [errors.gamma, errors.gamma_observed]
    if errors.alpha is not None:
        parts.append(errors.alpha[:, None])
    return np.hstack(parts), ()
