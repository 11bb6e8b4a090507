"""Walking forward with the policies: blind to what comes after, whole on disk, same on workers."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from ml4t.models import (
    PortfolioAllocationPipeline,
    PortfolioSequenceBatch,
    VolatilityTargetPostprocessor,
    WalkForward,
    WeightConstraintPostprocessor,
)
from ml4t.models.portfolio import postprocessors
from neural_families import one_thread
from properties.test_portfolio_models import deep, linear, lstm

__all__ = ["one_thread"]

T, N = 14, 4
every = pytest.mark.parametrize("make", [linear, lstm, deep])


def small(make):
    return make() if make is linear else make(max_iters=2, burn_in=1)


def data():
    rng = np.random.default_rng(5)
    features = rng.standard_normal((2, T, N, 3))
    returns = 0.02 * features[..., 0] + 0.02 * rng.standard_normal((2, T, N))
    ids = tuple(f"a{i}" for i in range(N))
    return PortfolioSequenceBatch(
        features, returns=returns, costs=np.full(N, 1e-3), timestamps=tuple(range(T)), asset_ids=ids
    )


def walked(model, batch, **rule):
    return WalkForward(model, **({"min_periods": 10, "refit_every": 2} | rule)).run(batch)


@every
def test_a_planted_future_is_not_found(make):
    batch = data()
    plain = walked(small(make), batch, gap=1).result.weights
    later = np.arange(T)[None, :, None]
    planted = replace(
        batch,
        returns=np.where(later >= 12, 0.5, batch.returns),
        features=np.where(later[..., None] >= 13, 3.0, batch.features),
    )
    got = walked(small(make), planted, gap=1).result.weights
    np.testing.assert_array_equal(got[:, :2], plain[:, :2])  # dates 11 and 12
    assert (got[:, 2:] != plain[:, 2:]).any()


@every
def test_a_fold_is_a_fit_of_its_window(make):
    batch = data()
    result = walked(small(make), batch)
    assert result.result.weights.shape == (2, 4, N)
    assert result.result.timestamps == (10, 11, 12, 13)
    model = small(make)
    model.fit(batch.slice(0, 10))
    want = model.predict(batch).weights[:, 10:12]
    np.testing.assert_allclose(result.result.weights[:, :2], want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lstm, deep])
def test_a_fold_starts_from_the_parameters_of_the_former_fold(make):
    batch = data()
    first, second, cold = small(make), small(make), small(make)
    first.fit(batch.slice(0, 10))
    second.fit(batch.slice(0, 12), **second.continued_from(first))
    cold.fit(batch.slice(0, 12))
    warm = walked(small(make), batch).result.weights[:, 2:]
    anew = walked(small(make), batch, warm_start=False).result.weights[:, 2:]
    for result, model in ((warm, second), (anew, cold)):
        want = model.predict(batch).weights[:, 12:]
        np.testing.assert_allclose(result, want, rtol=0, atol=1e-12)
    assert (warm != anew).any()
    assert second.last_fit_record.input_sha256 != cold.last_fit_record.input_sha256


@pytest.mark.parametrize("make", [lstm, deep])
def test_a_fit_with_vanishing_steps_keeps_its_starting_parameters(make):
    first, second = small(make), make(max_iters=1, burn_in=1, learning_rate=1e-12, weight_decay=0.0)
    first.fit(data())
    second.fit(data(), **second.continued_from(first))
    start, end = (model.continued_from(model)["resume"] for model in (first, second))
    for name, value in start.items():
        np.testing.assert_allclose(end[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("make", [lstm, deep])
def test_a_warm_start_of_other_sizes_or_another_class_raises(make):
    batch, model = data(), small(make)
    model.fit(batch)
    narrow = replace(batch, features=batch.features[..., :2])
    with pytest.raises(ValueError, match="resume"):
        small(make).fit(narrow, **model.continued_from(model))
    with pytest.raises(TypeError, match="previous"):
        small(lstm if make is deep else deep).continued_from(model)


def one_slot(batch, *dates):
    """The same batch with one slot to hold on some dates: no book has net exposure 0."""
    mask = np.ones(batch.returns.shape, dtype=bool)
    mask[:, list(dates), 1:] = False
    return replace(batch, mask=mask)


@every
@pytest.mark.parametrize("dates", [(0,), (9,), (0, 4, 10)])
def test_dates_before_the_first_prediction_need_no_book(make, dates):
    batch = one_slot(data(), *dates)  # 10 is in the gap
    result = walked(small(make), batch, gap=1).result.weights
    model = small(make)
    model.fit(batch.slice(0, 10))
    for date in (11, 12):
        known = batch if make is not linear else batch.slice(date, date + 1)
        want = model.predict(known).weights[:, 0 if make is linear else date]
        np.testing.assert_allclose(result[:, date - 11], want, rtol=0, atol=1e-12)


@every
def test_a_date_before_the_first_prediction_that_allows_no_book_holds_nothing(make):
    limit = WeightConstraintPostprocessor(turnover_limit=0.3)
    volatility = VolatilityTargetPostprocessor(min_periods=2)
    batch = one_slot(data(), 0, 9)
    pipeline = PortfolioAllocationPipeline(small(make), postprocessors=(limit, volatility))
    result = walked(pipeline, batch).result
    mask = np.array(batch.mask)
    mask[:, [0, 9]] = False
    known = replace(batch, mask=mask).slice(0, 11)
    raw = result.raw_weights.slice(0, 1)
    nothing = np.zeros((2, N))
    book = limit.transform(
        replace(known.slice(10, 11), prev_weights=nothing, returns=None), raw
    ).weights
    assert np.abs(book).sum(axis=2).max() <= 0.3 + 1e-10
    padded = np.concatenate([np.zeros((2, 10, N)), book], axis=1)
    want = volatility.transform(known, replace(raw, weights=padded, timestamps=())).weights[:, 10]
    np.testing.assert_allclose(result.processed_weights.weights[:, 0], want, rtol=0, atol=1e-12)


def test_a_date_to_predict_that_allows_no_book_is_named():
    with pytest.raises(ValueError, match="cannot support") as caught:
        walked(linear(), one_slot(data(), 12))
    assert "at the date 12" in caught.value.__notes__


def test_the_regression_walks_past_features_that_it_does_not_need():
    batch = data()
    features = np.array(batch.features)
    features[:, 3], features[:, 10, 1] = np.nan, np.nan  # 10 is in the gap
    result = walked(linear(), replace(batch, features=features), gap=1)
    assert result.result.weights.shape == (2, 3, N)
    assert "8 available cells without" in result.summaries[0].notes[0]


@pytest.mark.parametrize("make", [lstm, deep])
def test_a_walk_trains_where_returns_are_missing(make):
    batch = data()
    returns = np.array(batch.returns)
    returns[:, 9:12], returns[0, 3, 2] = np.nan, np.nan
    batch = replace(batch, returns=returns)
    result = walked(small(make), batch)
    model = small(make)
    model.fit(batch.slice(0, 10))
    want = model.predict(batch).weights[:, 10:12]
    np.testing.assert_allclose(result.result.weights[:, :2], want, rtol=0, atol=1e-12)
    assert result.summaries[0].notes[0].startswith("9 of 80 available cells of the batch")


@every
def test_workers_and_a_folder_change_no_bit(make, tmp_path):
    batch = data()
    alone = walked(small(make), batch)
    with ThreadPoolExecutor(2) as pool:
        walk = WalkForward(small(make), min_periods=10, refit_every=2, executor=pool)
        done, again = (walk.run(batch, folder=tmp_path) for _ in range(2))
    np.testing.assert_array_equal(done.result.weights, alone.result.weights)
    np.testing.assert_array_equal(again.result.weights, alone.result.weights)


def test_a_warm_start_in_a_pipeline_equals_that_of_the_network_alone():
    alone = walked(small(lstm), data()).result.weights
    piped = walked(PortfolioAllocationPipeline(small(lstm)), data()).result.raw_weights
    np.testing.assert_array_equal(piped.weights, alone)


@pytest.mark.parametrize("wrap", [lambda model: model, PortfolioAllocationPipeline])
def test_a_forking_pool_raises_and_does_not_hang(wrap):
    forks = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=forks) as pool,
        pytest.raises(ValueError, match="executor must start its processes afresh, since torch"),
    ):
        walked(wrap(small(lstm)), data(), executor=pool)


def test_a_pipeline_walks():
    result = walked(PortfolioAllocationPipeline(linear()), data())
    want = walked(linear(), data())
    np.testing.assert_array_equal(result.result.raw_weights.weights, want.result.weights)


def test_a_pipeline_resumes_from_its_folder(tmp_path):
    pipeline = PortfolioAllocationPipeline(
        linear(), postprocessors=(WeightConstraintPostprocessor(),)
    )
    walk = WalkForward(pipeline, min_periods=10, refit_every=2)
    first, again = (walk.run(data(), folder=tmp_path) for _ in range(2))
    np.testing.assert_array_equal(
        again.result.processed_weights.weights, first.result.processed_weights.weights
    )
    assert again.summaries[0].model_fit == first.summaries[0].model_fit


def test_a_turnover_limit_holds_from_fold_to_fold():
    limit = WeightConstraintPostprocessor(turnover_limit=0.3)
    pipeline = PortfolioAllocationPipeline(linear(), postprocessors=(limit,))
    batch = replace(data(), mask=None)
    result = walked(pipeline, batch)
    book = result.result.processed_weights.weights
    assert np.abs(np.diff(book, axis=1)).sum(axis=2).max() <= 0.3 + 1e-10
    first = result.folds[0].fold
    alone = result.models[0].predict(batch).processed_weights.weights
    dates = slice(first.predict_start, first.predict_stop)
    np.testing.assert_allclose(book[:, : dates.stop - dates.start], alone[:, dates], atol=1e-12)


def test_a_chain_walked_date_by_date_is_the_chain_walked_at_once():
    chain = (
        VolatilityTargetPostprocessor(min_periods=2),
        WeightConstraintPostprocessor(turnover_limit=0.3),
        VolatilityTargetPostprocessor(min_periods=3),
    )
    pipeline = PortfolioAllocationPipeline(linear(), postprocessors=chain)
    batch = replace(data(), mask=None)
    result = WalkForward(pipeline, min_periods=8, refit_every=T).run(batch)  # one fold
    alone = result.models[0].predict(batch).processed_weights.weights
    np.testing.assert_allclose(result.result.processed_weights.weights, alone[:, 8:], atol=1e-12)


def test_a_walk_within_turnover_grows_with_its_dates_alone(monkeypatch):
    walked_dates = []
    whole = postprocessors.walk_within_turnover

    def counted(wanted, *rest, **options):
        walked_dates.append(wanted.shape[1])
        return whole(wanted, *rest, **options)

    monkeypatch.setattr(postprocessors, "walk_within_turnover", counted)
    limit = WeightConstraintPostprocessor(turnover_limit=0.3)
    walked(PortfolioAllocationPipeline(linear(), postprocessors=(limit,)), data())
    assert sum(walked_dates) == T
