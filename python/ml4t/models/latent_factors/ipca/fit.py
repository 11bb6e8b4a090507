"""What an IPCA estimation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ml4t.models import kernels  # noqa: TC001 - field types are read when a file is
from ml4t.models.checks import require_shape
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class IPCAFit:
    """What `IPCAModel.fit` learned.

    Attributes
    ----------
    gamma : ndarray, shape (P, K)
        Loadings of the latent factors on the instruments, the constant first.
    gamma_observed : ndarray, shape (P, M)
        Loadings of the observed factors, the instrumented alpha last.
    train_factor_returns : ndarray, shape (T_used, K)
        Realised latent factors on the dates that entered the fit.
    instrument_second_moment : ndarray of float64, shape (P, P)
        Pooled second moment of the instruments per asset: the metric of the ridges.
    ridge : float or None
        Pseudo-assets a date; None takes `factor_ridge` from the settings.
    n_features : int
        Characteristics L.
    fit_iterations : int
        Sweeps, alternating and Newton.
    fit_converged : bool
    asset_ids : tuple of str
    certificate : IPCACertificate or None
        None for a fit read from a file of 0.1.x.
    feature_names : tuple of str, length P
        Of the instruments; empty when read from an older file.
    observed_means : tuple of float, length M
        Of the observed factors over the dates that entered the fit; empty likewise.
    """

    gamma: FloatArray
    gamma_observed: FloatArray
    train_factor_returns: FloatArray
    instrument_second_moment: NDArray[np.float64]
    ridge: float | None
    n_features: int
    fit_iterations: int
    fit_converged: bool
    asset_ids: tuple[str, ...] = ()
    certificate: kernels.IPCACertificate | None = None
    feature_names: tuple[str, ...] = ()
    observed_means: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a fit whose parts disagree; `load` relies on it."""
        n_instruments, n_factors = self.gamma.shape
        n_periods, n_observed = len(self.train_factor_returns), self.gamma_observed.shape[-1]
        if n_instruments not in (self.n_features, self.n_features + 1):
            require_shape("gamma", (self.n_features + 1, n_factors), self.gamma.shape)
        require_shape("gamma_observed", (n_instruments, n_observed), self.gamma_observed.shape)
        require_shape(
            "train_factor_returns", (n_periods, n_factors), self.train_factor_returns.shape
        )
        if self.feature_names:
            require_shape("feature_names", (n_instruments,), (len(self.feature_names),))
        square = (n_instruments, n_instruments)
        require_shape("instrument_second_moment", square, self.instrument_second_moment.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What an estimation saw, as far as inference needs it.

    Attributes
    ----------
    moments : Moments
        Of T dates over P instruments.
    observed : ndarray of float64, shape (T, M), or None
        Observed factors, the constant of the alpha last.
    """

    moments: kernels.Moments
    observed: NDArray[np.float64] | None
