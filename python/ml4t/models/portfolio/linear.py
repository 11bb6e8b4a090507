"""Weights from a pooled ridge regression of returns on features; needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml4t.models.checks import require_int, require_shape, require_type
from ml4t.models.configs import LinearPortfolioConfig
from ml4t.models.kernels import normalize_weights
from ml4t.models.lifecycle.estimator import Estimated
from ml4t.models.portfolio.base import (
    BasePortfolioModel,
    available,
    require_finite_features,
    require_same_slots,
    require_training_batch,
)
from ml4t.models.types import FitSummary, PortfolioSequenceBatch, PortfolioWeightsResult

_STEP = 1
_BLOCK = 1 << 12  # rows in double precision at a time


@dataclass(frozen=True, slots=True)
class LinearPortfolioFit:
    """Fitted parameters of `LinearFeaturePortfolioModel`.

    Attributes
    ----------
    intercept : float
        Return per period.
    coefficients : ndarray of float64, shape (F,)
        Return per period for one unit of the feature.
    n_assets : int
        0 in files of 0.1.x, which lack it.
    asset_ids : tuple of str
    """

    intercept: float
    coefficients: NDArray[np.float64]
    n_assets: int
    asset_ids: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise `ValueError` when the parts disagree; `load` relies on it."""
        require_shape("coefficients", (self.n_features,), self.coefficients.shape)
        require_int("n_assets", self.n_assets, at_least=0)
        if self.asset_ids:
            require_shape("asset_ids", (self.n_assets,), (len(self.asset_ids),))

    @property
    def n_features(self) -> int:
        """Number of features, F."""
        return self.coefficients.size


def ridge(
    features: NDArray[Any], returns: NDArray[np.float64], *, alpha: float, intercept: bool
) -> tuple[float, NDArray[np.float64]]:
    r"""Regress returns on features with a penalty on everything but the intercept.

    .. math:: \beta = (X'X + \alpha I)^{-1}X'y

    with columns demeaned when there is an intercept. Without a penalty, the shortest solution.

    Parameters
    ----------
    features : ndarray, shape (n, F)
        Of either precision; computed in double, some rows at a time unless alpha is 0.
    returns : ndarray, shape (n,)
    alpha : float
    intercept : bool

    Returns
    -------
    float
        Intercept.
    ndarray of float64, shape (F,)
        Slopes.
    """
    n_features = features.shape[1]
    centre = features.mean(axis=0, dtype=np.float64) if intercept else np.zeros(n_features)
    level = float(returns.mean()) if intercept else 0.0
    y = returns - level
    if alpha > 0.0:
        gram, cross = alpha * np.eye(n_features), np.zeros(n_features)
        for rows in _blocks(len(features)):
            x = features[rows] - centre
            gram += x.T @ x
            cross += x.T @ y[rows]
        slopes = np.linalg.solve(gram, cross)
    else:
        slopes = np.linalg.lstsq(features - centre, y, rcond=None)[0]
    return level - float(centre @ slopes), np.asarray(slopes, dtype=np.float64)


def _blocks(n_rows: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, n_rows, _BLOCK)]


class LinearFeaturePortfolioModel(BasePortfolioModel[LinearPortfolioConfig, LinearPortfolioFit]):
    """Forecast returns by a pooled ridge regression, and hold the forecasts.

    Forecasts become weights of the configured exposures, date by date: see
    `portfolio.postprocessors.normalize_cross_sectional_weights`.

    Parameters
    ----------
    config : LinearPortfolioConfig
    """

    config_type: ClassVar[type] = LinearPortfolioConfig
    fit_type: ClassVar[type] = LinearPortfolioFit
    sees_each_date_alone: ClassVar[bool] = True

    @property
    def available_checkpoints(self) -> tuple[int, ...]:
        """The one step of a regression, once fitted."""
        return (_STEP,) if self.is_fitted else ()

    @classmethod
    def _require_settings(cls, config: LinearPortfolioConfig, fit: LinearPortfolioFit) -> None:
        if fit.intercept != 0.0 and not config.fit_intercept:
            raise ValueError(f"intercept must be 0 without fit_intercept; got {fit.intercept}")

    def fit(
        self,
        batch: PortfolioSequenceBatch,
        *,
        validation_batch: PortfolioSequenceBatch | None = None,
    ) -> FitSummary:
        """Regress on the cells with a true mask, finite features and a finite return.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            With returns.
        validation_batch : PortfolioSequenceBatch, optional
            Not used: there is nothing to choose.

        Returns
        -------
        FitSummary
            `n_train_obs`, `train_rmse` (return per period).

        Raises
        ------
        ValueError
            Without returns, or when no cell is usable.
        """
        return self._run(lambda: self._estimate(batch), batch, validation_batch)

    def _estimate(self, batch: PortfolioSequenceBatch) -> Estimated[LinearPortfolioFit]:
        returns = require_training_batch("LinearFeaturePortfolioModel", batch)
        usable = available(batch) & np.isfinite(returns)
        usable &= np.isfinite(batch.features).all(axis=3)
        if not usable.any():
            raise ValueError(
                "LinearFeaturePortfolioModel: no valid observations; a cell needs the mask, finite "
                f"features and a finite return, and none of the {usable.size} cells has all three"
            )
        x = np.ascontiguousarray(batch.features[usable])
        y = returns[usable].astype(np.float64)
        config = self.config
        level, slopes = ridge(x, y, alpha=config.ridge_alpha, intercept=config.fit_intercept)
        fit = LinearPortfolioFit(level, slopes, batch.n_assets, batch.asset_ids)
        error = y - level
        for rows in _blocks(len(x)):
            error[rows] -= x[rows].astype(np.float64) @ slopes
        left = int(available(batch).sum()) - y.size
        note = f"{left} available cells without a finite return or finite features take no part."
        summary = FitSummary(
            converged=True,
            train_metrics={"n_train_obs": y.size, "train_rmse": np.sqrt(np.mean(error**2))},
            best_epoch=_STEP,
            notes=(note,) if left else (),
        )
        return Estimated(fit, summary, "completed")

    def predict(
        self, batch: PortfolioSequenceBatch, *, checkpoint: int | None = None
    ) -> PortfolioWeightsResult:
        """Predict the weights of every window.

        Parameters
        ----------
        batch : PortfolioSequenceBatch
            Features must be finite where the mask is true; returns are not read.
        checkpoint : int, optional
            1.

        Returns
        -------
        PortfolioWeightsResult
            `weights` (B, T, N), fractions of capital; 0 where the mask is false.

        Raises
        ------
        RuntimeError
            Before a fit.
        ValueError
            When the slots are not the fitted ones, a feature is missing, or no book has the
            exposures.
        """
        fit = self._fitted("predict")
        require_type("batch", batch, PortfolioSequenceBatch)
        if checkpoint is not None and require_int("checkpoint", checkpoint) != _STEP:
            raise ValueError(f"checkpoint={checkpoint!r} is not in available_checkpoints (1,)")
        require_same_slots(type(self).__name__, _with_slots(fit, batch), batch)
        tradable = available(batch)
        require_finite_features(batch, tradable)
        scores = np.empty(tradable.shape)
        for date in range(batch.n_periods):
            known = np.where(tradable[:, date, :, None], batch.features[:, date], 0.0)
            known = np.ascontiguousarray(known, dtype=np.float64)
            scores[:, date] = fit.intercept + known @ fit.coefficients
        config = self.config
        weights = normalize_weights(
            scores,
            tradable,
            gross=config.gross_exposure,
            net=config.net_exposure,
            cap=config.max_abs_weight,
        )
        return self._result(batch, weights, _STEP, fit.asset_ids)


def _with_slots(fit: LinearPortfolioFit, batch: PortfolioSequenceBatch) -> LinearPortfolioFit:
    """Fill in the number of slots, which files of 0.1.x without ids lack."""
    if fit.n_assets:
        return fit
    return LinearPortfolioFit(fit.intercept, fit.coefficients, batch.n_assets, ())
