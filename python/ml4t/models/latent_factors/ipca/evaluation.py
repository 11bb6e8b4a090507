"""What IPCA says about a panel: how much it explains, and what its factors earn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import kernels
from ml4t.models.checks import require_real
from ml4t.models.latent_factors.ipca.inference import IPCAInference
from ml4t.models.latent_factors.ipca.inputs import (
    factors_of,
    fitted_moments,
    moments_of,
    observed_panel,
    require_fitted_features,
)
from ml4t.models.latent_factors.ipca.measures import Explained, FitMeasures
from ml4t.models.latent_factors.ipca.portfolios import FactorPortfolio, scaled, tangency_weights
from ml4t.models.types import CrossSectionBatch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.latent_factors.ipca.fit import IPCAFit
    from ml4t.models.moments.characteristic_moments import CharacteristicMoments


class IPCAEvaluation(IPCAInference):
    """Fit and portfolios, as a part of `IPCAModel`."""

    def fit_measures(
        self,
        batch: CrossSectionBatch | CharacteristicMoments,
        *,
        observed_factors: NDArray[Any] | None = None,
    ) -> FitMeasures:
        """Measure how much of a panel the fitted model explains.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments
            With returns; the panel of the fit or any other.
        observed_factors : array_like, shape (T, M), optional
            Of these dates, where the fit had some.

        Returns
        -------
        FitMeasures
            Realised factors are those of the panel, mean factors those of the fit.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without returns, without the observed factors of the fit, or with other characteristics.

        References
        ----------
        Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 3.
        """
        fit = self._fitted("fit_measures")
        moments = fitted_moments(self.config, fit, batch)
        factors = self._realised_or_refuse(fit, batch, observed_factors)
        factors[moments.n_assets < self.config.min_assets] = np.nan
        return self._measures(moments, factors, batch)

    def _measures(
        self,
        moments: kernels.Moments,
        factors: NDArray[np.float64],
        batch: CrossSectionBatch | CharacteristicMoments | None,
    ) -> FitMeasures:
        """Measure the fit on dates of which moments and factors are known."""
        fit = self._fitted("fit_measures")
        premia = np.concatenate([fit.train_factor_returns.mean(axis=0), fit.observed_means])
        if len(premia) != factors.shape[1]:  # an older file has no means of observed factors
            premia = np.nanmean(factors, axis=0)
        gamma = self._loadings()
        config = self.config
        middle = config.missing == "middle"
        found = Explained(moments, batch, gamma, factors, premia, config.constant, middle)
        without = None
        n_dates, n_cells = int(found.used.sum()), int(moments.n_assets[found.used].sum())
        if self.config.intercept:
            cut = replace(found, gamma=gamma[:, :-1], factors=factors[:, :-1], premia=premia[:-1])
            without = FitMeasures(*cut.levels(), None, n_dates, n_cells)
        return FitMeasures(*found.levels(), without, n_dates, n_cells)

    def tangency_portfolio(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        target_volatility: float,
        observed_factors: NDArray[Any] | None = None,
    ) -> FactorPortfolio:
        r"""Combine the latent factors by :math:`\Sigma_f^{-1}\bar f`, estimated in the training.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            Whose factors the portfolio earns: later dates make it out of sample. By default the
            training dates.
        target_volatility : float
            Standard deviation per period over the training dates.
        observed_factors : array_like, shape (T, M), optional
            Of the dates of `batch`, where the fit had some.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without latent factors, or when `fit_measures` would refuse the panel.
        """
        fit = self._fitted("tangency_portfolio")
        target = require_real("target_volatility", target_volatility, above=0.0)
        n_latent = fit.gamma.shape[1]
        if n_latent == 0:
            raise ValueError("tangency_portfolio needs latent factors; the model has none")
        weights = tangency_weights(fit.train_factor_returns, target_volatility=target)
        if batch is None:
            return FactorPortfolio(weights, fit.train_factor_returns @ weights)
        factors = self._realised_or_refuse(fit, batch, observed_factors)[:, :n_latent]
        return FactorPortfolio(weights, factors @ weights, batch.timestamps)

    def arbitrage_portfolio(
        self,
        batch: CrossSectionBatch | CharacteristicMoments | None = None,
        *,
        target_volatility: float,
        training: CrossSectionBatch | CharacteristicMoments | None = None,
    ) -> FactorPortfolio:
        r"""Earn the alpha without exposure to the latent factors.

        Asset weights :math:`Z_t(Z_t'Z_t)^{-1}\Gamma_\alpha c` have a return of
        :math:`c\,\Gamma_\alpha'(Z_t'Z_t)^{-1}Z_t'r_t`, of which the latent factors have no part,
        since :math:`\Gamma_\alpha'\Gamma_\beta = 0`.

        Parameters
        ----------
        batch : CrossSectionBatch or CharacteristicMoments, optional
            What the portfolio earns: later dates make it out of sample. By default the training
            dates.
        target_volatility : float
            Standard deviation per period over the training dates.
        training : CrossSectionBatch or CharacteristicMoments, optional
            The panel of the fit, for a model that was loaded or copied.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            Without `intercept`, or when the panel of the fit is needed or another one is given.

        References
        ----------
        Kelly, Pruitt and Su (2019), Characteristics are covariances, JFE 134(3), section 5.
        """
        fit = self._fitted("arbitrage_portfolio")
        target = require_real("target_volatility", target_volatility, above=0.0)
        if not self.config.intercept:
            raise ValueError("arbitrage_portfolio needs a model with intercept=True; got False")
        alpha = fit.gamma_observed[:, -1].astype(np.float64)
        seen = self._seen_moments(training)
        earned = self._slopes(fit, seen) @ alpha
        earned[seen.n_assets < self.config.min_assets] = np.nan
        weights = scaled(alpha, earned, target)
        if batch is None:
            return FactorPortfolio(weights, earned * (target / float(np.nanstd(earned))))
        slopes = self._slopes(fit, fitted_moments(self.config, fit, batch))
        return FactorPortfolio(weights, slopes @ weights, batch.timestamps)

    def _slopes(self, fit: IPCAFit, moments: kernels.Moments) -> NDArray[np.float64]:
        """Regress the returns of every date on its instruments, shape (T, P)."""
        return kernels.ipca_factors(
            moments,
            np.eye(len(fit.gamma)),
            instrument_second_moment=fit.instrument_second_moment,
        )

    def _realised_or_refuse(
        self,
        fit: IPCAFit,
        batch: CrossSectionBatch | CharacteristicMoments,
        observed_factors: NDArray[Any] | None,
    ) -> NDArray[np.float64]:
        require_fitted_features(fit, batch)
        found = self._realised(fit, batch, observed_factors)
        if found is None:
            what = "returns" if getattr(batch, "returns", None) is None else "observed_factors"
            raise ValueError(f"realised factors need {what}; got none")
        return found.astype(np.float64)

    def _realised(
        self,
        fit: IPCAFit,
        batch: CrossSectionBatch | CharacteristicMoments,
        observed_factors: NDArray[Any] | None,
    ) -> NDArray[Any] | None:
        """Realised factors (T, K + M); None without returns, or observed factors where needed."""
        if isinstance(batch, CrossSectionBatch) and batch.returns is None:
            return None
        observed = observed_panel(
            observed_factors, batch.n_periods, intercept=self.config.intercept
        )
        n_observed = 0 if observed is None else observed.shape[1]
        if n_observed != fit.gamma_observed.shape[1]:
            if observed_factors is None:
                return None
            n_given, n_fitted = n_observed, fit.gamma_observed.shape[1]
            raise ValueError(
                f"observed_factors must have the fitted number of columns "
                f"{n_fitted - self.config.intercept}; got {n_given - self.config.intercept}"
            )
        moments = moments_of(self.config, batch)
        return factors_of(fit, self.config, moments, observed).astype(fit.gamma.dtype, copy=False)
