"""Ctrl-C ends the training of every network soon, and leaves the model and torch as they were."""

from __future__ import annotations

import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from ml4t.models import PortfolioSequenceBatch
from ml4t.models.configs import DeepPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.portfolio import DeepPortfolioModel, LSTMPortfolioModel
from neural_families import FAMILIES, Family

#: Seconds from the signal to the exception, on a machine with other work to do.
SOON = 2.0
LONG = 3_000


def windows():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 9, 5, 3))
    return PortfolioSequenceBatch(features, returns=0.02 * features[..., 0])


def linked():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((4, 9, 5, 3))
    links = rng.random((5, 5)) > 0.5
    return PortfolioSequenceBatch(features, returns=0.02 * features[..., 0], adjacency_mask=links)


def weights(model, batch):
    return {"weights": model.predict(batch).weights}


def flags():
    autocast = torch.is_autocast_enabled("cpu"), torch.is_inference_mode_enabled()
    kinds = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    return torch.is_grad_enabled(), autocast, kinds, torch.get_rng_state().tolist()


def lstm(**settings):
    return LSTMPortfolioModel(LSTMPortfolioConfig(**({"max_iters": 3} | settings)))


def deep(**settings):
    return DeepPortfolioModel(DeepPortfolioConfig(**({"max_iters": 3} | settings)))


CASES = [
    *((family, "n_epochs") for family in FAMILIES if family.name[:3] in ("sae", "cae")),
    *((family, "n_epochs_unc") for family in FAMILIES if family.name.startswith("sdf")),
    *((family, "beta_n_epochs") for family in FAMILIES if family.name == "beta head"),
    (Family("lstm portfolio", lstm, windows, weights), "max_iters"),
    (Family("deep portfolio", deep, linked, weights), "max_iters"),
]


def test_every_family_is_tried():
    assert {family.name for family in FAMILIES} < {family.name for family, _ in CASES}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("family", "count"), CASES, ids=[f.name for f, _ in CASES])
def test_training_stops_on_ctrl_c_and_keeps_the_fit(family, count):
    batch, model = family.batch(), family.make(**{count: LONG})
    before = model._state = family.fitted(batch)._state
    around, sent = flags(), []

    def send():
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            model.fit(batch)
    finally:
        timer.cancel()
        signal.signal(signal.SIGINT, handler)
    assert time.monotonic() - sent[0] < SOON
    assert model._state is before
    assert flags() == around
