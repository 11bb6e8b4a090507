"""Files that this package wrote before its names were settled (`v2/make.py`): read as then."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml4t.models as m
from ml4t.models.artifacts import legacy

HERE = Path(__file__).parent / "v2"
PREDICTED: dict[str, Any] = json.loads((HERE / "predictions.json").read_text())


def module(path):
    spec = importlib.util.spec_from_file_location("v2_make", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


make = module(HERE / "make.py")
GIVEN = make.inputs()
BATCH = {
    "PCAModel": "panel",
    "RPPCAModel": "panel",
    **dict.fromkeys(("LSTMPortfolioModel", "DeepPortfolioModel"), "windows"),
    **dict.fromkeys(("LinearFeaturePortfolioModel", "PortfolioAllocationPipeline"), "windows"),
}
# Products in another order; networks compute in single steps of float64 or float32.
RTOL, ATOL = 1e-6, 1e-9


def loaded(name):
    return getattr(m, name.partition("-")[0]).load(HERE / f"{name}.ml4t")


def state():
    extracted = loaded("PCAModel").extract(GIVEN["panel"])
    return m.LatentFactorState(
        extracted.asset_betas,
        extracted.factor_returns,
        context_features=GIVEN["panel"].context_features,
    )


@pytest.mark.parametrize("name", PREDICTED)
def test_a_former_file_predicts_as_it_did(name):
    model = loaded(name)
    if name.endswith(("Forecaster", "Mapper")):
        predicted = make.forecast(model, state())
    else:
        predicted = make.answer(model, GIVEN[BATCH.get(name, "sections")])
    assert predicted.keys() == PREDICTED[name].keys()
    for key, values in PREDICTED[name].items():
        np.testing.assert_allclose(predicted[key], values, rtol=RTOL, atol=ATOL, err_msg=key)


def test_former_moments_are_those_of_their_panel():
    moments = m.CharacteristicMoments.load(HERE / "CharacteristicMoments.ml4t")
    again = m.CharacteristicMoments.from_batch(GIVEN["sections"])
    np.testing.assert_allclose(moments.packed_gram, again.packed_gram, rtol=1e-12)
    np.testing.assert_allclose(moments.cross, again.cross, rtol=1e-12)
    assert moments.timestamps == again.timestamps
    assert moments.instrument_names == ("constant", "size", "value")


def test_former_names_become_present_ones(monkeypatch):
    monkeypatch.setattr(legacy, "FORMER_FIELDS", {"Config": {"old": "new"}})
    monkeypatch.setattr(legacy, "FORMER_VALUES", {"Config": {("kind", "a"): "b"}})
    given = {"record": "Config", "fields": {"old": 1, "kind": "a"}}
    other = {"record": "Other", "fields": {"old": 1, "kind": "a"}}
    tree = {"record": "Pair", "fields": {"both": {"tuple": [given, other]}}}
    legacy.update_records(tree)
    assert given["fields"] == {"new": 1, "kind": "b"}
    assert other["fields"] == {"old": 1, "kind": "a"}


def test_a_former_name_beside_the_present_one_is_left_to_the_reader(monkeypatch):
    monkeypatch.setattr(legacy, "FORMER_FIELDS", {"Config": {"old": "new"}})
    both = {"record": "Config", "fields": {"old": 1, "new": 2}}
    legacy.update_records(both)
    assert both["fields"] == {"old": 1, "new": 2}


def test_former_settings_keep_their_meaning():
    config = loaded("IPCAModel-penalty").config
    assert (config.penalty, config.missing) == (1e-3, "median")
