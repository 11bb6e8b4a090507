"""Files that the published 0.1.5 wrote (`v1/make.py`): read, and predicting what it predicted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ml4t.models as m
from ml4t.models.artifacts import legacy as v1

HERE = Path(__file__).parent / "v1"
TOLD: dict[str, Any] = json.loads((HERE / "predictions.json").read_text())
RETURNS = np.array(TOLD["inputs"]["returns"])
CHARACTERISTICS = np.array(TOLD["inputs"]["characteristics"])
IDS = tuple(TOLD["inputs"]["asset_ids"])
NAMES = sorted(path.stem for path in HERE.glob("*.ml4t"))
# The same arithmetic in another order.
RTOL, ATOL = 1e-12, 1e-15


def old(name: str) -> v1.V1File:
    return v1.from_bytes((HERE / f"{name}.ml4t").read_bytes())


def loaded(name: str) -> Any:
    if name not in m.__all__:
        pytest.skip(f"{name} is not there yet")
    return getattr(m, name).load(HERE / f"{name}.ml4t")


@pytest.mark.parametrize("name", NAMES)
def test_every_old_file_is_understood(name):
    file = old(name)
    assert file.model_type == f"ml4t.models.{name}"
    assert file.record.package_version == "0.1.5"
    assert file.record.config == file.config
    assert file.record.stopping_reason in ("completed", "converged")
    assert "fit_run_record" not in file.state


def test_old_state_has_its_tuples_back():
    assert old("PCAModel").state == {"asset_ids": IDS}
    assert old("LinearFeaturePortfolioModel").config["checkpoint_steps"] == ()
    state = old("IPCAModel").state
    assert (state["n_features"], state["fit_converged"]) == (2, True)


def test_old_arrays_are_the_estimates():
    pca = old("PCAModel").arrays
    np.testing.assert_allclose(pca["asset_mean"], RETURNS.mean(axis=0), rtol=RTOL)
    np.testing.assert_array_equal(pca["loadings"], np.array(TOLD["PCAModel"]["asset_betas"])[0])
    demeaned = (RETURNS - RETURNS.mean(axis=0)) @ pca["loadings"]
    np.testing.assert_allclose(pca["train_factor_returns"], demeaned, rtol=1e-9, atol=ATOL)
    premium = old("ExpandingMeanFactorForecaster").arrays["mean_factor_premium"]
    expected = TOLD["ExpandingMeanFactorForecaster"]["factor_premia"]
    np.testing.assert_array_equal(np.tile(premium, (3, 1)), expected)


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_keeps_the_old_record(name, tmp_path):
    model = loaded(name)
    assert model.is_fitted
    assert model.last_fit_record == old(name).record
    again = type(model).load(model.save(tmp_path / "new"))
    assert again.last_fit_record == model.last_fit_record


@pytest.mark.parametrize("name", ["PCAModel", "RPPCAModel"])
def test_old_panels_extract_as_before(name):
    model, expected = loaded(name), TOLD[name]
    state = model.extract(m.PersistentPanelBatch(RETURNS, asset_ids=IDS))
    np.testing.assert_allclose(state.asset_betas, expected["asset_betas"], rtol=RTOL, atol=ATOL)
    realised = np.array(expected["factor_returns"])
    if name == "PCAModel":  # 0.1.x realised demeaned returns: a factor without its premium
        realised = realised + RETURNS.mean(axis=0) @ state.asset_betas[0]
    np.testing.assert_allclose(state.factor_returns, realised, rtol=1e-9, atol=1e-14)


def test_an_old_ipca_extracts_as_before():
    model, expected = loaded("IPCAModel"), TOLD["IPCAModel"]
    batch = m.CrossSectionBatch(CHARACTERISTICS, returns=RETURNS, asset_ids=IDS)
    state = model.extract(batch)
    np.testing.assert_allclose(state.asset_betas, expected["asset_betas"], rtol=1e-10, atol=1e-14)
    # The ridge of 1e-6 has another unit than it had.
    np.testing.assert_allclose(
        state.factor_returns, expected["factor_returns"], rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("Forecaster")])
def test_old_forecasters_forecast_as_before(name):
    labels = m.LatentFactorState(np.ones((3, 6, 2)))
    premia = loaded(name).predict(labels).factor_premia
    np.testing.assert_allclose(premia, TOLD[name]["factor_premia"], rtol=RTOL, atol=1e-17)


def test_an_old_linear_portfolio_holds_the_same_book():
    name = "LinearFeaturePortfolioModel"
    model, expected = loaded(name), TOLD[name]
    features = np.array(expected["inputs"]["features"])
    batch = m.PortfolioSequenceBatch(features, asset_ids=tuple(expected["inputs"]["asset_ids"]))
    weights = model.predict(batch).weights
    np.testing.assert_allclose(weights, expected["weights"], rtol=1e-9, atol=1e-12)


def test_an_old_return_mapper_maps_the_same():
    name = "LinearStochasticDiscountFactorReturnMapper"
    mapper, values = loaded(name), TOLD[name]
    state = m.StochasticDiscountFactorState(np.array(values["inputs"]["asset_weights"]))
    expected = mapper.predict(state).expected_returns
    np.testing.assert_allclose(expected, values["expected_returns"], rtol=RTOL, atol=ATOL)


LATENT = {"PCAModel": "loadings", "RPPCAModel": "asset_betas", "IPCAModel": "gamma"}


def understood(file: v1.V1File, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """Load an old file as if it had other content than it has."""
    monkeypatch.setattr(v1, "from_bytes", lambda content: replace(file, **changes))
    return loaded(file.model_type.rpartition(".")[2])


@pytest.mark.parametrize("name", LATENT)
def test_old_content_that_contradicts_itself_is_refused(name, monkeypatch):
    file = old(name)
    more = file.arrays | {"more": np.ones(1)}
    fewer = {key: array for key, array in file.arrays.items() if key != LATENT[name]}
    for arrays in (more, fewer):
        with pytest.raises(ValueError, match=r"arrays must be .*; got"):
            understood(file, monkeypatch, arrays=arrays)
    with pytest.raises(ValueError, match=r"n_factors=5|gamma must have shape"):
        understood(file, monkeypatch, config=file.config | {"n_factors": 5})


@pytest.mark.parametrize("name", [*LATENT, "AR1FactorForecaster", "EWMABaseFactorForecaster"])
def test_an_old_state_that_is_not_understood_is_refused(name, monkeypatch):
    file = old(name)
    with pytest.raises(ValueError, match=r"state must be .*; got .*more"):
        understood(file, monkeypatch, state=file.state | {"more": 1})


@pytest.mark.parametrize("name", ["PCAModel", "RPPCAModel"])
def test_old_ids_that_come_twice_are_refused(name, monkeypatch):
    twice = (IDS[0], *IDS[:-1])
    with pytest.raises(ValueError, match="asset_ids must be unique"):
        understood(old(name), monkeypatch, state={"asset_ids": twice})


def test_rows_of_an_old_gamma_have_names():
    model = loaded("IPCAModel")
    assert model.instrument_names == ("constant", "characteristic_0", "characteristic_1")
