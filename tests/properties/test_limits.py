"""Settings that nobody can mean are refused at once, before memory is taken on their word."""

from __future__ import annotations

import itertools
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ml4t.models import (
    CAEConfig,
    CAEModel,
    IPCAConfig,
    IPCAModel,
    RegimeSwitchingMapperConfig,
    SAEConfig,
    SAEModel,
    configs,
)
from ml4t.models.configs.base import BaseModelConfig, _rules
from ml4t.models.configs.checkpoints import checkpoint_grid
from ml4t.models.configs.rules import MOST_ENTRIES
from ml4t.models.types import CrossSectionBatch

ALL = [getattr(configs, name) for name in configs.__all__]
ABSURD = [10**10, 2**63 - 1, 2**64, 10**30]


@pytest.fixture
def frugal() -> Iterator[None]:
    """Fail a test that takes long or much memory."""
    tracemalloc.start()
    began = time.perf_counter()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 24
    assert time.perf_counter() - began < 10.0


def whole_numbers() -> list[tuple[type[BaseModelConfig], str, Any]]:
    """Every setting that takes 3, or a tuple of it, as an integer."""
    found = []
    for config in ALL:
        for name, rule in _rules(config).items():
            for wrap in (lambda n: n, lambda n: (n,)):
                try:
                    taken = rule(name, wrap(3))
                except (TypeError, ValueError):
                    continue
                if taken == wrap(3) and type(taken if taken == 3 else taken[0]) is int:
                    found.append((config, name, wrap))
    return found


@pytest.mark.usefixtures("frugal")
def test_every_count_has_an_upper_limit():
    tried = 0
    for config, name, wrap in whole_numbers():
        if name in ("seed", "identity_on"):
            continue
        for number in ABSURD:
            with pytest.raises(ValueError, match=rf"{name}.* must be .*got"):
                config(**{name: wrap(number)})
            tried += 1
    assert tried > 200


@pytest.mark.usefixtures("frugal")
@pytest.mark.parametrize("config", ALL)
def test_a_seed_fits_64_bits(config):
    for seed in (-(2**63), -1, 0, 2**63, 2**64 - 1):
        assert config(seed=seed).seed == seed
    for seed in (-(2**63) - 1, 2**64, 10**30, -(10**30)):
        with pytest.raises(ValueError, match="seed must fit 64 bits"):
            config(seed=seed)


SCHEDULES = [
    (configs.CAEConfig, "n_epochs", "checkpoint_interval"),
    (configs.SAEConfig, "n_epochs", "checkpoint_interval"),
    (configs.LSTMPortfolioConfig, "max_iters", "checkpoint_every"),
    (configs.DeepPortfolioConfig, "max_iters", "checkpoint_every"),
    (configs.StochasticDiscountFactorConfig, "n_epochs_unc", "checkpoint_interval"),
    (configs.StochasticDiscountFactorConfig, "n_epochs_cond", "checkpoint_interval"),
    (configs.StochasticDiscountFactorConfig, "beta_n_epochs", "beta_checkpoint_interval"),
]


@pytest.mark.usefixtures("frugal")
@pytest.mark.parametrize(("config", "total", "interval"), SCHEDULES)
def test_a_schedule_keeps_a_bounded_number_of_states(config, total, interval):
    with pytest.raises(ValueError, match=rf"{total} must be an integer >= 1 and <= 1000000"):
        config(**{total: 10**9, interval: 1})
    with pytest.raises(ValueError, match="checkpoints must be at most 100000"):
        config(**{total: 10**6, interval: 1})
    assert config(**{total: 10**6, interval: 10**5})


def test_the_largest_grid_is_complete():
    assert checkpoint_grid(MOST_ENTRIES, 1) == tuple(range(1, MOST_ENTRIES + 1))


@pytest.mark.usefixtures("frugal")
def test_a_sequence_without_end_is_refused():
    with pytest.raises(ValueError, match="checkpoint_epochs must have at most 100000 entries"):
        CAEConfig(checkpoint_epochs=itertools.count(1))
    with pytest.raises(ValueError, match="hidden_units must have at most 100 entries"):
        CAEConfig(hidden_units=itertools.repeat(1))
    with pytest.raises(ValueError, match="main_hidden_units must have 4 entries"):
        SAEConfig(main_hidden_units=range(1, 50))
    with pytest.raises(ValueError, match="identity_on must have at most 100000 entries"):
        IPCAConfig(identity_on=itertools.repeat("a"))


def cross_section() -> CrossSectionBatch:
    rng = np.random.default_rng(0)
    return CrossSectionBatch(
        characteristics=rng.normal(size=(5, 8, 2)), returns=rng.normal(size=(5, 8))
    )


@pytest.mark.parametrize("seed", [-(2**63), -1, 2**63, 2**64 - 1])
def test_every_seed_of_64_bits_draws(seed):
    batch = cross_section()
    model = IPCAModel(IPCAConfig(n_factors=1, n_starts=2, seed=seed))
    model.fit(batch)
    assert np.isfinite(model.extract(batch).asset_betas).all()
    pytest.importorskip("torch")
    small = {"n_epochs": 2, "seed": seed}
    for neural in (
        CAEModel(CAEConfig(n_factors=1, hidden_units=(2,), n_ensemble=2, **small)),
        SAEModel(
            SAEConfig(bottleneck_dim=2, aux_hidden_dim=2, main_hidden_units=(2, 2, 2, 2), **small)
        ),
    ):
        neural.fit(batch)
        assert neural.is_fitted


@pytest.mark.usefixtures("frugal")
def test_penalties_of_a_path_have_an_upper_limit():
    model = IPCAModel(IPCAConfig(n_factors=1, penalty=0.0))
    with pytest.raises(ValueError, match="penalties must be an integer >= 1 and <= 10000"):
        model.penalty_path(cross_section(), penalties=10**9)


def test_a_config_is_changed_within_the_same_limits():
    with pytest.raises(ValueError, match="n_starts must be an integer >= 1 and <= 1000"):
        replace(RegimeSwitchingMapperConfig(), n_starts=10**6)
