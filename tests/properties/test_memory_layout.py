"""The same values give the same bits, in whatever order they lie in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import ml4t.models as m
from neural_families import one_thread  # noqa: F401

RNG = np.random.default_rng(0)
SHAPE = (12, 14)
CELLS = {
    "characteristics": RNG.standard_normal((*SHAPE, 6)),
    "returns": 0.02 * RNG.standard_normal(SHAPE),
    "context_features": RNG.standard_normal((SHAPE[0], 4)),
    "mask": RNG.random(SHAPE) > 0.1,
}
WINDOWS = {
    "features": RNG.standard_normal((3, 11, 5, 6)),
    "returns": 0.02 * RNG.standard_normal((3, 11, 5)),
    "mask": RNG.random((3, 11, 5)) > 0.05,
    "vol_scale": RNG.uniform(0.5, 2.0, (3, 11, 5)),
    "prev_weights": RNG.standard_normal((3, 5)),
    "costs": np.full((5, 1), 1e-3),
}
STATE = {
    "asset_betas": RNG.standard_normal((24, 8, 3)),
    "factor_returns": RNG.standard_normal((24, 3)),
    "context_features": RNG.standard_normal((24, 4)),
}
PANEL = {"returns": RNG.standard_normal((40, 12))}
SMALL = {"vvsn_hidden_dim": 4, "max_iters": 2, "dtype": "float64"}
SDF = {"n_epochs_unc": 2, "n_epochs_moment": 2, "n_epochs_cond": 2}


def fortran(a):
    return np.asfortranarray(a)


def strided(a):
    wide = np.zeros(tuple(2 * size for size in a.shape), dtype=a.dtype)
    view = wide[(slice(None, None, 2),) * a.ndim]
    view[...] = a
    return view


def backwards(a):
    turned = (slice(None, None, -1),) * a.ndim
    return np.ascontiguousarray(a[turned])[turned]


def swapped(a):
    return np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1)


def moved(a):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -1, 0)), 0, -1)


LAYOUTS = [fortran, strided, backwards, swapped, moved]

MODELS = {
    "cae": (
        lambda: m.CAEModel(m.CAEConfig(hidden_units=(4,), n_epochs=2)),
        m.CrossSectionBatch,
        CELLS,
    ),
    "cae context": (
        lambda: m.CAEModel(m.CAEConfig(n_epochs=2, n_ensemble=2, factor_inputs="context")),
        m.CrossSectionBatch,
        CELLS,
    ),
    "sae": (lambda: m.SAEModel(m.SAEConfig(n_epochs=2)), m.CrossSectionBatch, CELLS),
    "sdf": (
        lambda: m.StochasticDiscountFactorModel(m.StochasticDiscountFactorConfig(**SDF)),
        m.CrossSectionBatch,
        CELLS,
    ),
    "pca": (lambda: m.PCAModel(m.PCAConfig(n_factors=2)), m.PersistentPanelBatch, PANEL),
    "rp-pca": (lambda: m.RPPCAModel(m.RPPCAConfig(n_factors=2)), m.PersistentPanelBatch, PANEL),
    "linear": (
        lambda: m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig()),
        m.PortfolioSequenceBatch,
        WINDOWS,
    ),
    "lstm": (
        lambda: m.LSTMPortfolioModel(m.LSTMPortfolioConfig(hidden_size=4, **SMALL)),
        m.PortfolioSequenceBatch,
        WINDOWS,
    ),
    "deep": (
        lambda: m.DeepPortfolioModel(m.DeepPortfolioConfig(d_model=4, **SMALL)),
        m.PortfolioSequenceBatch,
        WINDOWS,
    ),
    **{
        kind.__name__: (kind, m.LatentFactorState, STATE)
        for kind in (
            m.ExpandingMeanFactorForecaster,
            m.EWMABaseFactorForecaster,
            m.AR1FactorForecaster,
            m.VAR1FactorForecaster,
            m.MacroFactorForecaster,
            m.StateConditionalMapper,
            m.RegimeSwitchingMapper,
        )
    },
    "state line": (
        lambda: m.StateConditionalMapper(m.StateConditionalMapperConfig(method="linear")),
        m.LatentFactorState,
        STATE,
    ),
}
RESULTS = ("asset_betas", "factor_returns", "weights", "signal_values", "asset_weights")


def laid(arrays, layout):
    return {name: layout(a) for name, a in arrays.items()}


def outcome(model, batch):
    if hasattr(model, "premia"):
        premia = model.premia(batch)
        return [premia.factor_premia, model.predict(batch, premia).expected_returns]
    result = (model.extract if hasattr(model, "extract") else model.predict)(batch)
    names = (*RESULTS, "factor_premia", "sdf_values")
    return [x for x in (getattr(result, name, None) for name in names) if x is not None]


def assert_same_bits(got, want):
    assert want
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", MODELS)
def test_a_fit_and_its_predictions_do_not_depend_on_the_layout(name):
    make, batch_type, arrays = MODELS[name]
    batch, model = batch_type(**arrays), make()
    model.fit(batch)
    want = outcome(model, batch)
    for layout in LAYOUTS:
        twin = batch_type(**laid(arrays, layout))
        assert_same_bits(outcome(model, twin), want)
        again = make()
        again.fit(twin)
        assert_same_bits(outcome(again, batch), want)


def test_broadcast_arrays_are_as_their_copies():
    features = np.broadcast_to(WINDOWS["features"][:1, :, :, :1], WINDOWS["features"].shape)
    returns = np.broadcast_to(WINDOWS["returns"][:1], WINDOWS["returns"].shape)
    for name in ("linear", "lstm"):
        make, batch_type, _ = MODELS[name]
        got = []
        for copied in (np.asarray, np.array):
            model = make()
            batch = batch_type(copied(features), returns=copied(returns))
            model.fit(batch)
            got.append(outcome(model, batch))
        assert_same_bits(*got)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_follows_a_model_does_not_depend_on_the_layout(layout):
    batch = m.PortfolioSequenceBatch(**WINDOWS)
    twin = m.PortfolioSequenceBatch(**laid(WINDOWS, layout))
    scores = RNG.standard_normal((3, 11, 5))
    for step in (
        m.VolatilityTargetPostprocessor(min_periods=3),
        m.WeightConstraintPostprocessor(turnover_limit=0.5),
        m.WeightConstraintPostprocessor(max_abs_weight=0.6),
    ):
        want = step.transform(batch, m.PortfolioWeightsResult(scores)).weights
        got = step.transform(twin, m.PortfolioWeightsResult(layout(scores))).weights
        np.testing.assert_array_equal(got, want)
    state, premia = m.LatentFactorState(**STATE), RNG.standard_normal((24, 3))
    other = m.LatentFactorState(**laid(STATE, layout))
    want = m.BetaLambdaMapper().predict(state, m.FactorForecastResult(premia)).expected_returns
    got = m.BetaLambdaMapper().predict(other, m.FactorForecastResult(layout(premia)))
    np.testing.assert_array_equal(got.expected_returns, want)
    np.testing.assert_allclose(
        want, np.einsum("tnk,tk->tn", STATE["asset_betas"], premia), rtol=1e-12
    )
    known = m.CrossSectionBatch(**CELLS)
    weights = m.StochasticDiscountFactorState(RNG.standard_normal(SHAPE), RNG.uniform(0.9, 1.1, 12))
    result = []
    for cells, state in (
        (known, weights),
        (
            m.CrossSectionBatch(**laid(CELLS, layout)),
            replace(weights, asset_weights=layout(np.array(weights.asset_weights))),
        ),
    ):
        mapper = m.LinearStochasticDiscountFactorReturnMapper()
        mapper.fit(state, cells)
        config = m.StochasticDiscountFactorConfig(beta_n_epochs=2)
        head = m.StochasticDiscountFactorBetaNetworkHead(config)
        head.fit(state, cells)
        result.append([mapper.predict(state).expected_returns, head.predict(known).signal_values])
    assert_same_bits(*result)
