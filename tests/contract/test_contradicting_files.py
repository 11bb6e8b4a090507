"""A file whose hash is right and whose arrays are not those of its settings is refused at load."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import file_kinds
from ml4t.models import (
    AR1FactorForecaster,
    CombinedFactorForecaster,
    EWMABaseFactorForecaster,
    ExpandingMeanFactorForecaster,
    IPCAConfig,
    IPCAModel,
    LinearFeaturePortfolioModel,
    LinearPortfolioConfig,
    MacroFactorForecaster,
    PCAConfig,
    PCAModel,
    RegimeSwitchingMapper,
    RPPCAConfig,
    RPPCAModel,
    StateConditionalMapper,
    VAR1FactorForecaster,
)
from ml4t.models.artifacts import files
from ml4t.models.configs import (
    EWMABaseForecasterConfig,
    ExpandingMeanForecasterConfig,
    StateConditionalMapperConfig,
)
from ml4t.models.types import (
    CrossSectionBatch,
    LatentFactorState,
    PersistentPanelBatch,
    PortfolioSequenceBatch,
)

RNG = np.random.default_rng(0)
PANEL = PersistentPanelBatch(
    returns=RNG.normal(size=(15, 5)), asset_ids=tuple("abcde"), timestamps=tuple(range(15))
)
CROSS = CrossSectionBatch(
    characteristics=RNG.normal(size=(15, 8, 3)),
    returns=RNG.normal(size=(15, 8)),
    context_features=RNG.normal(size=(15, 2)),
)
STATE = LatentFactorState(
    np.ones((15, 1, 2)),
    factor_returns=RNG.normal(size=(15, 2)),
    context_features=RNG.normal(size=(15, 3)),
)
WINDOWS = PortfolioSequenceBatch(
    features=RNG.normal(size=(2, 6, 3, 4)),
    returns=RNG.normal(size=(2, 6, 3)) / 100,
    adjacency_mask=np.zeros((3, 3), dtype=bool),
    group_ids=np.array([1, 2, 2]),
    costs=np.full(3, 1e-4),
)

# Model and data; settings that contradict the fit.
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "pca": (PCAModel(PCAConfig(n_factors=2)), PANEL, {"n_factors": [1, 3, 60_000]}),
    "rp-pca": (RPPCAModel(RPPCAConfig(n_factors=2)), PANEL, {"n_factors": [1, 3, 60_000]}),
    "ipca": (
        IPCAModel(IPCAConfig(n_factors=2)),
        CROSS,
        {"n_factors": [1, 3, 60_000], "constant": [False], "intercept": [True]},
    ),
    "linear": (
        LinearFeaturePortfolioModel(LinearPortfolioConfig()),
        WINDOWS,
        {"fit_intercept": [False]},
    ),
    "mean": (ExpandingMeanFactorForecaster(), STATE, {}),
    "ewma": (EWMABaseFactorForecaster(), STATE, {}),
    "ar1": (AR1FactorForecaster(), STATE, {}),
    "var1": (VAR1FactorForecaster(), STATE, {}),
    "macro": (MacroFactorForecaster(), STATE, {}),
    "combined": (CombinedFactorForecaster(), STATE, {}),
    "regimes": (RegimeSwitchingMapper(), STATE, {"n_regimes": [3, 100]}),
    "kernel": (StateConditionalMapper(), STATE, {"method": ["linear"]}),
    "line": (
        StateConditionalMapper(StateConditionalMapperConfig(method="linear")),
        STATE,
        {"method": ["kernel"]},
    ),
}
# Arrays of which any length is that of some fit: dates, features, or factors of a forecaster.
FREE = {
    ("pca", "fit.train_factor_returns", 0),
    ("rp-pca", "fit.train_factor_returns", 0),
    ("ipca", "fit.train_factor_returns", 0),
    ("linear", "fit.coefficients", 0),
    ("mean", "fit.mean_factor_premium", 0),
    ("ewma", "fit.ewma_level", 0),
}


def neural() -> dict[str, tuple[Any, Any, dict[str, Any]]]:
    """The networks, where there is torch."""
    try:
        import neural_families as families  # noqa: PLC0415 - torch is optional
    except ImportError:
        return {}
    from ml4t.models import (  # noqa: PLC0415
        DeepPortfolioConfig,
        DeepPortfolioModel,
        LSTMPortfolioConfig,
        LSTMPortfolioModel,
    )

    state = {"state_dim_sdf": [1, 60_000], "hidden_dim": [2, 60_000]}
    steps = {"max_iters": 3, "eval_every": 1, "vvsn_hidden_dim": 4}
    batch = families.ragged_batch()
    return {
        "cae": (
            families.cae(n_ensemble=2),
            batch,
            {
                "n_factors": [1, 60_000],
                "hidden_units": [(3,), (4, 4), (), (60_000, 60_000)],
                "n_ensemble": [1, 3],
                "dtype": ["float32"],
                "n_epochs": [1],
            },
        ),
        "sae": (
            families.sae(),
            batch,
            {"bottleneck_dim": [1, 60_000], "aux_hidden_dim": [1], "dtype": ["float32"]},
        ),
        "sdf": (families.sdf(), batch, state | {"n_ensemble": [3], "dtype": ["float32"]}),
        "lstm": (
            LSTMPortfolioModel(LSTMPortfolioConfig(hidden_size=4, **steps)),
            WINDOWS,
            {"hidden_size": [2, 60_000], "n_layers": [2], "use_group_embedding": [True]},
        ),
        "deep": (
            DeepPortfolioModel(DeepPortfolioConfig(d_model=4, use_group_embedding=True, **steps)),
            WINDOWS,
            {"d_model": [8, 60_000], "lstm_layers": [2], "use_group_embedding": [False]},
        ),
    }


MODELS |= neural()
NEURAL = ["cae", "sae", "sdf", "lstm", "deep"]


@pytest.fixture(scope="module", params=MODELS)
def fitted(request) -> tuple[str, Any, dict[str, Any]]:
    model, data, contradictions = MODELS[request.param]
    model.fit(data)
    return request.param, model, contradictions


def refused(model: Any, artifact: files.Artifact, path: Any) -> None:
    files.write(path, artifact)
    with pytest.raises(ValueError, match="cannot load"):
        type(model).load(path)


def test_settings_of_another_fit_are_refused(fitted, tmp_path):
    _, model, contradictions = fitted
    good = model.to_artifact()
    files.write(tmp_path / "m", good)
    assert type(model).load(tmp_path / "m").is_fitted
    for setting, values in contradictions.items():
        for value in values:
            written = {"tuple": list(value)} if isinstance(value, tuple) else value
            fields = good.config["fields"] | {setting: written}
            config = good.config | {"fields": fields}
            refused(model, replace(good, config=config), tmp_path / "m")


def test_an_array_that_is_cut_is_refused(fitted, tmp_path):
    name, model, _ = fitted
    good = model.to_artifact()
    tried = 0
    keys = [key for key in good.arrays if "checkpoints" not in key]
    keys += [key for key in good.arrays if "checkpoints" in key][:12]
    for key in keys:
        array = good.arrays[key]
        for axis in range(array.ndim):
            if (name, key, axis) in FREE or array.shape[axis] == 0:
                continue
            cut = np.delete(array, 0, axis=axis)
            refused(model, replace(good, arrays=good.arrays | {key: cut}), tmp_path / "m")
            tried += 1
        refused(model, replace(good, arrays=good.arrays | {key: array[None]}), tmp_path / "m")
    assert tried or name in ("linear", "mean", "ewma")


def test_a_parameter_that_is_not_finite_is_refused(fitted, tmp_path):
    _, model, _ = fitted
    good = model.to_artifact()
    for key in list(good.arrays)[:8]:
        array = good.arrays[key]
        if array.dtype.kind != "f" or "factor_returns" in key or not array.size:
            continue
        bad = array.copy()
        bad.flat[-1] = np.inf
        refused(model, replace(good, arrays=good.arrays | {key: bad}), tmp_path / "m")


@pytest.mark.parametrize("name", [name for name in NEURAL if name in MODELS])
def test_parameters_of_another_precision_or_name_are_refused(name, tmp_path):
    model, data, _ = MODELS[name]
    if not model.is_fitted:
        model.fit(data)
    good = model.to_artifact()
    key = next(key for key in good.arrays if "checkpoints" in key)
    single = good.arrays | {key: good.arrays[key].astype(np.float32)}
    refused(model, replace(good, arrays=single), tmp_path / "m")
    state = good.state["fit"]["fields"]["checkpoints"]["dict"]
    renamed: Callable[[Any], Any] = lambda pair: ["other", pair[1]]  # noqa: E731
    label, parameters = state[0]
    pairs = parameters["dict"]
    changed = [[label, {"dict": [renamed(pairs[0]), *pairs[1:]]}], *state[1:]]
    fit = good.state["fit"]
    fields = fit["fields"] | {"checkpoints": {"dict": changed}}
    refused(
        model,
        replace(good, state=good.state | {"fit": fit | {"fields": fields}}),
        tmp_path / "m",
    )


def test_members_of_a_combination_are_those_of_its_settings(tmp_path):
    model = CombinedFactorForecaster()
    model.fit(STATE)
    good = model.to_artifact()
    one = {"record": ExpandingMeanForecasterConfig.__name__, "fields": {}}
    other = {"record": EWMABaseForecasterConfig.__name__, "fields": {}}
    for members in ([one], [one, other], [one, one], [one, other, one]):
        fields = good.config["fields"] | {"members": {"tuple": members}}
        config = good.config | {"fields": fields}
        refused(model, replace(good, config=config), tmp_path / "m")


def test_moments_that_are_cut_or_not_finite_are_refused(tmp_path):
    moments = file_kinds.moments()
    good = files.from_bytes(moments.save(tmp_path / "m").read_bytes())
    for key, array in good.arrays.items():
        changed = [np.delete(array, 0, axis=axis) for axis in range(array.ndim)]
        if array.dtype.kind == "f":
            for value in (np.nan, np.inf):
                changed.append(array.copy())
                changed[-1].flat[0] = value
        for one in changed:
            refused(moments, replace(good, arrays=good.arrays | {key: one}), tmp_path / "m")


RIGHT = {
    ("model", PCAModel),
    ("model", LinearFeaturePortfolioModel),
    ("forecaster", EWMABaseFactorForecaster),
    ("mapper", RegimeSwitchingMapper),
}


def test_parts_of_a_pipeline_are_what_their_names_say(tmp_path):
    others = [PCAModel(PCAConfig(n_factors=2)), EWMABaseFactorForecaster(), RegimeSwitchingMapper()]
    others[0].fit(PANEL)
    for other in others[1:]:
        other.fit(STATE)
    for made in (file_kinds.pipeline(), file_kinds.allocation()):
        good = files.from_bytes(made.save(tmp_path / "m").read_bytes())
        for name in good.state:
            for other in others:
                if (name, type(other)) in RIGHT:
                    continue
                part = other.to_artifact()
                told = {
                    key: getattr(part, key)
                    for key in ("model_type", "package_version", "config", "state")
                }
                own = {key: a for key, a in good.arrays.items() if not key.startswith(f"{name}/")}
                own |= {f"{name}/{key}": array for key, array in part.arrays.items()}
                wrong = replace(good, state=good.state | {name: told}, arrays=own)
                refused(made, wrong, tmp_path / "m")
