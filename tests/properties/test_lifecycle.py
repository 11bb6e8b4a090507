"""What everything with a fit promises, tried on the smallest such thing."""

from __future__ import annotations

import copy
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import version

import numpy as np
import pytest
from sklearn.base import clone

import ml4t.models
import tiny
from ml4t.models.configs import AR1ForecasterConfig, IPCAConfig, LinearPortfolioConfig, PCAConfig
from ml4t.models.configs.pipeline import MapperConfig
from ml4t.models.lifecycle.estimator import Estimated, Fittable
from ml4t.models.lifecycle.fit_record import stopping_reason
from ml4t.models.lifecycle.parameters import Parameters
from ml4t.models.types import FitSummary, PersistentPanelBatch


def interrupt(error: BaseException):
    def raise_it() -> None:
        raise error

    return staticmethod(raise_it)


def test_before_a_fit_there_is_nothing_to_use():
    model = tiny.MeanModel(PCAConfig())
    assert not model.is_fitted
    assert model.last_fit_record is None
    assert model.available_checkpoints == ()
    with pytest.raises(RuntimeError, match="MeanModel must be fitted before predict"):
        model.predict()
    with pytest.raises(RuntimeError, match="fitted before save"):
        model.save("never-written.ml4t")


def test_another_models_settings_are_refused():
    with pytest.raises(TypeError, match="config must be a PCAConfig; got IPCAConfig"):
        tiny.MeanModel(IPCAConfig())


def test_the_record_says_who_with_what_on_what_and_how():
    model = tiny.MeanModel(PCAConfig(n_factors=3, seed=7, device="CPU", dtype="float32"))
    summary = model.fit(tiny.panel())
    record = summary.run_record
    assert model.last_fit_record is record
    assert record.package_version == version("ml4t-models")
    assert record.model_name == "pca"
    assert record.config == asdict(model.config)
    assert (record.seed, record.resolved_device, record.resolved_dtype) == (7, "cpu", "float32")
    assert record.input_dimensions == {"input_0_returns_0": 12, "input_0_returns_1": 4}
    assert (record.stopping_reason, record.skipped_updates) == ("completed", 0)
    assert (record.schema_version, record.error_type) == (1, None)
    assert 0.0 <= record.elapsed_seconds < 60.0


def test_a_failed_first_fit_leaves_a_record_and_no_fit():
    model = tiny.MeanModel(PCAConfig())
    with pytest.raises(ValueError, match="requires returns"):
        model.fit(PersistentPanelBatch(timestamps=(1,), asset_ids=("a",)))
    assert not model.is_fitted
    record = model.last_fit_record
    assert (record.stopping_reason, record.error_type) == ("failed", "ValueError")
    assert record.skipped_updates == 0


def test_an_argument_of_the_wrong_type_is_recorded_too():
    model = tiny.MeanModel(PCAConfig())
    with pytest.raises(AttributeError):
        model.fit("a panel")
    assert model.last_fit_record.error_type == "AttributeError"
    assert model.last_fit_record.input_dimensions == {}


PUBLIC = [getattr(ml4t.models, name) for name in ml4t.models.__all__]


@pytest.mark.parametrize(
    "kind", [one for one in PUBLIC if isinstance(one, type) and issubclass(one, Fittable)]
)
def test_a_fit_of_nonsense_leaves_a_record(kind):
    model = kind(*[kind.config_type() for _ in inspect.signature(kind).parameters])
    required = [p for p in inspect.signature(model.fit).parameters.values() if p.default is p.empty]
    with pytest.raises(TypeError, match=r"must be a .*; got int"):
        model.fit(*[3 for _ in required])
    assert model.last_fit_record.stopping_reason == "failed"
    assert not model.is_fitted


@pytest.mark.parametrize("error", [ArithmeticError("no"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failed_refit_keeps_the_former_fit(monkeypatch, error):
    model = tiny.fitted()
    before, record = model.predict(), model.last_fit_record
    monkeypatch.setattr(tiny.MeanModel, "before_end", interrupt(error))
    with pytest.raises(type(error)):
        model.fit(tiny.panel(1))
    assert model.is_fitted
    np.testing.assert_array_equal(model.predict(), before)
    if isinstance(error, Exception):
        assert model.last_fit_record.error_type == "ArithmeticError"
    else:
        assert model.last_fit_record is record


def test_a_refit_is_a_fresh_fit():
    model = tiny.fitted(0)
    model.fit(tiny.panel(1))
    np.testing.assert_array_equal(model.predict(), tiny.fitted(1).predict())


def test_a_fit_is_the_models_own():
    returns = np.ones((5, 2))
    model = tiny.MeanModel(PCAConfig())
    model.fit(PersistentPanelBatch(returns))
    fit = model._fitted("look")
    assert returns.flags.writeable
    returns[:] = 7.0
    np.testing.assert_array_equal(fit.last, [1.0, 1.0])
    with pytest.raises(ValueError, match="read-only"):
        fit.mean[0] = 0.0
    assert fit.by_label["mean", 3]["a.b"].flags.c_contiguous


def test_fits_of_different_objects_run_at_the_same_time(monkeypatch):
    meeting = threading.Barrier(4, timeout=30)
    monkeypatch.setattr(tiny.MeanModel, "before_end", staticmethod(meeting.wait))
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(tiny.fitted, range(4)))
    monkeypatch.undo()
    for seed, model in enumerate(models):
        np.testing.assert_array_equal(model.predict(), tiny.fitted(seed).predict())
        assert model.last_fit_record.input_sha256 == tiny.fitted(seed).last_fit_record.input_sha256


@pytest.mark.parametrize(
    ("config", "summary", "reason"),
    [
        (PCAConfig(), FitSummary(True), "completed"),
        (PCAConfig(), FitSummary(False), "iteration_limit"),
        (IPCAConfig(), FitSummary(True), "converged"),
        (IPCAConfig(), FitSummary(False), "iteration_limit"),
        (LinearPortfolioConfig(max_iters=9), FitSummary(True), "completed"),
        (LinearPortfolioConfig(max_iters=9), FitSummary(True, history=({"step": 9},)), "completed"),
        (
            LinearPortfolioConfig(max_iters=9),
            FitSummary(True, history=({"step": 3}, {"step": 8})),
            "early_stopping",
        ),
    ],
)
def test_the_reason_for_stopping_follows_the_table(config, summary, reason):
    assert stopping_reason(config, summary) == reason


class Early(tiny.MeanModel):
    def _estimate(self, batch):
        result = super()._estimate(batch)
        summary = FitSummary(True, train_metrics={"skipped_updates": 4.0})
        return Estimated(result.fit, summary, stopping_reason="early_stopping")

    def _resolved_device(self):
        return " CUDA:1 "

    def _resolved_dtype(self):
        return "float32"


def test_a_model_may_know_better_than_its_settings():
    model = Early(PCAConfig())
    record = model.fit(tiny.panel()).run_record
    assert (record.stopping_reason, record.skipped_updates) == ("early_stopping", 4)
    assert (record.resolved_device, record.resolved_dtype) == ("cuda:1", "float32")


def test_a_fit_of_another_class_is_a_mistake_of_the_model():
    class Confused(tiny.MeanModel):
        fit_type = tiny.Spread

    with pytest.raises(TypeError, match="fit must be a Spread; got MeanFit"):
        Confused(PCAConfig()).fit(tiny.panel())


class Mapper(Fittable[MapperConfig, tiny.Spread]):
    """As the linear return mapper: a constructor without arguments, settings without a seed."""

    config_type = MapperConfig
    fit_type = tiny.Spread

    def __init__(self):
        super().__init__(MapperConfig("plain"))

    def fit(self, batch):
        return self._run(lambda: Estimated(tiny.Spread(0.1, float("inf")), FitSummary(True)), batch)

    @classmethod
    def _from_config(cls, config):
        return cls()


def test_a_constructor_without_arguments_will_do(tmp_path):
    mapper = Mapper()
    record = mapper.fit(tiny.panel()).run_record
    assert (record.seed, record.resolved_device, record.resolved_dtype) == (0, "cpu", "float64")
    assert mapper.get_params() == {}
    again = Mapper.load(mapper.save(tmp_path / "mapper"))
    assert again._fitted("look") == tiny.Spread(0.1, float("inf"))
    assert again.last_fit_record == record
    with pytest.raises(ValueError, match="device must be None: Mapper runs on none"):
        Mapper.load(tmp_path / "mapper", device="cpu")


def test_sklearn_clones_settings_not_fits():
    model = tiny.fitted(seed=5)
    again = clone(model)
    assert again.config == model.config
    assert not again.is_fitted
    assert clone(again).get_params() == model.get_params()


def test_parameters_have_names_inside_the_config_too():
    model = tiny.MeanModel(PCAConfig(n_factors=3))
    assert model.get_params(deep=False) == {"config": model.config}
    assert model.get_params()["config__n_factors"] == 3
    assert model.set_params(config__n_factors=2, config__seed=1) is model
    assert model.config == PCAConfig(n_factors=2, seed=1)
    model.set_params(config=PCAConfig(n_factors=7), config__seed=3)
    assert model.config == PCAConfig(n_factors=7, seed=3)


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_factors": 2}, ValueError, "MeanModel has no parameter 'n_factors'; it has config"),
        ({"config__k": 2}, ValueError, "PCAConfig has no parameter 'k'"),
        ({"config__n_factors": 0}, ValueError, "n_factors"),
        ({"config": AR1ForecasterConfig()}, TypeError, "config must be a PCAConfig"),
    ],
)
def test_a_refused_parameter_changes_nothing(params, error, message):
    model = tiny.fitted()
    with pytest.raises(error, match=message):
        model.set_params(**params)
    assert model.config == PCAConfig(n_factors=3)
    assert model.is_fitted


def test_a_fit_goes_with_its_settings():
    model = tiny.fitted()
    model.set_params(config=PCAConfig(n_factors=3))
    assert model.is_fitted
    model.set_params(config__n_factors=2)
    assert not model.is_fitted


class Pair(Parameters):
    def __init__(self, left, right, *, threshold=0.5):
        self.left, self.right, self.threshold = left, right, threshold


def test_what_holds_models_has_their_parameters():
    pair = Pair(tiny.fitted(), tiny.MeanModel(PCAConfig()))
    pair.set_params(left__config__n_factors=1, right__config__seed=9, threshold=0.1)
    result = pair.get_params()
    assert (result["left__config__n_factors"], result["right__config__seed"]) == (1, 9)
    assert result["threshold"] == 0.1
    again = clone(pair)
    assert again.left.config == pair.left.config
    assert again.left is not pair.left


def test_repr_shows_what_is_not_default():
    assert repr(tiny.MeanModel(PCAConfig())) == "MeanModel(PCAConfig())"
    assert repr(tiny.fitted(seed=0)) == (
        "MeanModel(PCAConfig(n_factors=3), fitted on returns (12, 4))"
    )


@pytest.mark.parametrize(
    "again", [copy.deepcopy, copy.copy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_keep_the_fit(again):
    model = tiny.fitted()
    twin = again(model)
    np.testing.assert_array_equal(twin.predict(), model.predict())
    assert twin.last_fit_record == model.last_fit_record
    assert twin.config == model.config
    assert not twin._fitted("look").mean.flags.writeable
    twin.fit(tiny.panel(1))
    np.testing.assert_array_equal(model.predict(), tiny.fitted().predict())
