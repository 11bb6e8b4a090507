"""Neural models for the laws: tiny panels, tiny networks, predictions as arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch

from ml4t.models.asset_prediction import SAEModel
from ml4t.models.configs import CAEConfig, SAEConfig, StochasticDiscountFactorConfig
from ml4t.models.latent_factors import CAEModel
from ml4t.models.stochastic_discount_factor import (
    StochasticDiscountFactorBetaNetworkHead,
    StochasticDiscountFactorModel,
)
from ml4t.models.types import CrossSectionBatch, StochasticDiscountFactorState


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny networks on a shared machine: more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def ragged_batch(seed=0, n_dates=8, n_assets=9, n_chars=3):
    """A panel with holes of every kind; every asset has at least two usable dates."""
    rng = np.random.default_rng(seed)
    shape = (n_dates, n_assets)
    z = rng.uniform(-1, 1, (*shape, n_chars))
    factor = rng.normal(0.02, 0.05, (n_dates, 1))
    r = factor * (1.0 + z[..., 0]) + 0.02 * rng.standard_normal(shape)
    mask = rng.random(shape) > 0.15
    mask[:2] = True
    r[3, 1] = np.nan
    z[4, 2, 0] = np.nan
    return CrossSectionBatch(
        characteristics=z,
        returns=r,
        factor_returns=r,
        context_features=rng.standard_normal((n_dates, 2)),
        mask=mask,
        timestamps=tuple(range(n_dates)),
        asset_ids=tuple(f"a{i}" for i in range(n_assets)),
    )


def labelled(batch):
    """The same panel with labels for returns."""
    r = batch.returns
    return replace(batch, returns=np.where(np.isfinite(r), (r > 0).astype(float), np.nan))


@dataclass(frozen=True)
class Family:
    """A model, its batches, and its predictions as arrays."""

    name: str
    make: Callable[..., Any]
    batch: Callable[..., CrossSectionBatch]
    predictions: Callable[[Any, CrossSectionBatch], dict[str, np.ndarray]]

    def fitted(self, batch=None, **settings):
        model = self.make(**settings)
        model.fit(self.batch() if batch is None else batch)
        return model


def cae(**settings):
    defaults = {"n_factors": 2, "hidden_units": (4,), "n_epochs": 3, "lr": 0.02}
    return CAEModel(CAEConfig(**(defaults | settings)))


def cae_predictions(model, batch):
    return {"asset_betas": model.extract(batch).asset_betas}


def sdf_config(**settings):
    defaults = {
        "state_dim_sdf": 2,
        "state_dim_moment": 3,
        "hidden_dim": 5,
        "n_instruments": 2,
        "n_epochs_unc": 3,
        "n_epochs_moment": 2,
        "n_epochs_cond": 3,
        "lr": 0.02,
    }
    return StochasticDiscountFactorConfig(**(defaults | settings))


def sdf(**settings):
    return StochasticDiscountFactorModel(sdf_config(**settings))


def sdf_predictions(model, batch):
    return {"asset_weights": model.extract(batch).asset_weights}


class HeadWithEqualWeightFactor(StochasticDiscountFactorBetaNetworkHead):
    """The beta head with an equal-weight factor in place of a discount factor's."""

    def fit(self, batch):
        if not isinstance(batch, CrossSectionBatch) or batch.returns is None:
            state = StochasticDiscountFactorState(np.ones((1, 1)), np.ones(1))
            return super().fit(state, batch)
        known = batch.mask & np.isfinite(batch.returns)
        factor = np.where(known, batch.returns, 0.0).sum(axis=1)
        weights = np.ones(batch.returns.shape)
        return super().fit(StochasticDiscountFactorState(weights, 1.0 - factor), batch)


def head(**settings):
    settings = {("beta_lr" if k == "lr" else k): v for k, v in settings.items()}
    defaults = {"beta_state_dim": 2, "beta_hidden_dim": 5, "beta_n_epochs": 3, "beta_lr": 0.02}
    return HeadWithEqualWeightFactor(sdf_config(**(defaults | settings)))


def head_predictions(model, batch):
    return {"signal_values": model.predict(batch).signal_values}


def sae(**settings):
    defaults = {
        "bottleneck_dim": 3,
        "aux_hidden_dim": 3,
        "main_hidden_units": (6, 5, 4, 3),
        "n_epochs": 3,
        "lr": 0.02,
    }
    return SAEModel(SAEConfig(**(defaults | settings)))


def sae_predictions(model, batch):
    return {"signal_values": model.predict(batch).signal_values}


FAMILIES = [
    Family("sae", sae, ragged_batch, sae_predictions),
    Family(
        "sae minibatch classification",
        lambda **s: sae(**({"task_type": "classification", "batch_size": 16} | s)),
        lambda *a, **k: labelled(ragged_batch(*a, **k)),
        sae_predictions,
    ),
    Family("sdf", sdf, ragged_batch, sdf_predictions),
    Family(
        "sdf ensemble without context",
        lambda **s: sdf(**({"n_ensemble": 2} | s)),
        lambda *a, **k: replace(ragged_batch(*a, **k), context_features=None),
        sdf_predictions,
    ),
    Family("beta head", head, ragged_batch, head_predictions),
    Family("cae", cae, ragged_batch, cae_predictions),
    Family(
        "cae minibatch ensemble",
        lambda **s: cae(**({"batch_size": 16, "n_ensemble": 2} | s)),
        ragged_batch,
        cae_predictions,
    ),
    Family(
        "cae deep context",
        lambda **s: cae(
            **({"hidden_units": (4, 3), "factor_inputs": "context", "l1_scope": "all"} | s)
        ),
        ragged_batch,
        cae_predictions,
    ),
    Family(
        "cae classification",
        lambda **s: cae(**({"task_type": "classification"} | s)),
        lambda *a, **k: labelled(ragged_batch(*a, **k)),
        cae_predictions,
    ),
]
