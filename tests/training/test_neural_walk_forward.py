"""Walking forward with networks: retrained on every window, blind to what comes after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    BetaLambdaMapper,
    ExpandingMeanFactorForecaster,
    LatentFactorForecastPipeline,
    WalkForward,
)
from neural_families import FAMILIES, one_thread, ragged_batch

__all__ = ["one_thread"]

CHOSEN = [f for f in FAMILIES if f.name in ("sae", "sdf", "sdf ensemble without context", "cae")]
families = pytest.mark.parametrize("family", CHOSEN, ids=lambda family: family.name)

# What a family says before the date, and what is realised at it.
PREDICTED = ("asset_betas", "asset_weights", "signal_values")
REALISED = ("factor_returns", "sdf_values")


def walked(family, batch, **rule):
    rule = {"min_periods": 6, "refit_every": 2} | rule
    return WalkForward(family.make(), **rule).run(batch)


def said(result, names):
    return {name: getattr(result, name) for name in names if hasattr(result, name)}


@families
def test_a_planted_future_is_not_found(family):
    batch = family.batch(n_dates=9)
    plain = walked(family, batch).result
    later = np.arange(9) >= 8
    returns = np.where(later[:, None], 0.7, batch.returns)
    planted = walked(family, replace(batch, returns=returns, factor_returns=returns)).result
    for name, array in said(plain, PREDICTED).items():
        assert array.shape[0] == 3
        # The last date is predicted after its returns were changed: it may not know either.
        np.testing.assert_array_equal(getattr(planted, name), array)
    for name, array in said(plain, REALISED).items():
        np.testing.assert_array_equal(getattr(planted, name)[:2], array[:2])
        assert (getattr(planted, name)[2] != array[2]).any()


@families
def test_a_fold_is_a_fit_of_its_window(family):
    batch = family.batch(n_dates=8)
    result = walked(family, batch)
    model = family.make()
    model.fit(batch.slice(0, 6))
    whole = family.predictions(model, batch)
    for name, array in whole.items():
        settings = getattr(result.result, name)
        np.testing.assert_allclose(settings, array[6:], rtol=0, atol=1e-12)


@families
def test_a_run_that_is_on_disk_is_read(family, tmp_path):
    batch = family.batch(n_dates=8)
    walk = WalkForward(family.make(), min_periods=6)
    done = walk.run(batch, folder=tmp_path)
    again = walk.run(batch, folder=tmp_path)
    assert again.result == done.result
    assert again.summaries == done.summaries


def test_a_model_that_can_go_on_is_asked_to():
    class GoesOn:
        def fit(self, batch, *, after=None):
            self.fits = 1 if after is None else after + 1
            return self.fits

        def continued_from(self, before):
            return {"after": before.fits}

        def predict(self, batch):
            family = CHOSEN[0]
            return family.fitted(batch=ragged_batch()).predict(batch)

    result = WalkForward(GoesOn(), min_periods=6).run(ragged_batch(n_dates=9))
    assert result.summaries == (1, 2, 3)
    cold = WalkForward(GoesOn(), min_periods=6, warm_start=False).run(ragged_batch(n_dates=9))
    assert cold.summaries == (1, 1, 1)


@families
def test_a_fold_starts_from_the_parameters_of_the_former_fold(family):
    batch = family.batch(n_dates=8)
    first, second = family.make(), family.make()
    first.fit(batch.slice(0, 6))
    second.fit(batch.slice(0, 7), **second.continued_from(first))
    warm = walked(family, batch, refit_every=1).result
    cold = walked(family, batch, refit_every=1, warm_start=False).result
    expected = family.predictions(second, batch)
    for name, array in said(warm, PREDICTED).items():
        np.testing.assert_allclose(array[1], expected[name][7], rtol=0, atol=1e-12)
        np.testing.assert_array_equal(array[0], getattr(cold, name)[0])
        assert (array[1] != getattr(cold, name)[1]).any()


def test_a_warm_start_in_a_pipeline_equals_that_of_the_model_alone():
    family = next(f for f in CHOSEN if f.name == "cae")
    batch = family.batch(n_dates=8)

    def walk(model):
        return WalkForward(model, min_periods=6).run(batch)

    made = LatentFactorForecastPipeline(
        family.make(), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    alone, piped = walk(family.make()).result, walk(made).result.state
    np.testing.assert_array_equal(piped.asset_betas, alone.asset_betas)
    np.testing.assert_array_equal(piped.factor_returns, alone.factor_returns)


def test_the_weights_of_a_discount_factor_are_a_frame():
    family = next(f for f in CHOSEN if f.name == "sdf")
    result = walked(family, family.batch(n_dates=8))
    frame = result.frame().to_polars()
    weights = result.result.asset_weights
    np.testing.assert_array_equal(frame["weight"], weights[np.isfinite(weights)])


@families
def test_a_fit_begins_with_the_last_parameters(family):
    batch = family.batch(n_dates=8)
    first, again = family.make(), family.make()
    first.fit(batch)
    start = first.continued_from(first)["resume"]
    before = {name: np.array(value) for name, value in start.items()}
    fits = []
    for _ in range(2):
        again.fit(batch, **again.continued_from(first))
        fits.append(again.continued_from(again)["resume"])
    for name, value in before.items():
        np.testing.assert_array_equal(fits[0][name], fits[1][name])
        np.testing.assert_array_equal(start[name], value, "the former fit stays as it was")
    cold = family.make()
    cold.fit(batch)
    moved = cold.continued_from(cold)["resume"]
    assert any((fits[0][name] != moved[name]).any() for name in moved)
    cold_record, warm_record = cold.last_fit_record, again.last_fit_record
    assert cold_record.input_sha256 != warm_record.input_sha256


@families
def test_a_warm_start_of_other_sizes_raises(family):
    batch = family.batch(n_dates=8)
    model = family.make()
    model.fit(batch)
    wider = np.concatenate([batch.characteristics] * 2, axis=2)
    other = family.make()
    with pytest.raises(ValueError, match="resume"):
        other.fit(replace(batch, characteristics=wider), **other.continued_from(model))
    assert not other.is_fitted
    with pytest.raises(TypeError, match="resume must be"):
        other.fit(batch, resume="parameters")
    with pytest.raises(TypeError, match="previous"):
        other.continued_from(object())
    with pytest.raises(RuntimeError):
        model.continued_from(other)
