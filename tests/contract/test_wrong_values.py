"""Wrong values at every public callable: the error names the parameter, whoever raised it."""

from __future__ import annotations

import dataclasses
import inspect
import warnings

import numpy as np
import polars as pl
import pytest

import ml4t.models as m

T, N, L = 8, 4, 2
RNG = np.random.default_rng(0)
DAYS = tuple(range(T))
IDS = ("a", "b", "c", "d")
LONG = pl.DataFrame(
    {
        "timestamp": np.repeat(np.arange(T), N),
        "asset": list(IDS) * T,
        "x": RNG.standard_normal(T * N),
        "ret": 0.01 * RNG.standard_normal(T * N),
    }
)
RETURNS = 0.01 * RNG.standard_normal((T, N))
PANEL = m.PersistentPanelBatch(RETURNS, timestamps=DAYS, asset_ids=IDS)
CROSS = m.CrossSectionBatch(
    RNG.standard_normal((T, N, L)), returns=RETURNS, timestamps=DAYS, asset_ids=IDS
)
WINDOWS = m.PortfolioSequenceBatch(
    RNG.standard_normal((1, T, N, L)), returns=RETURNS[None], timestamps=DAYS, asset_ids=IDS
)
STATE = m.LatentFactorState(
    RNG.standard_normal((T, N, 1)), factor_returns=RNG.standard_normal((T, 1)), timestamps=DAYS
)
FORECAST = m.AssetForecastResult(RETURNS, DAYS, IDS)
WEIGHTS = m.AssetWeightsResult(np.full((T, N), 0.25), DAYS, IDS)
BOOK = m.PortfolioWeightsResult(np.full((1, T, N), 0.25), timestamps=DAYS, asset_ids=IDS)

WRONG = {
    "None": None,
    "0.5": 0.5,
    "-1": -1,
    "text": "text",
    "bytes": b"x",
    "object": object(),
    "list": [],
    "nested list": [-1],
    "dict": {},
    "frame": pl.DataFrame({"a": [1.0]}),
    "result": m.AssetSignalResult(np.ones((2, 2))),
    "nan": float("nan"),
}
# A frame is asked for its columns, and those that are missing are named.
CLEAR = (
    "Could not resolve",
    "was not found in columns",
    "determine panel shape",
    "not both",
    "one per column",
    "batch must be a CrossSectionBatch",  # `training` is the batch of the fit
)
NAMED = (ValueError, TypeError, RuntimeError, OSError, MemoryError, NotImplementedError)


def latent(kind, config, batch):
    model = kind(config)
    model.fit(batch)
    return model


def forecaster():
    made = m.ExpandingMeanFactorForecaster()
    made.fit(STATE)
    return made


def pipeline():
    return m.LatentFactorForecastPipeline(
        m.PCAModel(m.PCAConfig(n_factors=1)),
        m.ExpandingMeanFactorForecaster(),
        m.BetaLambdaMapper(),
    )


def fitted_pipeline():
    made = pipeline()
    made.fit(PANEL)
    return made


def linear():
    return latent(m.LinearFeaturePortfolioModel, m.LinearPortfolioConfig(), WINDOWS)


def ipca():
    return latent(m.IPCAModel, m.IPCAConfig(n_factors=1, intercept=True), CROSS)


def pca():
    return latent(m.PCAModel, m.PCAConfig(n_factors=1), PANEL)


# What a parameter of a name takes; by callable where that differs.
VALID = {
    "frame": LONG,
    "feature_cols": ["x"],
    "forecast": FORECAST,
    "signal": m.AssetSignalResult(RETURNS, DAYS, IDS),
    "weights": WEIGHTS,
    "prices_frame": LONG,
    "results": [(0, 1, FORECAST)],
    "columns": ("a",),
    "rows": [(1,)],
    "length": 2,
    "feed_spec": {},
    "model": m.PCAModel(m.PCAConfig(n_factors=1)),
    "forecaster": m.ExpandingMeanFactorForecaster(),
    "mapper": m.BetaLambdaMapper(),
    "min_periods": 4,
    "batch": CROSS,
    "state": STATE,
    "factor_forecast": m.FactorForecastResult(np.ones((T, 1))),
    "returns": RETURNS,
    "target_volatility": 0.1,
    "windows": [(0, T)],
    "names": [1],
    "indices": [0],
    "parts": [PANEL],
    "data": PANEL,
    "artifact_dir": "frames",
    "structural_fit": m.FitSummary(converged=True),
}
HANDOVER = {"prices_frame": LONG}
RECORDS = {
    "BacktestDataFeedInputs": {"feed_spec": {}, "prices_frame": LONG},
    "AssetWeightsResult": {"weights": RETURNS},
    "PortfolioWeightsResult": {"weights": RETURNS[None]},
    "AssetForecastResult": {"expected_returns": RETURNS},
    "AssetSignalResult": {"signal_values": RETURNS},
    "FactorForecastResult": {"factor_premia": RETURNS},
    "LatentFactorState": {"asset_betas": RETURNS[..., None]},
    "StochasticDiscountFactorState": {"asset_weights": RETURNS},
    "PersistentPanelBatch": {"returns": RETURNS},
    "CrossSectionBatch": {"characteristics": RETURNS[..., None]},
    "PortfolioSequenceBatch": {"features": RETURNS[None, ..., None]},
    "PortfolioAllocationPipeline": {
        "model": m.LinearFeaturePortfolioModel(m.LinearPortfolioConfig())
    },
}
# Records that the package makes and nobody else: their fields are not checked.
MADE = {
    *("BootstrapTest", "CharacteristicImportance", "CharacteristicMoments", "FitLevel"),
    *("FitMeasures", "IPCAPenaltyPath", "IPCAStandardErrors", "LatentFactorPrediction"),
    *("PipelineFitResult", "PortfolioPrediction", "PortfolioPipelineFitResult", "RSquared"),
    *("ResolvedDatasetSchema", "WalkForwardFold", "WalkForwardResult", "FitSummary"),
    *("FitRunRecord", "FactorPortfolio"),
}
METHODS = {
    "PCAModel": (pca, {"batch": PANEL}),
    "RPPCAModel": (
        lambda: latent(m.RPPCAModel, m.RPPCAConfig(n_factors=1), PANEL),
        {"batch": PANEL},
    ),
    "IPCAModel": (ipca, {}),
    "ExpandingMeanFactorForecaster": (forecaster, {}),
    "BetaLambdaMapper": (m.BetaLambdaMapper, {}),
    "LatentFactorForecastPipeline": (fitted_pipeline, {"batch": PANEL}),
    "LinearFeaturePortfolioModel": (linear, {"batch": WINDOWS}),
    "WeightConstraintPostprocessor": (
        m.WeightConstraintPostprocessor,
        {"batch": WINDOWS, "weights": BOOK},
    ),
    "WalkForward": (
        lambda: m.WalkForward(m.PCAModel(m.PCAConfig(n_factors=1)), min_periods=4),
        {"batch": PANEL},
    ),
    "CharacteristicMoments": (
        lambda: m.CharacteristicMoments.from_batch(CROSS),
        {"source": LONG, "return_col": "ret", "later": None, "timestamps": [0]},
    ),
}
LONG_STATE = m.LatentFactorState(
    RNG.standard_normal((40, N, 1)),
    factor_returns=RNG.standard_normal((40, 1)),
    context_features=RNG.standard_normal((40, 1)),
)
FORECASTERS = {
    "AR1FactorForecaster": (m.AR1ForecasterConfig(), LONG_STATE),
    "VAR1FactorForecaster": (m.VAR1ForecasterConfig(), LONG_STATE),
    "EWMABaseFactorForecaster": (m.EWMABaseForecasterConfig(), LONG_STATE),
    "MacroFactorForecaster": (m.MacroForecasterConfig(), LONG_STATE),
    "CombinedFactorForecaster": (m.CombinedForecasterConfig(), LONG_STATE),
    "StateConditionalMapper": (m.StateConditionalMapperConfig(), LONG_STATE),
    "RegimeSwitchingMapper": (m.RegimeSwitchingMapperConfig(), LONG_STATE),
}
NET = {"n_epochs": 1}
STEPS = {"hidden_size": 2, "vvsn_hidden_dim": 2, "max_iters": 1, "checkpoint_steps": (1,)}
SDF = {
    **{"state_dim_sdf": 2, "state_dim_moment": 2, "hidden_dim": 2, "n_instruments": 1},
    **{"n_epochs_unc": 1, "n_epochs_moment": 1, "n_epochs_cond": 1},
}
METHODS |= {
    "CAEModel": (
        lambda: latent(m.CAEModel, m.CAEConfig(n_factors=1, hidden_units=(2,), **NET), CROSS),
        {},
    ),
    "SAEModel": (
        lambda: latent(
            m.SAEModel,
            m.SAEConfig(bottleneck_dim=2, aux_hidden_dim=2, main_hidden_units=(2, 2, 2, 2), **NET),
            CROSS,
        ),
        {},
    ),
    "StochasticDiscountFactorModel": (
        lambda: latent(
            m.StochasticDiscountFactorModel, m.StochasticDiscountFactorConfig(**SDF), CROSS
        ),
        {},
    ),
    "LSTMPortfolioModel": (
        lambda: latent(m.LSTMPortfolioModel, m.LSTMPortfolioConfig(**STEPS), WINDOWS),
        {"batch": WINDOWS},
    ),
    "DeepPortfolioModel": (
        lambda: latent(
            m.DeepPortfolioModel,
            m.DeepPortfolioConfig(d_model=2, max_iters=1, checkpoint_steps=(1,)),
            WINDOWS,
        ),
        {"batch": WINDOWS},
    ),
    **{
        name: (lambda name=name: latent(getattr(m, name), *FORECASTERS[name]), {})
        for name in FORECASTERS
    },
}
# Methods that are inherited from elsewhere, take what the caller pleases, or write files.
SKIPPED = {
    "save",
    "load",
    "from_artifact",
    "to_artifact",
    "fit_windows",
    "set_params",
    "get_params",
}
OPAQUE = {"metadata", "timestamps", "checkpoint_epoch", "constants", "outcomes", "checkpoint"}


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    """Some of the values are paths."""
    monkeypatch.chdir(tmp_path)


def functions():
    for name in m.__all__:
        one = getattr(m, name)
        if inspect.isfunction(one) and not name.startswith(("plot_", "set_num")):
            yield name, one, HANDOVER if "backtest" in name and "frames" not in name else {}


def constructors():
    for name in m.__all__:
        one = getattr(m, name)
        protocol = getattr(one, "_is_protocol", False)
        if inspect.isclass(one) and not protocol and name not in {"ModelSummary"} | MADE:
            yield name, one, RECORDS.get(name, {})


def methods():
    for name, (make, valid) in METHODS.items():
        kind = getattr(m, name)
        for method, _ in inspect.getmembers(kind, callable):
            if inspect.isclass(getattr(kind, method)):
                continue
            if not method.startswith("_") and method not in SKIPPED | {
                "config_type",
                "fit_type",
                "test_observed_factors",
            }:
                yield f"{name}.{method}", (make, method), valid


def complaints(call, parameters, valid):
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        needed = {
            other: {**VALID, **valid}[other]
            for other, one in parameters.items()
            if other in {**VALID, **valid} and (one.default is one.empty or other in valid)
        }
        for label, wrong in WRONG.items():
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    call(**{**needed, name: wrong})
            except NAMED as error:
                if name not in str(error) and not any(word in str(error) for word in CLEAR):
                    yield f"{name}={label}: {type(error).__name__}: {str(error)[:120]}"
            except KeyError as error:
                if "not found in" not in str(error) and "must be among" not in str(error):
                    yield f"{name}={label}: {type(error).__name__}: {str(error)[:120]}"
            except Exception as error:
                yield f"{name}={label}: {type(error).__name__}: {str(error)[:120]}"


@pytest.mark.parametrize(
    ("one", "valid"), [pytest.param(one, valid, id=name) for name, one, valid in functions()]
)
def test_functions_name_the_parameter(one, valid):
    assert not list(complaints(one, inspect.signature(one).parameters, valid))


@pytest.mark.parametrize(
    ("one", "valid"), [pytest.param(one, valid, id=name) for name, one, valid in constructors()]
)
def test_constructors_name_the_parameter(one, valid):
    parameters = dict(inspect.signature(one).parameters)
    if dataclasses.is_dataclass(one):
        parameters = {k: v for k, v in parameters.items() if k not in OPAQUE}
    assert not list(complaints(one, parameters, valid))


@pytest.mark.parametrize(
    ("place", "valid"), [pytest.param(one, valid, id=name) for name, one, valid in methods()]
)
def test_methods_name_the_parameter(place, valid):
    make, method = place
    bound = getattr(make(), method)
    assert not list(complaints(bound, inspect.signature(bound).parameters, valid))
