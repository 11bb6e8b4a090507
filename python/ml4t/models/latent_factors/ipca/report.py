"""What an IPCA fit found, as records: tables, and how much each characteristic carries."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_names
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

    from ml4t.models.latent_factors.ipca.fit import IPCAFit
    from ml4t.models.latent_factors.ipca.measures import FitMeasures
    from ml4t.models.types import FitRunRecord


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class CharacteristicImportance(Record):
    """What is lost without a characteristic.

    Attributes
    ----------
    names : tuple of str
        The P instruments.
    total_r2 : float
        Uncentred, of asset returns, with all of them.
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
    """Every single entry of the certificate under its name."""
    values = {one.name: getattr(certificate, one.name) for one in fields(certificate)}
    rows = tuple((name, (one,)) for name, one in values.items() if not isinstance(one, tuple))
    return Table("Convergence", (), rows)


def measures_table(measures: FitMeasures) -> Table:
    """Against zero, of assets and of managed portfolios; blank where it cannot be known."""
    rows: list[tuple[str, tuple[float | None, ...]]] = []
    for told, found in (("", measures), (", without alpha", measures.without_alpha)):
        if found is None:
            continue
        levels = (found.assets, found.managed_portfolios)
        for name in ("total", "predictive", "cross_sectional"):
            values = [float(getattr(level, name).against_zero) for level in levels]
            cells = tuple(None if np.isnan(value) else value for value in values)
            rows.append((f"{name.replace('_', '-')}{told}", cells))
    columns = ("assets", "managed portfolios")
    return Table("R squared (uncentred)", columns, tuple(rows))


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


def labelled(names: Sequence[str], given: Sequence[str], *, constant: bool) -> tuple[str, ...]:
    """Name the instruments (P) as given for the characteristics (L), else as they are known."""
    given = require_names("feature_names", given)
    if not given:
        return tuple(names)
    n_features = len(names) - constant
    if len(given) != n_features:
        raise ValueError(
            f"feature_names must name the {n_features} characteristics; got {len(given)}"
        )
    return (*names[:constant], *given)


def summarise(
    fit: IPCAFit,
    record: FitRunRecord,
    *,
    intercept: bool,
    names: Sequence[str],
    errors: NDArray[Any] | None,
    measures: FitMeasures | None,
    notes: tuple[str, ...] = (),
) -> ModelSummary:
    """Put the tables of a fit together.

    Parameters
    ----------
    fit : IPCAFit
    record : FitRunRecord
    intercept : bool
        Whether the last observed factor is the alpha.
    names : sequence of str, length P
    errors : ndarray, shape (P, K + M), optional
        Standard errors of Gamma.
    measures : FitMeasures, optional
    notes : tuple of str
    """
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
    if measures is not None:
        tables.append(measures_table(measures))
    tables.append(statistics_table(fit.train_factor_returns, columns[:n_latent]))
    tables.append(gamma_table(gamma, errors, names, columns))
    with_alpha = " and alpha" if intercept else ""
    title = f"IPCAModel: {counted(n_latent)}{with_alpha}"
    return ModelSummary(title, tuple(tables), notes if errors is None else (STARS, *notes))
