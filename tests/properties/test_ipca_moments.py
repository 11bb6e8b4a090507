"""IPCA from moments is IPCA from rows."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    BetaLambdaMapper,
    CharacteristicMoments,
    CrossSectionBatch,
    ExpandingMeanFactorForecaster,
    IPCAConfig,
    IPCAModel,
    LatentFactorForecastPipeline,
    WalkForward,
)


def panel(n_dates=40, n_assets=30, seed=0):
    """Two factors, ties, a date with fewer rows than characteristics, an empty date."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (n_dates, n_assets, 4)).round(2)
    gamma = np.linalg.qr(rng.standard_normal((5, 2)))[0]
    f = np.array([0.02, 0.01]) + np.array([0.06, 0.03]) * rng.standard_normal((n_dates, 2))
    r = np.einsum("tnl,lk,tk->tn", np.pad(z, ((0, 0), (0, 0), (1, 0)), constant_values=1), gamma, f)
    r += 0.02 * rng.standard_normal(r.shape)
    mask = rng.random(r.shape) < 0.9
    mask[3, 2:], mask[7] = False, False
    return CrossSectionBatch(z, returns=r, mask=mask, timestamps=range(n_dates))


def fitted(data, *, start=None, observed=None, **settings):
    model = IPCAModel(IPCAConfig(n_factors=2, tol=1e-10, **settings))
    summary = model.fit(data, observed_factors=observed, start=start)
    assert summary.converged
    return model


@pytest.mark.parametrize(
    "settings",
    [{}, {"constant": False}, {"intercept": True}, {"weighting": "portfolio"}, {"min_assets": 10}],
    ids=str,
)
def test_moments_give_the_bits_of_the_batch(settings):
    batch = panel()
    rows = fitted(batch, **settings)
    moments = fitted(CharacteristicMoments.from_batch(batch), **settings)
    np.testing.assert_array_equal(moments.gamma, rows.gamma)
    np.testing.assert_array_equal(moments.gamma_observed, rows.gamma_observed)
    np.testing.assert_array_equal(moments.train_factor_returns, rows.train_factor_returns)


def test_a_slice_of_moments_is_a_fit_of_the_slice():
    batch = panel()
    part = CrossSectionBatch(
        batch.characteristics[5:30], returns=batch.returns[5:30], mask=batch.mask[5:30]
    )
    moments = CharacteristicMoments.from_batch(batch)
    np.testing.assert_array_equal(fitted(moments.slice(5, 30)).gamma, fitted(part).gamma)


def test_the_rule_of_minimum_rows_holds_after_merging():
    batch = panel(n_dates=20)
    shards = [
        CharacteristicMoments.from_batch(
            CrossSectionBatch(
                batch.characteristics[:, rows],
                returns=batch.returns[:, rows],
                mask=batch.mask[:, rows],
                timestamps=batch.timestamps,
            )
        )
        for rows in (slice(0, 30, 2), slice(1, 30, 2))
    ]
    whole = fitted(batch, min_assets=20)
    merged = fitted(shards[0] + shards[1], min_assets=20)
    assert max(shard.n_assets.max() for shard in shards) < 20
    assert len(merged.train_factor_returns) == len(whole.train_factor_returns) == 18
    np.testing.assert_allclose(merged.gamma, whole.gamma, atol=1e-9)


def test_a_start_near_the_solution_leads_to_it_in_fewer_sweeps():
    moments = CharacteristicMoments.from_batch(panel())
    cold = fitted(moments)
    before = fitted(moments.slice(0, 39))
    warm = fitted(moments, start=before.gamma)
    np.testing.assert_allclose(warm.gamma, cold.gamma, atol=1e-8)
    assert warm.certificate.n_als + warm.certificate.n_newton <= (
        cold.certificate.n_als + cold.certificate.n_newton
    )


def test_a_fit_from_moments_survives_a_round_trip_and_predicts(tmp_path):
    batch = panel()
    model = fitted(CharacteristicMoments.from_batch(batch))
    loaded = IPCAModel.load(model.save(tmp_path / "ipca"))
    assert loaded.extract(batch) == model.extract(batch)


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="batch must be"):
        IPCAModel(IPCAConfig(n_factors=1)).fit(np.ones((2, 2)))


NAMES = ("size", "value", "momentum", "quality")


def named(names, n_dates=40):
    batch = panel(n_dates=n_dates)
    return replace(batch, feature_names=names, timestamps=tuple(range(n_dates)))


READS = {
    "extract": lambda model, data: model.extract(data),
    "fit_measures": lambda model, data: model.fit_measures(data),
    "summary": lambda model, data: model.summary(data),
    "importance": lambda model, data: model.characteristic_importance(data),
    "tangency": lambda model, data: model.tangency_portfolio(data, target_volatility=0.1),
    "arbitrage": lambda model, data: model.arbitrage_portfolio(data, target_volatility=0.1),
    "standard_errors": lambda model, data: model.standard_errors(batch=data),
    "test_alpha": lambda model, data: model.test_alpha(n_draws=2, batch=data),
    "test_characteristics": lambda model, data: model.test_characteristics(
        ["size"], n_draws=2, batch=data
    ),
}


@pytest.mark.parametrize("form", ["batch", "moments"])
@pytest.mark.parametrize("read", sorted(READS))
@pytest.mark.parametrize("other", [NAMES[::-1], ("size", "value", "momentum", "age")])
@pytest.mark.parametrize("constant", [True, False])
def test_characteristics_other_than_those_of_the_fit_are_refused(read, form, other, constant):
    model = fitted(named(NAMES), intercept=True, constant=constant)
    data = named(other)
    data = CharacteristicMoments.from_batch(data) if form == "moments" else data
    words = rf"expected feature_names {re.escape(str(NAMES))}, got {re.escape(str(other))}"
    with pytest.raises(ValueError, match=words):
        READS[read](model, data)


@pytest.mark.parametrize("form", ["batch", "moments"])
@pytest.mark.parametrize("constant", [True, False])
def test_instruments_are_the_constant_and_the_characteristics_of_the_batch(
    constant, form, tmp_path
):
    data = named(NAMES)
    data = CharacteristicMoments.from_batch(data) if form == "moments" else data
    model = fitted(data, constant=constant)
    for same in (model, IPCAModel.load(model.save(tmp_path / "model"))):
        assert same.instrument_names == (("constant", *NAMES) if constant else NAMES)
        assert same.feature_names == data.feature_names == NAMES
        assert len(same.instrument_names) == len(same.gamma)


@pytest.mark.parametrize("fit_form", ["batch", "moments"])
def test_names_that_agree_or_are_not_known_are_taken_by_position(fit_form):
    data = named(NAMES)
    model = fitted(CharacteristicMoments.from_batch(data) if fit_form == "moments" else data)
    want = model.extract(data).factor_returns
    for same in (data, panel(), CharacteristicMoments.from_batch(panel())):
        np.testing.assert_array_equal(model.extract(same).factor_returns, want)
    unnamed = fitted(panel())
    np.testing.assert_array_equal(unnamed.extract(data).factor_returns, want)


def test_a_loaded_model_and_a_pipeline_refuse_other_characteristics(tmp_path):
    model = fitted(named(NAMES))
    loaded = IPCAModel.load(model.save(tmp_path / "model"))
    with pytest.raises(ValueError, match="feature_names"):
        loaded.extract(named(NAMES[::-1]))
    pipeline = LatentFactorForecastPipeline(
        IPCAModel(IPCAConfig(n_factors=2)), ExpandingMeanFactorForecaster(), BetaLambdaMapper()
    )
    pipeline.fit(named(NAMES))
    with pytest.raises(ValueError, match="feature_names"):
        pipeline.predict(named(NAMES[::-1]))


def test_a_walk_keeps_the_names_of_its_panel():
    walk = WalkForward(IPCAModel(IPCAConfig(n_factors=2)), min_periods=20, refit_every=10)
    assert len(walk.run(named(NAMES)).folds) == len(walk.run(panel()).folds)
