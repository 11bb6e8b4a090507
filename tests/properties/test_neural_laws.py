"""Laws of every neural model."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone

from neural_families import FAMILIES, one_thread  # noqa: F401

pytestmark = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_same_seed_same_bits_other_seed_other_bits(family):
    batch = family.batch()
    first, second = family.fitted(), family.fitted()
    assert_same_bits(family.predictions(first, batch), family.predictions(second, batch))
    other = family.predictions(family.fitted(seed=7), batch)
    assert any(
        not np.array_equal(other[k], v, equal_nan=True)
        for k, v in family.predictions(first, batch).items()
    )


def test_global_random_state_and_flags_stay(family):
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_before = torch.get_rng_state()
    flags = torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()
    model = family.fitted()
    family.predictions(model, family.batch())
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()) == flags


def test_permuting_assets_permutes_outputs(family):
    batch = family.batch()
    order = np.random.default_rng(3).permutation(batch.n_assets)
    shuffled = replace(
        batch,
        characteristics=batch.characteristics[:, order],
        returns=batch.returns[:, order],
        factor_returns=batch.factor_returns[:, order],
        mask=batch.mask[:, order],
        asset_ids=tuple(batch.asset_ids[i] for i in order),
    )
    straight = family.predictions(family.fitted(batch), batch)
    permuted = family.predictions(family.fitted(shuffled), shuffled)
    for name, value in straight.items():
        # Sums over assets run in another order; training amplifies the last digits a little.
        np.testing.assert_allclose(
            permuted[name], value[:, order], rtol=1e-8, atol=1e-10, err_msg=name
        )


@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf, 1e30])
def test_values_in_masked_cells_are_never_read(family, junk):
    batch = family.batch()
    out = ~batch.mask
    z, r, f = (np.array(x) for x in (batch.characteristics, batch.returns, batch.factor_returns))
    z[out], r[out], f[out] = junk, junk, junk
    spoiled = replace(batch, characteristics=z, returns=r, factor_returns=f)
    clean = family.predictions(family.fitted(batch), batch)
    dirty = family.predictions(family.fitted(spoiled), spoiled)
    assert_same_bits(clean, dirty)
    for value in clean.values():
        assert np.isnan(value[out]).all()
        known = batch.mask & np.isfinite(batch.characteristics).all(axis=2)
        assert np.isfinite(value[known]).all()


def test_predictions_do_not_read_returns(family):
    batch = family.batch()
    model = family.fitted(batch)
    expected = family.predictions(model, batch)
    rng = np.random.default_rng(9)
    holes = np.where(rng.random(batch.returns.shape) < 0.5, np.nan, batch.returns)
    for returns in (holes, -3.0 * batch.returns, np.full(holes.shape, np.nan), None):
        changed = replace(batch, returns=returns, factor_returns=returns)
        assert_same_bits(family.predictions(model, changed), expected)


def test_predictions_of_a_date_do_not_read_later_dates(family):
    batch = family.batch()
    model = family.fitted(batch)
    whole, part = family.predictions(model, batch), family.predictions(model, batch.slice(0, 5))
    for name in whole:
        np.testing.assert_allclose(part[name], whole[name][:5], rtol=1e-12, atol=1e-14)


def test_all_dates_are_predicted_as_one_date_after_the_other(family):
    batch = family.batch()
    model = family.fitted(batch)
    whole = family.predictions(model, batch)
    for date in range(batch.n_periods):
        for name, values in family.predictions(model, batch.slice(0, date + 1)).items():
            np.testing.assert_allclose(values[date], whole[name][date], rtol=0, atol=1e-14)


def test_save_and_load_give_the_same_bits(family, tmp_path):
    batch = family.batch()
    model = family.fitted(batch)
    loaded = type(model).load(model.save(tmp_path / "model.ml4t"))
    assert loaded.available_checkpoints == model.available_checkpoints
    assert loaded.last_fit_record == model.last_fit_record
    assert_same_bits(family.predictions(loaded, batch), family.predictions(model, batch))


def test_a_failed_refit_leaves_the_earlier_fit(family):
    batch = family.batch()
    model = family.fitted(batch)
    before = family.predictions(model, batch)
    with pytest.raises(ValueError, match="no valid observations"):
        model.fit(replace(batch, returns=np.full(batch.returns.shape, np.nan)))
    assert model.is_fitted
    assert model.last_fit_record.stopping_reason == "failed"
    assert_same_bits(family.predictions(model, batch), before)


def test_a_failed_first_fit_leaves_nothing(family):
    model = family.make()
    with pytest.raises(ValueError, match="requires returns"):
        model.fit(replace(family.batch(), returns=None))
    assert not model.is_fitted
    assert model.available_checkpoints == ()


def test_a_second_fit_equals_a_first_one(family):
    batch = family.batch()
    model = family.fitted(family.batch(seed=5))
    model.fit(batch)
    fresh = family.predictions(family.fitted(batch), batch)
    assert_same_bits(family.predictions(model, batch), fresh)


def test_concurrent_fits_equal_serial_ones(family):
    seeds = range(4)

    def one(seed):
        return family.predictions(family.fitted(seed=seed), family.batch())

    serial = [one(seed) for seed in seeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(one, seeds))
    for a, b in zip(serial, together, strict=True):
        assert_same_bits(a, b)


def test_divergence_names_phase_and_epoch_and_keeps_the_fit(family):
    batch = family.batch()
    model = family.make(lr=1e200)
    with pytest.raises(FloatingPointError, match=r"non-finite .* at epoch \d+ \(phase"):
        model.fit(batch)
    assert not model.is_fitted


def test_float32_settings_give_float64_results(family):
    for value in family.predictions(family.fitted(dtype="float32"), family.batch()).values():
        assert value.dtype == np.float64


def test_unfitted_models_say_so(family, tmp_path):
    model = family.make()
    with pytest.raises(RuntimeError, match="must be fitted before"):
        family.predictions(model, family.batch())
    with pytest.raises(RuntimeError, match="must be fitted before save"):
        model.save(tmp_path / "x.ml4t")


def test_another_number_of_characteristics_raises(family):
    batch = family.batch()
    model = family.fitted(batch)
    with pytest.raises(ValueError, match="feature dimension"):
        family.predictions(model, family.batch(n_chars=4))


def test_an_unknown_checkpoint_raises(family):
    model = family.fitted()
    ask = model.extract if hasattr(model, "extract") else model.predict
    with pytest.raises(ValueError, match=r"checkpoint=77 is not in available_checkpoints"):
        ask(family.batch(), checkpoint=77)


def test_a_wrong_batch_type_raises_and_is_recorded(family):
    model = family.make()
    with pytest.raises(TypeError, match="batch"):
        model.fit("not a batch")
    assert model.last_fit_record.stopping_reason == "failed"
    assert model.last_fit_record.error_type == "TypeError"


def test_threads_of_torch_change_no_bit(family):
    batch = family.batch()
    expected = family.predictions(family.fitted(batch), batch)
    torch.set_num_threads(2)
    result = family.predictions(family.fitted(batch), batch)
    torch.set_num_threads(1)
    assert_same_bits(result, expected)


def test_pickles_and_clones(family):
    batch = family.batch()
    model = family.fitted(batch)
    expected = family.predictions(model, batch)
    assert_same_bits(family.predictions(pickle.loads(pickle.dumps(model)), batch), expected)
    fresh = clone(model)
    assert not fresh.is_fitted
    assert fresh.config == model.config


def test_without_torch_every_step_names_it(family, monkeypatch, tmp_path):
    model = family.fitted()
    monkeypatch.setitem(sys.modules, "torch", None)
    ask = model.extract if hasattr(model, "extract") else model.predict
    for step in (
        family.fitted,
        lambda: ask(family.batch()),
        lambda: getattr(family.make(), ask.__name__)(family.batch()),
        lambda: type(model).load(tmp_path / "model.ml4t"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"PyTorch.*ml4t-models\[deep\]"):
            step()


def test_a_batch_without_dates_gives_empty_results(family):
    batch = family.batch()
    model = family.fitted(batch)
    for values in family.predictions(model, batch.slice(0, 0)).values():
        assert values.shape[:2] == (0, batch.n_assets)
