"""Panels whose factor follows an observed state, for what forecasts premia from states."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from ml4t.models import (
    CrossSectionBatch,
    IPCAConfig,
    IPCAModel,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
)


def cross_sections(seed=0, n_dates=40, n_assets=10, n_states=1):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (n_dates, n_assets, 2))
    x = rng.standard_normal((n_dates, n_states))
    f = 0.02 + 0.03 * x[:, :1] + 0.02 * rng.standard_normal((n_dates, 1))
    returns = (1 + z[:, :, 0]) * f + 0.002 * rng.standard_normal((n_dates, n_assets))
    ids = tuple(f"s{i}" for i in range(n_assets))
    return CrossSectionBatch(z, returns=returns, context_features=x, asset_ids=ids)


def panel(seed=0, n_states=1):
    batch = cross_sections(seed, n_states=n_states)
    return PersistentPanelBatch(
        batch.returns, asset_ids=batch.asset_ids, context_features=batch.context_features
    )


def pca():
    return PCAModel(PCAConfig(n_factors=1))


def ipca():
    return IPCAModel(IPCAConfig(n_factors=1))


def batches(n_states=1):
    """Parametrise a test by a model and the maker of its batch."""
    cases = [
        (ipca, partial(cross_sections, n_states=n_states)),
        (pca, partial(panel, n_states=n_states)),
    ]
    return pytest.mark.parametrize(("model", "data"), cases, ids=["ipca", "pca"])
