"""Write the files of this folder: one of every kind, by the commit before names were settled.

`inputs()` makes the panels that the test predicts with as well; `python make.py` writes the files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import ml4t.models as m

HERE = Path(__file__).parent
T, N = 24, 6


def inputs() -> dict[str, Any]:
    """Panels of a few dates and assets from one seed."""
    rng = np.random.default_rng(20)
    z = rng.uniform(-0.5, 0.5, (T, N, 2))
    factors = rng.normal([0.01, 0.005], [0.04, 0.02], size=(T, 2))
    loadings = rng.normal([1.0, 0.0], [0.3, 0.5], size=(N, 2))
    returns = factors @ loadings.T + 0.02 * z[..., 0] + 0.01 * rng.standard_normal((T, N))
    labels = {"timestamps": tuple(range(T)), "asset_ids": tuple("abcdef")}
    context = rng.standard_normal((T, 2))
    features = rng.standard_normal((2, 8, N, 3))
    return {
        "panel": m.PersistentPanelBatch(returns, context_features=context, **labels),
        "sections": m.CrossSectionBatch(
            z, returns=returns, factor_returns=returns, context_features=context, **labels
        ),
        "windows": m.PortfolioSequenceBatch(
            features,
            returns=0.01 * features[..., 0] + 0.01 * rng.standard_normal((2, 8, N)),
            group_ids=[0, 0, 0, 1, 1, 1],
            asset_ids=labels["asset_ids"],
        ),
    }


def models() -> dict[str, tuple[Any, str]]:
    """Every class with a fit, and the name of the batch it takes."""
    net = {"n_epochs": 2, "seed": 3}
    windows = {"max_iters": 2, "seed": 3}
    sdf = m.StochasticDiscountFactorConfig(
        state_dim_sdf=2,
        state_dim_moment=2,
        hidden_dim=3,
        n_instruments=2,
        n_epochs_unc=2,
        n_epochs_moment=1,
        n_epochs_cond=2,
    )
    ipca = m.IPCAModel(m.IPCAConfig(n_factors=1, intercept=True))
    return {
        "PCAModel": (m.PCAModel(m.PCAConfig(n_factors=2)), "panel"),
        "RPPCAModel": (m.RPPCAModel(m.RPPCAConfig(n_factors=2, gamma=10.0)), "panel"),
        "IPCAModel": (ipca, "sections"),
        "IPCAModel-penalty": (
            m.IPCAModel(m.IPCAConfig(n_factors=1, gamma_penalty=1e-3, missing="middle")),
            "sections",
        ),
        "CAEModel": (
            m.CAEModel(m.CAEConfig(n_factors=1, hidden_units=(3,), n_ensemble=2, **net)),
            "sections",
        ),
        "SAEModel": (
            m.SAEModel(
                m.SAEConfig(
                    bottleneck_dim=2, aux_hidden_dim=2, main_hidden_units=(4, 3, 3, 2), **net
                )
            ),
            "sections",
        ),
        "StochasticDiscountFactorModel": (m.StochasticDiscountFactorModel(sdf), "sections"),
        "LinearFeaturePortfolioModel": (
            m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig()),
            "windows",
        ),
        "LSTMPortfolioModel": (
            m.LSTMPortfolioModel(
                m.LSTMPortfolioConfig(hidden_size=2, vvsn_hidden_dim=2, **windows)
            ),
            "windows",
        ),
        "DeepPortfolioModel": (
            m.DeepPortfolioModel(m.DeepPortfolioConfig(d_model=4, n_heads=2, **windows)),
            "windows",
        ),
        "LatentFactorForecastPipeline": (
            m.LatentFactorForecastPipeline(
                m.IPCAModel(m.IPCAConfig(n_factors=1)),
                m.AR1FactorForecaster(),
                m.BetaLambdaMapper(),
            ),
            "sections",
        ),
        "PortfolioAllocationPipeline": (
            m.PortfolioAllocationPipeline(
                m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig()),
                postprocessors=(m.WeightConstraintPostprocessor(max_abs_weight=0.4),),
            ),
            "windows",
        ),
    }


def forecasters() -> dict[str, Any]:
    """Models that learn from the state of PCA."""
    made = [
        m.ExpandingMeanFactorForecaster(),
        m.EWMABaseFactorForecaster(),
        m.AR1FactorForecaster(),
        m.VAR1FactorForecaster(),
        m.MacroFactorForecaster(),
        m.CombinedFactorForecaster(),
        m.StateConditionalMapper(),
        m.RegimeSwitchingMapper(),
    ]
    return {type(model).__name__: model for model in made}


def answer(model: Any, batch: Any) -> dict[str, Any]:
    """What a model predicts for a batch, as lists."""
    result = model.predict(batch) if hasattr(model, "predict") else model.extract(batch)
    for part in ("asset_forecast", "processed_weights"):
        result = getattr(result, part, result)
    names = ("expected_returns", "signal_values", "weights", "asset_weights", "asset_betas")
    return {n: np.asarray(getattr(result, n)).tolist() for n in names if hasattr(result, n)}


def forecast(model: Any, state: Any) -> dict[str, Any]:
    """What a forecaster or mapper predicts from a state, as lists."""
    if hasattr(model, "transform") or "Mapper" in type(model).__name__:
        mean = m.ExpandingMeanFactorForecaster()
        mean.fit(state)
        result = model.predict(state, mean.predict(state))
        return {"expected_returns": result.expected_returns.tolist()}
    return {"factor_premia": model.predict(state).factor_premia.tolist()}


def main() -> None:
    """Fit, save, predict."""
    given, report = inputs(), {}
    for name, (model, kind) in models().items():
        model.fit(given[kind])
        model.save(HERE / f"{name}.ml4t")
        report[name] = answer(model, given[kind])
    pca = m.PCAModel.load(HERE / "PCAModel.ml4t")
    context = given["panel"].context_features
    state = m.LatentFactorState(
        (extracted := pca.extract(given["panel"])).asset_betas,
        extracted.factor_returns,
        context_features=context,
    )
    for name, model in forecasters().items():
        model.fit(state)
        model.save(HERE / f"{name}.ml4t")
        report[name] = forecast(model, state)
    moments = m.CharacteristicMoments.from_batch(given["sections"], feature_names=["size", "value"])
    moments.save(HERE / "CharacteristicMoments.ml4t")
    (HERE / "predictions.json").write_text(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
