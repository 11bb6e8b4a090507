"""What a caller switched on in torch changes no fit and no prediction, and stays switched on."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from ml4t.models import CrossSectionBatch, PortfolioSequenceBatch
from ml4t.models.configs import DeepPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.portfolio import DeepPortfolioModel, LSTMPortfolioModel
from neural_families import FAMILIES, Family, one_thread  # noqa: F401


def windows():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 9, 5, 3))
    returns = 0.02 * features[..., 0] + 0.02 * rng.standard_normal((4, 9, 5))
    return PortfolioSequenceBatch(features, returns=returns, mask=rng.random(returns.shape) > 0.2)


def linked():
    return replace(windows(), adjacency_mask=np.random.default_rng(1).random((5, 5)) > 0.5)


SMALL = {"max_iters": 3, "eval_every": 2, "checkpoint_every": 2, "vvsn_hidden_dim": 5}


def lstm(**settings):
    return LSTMPortfolioModel(LSTMPortfolioConfig(**SMALL, hidden_size=6, **settings))


def deep(**settings):
    return DeepPortfolioModel(DeepPortfolioConfig(**SMALL, d_model=8, **settings))


def weights(model, batch):
    return {"weights": model.predict(batch).weights}


ALL = [
    *FAMILIES,
    Family("lstm portfolio", lstm, windows, weights),
    Family("deep portfolio", deep, linked, weights),
]


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def deterministic_algorithms():
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


@contextmanager
def anomaly_mode():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")
        with torch.autograd.detect_anomaly():
            yield


def half_autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def meta_device():
    return torch.device("meta")  # on which nothing has a value


STATES = [
    half_autocast,
    default_dtype,
    deterministic_algorithms,
    anomaly_mode,
    meta_device,
    torch.no_grad,
    torch.inference_mode,
]


def flags():
    return {
        "gradients": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "cache": torch.is_autocast_cache_enabled(),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "anomaly": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "random": torch.get_rng_state().tolist(),
    }


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("family", ALL, ids=lambda f: f.name)
# Autocast touches float32 only.
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_around_a_call_changes_nothing_and_stays(family, state, dtype):
    batch = family.batch()
    model = family.fitted(batch, dtype=dtype)
    expected = family.predictions(model, batch)
    with state():
        before = flags()
        inside = family.fitted(batch, dtype=dtype)
        present = family.predictions(inside, batch)
        old = family.predictions(model, batch)
        assert flags() == before
    outside = family.predictions(inside, batch)
    for name, values in expected.items():
        for got in (present, old, outside):
            np.testing.assert_array_equal(got[name], values, err_msg=name)


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.__name__)
def test_torch_around_a_failing_fit_stays(state):
    family = FAMILIES[0]
    batch = family.batch()
    empty = CrossSectionBatch(batch.characteristics, returns=np.full(batch.returns.shape, np.nan))
    with state():
        before = flags()
        with pytest.raises(ValueError, match="no valid observations"):
            family.fitted(empty)
        assert flags() == before


@pytest.mark.parametrize("state", [half_autocast, torch.no_grad, torch.inference_mode])
def test_what_a_callback_sees_around_it_is_ours(state):
    seen = []

    class Watch:
        def on_start(self, event):
            seen.append((torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")))

        def on_epoch(self, event): ...

        def on_end(self, event): ...

    with state():
        FAMILIES[0].make().fit(FAMILIES[0].batch(), callbacks=[Watch()])
    assert seen == [(True, False)]
