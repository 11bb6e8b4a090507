"""What `ml4t.models` exports, and that it loads nothing before it is asked for."""

from __future__ import annotations

import ast
import importlib
import pickle
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import ml4t.models
from ml4t.models import _public_api

# The names that existing users import from the root.
CONTRACT = """
    AR1FactorForecaster AR1ForecasterConfig AssetForecastResult AssetMapper AssetPredictionModel
    AssetSignalResult AssetWeightsResult BacktestDataFeedInputs BetaLambdaMapper CAEConfig CAEModel
    ContextFrame CrossSectionBatch DeepPortfolioConfig DeepPortfolioModel EWMABaseFactorForecaster
    EWMABaseForecasterConfig ExpandingMeanFactorForecaster ExpandingMeanForecasterConfig
    FactorForecastResult FactorForecaster FitRunRecord FitSummary IPCAConfig IPCAModel
    LSTMPortfolioConfig LSTMPortfolioModel LatentFactorForecastPipeline LatentFactorModel
    LatentFactorPrediction LatentFactorState LinearFeaturePortfolioModel LinearPortfolioConfig
    LinearStochasticDiscountFactorReturnMapper PCAConfig PCAModel PersistentPanelBatch
    PipelineFitResult PortfolioAllocationPipeline PortfolioModel PortfolioPipelineFitResult
    PortfolioPostprocessor PortfolioPrediction PortfolioSequenceBatch PortfolioWeightsResult
    PredictionsFrame RPPCAConfig RPPCAModel ResolvedDatasetSchema ResultsFrame SAEConfig SAEModel
    SignalsFrame StochasticDiscountFactorBetaNetworkHead StochasticDiscountFactorConfig
    StochasticDiscountFactorEstimator StochasticDiscountFactorModel StochasticDiscountFactorState
    WeightConstraintPostprocessor WeightsFrame __version__ backtest_datafeed_inputs
    backtest_inputs_from_asset_forecast backtest_inputs_from_asset_signal
    backtest_inputs_from_weights context_frame_from_weights cross_section_batch_from_long_frame
    persistent_panel_batch_from_long_frame predictions_frame_from_asset_forecast
    predictions_frame_from_asset_signal resolve_dataset_schema resolve_feed_spec_mapping
    signals_frame_from_asset_weights signals_frame_from_portfolio_weights
    weights_frame_from_asset_weights weights_frame_from_portfolio_weights write_backtest_frames
    """
EXACT = {
    "api": """AssetMapper AssetPredictionModel FactorForecaster LatentFactorModel PortfolioModel
        PortfolioPostprocessor StochasticDiscountFactorEstimator""",
    "types": """AssetForecastResult AssetSignalResult AssetWeightsResult CrossSectionBatch
        FactorForecastResult FitRunRecord FitSummary LatentFactorPrediction LatentFactorState
        PersistentPanelBatch PortfolioPrediction PortfolioSequenceBatch PortfolioWeightsResult
        StochasticDiscountFactorState""",
}
# Those that need torch to be constructed.
NEED_TORCH = {"DeepPortfolioModel", "LSTMPortfolioModel"}

REFUSE_IMPORTS = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


def run_fresh(script: str) -> str:
    """Run a script in a fresh interpreter that sees the same package."""
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", path + script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_root_list_is_sorted_and_matches_the_table():
    assert ml4t.models.__all__ == sorted(ml4t.models.__all__)
    assert tuple(ml4t.models.__all__) == _public_api.STABLE_ROOT_EXPORTS


def test_every_contract_name_is_exported():
    assert set(ml4t.models.__all__) >= set(CONTRACT.split())


@pytest.mark.parametrize("name", _public_api.STABLE_ROOT_EXPORTS)
def test_a_public_name_loads_and_stays(name):
    value = getattr(ml4t.models, name)
    assert vars(ml4t.models)[name] is value
    assert name in dir(ml4t.models)


@pytest.mark.parametrize("module", _public_api.MODULES)
def test_a_family_lists_what_the_root_exports_of_it(module):
    family = importlib.import_module(f"ml4t.models.{module}")
    listed = {name for name, home in _public_api.MODULE_OF.items() if home == module}
    assert set(family.__all__) == listed
    assert not [name for name in listed if name.startswith("Base")]
    assert getattr(ml4t.models, module) is family


@pytest.mark.parametrize("module", EXACT)
def test_the_closed_families_list_exactly_their_names(module):
    family = importlib.import_module(f"ml4t.models.{module}")
    assert sorted(family.__all__) == sorted(EXACT[module].split())


def test_type_checkers_see_the_same_families():
    tree = ast.parse(Path(ml4t.models.__file__).read_text(encoding="utf-8"))
    starred = {
        node.module.removeprefix("ml4t.models.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
    }
    assert starred == set(_public_api.MODULES)


def test_a_star_import_gives_the_public_names():
    names: dict[str, object] = {}
    exec("from ml4t.models import *", names)
    assert names.keys() >= set(ml4t.models.__all__)


@pytest.mark.parametrize("name", ["PipelineConfig", "SurfaceFrame", "nothing_of_that_name"])
def test_other_names_are_ordinary_attribute_errors(name):
    assert name not in ml4t.models.__all__
    with pytest.raises(AttributeError, match=name):
        getattr(ml4t.models, name)


def test_the_version_is_that_of_the_distribution():
    assert ml4t.models.__version__ == version("ml4t-models")


def test_importing_the_package_loads_neither_torch_nor_polars():
    loaded = run_fresh(
        "import ml4t.models, ml4t.models.configs, ml4t.models.types, sys\n"
        "print(sorted({'torch', 'polars', 'pandas'} & sys.modules.keys()))"
    )
    assert loaded == "[]"


def test_frames_are_touched_before_their_libraries_are():
    loaded = run_fresh(
        "import ml4t.models, sys\nfor name in ml4t.models.__all__: getattr(ml4t.models, name)\n"
        "print(sorted({'narwhals', 'polars', 'pandas', 'pyarrow'} & sys.modules.keys()))"
    )
    assert loaded == "[]"


@pytest.mark.parametrize(
    "package", ["torch", "polars", "pandas", "pyarrow", "narwhals", "plotly", "tqdm", "sklearn"]
)
def test_the_namespace_can_be_explored_without_an_optional_package(package):
    explored = run_fresh(
        REFUSE_IMPORTS.format(package=package)
        + """
import importlib, inspect, pydoc
import ml4t.models
from ml4t.models import *
from ml4t.models._public_api import MODULE_OF, MODULES

assert all(hasattr(ml4t.models, name) for name in ml4t.models.__all__)
assert set(ml4t.models.__all__) | set(MODULES) <= set(dir(ml4t.models))
members = dict(inspect.getmembers(ml4t.models))
assert set(ml4t.models.__all__) <= members.keys()
assert all(name in globals() for name in ml4t.models.__all__)
assert not hasattr(ml4t.models, "NoSuchName")
assert "LSTMPortfolioModel" in pydoc.render_doc(ml4t.models)
for name in MODULES:
    module = importlib.import_module(f"ml4t.models.{name}")
    exec(f"from ml4t.models.{name} import *")
    assert all(hasattr(module, one) for one, home in MODULE_OF.items() if home == name)
    inspect.getmembers(module)
    pydoc.render_doc(module)
print("explored")
"""
    )
    assert explored == "explored"


@pytest.mark.parametrize("module", ["ml4t.models", "ml4t.models.portfolio"])
def test_names_that_load_late_are_listed_from_the_start(module):
    listed = run_fresh(f"import {module}\nprint(set({module}.__all__) <= set(dir({module})))")
    assert listed == "True"


@pytest.mark.parametrize("module", ["ml4t.models", "ml4t.models.portfolio"])
@pytest.mark.parametrize("name", sorted(NEED_TORCH))
@pytest.mark.parametrize(
    "block",
    [REFUSE_IMPORTS.format(package="torch"), "import sys\nsys.modules['torch'] = None\n"],
)
def test_networks_of_portfolios_ask_for_torch_when_they_are_constructed(module, name, block):
    said = run_fresh(
        block + f"import {module}, ml4t.models.configs as configs\n"
        f"kind = {module}.{name}\nassert isinstance(kind, type)\n"
        f"try:\n    kind(configs.{name.replace('Model', 'Config')}())\n"
        "except ImportError as error:\n    print(error)"
    )
    assert said == f"{name} needs PyTorch; install ml4t-models[deep]"


def test_networks_ask_for_torch_when_they_are_used(tmp_path):
    """Models that were fitted elsewhere are unpickled, shown and asked for without torch."""
    m = ml4t.models
    rng = np.random.default_rng(0)
    z, r = rng.standard_normal((6, 5, 2)), 0.01 * rng.standard_normal((6, 5))
    cells = m.CrossSectionBatch(z, returns=r)
    windows = m.PortfolioSequenceBatch(z[None], returns=r[None])
    epochs = {"n_epochs_unc": 1, "n_epochs_moment": 1, "n_epochs_cond": 1}
    models = [
        (m.CAEModel(m.CAEConfig(n_factors=1, n_epochs=1)), cells),
        (m.SAEModel(m.SAEConfig(n_epochs=1)), cells),
        (m.StochasticDiscountFactorModel(m.StochasticDiscountFactorConfig(**epochs)), cells),
        (m.LSTMPortfolioModel(m.LSTMPortfolioConfig(max_iters=1)), windows),
        (m.DeepPortfolioModel(m.DeepPortfolioConfig(max_iters=1)), windows),
    ]
    for model, batch in models:
        model.fit(batch)
        model.save(tmp_path / f"{type(model).__name__}.ml4t")
    (tmp_path / "models.pickle").write_bytes(pickle.dumps(models))
    said = run_fresh(
        REFUSE_IMPORTS.format(package="torch")
        + f"""
import pathlib, pickle
import ml4t.models
folder = pathlib.Path({str(tmp_path)!r})
for model, batch in pickle.loads((folder / "models.pickle").read_bytes()):
    kind = type(model)
    assert model.is_fitted and kind.__name__ in repr(model)
    use = model.extract if hasattr(model, "extract") else model.predict
    for call in (
        lambda: use(batch),
        lambda: model.fit(batch),
        lambda: kind.load(folder / f"{{kind.__name__}}.ml4t"),
    ):
        try:
            call()
        except ImportError as error:
            name = kind.__name__
            assert str(error) == f"{{name}} needs PyTorch; install ml4t-models[deep]"
        else:
            raise AssertionError(kind)
    assert model.is_fitted
print("asked")
"""
    )
    assert said == "asked"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("configs.base", "BaseModelConfig"),
        ("configs.latent_factor", "LatentFactorConfig"),
        ("configs.portfolio", "PortfolioConfig"),
        ("configs.asset_prediction", "AssetPredictionConfig"),
        ("configs.pipeline", "MapperConfig"),
        ("api", "PanelBatch"),
    ],
)
def test_unlisted_names_can_be_imported_from_their_modules(module, name):
    assert hasattr(importlib.import_module(f"ml4t.models.{module}"), name)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("latent_factors", "BaseLatentFactorModel"),
        ("forecasters", "BaseFactorForecaster"),
        ("mappers", "BaseAssetMapper"),
        ("asset_prediction", "BaseAssetPredictionModel"),
        ("portfolio", "BasePortfolioModel"),
        ("stochastic_discount_factor", "BaseStochasticDiscountFactorModel"),
    ],
)
def test_a_base_takes_a_config_and_starts_unfitted(module, name):
    base = getattr(importlib.import_module(f"ml4t.models.{module}.base"), name)
    configs = importlib.import_module("ml4t.models.configs")
    pipeline = importlib.import_module("ml4t.models.configs.pipeline")
    config = pipeline.MapperConfig() if module == "mappers" else configs.PCAConfig()

    class Mine(base):
        """What a user writes."""

    mine = Mine(config)
    assert mine.config is config
    assert not mine.is_fitted
    assert mine.available_checkpoints == ()
    assert mine.last_fit_record is None


def test_a_mapper_rejects_settings_of_another_kind():
    with pytest.raises(TypeError, match="config must be a MapperConfig; got str"):
        ml4t.models.BetaLambdaMapper("beta_lambda")


def test_threads_are_capped_from_the_root():
    before = ml4t.models.get_num_threads()
    try:
        ml4t.models.set_num_threads(1)
        assert ml4t.models.get_num_threads() == 1
    finally:
        ml4t.models.set_num_threads(before)


@pytest.mark.parametrize("n_threads", [0, -1, True, 1.5, None, 5000, 2**70])
def test_no_number_of_threads_is_rejected_by_name(n_threads):
    with pytest.raises(ValueError, match="n must be"):
        ml4t.models.set_num_threads(n_threads)
