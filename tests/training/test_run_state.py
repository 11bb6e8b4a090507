"""A captured run goes on in the fit that it comes from, and nowhere else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import file_kinds
from ml4t.models import (
    CAEConfig,
    CAEModel,
    CrossSectionBatch,
    LSTMPortfolioConfig,
    LSTMPortfolioModel,
    PortfolioSequenceBatch,
    SAEConfig,
    SAEModel,
    StochasticDiscountFactorConfig,
    StochasticDiscountFactorModel,
)
from ml4t.models.training.callbacks import Callback
from ml4t.models.training.run_state import RunState


def cross_section(seed=0, n_dates=4):
    rng = np.random.default_rng(seed)
    return CrossSectionBatch(
        characteristics=rng.normal(size=(n_dates, 6, 2)), returns=rng.normal(size=(n_dates, 6))
    )


def windows(seed=0):
    rng = np.random.default_rng(seed)
    return PortfolioSequenceBatch(
        features=rng.normal(size=(2, 6, 3, 2)), returns=rng.normal(size=(2, 6, 3)) / 100
    )


# Model, settings, data, another setting of the same sizes.
MODELS = {
    "cae": (
        CAEModel,
        CAEConfig(n_factors=1, n_epochs=3, hidden_units=(2,)),
        cross_section,
        {"lambda_l1": 0.5},
    ),
    "sae": (
        SAEModel,
        SAEConfig(bottleneck_dim=2, aux_hidden_dim=2, main_hidden_units=(2, 2, 2, 2), n_epochs=3),
        cross_section,
        {"alpha": 0.5},
    ),
    "sdf": (
        StochasticDiscountFactorModel,
        StochasticDiscountFactorConfig(
            hidden_dim=2, n_instruments=2, n_epochs_unc=3, n_epochs_moment=3, n_epochs_cond=3
        ),
        cross_section,
        {"lr": 0.5},
    ),
    "lstm": (
        LSTMPortfolioModel,
        LSTMPortfolioConfig(hidden_size=2, vvsn_hidden_dim=2, max_iters=3, eval_every=1),
        windows,
        {"gamma_cost": 0.25},
    ),
}


class Stop(Callback):
    state = None

    def on_epoch(self, event):
        self.state = event.capture()
        raise KeyboardInterrupt


@pytest.fixture(params=MODELS, scope="module")
def interrupted(request, tmp_path_factory):
    make, config, data, other = MODELS[request.param]
    stop, batch = Stop(), data()
    with pytest.raises(KeyboardInterrupt):
        make(config).fit(batch, validation_batch=data(1), callbacks=[stop])
    path = stop.state.save(tmp_path_factory.mktemp("run") / "state")
    return make, config, data, other, path


def parameters(model):
    fit = model._fitted("look")
    return [
        (label, name, value)
        for label, state in fit.checkpoints.items()
        for name, value in state.items()
    ]


def test_a_saved_state_resumes_with_the_bits_of_an_unbroken_fit(interrupted):
    make, config, data, _, path = interrupted
    whole, resumed = make(config), make(config)
    whole.fit(data(), validation_batch=data(1))
    resumed.fit(data(), validation_batch=data(1), resume=RunState.load(path))
    pairs = list(zip(parameters(whole), parameters(resumed), strict=True))
    assert pairs
    for (label, name, want), (other_label, other_name, got) in pairs:
        assert (label, name) == (other_label, other_name)
        np.testing.assert_array_equal(want, got)


def test_a_state_of_another_fit_raises_and_names_the_difference(interrupted):
    make, config, data, other, path = interrupted
    state = RunState.load(path)
    ((setting, value),) = other.items()
    for changed, batch, later, named in (
        (config, data(2), data(1), "batch"),
        (config, data(), data(2), "validation_batch"),
        (config, data(), None, "validation_batch"),
        (replace(config, seed=7), data(), data(1), "seed"),
        (replace(config, dtype="float32"), data(), data(1), "dtype"),
        (replace(config, **{setting: value}), data(), data(1), setting),
    ):
        model = make(changed)
        with pytest.raises(ValueError, match=rf"resume must be a state .* its {named} differ"):
            model.fit(batch, validation_batch=later, resume=state)
        assert not model.is_fitted


def test_a_state_of_another_model_or_of_no_fit_raises(interrupted):
    make, config, data, _, path = interrupted
    with pytest.raises(ValueError, match=r"resume must be a state .* its model, "):
        make(config).fit(
            data(), validation_batch=data(1), resume=replace(RunState.load(path), owner={})
        )
    for other_make, other_config, other_data, _ in MODELS.values():
        if other_make is not make:
            with pytest.raises(ValueError, match=r"resume must be a state .* its model, "):
                other_make(other_config).fit(other_data(), resume=RunState.load(path))


def test_the_device_is_no_part_of_the_run(interrupted):
    make, config, data, _, path = interrupted
    model = make(replace(config, device="auto"))
    model.fit(data(), validation_batch=data(1), resume=RunState.load(path))
    assert model.is_fitted


def changed(state, where, value):
    """Give a state whose tensor of the optimizer, or entry of the progress, is another."""
    plain = RunState.load(state)
    if where == "optimizer":
        moments = {0: plain.optimizers[0]["state"][0] | {"exp_avg": value}}
        optimizer = plain.optimizers[0] | {"state": plain.optimizers[0]["state"] | moments}
        return replace(plain, optimizers=(optimizer, *plain.optimizers[1:]))
    return replace(plain, **{where: value})


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("optimizer", torch.zeros(3, 3, 3, 3), "optimizer moments of the parameters' shapes"),
        ("optimizers", (), "must hold . optimizers; got 0"),
        ("generators", (), "must hold . generators; got 0"),
        ("done", ({"epoch": 1},), "run must hold the progress of its phases"),
        ("modules", (), "resume must come from the phases"),
        ("names", ("other",), "resume must come from the phases"),
    ],
)
def test_a_state_that_contradicts_the_fit_raises(interrupted, where, value, message):
    make, config, data, _, path = interrupted
    state = changed(path, where, value)
    with pytest.raises(ValueError, match=message):
        make(config).fit(data(), validation_batch=data(1), resume=state)


def test_a_file_of_another_kind_is_no_state(tmp_path):
    path = file_kinds.moments().save(tmp_path / "m")
    with pytest.raises(ValueError, match=r"cannot load .* it is no state of a run but of ml4t"):
        RunState.load(path)
