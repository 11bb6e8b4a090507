"""Fitted parameters of IPCA, and the sample they are estimated from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import kernels  # noqa: TC001 - field types are read when a file is
from ml4t.models.checks import require_shape
from ml4t.models.moments.characteristic_moments import CONSTANT
from ml4t.models.types.arrays import FloatArray

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.configs import IPCAConfig


@dataclass(frozen=True, slots=True)
class IPCAFit:
    """Fitted parameters of `IPCAModel`.

    Attributes
    ----------
    gamma : ndarray, shape (P, K)
        Loadings of the latent factors on the instruments, the constant first.
    gamma_observed : ndarray, shape (P, M)
        Loadings of the observed factors, the instrumented alpha last.
    train_factor_returns : ndarray, shape (T_used, K)
        Realized latent factors on the dates that entered the fit.
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
    instrument_names : tuple of str, length P
        The constant first where there is one; empty when read from an older file.
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
    instrument_names: tuple[str, ...] = ()
    observed_means: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Raise `ValueError` where shapes disagree; `load` relies on it."""
        n_instruments, n_factors = self.gamma.shape
        n_periods, n_observed = len(self.train_factor_returns), self.gamma_observed.shape[-1]
        if n_instruments not in (self.n_features, self.n_features + 1):
            require_shape("gamma", (self.n_features + 1, n_factors), self.gamma.shape)
        require_shape("gamma_observed", (n_instruments, n_observed), self.gamma_observed.shape)
        require_shape(
            "train_factor_returns", (n_periods, n_factors), self.train_factor_returns.shape
        )
        if self.instrument_names:
            require_shape("instrument_names", (n_instruments,), (len(self.instrument_names),))
        square = (n_instruments, n_instruments)
        require_shape("instrument_second_moment", square, self.instrument_second_moment.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Moments and observed factors of a panel.

    Attributes
    ----------
    moments : Moments
        Of T dates over P instruments.
    observed : ndarray of float64, shape (T, M), or None
        Observed factors, the constant of the alpha last.
    """

    moments: kernels.Moments
    observed: NDArray[np.float64] | None


@dataclass(frozen=True, slots=True, eq=False)
class FittedIPCA:
    """Argument of inference, evaluation and report.

    Attributes
    ----------
    config : IPCAConfig
    fit : IPCAFit
    sample : Sample or None
        The training sample; None for a model that was loaded, copied or unpickled.
    """

    config: IPCAConfig
    fit: IPCAFit
    sample: Sample | None = None

    @property
    def loadings(self) -> NDArray[np.float64]:
        """Loadings (P, K + M), latent ones first."""
        return np.hstack([self.fit.gamma, self.fit.gamma_observed]).astype(np.float64)

    @property
    def n_latent(self) -> int:
        """Number of latent factors, K."""
        return int(self.fit.gamma.shape[1])

    @property
    def instrument_names(self) -> tuple[str, ...]:
        """Names of the rows of Gamma, length P; numbered where the panel has no names."""
        return self.fit.instrument_names or numbered_names(self.config, self.fit.n_features)


def numbered_names(config: IPCAConfig, n_features: int) -> tuple[str, ...]:
    """Names of the rows of Gamma for a panel without names."""
    first = (CONSTANT,) if config.constant else ()
    return (*first, *(f"characteristic_{i}" for i in range(n_features)))
