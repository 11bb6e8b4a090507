"""A fit in which a number is not finite has failed, whatever the model."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest

import ml4t.models as m
import tiny
from ml4t.models.checks import NAN_IS_MISSING, NOT_FINITE_IS_A_RESULT, require_finite
from ml4t.models.configs import PCAConfig
from ml4t.models.lifecycle.estimator import Estimated


class Spoiled(tiny.MeanModel):
    """A tiny model whose fit has the parts that a test gives it."""

    parts: ClassVar[dict[str, object]] = {}

    def _estimate(self, batch):
        estimated = super()._estimate(batch)
        parts = dict(self.parts)
        metrics = parts.pop("train_metrics", estimated.summary.train_metrics)
        summary = replace(estimated.summary, train_metrics=metrics)
        return Estimated(replace(estimated.fit, **parts), summary)


@pytest.mark.parametrize(
    ("parts", "named"),
    [
        (
            {"mean": np.array([0.0, np.nan, np.inf, 1.0])},
            r"fit\.mean is not finite; got nan at \(1,",
        ),
        ({"last": np.array([np.inf])}, r"fit\.last is not finite; got inf at \(0,\) \(1 of 1"),
        (
            {"by_label": {("mean", 3): {"a.b": np.array([[1.0], [-np.inf]])}}},
            r"fit\.by_label\.\('mean', 3\)\.a\.b is not finite; got -inf at \(1, 0\)",
        ),
        ({"train_metrics": {"r2": np.nan}}, r"train_metrics\.r2 is not finite; got nan"),
    ],
)
def test_a_number_that_is_not_finite_is_named_and_keeps_the_earlier_fit(monkeypatch, parts, named):
    model = Spoiled(PCAConfig(n_factors=3))
    model.fit(tiny.panel())
    before = model.predict()
    monkeypatch.setattr(Spoiled, "parts", parts)
    with pytest.raises(FloatingPointError, match=named):
        model.fit(tiny.panel(1))
    np.testing.assert_array_equal(model.predict(), before)
    assert model.last_fit_record.error_type == "FloatingPointError"


@dataclass(frozen=True)
class Declared:
    plain: float = 1.0
    gaps: object = field(default=1.0, metadata=NAN_IS_MISSING)
    condition: float = field(default=1.0, metadata=NOT_FINITE_IS_A_RESULT)


def test_a_field_declares_what_it_may_hold():
    require_finite("fit", Declared(gaps=np.array([np.nan, 1.0]), condition=np.inf))
    require_finite("fit", Declared(condition=np.nan))
    require_finite("fit", {"a": ("text", None, 3, True, np.array(["x"]), np.array([1, 2]))})
    with pytest.raises(FloatingPointError, match=r"fit\.gaps is not finite; got inf at \(1,\)"):
        require_finite("fit", Declared(gaps=np.array([np.nan, np.inf])))
    with pytest.raises(FloatingPointError, match=r"fit\.0\.plain is not finite; got nan"):
        require_finite("fit", [Declared(plain=np.nan)])


def cells(z, r):
    rng = np.random.default_rng(0)
    return m.CrossSectionBatch(
        z * rng.standard_normal((20, 15, 3)), returns=r * rng.standard_normal((20, 15))
    )


def realised(x, f):
    rng = np.random.default_rng(0)
    return m.LatentFactorState(
        np.ones((30, 4, 2)),
        factor_returns=f * rng.standard_normal((30, 2)),
        context_features=x * rng.standard_normal((30, 3)),
    )


def panel(_x, r):
    return m.PersistentPanelBatch(r * np.random.default_rng(0).standard_normal((20, 8)))


def windows(z, r):
    rng = np.random.default_rng(0)
    return m.PortfolioSequenceBatch(
        z * rng.standard_normal((2, 10, 4, 2)), returns=r * rng.standard_normal((2, 10, 4))
    )


def cae(**settings):
    return m.CAEModel(m.CAEConfig(n_factors=2, n_epochs=3, dtype="float32", **settings))


def sdf():
    epochs = {"n_epochs_unc": 2, "n_epochs_moment": 2, "n_epochs_cond": 2}
    config = m.StochasticDiscountFactorConfig(**epochs, dtype="float32")
    return m.StochasticDiscountFactorModel(config)


def lstm():
    sizes = {"hidden_size": 4, "vvsn_hidden_dim": 4, "max_iters": 2}
    return m.LSTMPortfolioModel(m.LSTMPortfolioConfig(**sizes, dtype="float32"))


MODELS = {
    "cae": (lambda: cae(hidden_units=(4,)), cells),
    "cae linear": (lambda: cae(hidden_units=()), cells),
    "cae deep": (lambda: cae(hidden_units=(4, 3)), cells),
    "cae ensemble": (lambda: cae(hidden_units=(4,), n_ensemble=2), cells),
    "sae": (lambda: m.SAEModel(m.SAEConfig(n_epochs=2, dtype="float32")), cells),
    "sdf": (sdf, cells),
    "lstm": (lstm, windows),
    "linear": (lambda: m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig()), windows),
    "ipca": (lambda: m.IPCAModel(m.IPCAConfig(n_factors=1, dtype="float32")), cells),
    "pca": (lambda: m.PCAModel(m.PCAConfig(n_factors=2, dtype="float32")), panel),
    "rp-pca": (lambda: m.RPPCAModel(m.RPPCAConfig(n_factors=2, dtype="float32")), panel),
    "mean": (m.ExpandingMeanFactorForecaster, realised),
    "ewma": (m.EWMABaseFactorForecaster, realised),
    "ar": (m.AR1FactorForecaster, realised),
    "var": (m.VAR1FactorForecaster, realised),
    "combined": (m.CombinedFactorForecaster, realised),
    "macro": (m.MacroFactorForecaster, realised),
    "macro three-pass": (
        lambda: m.MacroFactorForecaster(m.MacroForecasterConfig(method="three-pass")),
        realised,
    ),
    "state kernel": (m.StateConditionalMapper, realised),
    "state linear": (
        lambda: m.StateConditionalMapper(m.StateConditionalMapperConfig(method="linear")),
        realised,
    ),
    "regimes": (m.RegimeSwitchingMapper, realised),
}
RESULTS = ("asset_betas", "factor_returns", "weights", "signal_values", "asset_weights")


def outcome(model, batch):
    """Everything a fitted model gives for a batch, one array after the other."""
    if hasattr(model, "premia"):
        return [model.premia(batch).factor_premia]
    give = model.extract if hasattr(model, "extract") else model.predict
    result = give(batch)
    return [
        x for x in (getattr(result, n, None) for n in (*RESULTS, "factor_premia")) if x is not None
    ]


@pytest.mark.parametrize(
    "scales", [(1e19, 1.0), (1e39, 1.0), (1e308, 1.0), (1.0, 1e39), (1.0, 1e308)]
)
@pytest.mark.parametrize("name", MODELS)
def test_a_model_reports_finite_numbers_or_fails(name, scales):
    make, batch_of = MODELS[name]
    model = make()
    with np.errstate(over="ignore"):
        batch = batch_of(*scales)
    try:
        model.fit(batch)
    except (FloatingPointError, ValueError):
        assert not model.is_fitted
        assert model.last_fit_record.stopping_reason == "failed"
        return
    with np.errstate(over="ignore"):
        found = outcome(model, batch)
    assert found
    for values in found:
        assert np.isfinite(values).all()


def test_betas_of_characteristics_beyond_single_precision_are_an_error_that_names_the_moment():
    model = cae(hidden_units=(4,))
    model.fit(cells(1.0, 1.0))
    before = model.extract(cells(1.0, 1.0))
    with pytest.raises(FloatingPointError, match=r"CAEModel fit\.checkpoints\.3\.variance_0"):
        model.fit(cells(1e19, 1.0))
    assert model.extract(cells(1.0, 1.0)) == before
