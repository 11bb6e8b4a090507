"""Settings: fields, order, defaults, rules and the words of every refusal."""

from __future__ import annotations

import dataclasses
import pickle
from typing import get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import configs
from ml4t.models.configs.asset_prediction import SAEConfig
from ml4t.models.configs.base import BaseModelConfig
from ml4t.models.configs.checkpoints import checkpoint_grid
from ml4t.models.configs.forecaster import (
    AR1ForecasterConfig,
    CombinedForecasterConfig,
    EWMABaseForecasterConfig,
    ExpandingMeanForecasterConfig,
    MacroForecasterConfig,
    VAR1ForecasterConfig,
)
from ml4t.models.configs.latent_factor import (
    CAEConfig,
    IPCAConfig,
    LatentFactorConfig,
    PCAConfig,
    RPPCAConfig,
)
from ml4t.models.configs.mapper import RegimeSwitchingMapperConfig, StateConditionalMapperConfig
from ml4t.models.configs.pipeline import MapperConfig
from ml4t.models.configs.portfolio import (
    DeepPortfolioConfig,
    LinearPortfolioConfig,
    LSTMPortfolioConfig,
    PortfolioConfig,
)
from ml4t.models.configs.stochastic_discount_factor import StochasticDiscountFactorConfig

SDFConfig = StochasticDiscountFactorConfig
ALL = [getattr(configs, name) for name in configs.__all__]

BASE = {"seed": 42, "device": "cpu", "dtype": "float64"}
FACTORS = BASE | {"n_factors": 5}
PORTFOLIO = BASE | {
    "turnover_penalty": 0.0,
    "dropout": 0.1,
    "asset_embedding_dim": 8,
    "group_embedding_dim": 4,
    "use_group_embedding": False,
    "use_cost_in_context": False,
    "vvsn_hidden_dim": 64,
    "batch_size": 16,
    "learning_rate": 1e-4,
    "weight_decay": 1e-4,
    "max_grad_norm": 1.0,
    "annualization_factor": 252.0,
    "sharpe_eps": 1e-8,
    "gamma_cost": 0.5,
    "softmin_tau": 0.2,
    "softmin_lambda": 0.1,
    "burn_in": 0,
    "max_iters": 200,
    "eval_every": 10,
    "metric_ema_alpha": 0.45,
    "metric_min_delta": 0.001,
    "early_stopping_patience": 20,
    "early_stopping_burn_in_iters": 20,
    "checkpoint_every": 10,
    "checkpoint_steps": (),
    "default_checkpoint": None,
}
# Fields with their defaults, in the order in which they may be given by position.
FIELDS = {
    BaseModelConfig: BASE,
    LatentFactorConfig: FACTORS,
    ExpandingMeanForecasterConfig: BASE,
    AR1ForecasterConfig: BASE,
    EWMABaseForecasterConfig: BASE | {"half_life": 12.0},
    VAR1ForecasterConfig: BASE,
    MacroForecasterConfig: BASE,
    CombinedForecasterConfig: BASE,
    StateConditionalMapperConfig: BASE,
    RegimeSwitchingMapperConfig: BASE,
    PCAConfig: FACTORS,
    RPPCAConfig: FACTORS
    | {
        "gamma": 0.0,
        "base_moment": "second_moment",
        "scale_by_asset_volatility": False,
        "normalize_loadings": "unit_length",
        "orthogonalize_factors": False,
    },
    IPCAConfig: FACTORS
    | {"max_iter": 10_000, "tol": 1e-6, "factor_ridge": 1e-6, "gamma_ridge": 1e-6},
    CAEConfig: FACTORS
    | {
        "task_type": "regression",
        "hidden_units": (32,),
        "n_ensemble": 1,
        "n_epochs": 50,
        "checkpoint_interval": 5,
        "checkpoint_epochs": (),
        "default_checkpoint": None,
        "lr": 1e-3,
        "lambda_l1": 1e-4,
        "batch_size": 10_000,
    },
    SAEConfig: BASE
    | {
        "task_type": "regression",
        "bottleneck_dim": 96,
        "aux_hidden_dim": 96,
        "main_hidden_units": (896, 448, 448, 256),
        "dropout_rates": None,
        "noise_std": 0.035,
        "alpha": 1.0,
        "aux_weight": 1.0,
        "n_epochs": 50,
        "batch_size": None,
        "checkpoint_interval": 5,
        "checkpoint_epochs": (),
        "default_checkpoint": None,
        "lr": 1e-4,
    },
    SDFConfig: BASE
    | {
        "state_dim_sdf": 4,
        "state_dim_moment": 32,
        "hidden_dim": 64,
        "n_instruments": 8,
        "dropout": 0.05,
        "n_epochs_unc": 256,
        "n_epochs_moment": 64,
        "n_epochs_cond": 1024,
        "checkpoint_interval": None,
        "checkpoint_epochs": (),
        "default_checkpoint": None,
        "beta_state_dim": 4,
        "beta_hidden_dim": 64,
        "beta_n_epochs": 256,
        "beta_checkpoint_interval": None,
        "beta_checkpoint_epochs": (),
        "beta_default_checkpoint": None,
        "beta_lr": 1e-3,
        "burn_in_epochs": 0,
        "lr": 1e-3,
        "weight_decay": 0.0,
    },
    PortfolioConfig: PORTFOLIO,
    LinearPortfolioConfig: PORTFOLIO
    | {
        "ridge_alpha": 1e-4,
        "fit_intercept": True,
        "gross_exposure": 1.0,
        "net_exposure": 0.0,
        "max_abs_weight": None,
    },
    LSTMPortfolioConfig: PORTFOLIO | {"hidden_size": 64, "n_layers": 1},
    DeepPortfolioConfig: PORTFOLIO
    | {
        "d_model": 64,
        "n_heads": 2,
        "lstm_layers": 1,
        "temporal_mha_layers": 1,
        "cross_attention_heads": 2,
        "cross_attention_lag": 1,
        "macro_gnn_heads": 2,
        "adapter_hidden_mult": 2,
    },
    MapperConfig: {"model_name": "beta_lambda"},
}
# Settings that 0.1.x did not have; by keyword only.
NEW = {
    PCAConfig: {"missing": "em"},
    AR1ForecasterConfig: {"shrinkage": 0.0, "max_root": 0.99},
    VAR1ForecasterConfig: {"shrinkage": 0.0, "max_root": 0.99},
    MacroForecasterConfig: {"method": "ols", "ridge": 1.0, "n_proxies": 1},
    CombinedForecasterConfig: {
        "members": (ExpandingMeanForecasterConfig(), AR1ForecasterConfig()),
        "weights": None,
    },
    StateConditionalMapperConfig: {"method": "kernel", "bandwidth": None},
    RegimeSwitchingMapperConfig: {
        "n_regimes": 2,
        "n_starts": 4,
        "max_iter": 500,
        "tol": 1e-8,
        "prior_weight": 1.0,
    },
    IPCAConfig: {
        "intercept": False,
        "weighting": "panel",
        "constant": True,
        "min_assets": 2,
        "missing": "skip",
        "normalization": "orthonormal",
        "identity_on": (),
        "n_starts": 1,
        "penalty": 0.0,
        "l1_ratio": 0.5,
    },
    CAEConfig: {"factor_inputs": "managed", "l1_scope": "beta_hidden"},
    SDFConfig: {"n_ensemble": 1, "validation_loss": "unconditional"},
    LSTMPortfolioConfig: {"minibatch": False, "head": "tanh", "gross_exposure": 1.0},
    DeepPortfolioConfig: {"minibatch": False, "head": "tanh", "gross_exposure": 1.0},
}
MODEL_NAMES = {
    ExpandingMeanForecasterConfig: "expanding_mean",
    AR1ForecasterConfig: "ar1",
    EWMABaseForecasterConfig: "ewma",
    VAR1ForecasterConfig: "var1",
    MacroForecasterConfig: "macro",
    CombinedForecasterConfig: "combined",
    StateConditionalMapperConfig: "state_conditional",
    RegimeSwitchingMapperConfig: "regime_switching",
    PCAConfig: "pca",
    RPPCAConfig: "rp_pca",
    IPCAConfig: "ipca",
    CAEConfig: "cae",
    SAEConfig: "sae",
    SDFConfig: "stochastic_discount_factor",
    PortfolioConfig: "portfolio_model",
    LinearPortfolioConfig: "linear_portfolio",
    LSTMPortfolioConfig: "lstm_portfolio",
    DeepPortfolioConfig: "deep_portfolio",
}

COUNT = (0, -1, 1.5, True, float("nan"))
WHOLE = (-1, 0.5, True)
POSITIVE = (0.0, -1.0, float("nan"), float("inf"), True)
NON_NEGATIVE = (-1e-9, float("nan"), float("inf"))
PROBABILITY = (-0.1, 1.0, float("nan"))
COUNTS_OF = {
    LatentFactorConfig: ["n_factors"],
    MacroForecasterConfig: ["n_proxies"],
    RegimeSwitchingMapperConfig: ["n_regimes", "n_starts", "max_iter"],
    IPCAConfig: ["max_iter", "min_assets", "n_starts"],
    CAEConfig: ["n_ensemble", "n_epochs", "checkpoint_interval", "batch_size"],
    SAEConfig: ["bottleneck_dim", "aux_hidden_dim", "n_epochs", "batch_size"],
    SDFConfig: [
        *("state_dim_sdf", "state_dim_moment", "hidden_dim", "n_instruments", "n_epochs_unc"),
        *("n_epochs_moment", "n_epochs_cond", "checkpoint_interval", "beta_state_dim"),
        *("beta_hidden_dim", "beta_n_epochs", "beta_checkpoint_interval", "n_ensemble"),
    ],
    PortfolioConfig: [
        *("asset_embedding_dim", "group_embedding_dim", "vvsn_hidden_dim", "batch_size"),
        *("max_iters", "eval_every", "early_stopping_patience", "checkpoint_every"),
    ],
    LSTMPortfolioConfig: ["hidden_size", "n_layers"],
    DeepPortfolioConfig: [
        *("d_model", "n_heads", "lstm_layers", "temporal_mha_layers", "cross_attention_heads"),
        *("macro_gnn_heads", "adapter_hidden_mult"),
    ],
}
WHOLES_OF = {
    IPCAConfig: ["n_factors"],
    SDFConfig: ["burn_in_epochs"],
    PortfolioConfig: ["burn_in", "early_stopping_burn_in_iters"],
    DeepPortfolioConfig: ["cross_attention_lag"],
}
POSITIVES_OF = {
    EWMABaseForecasterConfig: ["half_life"],
    AR1ForecasterConfig: ["max_root"],
    VAR1ForecasterConfig: ["max_root"],
    StateConditionalMapperConfig: ["bandwidth"],
    RegimeSwitchingMapperConfig: ["tol", "prior_weight"],
    IPCAConfig: ["tol"],
    CAEConfig: ["lr"],
    SAEConfig: ["lr"],
    SDFConfig: ["lr", "beta_lr"],
    PortfolioConfig: [
        *("learning_rate", "max_grad_norm", "annualization_factor", "sharpe_eps", "softmin_tau"),
        "metric_ema_alpha",
    ],
    LinearPortfolioConfig: ["gross_exposure", "max_abs_weight"],
}
NON_NEGATIVES_OF = {
    IPCAConfig: ["factor_ridge", "gamma_ridge", "penalty", "l1_ratio"],
    CAEConfig: ["lambda_l1"],
    SAEConfig: ["noise_std", "alpha", "aux_weight"],
    SDFConfig: ["weight_decay"],
    PortfolioConfig: [
        *("turnover_penalty", "weight_decay", "gamma_cost", "softmin_lambda", "metric_min_delta"),
    ],
    LinearPortfolioConfig: ["ridge_alpha"],
    AR1ForecasterConfig: ["shrinkage"],
    VAR1ForecasterConfig: ["shrinkage"],
    MacroForecasterConfig: ["ridge"],
}
PROBABILITIES_OF = {SDFConfig: ["dropout"], PortfolioConfig: ["dropout"]}


def cases(kind, values):
    return [(c, name, value) for c, names in kind.items() for name in names for value in values]


@pytest.mark.parametrize("config_type", FIELDS, ids=lambda c: c.__name__)
def test_fields_and_defaults_stand_in_order(config_type):
    config = config_type()
    got = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}
    expected = FIELDS[config_type] | NEW.get(config_type, {})
    assert list(got.items()) == list(expected.items())
    assert [type(value) for value in got.values()] == [type(v) for v in expected.values()]


@pytest.mark.parametrize("config_type", FIELDS, ids=lambda c: c.__name__)
def test_contract_fields_may_be_given_by_position(config_type):
    assert config_type(*FIELDS[config_type].values()) == config_type()


@pytest.mark.parametrize("config_type", NEW, ids=lambda c: c.__name__)
def test_new_fields_are_given_by_keyword_only(config_type):
    with pytest.raises(TypeError):
        config_type(*FIELDS[config_type].values(), *NEW[config_type].values())


@pytest.mark.parametrize("config_type", MODEL_NAMES, ids=lambda c: c.__name__)
@pytest.mark.parametrize(
    "name", ["model_name", "output_mode", "expected_return_mapper", "persistent_entities"]
)
def test_what_belongs_to_the_class_is_no_argument(config_type, name):
    with pytest.raises(TypeError, match=name):
        config_type(**{name: "x"})


@pytest.mark.parametrize("config_type", MODEL_NAMES, ids=lambda c: c.__name__)
def test_a_config_names_its_model(config_type):
    assert config_type.model_name == MODEL_NAMES[config_type] == config_type().model_name


def test_persistent_entities_are_asked_for_by_pca_and_rp_pca_alone():
    persistent = {
        c for c in (PCAConfig, RPPCAConfig, IPCAConfig, CAEConfig) if c.persistent_entities
    }
    assert persistent == {PCAConfig, RPPCAConfig}


@pytest.mark.parametrize("name", ["output_mode", "expected_return_mapper"])
def test_the_modes_of_the_sdf_can_be_replaced_on_the_class(monkeypatch, name):
    config = SDFConfig()
    monkeypatch.setattr(SDFConfig, name, "other")
    assert getattr(config, name) == "other"


@pytest.mark.parametrize("config_type", ALL, ids=lambda c: c.__name__)
def test_configs_are_frozen_slotted_picklable_and_replaceable(config_type):
    config = config_type(seed=7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    assert not hasattr(config, "__dict__")
    assert pickle.loads(pickle.dumps(config)) == config
    assert dataclasses.replace(config, seed=42) == config_type()
    assert hash(config) == hash(config_type(seed=7))


def test_type_hints_are_plain_types_to_consumers():
    assert get_type_hints(PCAConfig)["n_factors"] is int
    assert get_type_hints(IPCAConfig)["tol"] is float


@pytest.mark.parametrize(
    ("config_type", "name", "value"),
    [
        *cases(COUNTS_OF, COUNT),
        *cases(WHOLES_OF, WHOLE),
        *cases(POSITIVES_OF, POSITIVE),
        *cases(NON_NEGATIVES_OF, NON_NEGATIVE),
        *cases(PROBABILITIES_OF, PROBABILITY),
        (BaseModelConfig, "seed", True),
        (BaseModelConfig, "seed", 1.0),
        (RPPCAConfig, "gamma", float("nan")),
        (RPPCAConfig, "gamma", float("inf")),
        (RPPCAConfig, "base_moment", "correlation"),
        (IPCAConfig, "missing", "mean"),
        (IPCAConfig, "l1_ratio", 1.1),
        (IPCAConfig, "normalization", "none"),
        (IPCAConfig, "identity_on", ("size",)),
        (IPCAConfig, "identity_on", (-1,)),
        (RPPCAConfig, "normalize_loadings", "none"),
        (RPPCAConfig, "scale_by_asset_volatility", 1),
        (IPCAConfig, "weighting", "asset"),
        (CAEConfig, "task_type", "ranking"),
        (CAEConfig, "hidden_units", (32, 0)),
        (CAEConfig, "factor_inputs", "returns"),
        (CAEConfig, "l1_scope", "none"),
        (SAEConfig, "task_type", None),
        (SAEConfig, "main_hidden_units", (1, 2, 3)),
        (SAEConfig, "main_hidden_units", (1, 2, 3, 0)),
        (SAEConfig, "dropout_rates", (0.1,) * 7),
        (SAEConfig, "dropout_rates", (0.1,) * 7 + (1.0,)),
        (PortfolioConfig, "metric_ema_alpha", 1.1),
        (AR1ForecasterConfig, "shrinkage", 1.1),
        (AR1ForecasterConfig, "max_root", 1.1),
        (VAR1ForecasterConfig, "shrinkage", 1.1),
        (VAR1ForecasterConfig, "max_root", 1.1),
        (MacroForecasterConfig, "method", "lasso"),
        (StateConditionalMapperConfig, "method", "spline"),
        (RegimeSwitchingMapperConfig, "n_regimes", 1),
        (CombinedForecasterConfig, "members", ()),
        (CombinedForecasterConfig, "weights", (1.0,)),
        (CombinedForecasterConfig, "weights", (0.0, 0.0)),
        (CombinedForecasterConfig, "weights", (1.0, -0.5)),
        (LinearPortfolioConfig, "net_exposure", 1.1),
        (LinearPortfolioConfig, "net_exposure", -1.1),
        (DeepPortfolioConfig, "d_model", 63),
        (MapperConfig, "model_name", ""),
    ],
)
def test_a_broken_rule_is_a_value_error_that_starts_with_the_field(config_type, name, value):
    with pytest.raises(ValueError, match=f"^{name} "):
        config_type(**{name: value})


NUMERIC = [
    (config_type, f.name)
    for config_type in ALL
    for f in dataclasses.fields(config_type)
    if get_type_hints(config_type)[f.name] in (int, float, int | None, float | None)
]


@pytest.mark.parametrize(("config_type", "name"), NUMERIC)
@pytest.mark.parametrize("text", ["1", b"1", np.str_("1")])
def test_text_is_not_a_number(config_type, name, text):
    with pytest.raises(TypeError, match=f"^{name} "):
        config_type(**{name: text})


@pytest.mark.parametrize(("config_type", "name"), NUMERIC)
def test_numpy_numbers_become_pythons(config_type, name):
    default = getattr(config_type(), name)
    value = 2 if default is None else default
    kind = np.int32 if isinstance(value, int) else np.float64
    got = getattr(config_type(**{name: kind(value)}), name)
    assert got == value
    assert type(got) in (int, float)


@pytest.mark.parametrize("heads", ["n_heads", "cross_attention_heads", "macro_gnn_heads"])
def test_d_model_divides_into_every_kind_of_head(heads):
    with pytest.raises(ValueError, match=f"d_model must be divisible by {heads}=3; got 64"):
        DeepPortfolioConfig(**{heads: 3})


def test_sequences_become_tuples():
    assert CAEConfig(hidden_units=[8, np.int64(4)]).hidden_units == (8, 4)
    assert CAEConfig(hidden_units=np.array([8, 4])).hidden_units == (8, 4)
    assert CAEConfig(hidden_units=()).hidden_units == ()
    with pytest.raises(TypeError, match="hidden_units must be a sequence; got int"):
        CAEConfig(hidden_units=8)


@pytest.mark.parametrize(
    ("given_device", "held"),
    [
        *(("cpu", "cpu"), ("CPU", "cpu"), ("cuda", "cuda"), ("CUDA:0", "cuda:0")),
        *(("cuda:12", "cuda:12"), ("Auto", "auto")),
    ],
)
def test_devices_are_held_in_lower_case(given_device, held):
    assert PCAConfig(device=given_device).device == held


@pytest.mark.parametrize(
    "device", ["gpu", "cuda:", "cuda:x", " cpu", "cpu\n", "cuda:-1", "", None, 0]
)
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match=r"^device must be"):
        PCAConfig(device=device)


@pytest.mark.parametrize("config_type", ALL, ids=lambda c: c.__name__)
def test_metal_devices_have_no_float64(config_type):
    with pytest.raises(ValueError, match=r"^device mps has no float64"):
        config_type(device="MPS")
    assert config_type(device="MPS", dtype="float32").device == "mps"


@pytest.mark.parametrize("dtype", ["float16", "Float64", "", None, np.float32])
def test_other_precisions_are_refused(dtype):
    with pytest.raises(ValueError, match=r"^dtype must be one of float32, float64"):
        PCAConfig(dtype=dtype)


# Checkpoints


@pytest.mark.parametrize(
    ("total", "interval", "explicit", "grid"),
    [
        (10, 5, (), (5, 10)),
        (5, 2, (), (2, 4, 5)),
        (5, None, (), (5,)),
        (5, 0, (), (5,)),
        (5, -1, (), (5,)),
        (5, 9, (), (5,)),
        (5, 2, (3, 1, 3), (1, 3, 5)),
        (5, 2, (0, 9), (5,)),
    ],
)
def test_the_grid_of_examples(total, interval, explicit, grid):
    assert checkpoint_grid(total, interval, explicit) == grid


@given(
    st.integers(1, 60),
    st.none() | st.integers(-2, 70),
    st.lists(st.integers(-5, 70), max_size=6),
)
def test_a_grid_ascends_within_the_training_and_ends_with_it(total, interval, explicit):
    grid = checkpoint_grid(total, interval, explicit)
    assert list(grid) == sorted(set(grid))
    assert grid[0] >= 1
    assert grid[-1] == total
    assert {e for e in explicit if 1 <= e <= total} <= set(grid)
    if not explicit and interval is not None and interval >= 1:
        assert all(epoch % interval == 0 for epoch in grid[:-1])


# (config, its total, its list of epochs, its default, settings that make the total 10)
SCHEDULES = [
    (CAEConfig, "checkpoint_epochs", "default_checkpoint", {"n_epochs": 10}),
    (SAEConfig, "checkpoint_epochs", "default_checkpoint", {"n_epochs": 10}),
    (
        SDFConfig,
        "checkpoint_epochs",
        "default_checkpoint",
        {"n_epochs_unc": 5, "n_epochs_cond": 10},
    ),
    (SDFConfig, "beta_checkpoint_epochs", "beta_default_checkpoint", {"beta_n_epochs": 10}),
    (LSTMPortfolioConfig, "checkpoint_steps", "default_checkpoint", {"max_iters": 10}),
    (DeepPortfolioConfig, "checkpoint_steps", "default_checkpoint", {"max_iters": 10}),
]


@pytest.mark.parametrize(("config_type", "epochs", "default", "total"), SCHEDULES)
def test_schedules_refuse_by_name(config_type, epochs, default, total):
    with pytest.raises(ValueError, match=f"^{epochs} must not repeat"):
        config_type(**total, **{epochs: (3, 3)})
    for bad in (0, -1, True, 1.5):
        with pytest.raises(ValueError, match=f"^{epochs} entry"):
            config_type(**total, **{epochs: (bad,)})
    with pytest.raises(ValueError, match=f"^{epochs} entries must be <= 10; got 11"):
        config_type(**total, **{epochs: (3, 11)})
    for bad in (0, -1, 1.5, True, "last", 99):
        with pytest.raises(ValueError, match=f"^{default} must be"):
            config_type(**total, **{default: bad})


@pytest.mark.parametrize(("config_type", "epochs", "default", "total"), SCHEDULES)
def test_the_default_checkpoint_is_on_the_grid_or_the_best(config_type, epochs, default, total):
    schedule = total | {epochs: [2, np.int64(4)]}
    for good in (2, np.int64(4), "best", None):
        config = config_type(**schedule, **{default: good})
        assert getattr(config, default) == good
    assert getattr(config, epochs) == (2, 4)
    with pytest.raises(ValueError, match=f"^{default} must be one of the checkpoints"):
        config_type(**schedule, **{default: 3})


def test_intervals_lay_the_grid_of_each_model():
    assert CAEConfig(n_epochs=12).checkpoint_grid == (5, 10, 12)
    assert SAEConfig(n_epochs=12, checkpoint_interval=None).checkpoint_grid == (12,)
    assert LSTMPortfolioConfig(max_iters=25).checkpoint_grid == (10, 20, 25)
    assert SDFConfig(beta_n_epochs=5, beta_checkpoint_interval=2).beta_checkpoint_grid == (2, 4, 5)


def test_a_regression_has_one_checkpoint():
    assert LinearPortfolioConfig(default_checkpoint=1).checkpoint_grid == (1,)
    with pytest.raises(ValueError, match="default_checkpoint"):
        LinearPortfolioConfig(default_checkpoint=10)


def test_one_grid_over_the_longer_phase_is_cut_to_each_phase():
    config = SDFConfig(n_epochs_unc=4, n_epochs_cond=6, checkpoint_interval=2, burn_in_epochs=2)
    assert config.checkpoint_grid == (
        *(("unconditional", 4),),
        *(("conditional", 4), ("conditional", 6)),
    )
    assert SDFConfig().checkpoint_grid == (("conditional", 1024),)


def test_phase_labels_refuse_by_name():
    epochs = {"n_epochs_unc": 2, "n_epochs_moment": 2, "n_epochs_cond": 2}
    for phase in ("unconditional", "moment", "conditional"):
        with pytest.raises(ValueError, match=r"^default_checkpoint epoch must be <= 2; got 3"):
            SDFConfig(**epochs, default_checkpoint=(phase, 3))
        for bad in (0, -1, 1.5, True):
            with pytest.raises(ValueError, match=r"^default_checkpoint epoch"):
                SDFConfig(**epochs, default_checkpoint=(phase, bad))
    with pytest.raises(ValueError, match="default_checkpoint phase is invalid"):
        SDFConfig(default_checkpoint=("final", 2))
    with pytest.raises(ValueError, match=r"^default_checkpoint must be a phase and an epoch"):
        SDFConfig(default_checkpoint=("conditional",))
    with pytest.raises(ValueError, match=r"^default_checkpoint must be one of the checkpoints"):
        SDFConfig(**epochs, default_checkpoint=("moment", 2))


def test_phase_labels_on_the_grid_are_held_as_tuples():
    config = SDFConfig(default_checkpoint=["conditional", np.int64(1024)])
    assert config.default_checkpoint == ("conditional", 1024)


def test_an_integer_default_is_the_label_that_0_1_x_printed():
    config = SDFConfig(n_epochs_unc=256, n_epochs_cond=1024, default_checkpoint=1280)
    assert config.legacy_label(1280) == ("conditional", 1024)
    assert config.legacy_label(256) == ("unconditional", 256)
    with pytest.raises(ValueError, match=r"^default_checkpoint .*got 1024, which means \('cond"):
        SDFConfig(default_checkpoint=1024)
