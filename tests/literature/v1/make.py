"""Write the files of this folder with the published ml4t-models 0.1.5 (Python >= 3.12):

python -m venv env && env/bin/pip install ml4t-models==0.1.5 && env/bin/python make.py
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

import ml4t.models as m

HERE = Path(__file__).parent


def panel():
    rng = np.random.default_rng(20)
    factors = rng.normal([0.01, 0.005], [0.04, 0.02], size=(24, 2))
    loadings = rng.normal([1.0, 0.0], [0.3, 0.5], size=(6, 2))
    returns = factors @ loadings.T + 0.01 * rng.standard_normal((24, 6))
    characteristics = np.stack(
        [loadings[:, 1] + 0.1 * rng.standard_normal((24, 6)), rng.standard_normal((24, 6))], axis=2
    )
    return returns, characteristics


def listed(array):
    return None if array is None else np.asarray(array).tolist()


def latent(model, batch):
    model.fit(batch)
    state = model.extract(batch)
    return model, {
        "asset_betas": listed(state.asset_betas),
        "factor_returns": listed(state.factor_returns),
    }


def forecaster(model, state):
    model.fit(state)
    labels = m.LatentFactorState(state.asset_betas[:3])
    return model, {"factor_premia": listed(model.predict(labels).factor_premia)}


def portfolio():
    rng = np.random.default_rng(21)
    features = rng.standard_normal((2, 5, 4, 3))
    returns = 0.01 * features[..., 0] + 0.01 * rng.standard_normal((2, 5, 4))
    batch = m.PortfolioSequenceBatch(features, returns=returns, asset_ids=tuple("wxyz"))
    model = m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig())
    model.fit(batch)
    inputs = {"features": listed(features), "asset_ids": list("wxyz")}
    return model, {"inputs": inputs, "weights": listed(model.predict(batch).weights)}


def sdf_mapper():
    rng = np.random.default_rng(22)
    weights = rng.standard_normal((8, 5))
    returns = 0.002 + 0.01 * weights + 0.01 * rng.standard_normal((8, 5))
    state = m.StochasticDiscountFactorState(weights)
    batch = m.CrossSectionBatch(weights[:, :, None], returns=returns)
    model = m.LinearStochasticDiscountFactorReturnMapper()
    model.fit(state, batch)
    expected = listed(model.predict(state).expected_returns)
    return model, {"inputs": {"asset_weights": listed(weights)}, "expected_returns": expected}


def main():
    returns, characteristics = panel()
    ids = tuple("abcdef")
    plain = m.PersistentPanelBatch(returns=returns, asset_ids=ids)
    cross = m.CrossSectionBatch(characteristics, returns=returns, asset_ids=ids)
    made = [
        latent(m.PCAModel(m.PCAConfig(n_factors=2)), plain),
        latent(m.RPPCAModel(m.RPPCAConfig(n_factors=2, gamma=10.0)), plain),
        latent(m.IPCAModel(m.IPCAConfig(n_factors=2, max_iter=500)), cross),
    ]
    state = made[0][0].extract(plain)
    made += [
        forecaster(m.ExpandingMeanFactorForecaster(), state),
        forecaster(m.EWMABaseFactorForecaster(m.EWMABaseForecasterConfig(half_life=6.0)), state),
        forecaster(m.AR1FactorForecaster(), state),
        portfolio(),
        sdf_mapper(),
    ]
    report = {
        "inputs": {
            "returns": listed(returns),
            "characteristics": listed(characteristics),
            "asset_ids": list(ids),
        }
    }
    for model, told in made:
        name = type(model).__name__
        model.save(HERE / f"{name}.ml4t")
        report[name] = told
    (HERE / "predictions.json").write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
