from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ml4t.models import (
    PortfolioAllocationPipeline,
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
)
from ml4t.models.configs import DeepPortfolioConfig, LinearPortfolioConfig, LSTMPortfolioConfig
from ml4t.models.portfolio import (
    DeepPortfolioModel,
    LinearFeaturePortfolioModel,
    LSTMPortfolioModel,
    VolatilityTargetPostprocessor,
    WeightConstraintPostprocessor,
    runtime,
)
from ml4t.models.portfolio.components import CrossSectionalAttention, MacroGraphAttention, Maker
from ml4t.models.portfolio.objective import Objective, windows_of
from ml4t.models.portfolio.policies.deep import DeepPolicy
from ml4t.models.portfolio.policies.lstm import LSTMPolicy
from ml4t.models.portfolio.postprocessors import apply_turnover_limit
from ml4t.models.portfolio.runtime import evaluate_pooled_sharpe, fit_policy_network
from neural_families import one_thread  # noqa: F401
from oracles import portfolio as oracle

SMALL = {"max_iters": 4, "eval_every": 2, "checkpoint_every": 2, "vvsn_hidden_dim": 5}
SMALL |= {"learning_rate": 0.01, "asset_embedding_dim": 3}


def batch(seed=0, n_windows=4, n_dates=9, n_assets=5, holes=0.2, **more):
    rng = np.random.default_rng(seed)
    shape = (n_windows, n_dates, n_assets)
    features = rng.standard_normal((*shape, 3))
    returns = 0.02 * features[..., 0] + 0.02 * rng.standard_normal(shape)
    mask = rng.random(shape) >= holes
    return PortfolioSequenceBatch(
        np.where(mask[..., None], features, np.nan),
        returns=np.where(mask, returns, np.nan),
        mask=mask,
        costs=np.full(n_assets, 1e-3),
        group_ids=np.array([4, 4, 7, 7, 7, 9][:n_assets]),
        asset_ids=[f"a{i}" for i in range(n_assets)],
        **more,
    )


def lstm(**settings):
    return LSTMPortfolioModel(LSTMPortfolioConfig(**(SMALL | {"hidden_size": 6} | settings)))


def deep(**settings):
    return DeepPortfolioModel(DeepPortfolioConfig(**(SMALL | {"d_model": 8} | settings)))


def linear(**settings):
    return LinearFeaturePortfolioModel(LinearPortfolioConfig(**settings))


def policy(kind, config, data, graph=None):
    sizes = (data.n_assets, data.features.shape[3], 3)
    if kind is lstm:
        return LSTMPolicy(sizes, config, Maker(torch.Generator().manual_seed(1), *PLACE))
    maker = Maker(torch.Generator().manual_seed(1), *PLACE)
    return DeepPolicy(sizes, config, maker, graph)


PLACE = (torch.device("cpu"), torch.float64)
neural = pytest.mark.parametrize("make", [lstm, deep])
every = pytest.mark.parametrize("make", [lstm, deep, linear])


def gradient(network, data, config):
    network.zero_grad()
    settings = {"device": PLACE[0], "dtype": PLACE[1], "group_ids": None, "costs": data.costs}
    objective = Objective(network.train(), windows_of(data, **settings), config)
    objective.loss(3, torch.arange(data.batch_size)).loss.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@neural
def test_the_chunked_gradient_is_the_full_one(make):
    data = batch(n_windows=7)
    config = make(dropout=0.2, turnover_penalty=0.01).config
    whole = gradient(policy(make, config, data), data, config)
    for size in (1, 3):
        cut = replace(config, batch_size=size)
        parts = gradient(policy(make, cut, data), data, cut)
        assert float((parts - whole).abs().max()) <= 1e-10 * (1.0 + float(whole.abs().max()))


@neural
def test_batch_size_changes_nothing_but_memory(make):
    data = batch()
    result = []
    for size in (16, 3, 1):
        model = make(batch_size=size)
        model.fit(data)
        result.append(model.predict(data).weights)
    np.testing.assert_allclose(result[1], result[0], atol=1e-9)
    np.testing.assert_allclose(result[2], result[0], atol=1e-9)


def gone_on(data, dates):
    """The same batch with returns that are missing on some dates."""
    returns = np.array(data.returns)
    returns[:, dates] = np.nan
    return replace(data, returns=returns)


@neural
@pytest.mark.parametrize(
    "settings",
    [{}, {"turnover_penalty": 0.01, "burn_in": 2}, {"batch_size": 1}, {"head": "long_short"}],
)
def test_last_dates_without_returns_have_no_part_in_a_fit(make, settings):
    rng = np.random.default_rng(2)
    data = batch(vol_scale=rng.uniform(0.5, 2.0, (4, 9, 5)))
    later = batch(seed=1)
    whole, short = make(dropout=0.0, **settings), make(dropout=0.0, **settings)
    got = whole.fit(gone_on(data, slice(7, 9)), validation_batch=gone_on(later, 8))
    want = short.fit(data.slice(0, 7), validation_batch=later.slice(0, 8))
    assert got.best_epoch == want.best_epoch
    for ours, theirs in zip(got.history, want.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-9)
    np.testing.assert_allclose(
        whole.predict(data).weights[:, :7], short.predict(data.slice(0, 7)).weights, atol=1e-10
    )
    assert "of the batch have no finite return" in got.notes[0]
    assert "of validation_batch" in got.notes[1]
    assert want.notes == ()


@neural
@pytest.mark.parametrize("junk", [np.nan, np.inf, -np.inf])
def test_a_missing_return_has_no_part_in_training(make, junk):
    data = replace(batch(holes=0.0), mask=None)
    returns = np.array(data.returns)
    rng = np.random.default_rng(3)
    gone = rng.random(returns.shape) < 0.3
    gone[1] = True
    model = make(dropout=0.0, turnover_penalty=0.01, max_iters=2)
    summary = model.fit(replace(data, returns=np.where(gone, junk, returns)))
    config = model.config
    known = np.where(gone, np.nan, returns)
    weights = model.predict(data, checkpoint=summary.best_epoch).weights
    price = config.gamma_cost * data.costs.ravel() + config.turnover_penalty
    paths = oracle.net_returns(weights, known, np.ones(gone.shape, dtype=bool), price)
    pooled = oracle.sharpe(paths[~np.isnan(paths)], 252.0, config.sharpe_eps)
    assert summary.val_metrics["best_validation_sharpe"] == pytest.approx(pooled, rel=1e-6)
    assert summary.notes == (
        f"{gone.sum()} of 180 available cells of the batch have no finite return and take no part "
        f"in the objective; {gone.all(axis=2).sum()} of 36 dates have none.",
    )


@neural
def test_minibatches_without_a_return_are_passed_over(make):
    data = gone_on(batch(n_windows=3), slice(0, 0))
    returns = np.array(data.returns)
    returns[1] = np.nan
    model = make(minibatch=True, batch_size=1)
    assert model.fit(replace(data, returns=returns)).converged
    assert np.isfinite(model.predict(data).weights).all()


@every
def test_a_fit_without_a_finite_return_raises(make):
    data = batch()
    with pytest.raises(ValueError, match="no valid observations"):
        make().fit(gone_on(data, slice(0, 9)))


@neural
def test_a_fit_without_a_finite_return_after_the_burn_in_raises(make):
    data = batch()
    with pytest.raises(ValueError, match="none of the 140 cells after the burn-in of 2 periods"):
        make(burn_in=2).fit(gone_on(data, slice(2, 9)))
    with pytest.raises(ValueError, match="validation_batch: no valid observations"):
        make(burn_in=2).fit(data, validation_batch=gone_on(data, slice(2, 9)))


def test_the_regression_counts_the_cells_that_take_no_part():
    data = batch()
    n_available = int(data.mask.sum())
    returns = np.where(np.arange(9)[None, :, None] == 8, np.nan, data.returns)
    model, short = linear(), linear()
    notes = model.fit(replace(data, returns=returns)).notes
    short.fit(data.slice(0, 8))
    n_used = int(data.mask[:, :8].sum())
    assert notes[0].startswith(f"{n_available - n_used} available cells without a finite return")
    for one in ("intercept", "coefficients"):
        fits = (getattr(m._fitted("look"), one) for m in (model, short))
        np.testing.assert_array_equal(*fits)


@neural
@pytest.mark.parametrize("name", ["vol_scale", "prev_weights", "costs"])
def test_what_turnover_needs_must_be_finite(make, name):
    data = batch(vol_scale=np.ones((4, 9, 5)), prev_weights=np.zeros((4, 5)))
    spoiled = np.array(getattr(data, name))
    spoiled[np.unravel_index(0, spoiled.shape)] = np.nan
    mask = np.array(data.mask)
    mask[0, 0, 0] = True
    features = np.nan_to_num(data.features)
    data = replace(data, mask=mask, features=features, **{name: spoiled})
    with pytest.raises(ValueError, match=f"{name} must be finite"):
        make().fit(data)


@neural
def test_costs_in_the_context_must_be_finite(make):
    model, data = make(use_cost_in_context=True), batch()
    model.fit(data)
    with pytest.raises(ValueError, match="requires finite costs"):
        model.predict(replace(data, costs=np.full(5, np.nan)))


def test_the_edge_of_the_known_returns_is_fitted():
    rng = np.random.default_rng(0)
    returns = 0.01 * rng.standard_normal((1, 30, 4))
    returns[0, -1] = np.nan
    data = PortfolioSequenceBatch(rng.standard_normal((1, 30, 4, 2)), returns=returns)
    config = LSTMPortfolioConfig(hidden_size=4, vvsn_hidden_dim=4, max_iters=3)
    model = LSTMPortfolioModel(config)
    assert model.fit(data).notes[0].startswith("4 of 120 available cells")
    assert np.isfinite(model.predict(data).weights).all()


@neural
@pytest.mark.parametrize("date", [0, 3, 7])
def test_no_weight_sees_a_later_feature_mask_or_return(make, date):
    rng = np.random.default_rng(1)
    data = batch(adjacency_mask=rng.random((5, 5)) > 0.6)
    model = make(use_group_embedding=True, use_cost_in_context=True)
    model.fit(data)
    features, mask = np.array(data.features), np.array(data.mask)
    features[:, date + 1 :] = rng.standard_normal(features[:, date + 1 :].shape)
    mask[:, date + 1 :] = rng.random(mask[:, date + 1 :].shape) > 0.5
    changed = replace(data, features=features, mask=mask, returns=None)
    before, after = (model.predict(one).weights for one in (data, changed))
    np.testing.assert_allclose(after[:, : date + 1], before[:, : date + 1], atol=1e-12)
    assert not np.allclose(after, before)


@neural
def test_a_causal_policy_predicts_all_dates_as_one_date_after_the_other(make):
    data, model = batch(), make()
    assert model.is_causal
    model.fit(data)
    whole = model.predict(data).weights
    for date in range(data.n_periods):
        known = replace(
            data,
            **{
                name: None if (value := getattr(data, name)) is None else value[:, : date + 1]
                for name in ("features", "returns", "mask", "vol_scale")
            },
        )
        got = model.predict(known).weights[:, date]
        np.testing.assert_allclose(got, whole[:, date], rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", [lstm, deep])
def test_assets_are_labels_when_their_identity_moves_along(kind):
    data, config = batch(), kind(dropout=0.0).config
    network = policy(kind, config, data).eval()
    order = torch.tensor([3, 0, 4, 1, 2])
    features = torch.nan_to_num(torch.tensor(np.array(data.features)))
    mask = torch.tensor(np.array(data.mask))
    straight = network(features, mask=mask, asset_indices=torch.arange(5))
    moved = network(features[:, :, order], mask=mask[:, :, order], asset_indices=order)
    torch.testing.assert_close(moved, straight[:, :, order], rtol=0, atol=1e-12)


def test_assets_are_labels_of_the_regression_and_of_its_constraints():
    data, order = batch(prev_weights=np.zeros((4, 5))), np.array([3, 0, 4, 1, 2])
    moved = PortfolioSequenceBatch(
        data.features[:, :, order],
        returns=data.returns[:, :, order],
        mask=data.mask[:, :, order],
        prev_weights=data.prev_weights[:, order],
    )
    steps = [WeightConstraintPostprocessor(1.0, 0.0, 0.7, 0.8)]
    result = []
    for one in (data, moved):
        pipeline = PortfolioAllocationPipeline(linear(max_abs_weight=0.8), postprocessors=steps)
        pipeline.fit(one)
        result.append(pipeline.predict(one))
    for name in ("raw_weights", "processed_weights"):
        straight, permuted = (getattr(one, name).weights for one in result)
        np.testing.assert_allclose(permuted, straight[:, :, order], atol=1e-10)


@every
def test_masked_cells_hold_nothing_and_are_never_read(make):
    data = batch()
    model = make()
    model.fit(data)
    expected = model.predict(data).weights
    assert not expected[~data.mask].any()
    assert np.isfinite(expected).all()
    for junk in (np.inf, 1e30):
        features = np.where(data.mask[..., None], data.features, junk)
        returns = np.where(data.mask, data.returns, junk)
        other = make()
        other.fit(replace(data, features=features, returns=returns))
        got = other.predict(replace(data, features=features, returns=None))
        np.testing.assert_array_equal(got.weights, expected)


@every
def test_same_seed_same_bits_saved_loaded_refitted(make, tmp_path):
    data = batch()
    model = make()
    summary = model.fit(data, validation_batch=batch(5))
    expected = model.predict(data)
    loaded = type(model).load(model.save(tmp_path / "model.ml4t"))
    np.testing.assert_array_equal(loaded.predict(data).weights, expected.weights)
    assert loaded.last_fit_record == summary.run_record
    assert loaded.available_checkpoints == model.available_checkpoints
    model.fit(batch(3))
    model.fit(data, validation_batch=batch(5))
    np.testing.assert_array_equal(model.predict(data).weights, expected.weights)
    assert expected.metadata == {"model_name": model.config.model_name}


@neural
def test_the_reported_sharpe_is_that_of_the_predicted_weights(make):
    data, judged = batch(), replace(batch(7), group_ids=[7, 4, 4, 7, 4])
    settings = {"burn_in": 2, "turnover_penalty": 0.01, "default_checkpoint": "best"}
    model = make(use_group_embedding=True, **settings)
    summary = model.fit(data, validation_batch=judged)
    result = model.predict(judged)
    assert result.checkpoint_step == summary.best_epoch
    from oracles import portfolio as oracle  # noqa: PLC0415

    price = np.full(5, 0.5e-3 + 0.01)
    net = oracle.net_returns(result.weights, judged.returns, judged.mask, price)[:, 2:]
    expected = oracle.sharpe(net, 252.0, 1e-8)
    assert summary.val_metrics["best_validation_sharpe"] == pytest.approx(expected, rel=1e-10)


@neural
@pytest.mark.parametrize("head", ["long_short", "long_only"])
def test_heads_have_exact_gross_exposure(make, head):
    data = batch(holes=0.1)
    model = make(head=head, gross_exposure=1.5)
    model.fit(data)
    weights = model.predict(data).weights
    np.testing.assert_allclose(np.abs(weights).sum(axis=2), 1.5, atol=1e-10)
    net = 0.0 if head == "long_short" else 1.5
    np.testing.assert_allclose(weights.sum(axis=2), net, atol=1e-10)
    assert not weights[~data.mask].any()


@neural
def test_minibatches_of_windows_train_too(make):
    data = batch()
    model = make(minibatch=True, batch_size=2)
    summary = model.fit(data)
    assert summary.history[-1]["step"] == 4.0
    full = make(batch_size=2)
    full.fit(data)
    assert not np.array_equal(model.predict(data).weights, full.predict(data).weights)


@every
def test_refusals_of_batches_that_are_not_the_fitted_ones(make):
    data = batch()
    model = make()
    with pytest.raises(RuntimeError, match="fitted before predict"):
        model.predict(data)
    with pytest.raises(ValueError, match="requires returns"):
        model.fit(replace(data, returns=None))
    model.fit(data)
    with pytest.raises(ValueError, match="n_assets=5"):
        model.predict(batch(n_assets=4))
    with pytest.raises(ValueError, match="n_features=3"):
        model.predict(replace(data, features=data.features[..., :2]))
    with pytest.raises(ValueError, match="asset_ids must be the fitted ones"):
        model.predict(replace(data, asset_ids=data.asset_ids[::-1]))
    with pytest.raises(ValueError, match="checkpoint=99"):
        model.predict(data, checkpoint=99)
    with pytest.raises(ValueError, match="features must be finite at available positions"):
        model.predict(replace(data, mask=None))


@neural
def test_a_group_outside_the_fit_is_named(make):
    data = batch()
    model = make(use_group_embedding=True)
    with pytest.raises(ValueError, match="requires group_ids"):
        model.fit(replace(data, group_ids=None))
    model.fit(data)
    with pytest.raises(ValueError, match="got 8 of asset 'a4', which was not in the fit"):
        model.predict(replace(data, group_ids=[4, 4, 7, 7, 8]))
    with pytest.raises(ValueError, match="requires costs"):
        make(use_cost_in_context=True).fit(replace(data, costs=None))


def test_the_graph_belongs_to_the_fit():
    graph = np.random.default_rng(0).random((5, 5)) > 0.5
    data = batch(adjacency_mask=graph)
    model = deep()
    with pytest.raises(ValueError, match="adjacency_mask"):
        model.fit(data, validation_batch=replace(data, adjacency_mask=~graph))
    model.fit(data)
    left_out = model.predict(replace(data, adjacency_mask=None))
    np.testing.assert_array_equal(left_out.weights, model.predict(data).weights)
    other = graph.copy()
    other[1, 3] = ~other[1, 3]
    words = (
        "adjacency_mask must be the fitted one; it differs from asset 'a1' to asset 'a3', in 1 of"
    )
    with pytest.raises(ValueError, match=words):
        model.predict(replace(data, adjacency_mask=other))
    bare = deep()
    bare.fit(replace(data, adjacency_mask=None))
    with pytest.raises(ValueError, match="adjacency_mask must be the fitted one; the fit had none"):
        bare.predict(data)


@pytest.mark.parametrize("n_heads", [1, 2])
def test_fully_blocked_rows_stay_finite(n_heads):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6, requires_grad=True)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, 1] = False
    mask[1, :, 2] = False
    layer = MacroGraphAttention(6, n_heads, 0.0, torch.ones(4, 4, dtype=torch.bool))
    y = layer(x, mask)
    assert torch.isfinite(y).all()
    assert not y[~mask].any()
    y.sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters() if p.grad is not None)


@pytest.mark.parametrize("lag", [0, 1, 3, 9])
def test_cross_sectional_attention_is_lagged_and_never_wraps(lag):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 3, 6)
    mask = torch.ones(2, 4, 3, dtype=torch.bool)
    layer = CrossSectionalAttention(6, 2, 0.0, lag)
    before = layer(x, mask)
    changed = x.clone()
    changed[:, 3, 0] += 5.0
    after = layer(changed, mask)
    assert torch.isfinite(before).all()
    assert torch.equal(before[:, :3], after[:, :3])
    others_see_it = not torch.equal(before[:, 3, 1:], after[:, 3, 1:])
    assert others_see_it == (lag == 0)
    if lag >= 4:  # every date attends to zeros
        alone = CrossSectionalAttention(6, 2, 0.0, 4)
        torch.testing.assert_close(layer(x, mask), alone(x, mask))


class Broken(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.value = value

    def forward(self, features, *, mask, asset_indices, group_ids, costs):
        return self.scale * features[..., 0].nan_to_num() * self.value


def test_divergence_names_the_step():
    config = lstm().config
    arguments = {"batch": batch(holes=0.0), "validation_batch": None, "config": config}
    with pytest.raises(FloatingPointError, match="non-finite training loss at step 1"):
        fit_policy_network(Broken(float("nan")), device="cpu", **arguments)
    result = fit_policy_network(Broken(1.0), device="cpu", **arguments)
    assert result.best_step in result.checkpoint_states
    network = Broken(1.0)
    network.load_state_dict(result.checkpoint_states[result.best_step])
    again = evaluate_pooled_sharpe(
        network,
        arguments["batch"],
        group_ids=None,
        costs=arguments["batch"].costs,
        config=config,
        device="cpu",
    )
    assert again == pytest.approx(result.best_validation_sharpe, rel=1e-12)


class Exploding(torch.optim.AdamW):
    def step(self):
        self.param_groups[0]["params"][0].data.fill_(np.inf)


@pytest.mark.parametrize(
    ("module", "name", "stand_in", "what"),
    [
        (runtime, "_pooled_sharpe", lambda *_, **__: np.inf, "validation Sharpe"),
        (nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(np.inf), "training gradient norm"),
        (runtime, "AdamW", Exploding, "model parameter"),
    ],
)
def test_what_diverged_is_named_wherever_it_began(monkeypatch, module, name, stand_in, what):
    monkeypatch.setattr(module, name, stand_in)
    config = lstm(eval_every=1).config
    arguments = {"batch": batch(holes=0.0), "validation_batch": None, "config": config}
    with pytest.raises(FloatingPointError, match=f"non-finite {what} at step 1"):
        fit_policy_network(Broken(1.0), device="cpu", **arguments)


def planted(seed, cost):
    """The next return is 0.02 times the first feature, plus noise; the second says nothing."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((8, 12, 4, 2))
    returns = 0.02 * features[..., 0] + 0.01 * rng.standard_normal((8, 12, 4))
    return PortfolioSequenceBatch(features, returns=returns, costs=np.full(4, cost))


def judge(weights, data, cost):
    """Sharpe ratio net of a cost, and turnover per unit of gross exposure."""
    before = np.concatenate([np.zeros_like(weights[:, :1]), weights[:, :-1]], axis=1)
    traded = np.abs(weights - before)
    net = (weights * data.returns - cost * traded).mean(axis=2)
    return np.sqrt(252.0) * net.mean() / net.std(), traded[:, 1:].mean() / np.abs(weights).mean()


@neural
def test_a_planted_strategy_is_learned_and_traded_less_as_costs_rise(make):
    fresh, result = planted(1, 0.0), {}
    for cost in (0.0, 0.01, 0.03):
        model = make(max_iters=80, eval_every=20, learning_rate=0.02, dropout=0.0, gamma_cost=1.0)
        model.fit(planted(0, cost))
        result[cost] = model.predict(fresh).weights
    settings, noise = (
        np.corrcoef(result[0.0].ravel(), fresh.features[..., f].ravel())[0, 1] for f in (0, 1)
    )
    assert settings > 0.5
    assert abs(noise) < 0.15
    # Out of sample, and beside the best that is bounded by one: the sign of the signal.
    best, _ = judge(np.sign(fresh.features[..., 0]), fresh, 0.0)
    sharpe, turnover = judge(result[0.0], fresh, 0.0)
    assert sharpe > 0.6 * best
    turnovers = [judge(weights, fresh, 0.0)[1] for weights in result.values()]
    assert turnovers[1] < 0.8 * turnover
    assert turnovers[2] < 0.2 * turnovers[1]
    # Who was told the costs earns more after them than who was not.
    for cost in (0.01, 0.03):
        assert judge(result[cost], fresh, cost)[0] > judge(result[0.0], fresh, cost)[0]


class Kept:
    """A tensor that a graph keeps for its backward pass, while it does."""

    now = most = 0

    def __init__(self, tensor):
        self.tensor = tensor
        Kept.now += tensor.nbytes
        Kept.most = max(Kept.most, Kept.now)

    def __del__(self):
        Kept.now -= self.tensor.nbytes


def most_kept(make, n_windows, batch_size):
    data, config = batch(n_windows=n_windows), make(batch_size=batch_size).config
    network = policy(make, config, data)
    Kept.now = Kept.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Kept, lambda kept: kept.tensor):
        gradient(network, data, config)
    return Kept.most


@neural
def test_the_memory_of_the_chunked_gradient_does_not_grow_with_the_windows(make):
    few, many = (most_kept(make, n_windows, 2) for n_windows in (4, 32))
    assert many <= 1.02 * few + 8 * 32 * 9 * 20  # a few arrays of net returns, (B, T)
    assert most_kept(make, 32, 32) > 8 * most_kept(make, 4, 4) * 0.9


def test_the_regression_is_the_closed_form():
    data = batch()
    model = linear(ridge_alpha=0.7)
    summary = model.fit(data)
    x, y = data.features[data.mask], data.returns[data.mask]
    design = np.column_stack([np.ones(len(y)), x])
    penalty = 0.7 * np.diag([0.0, 1.0, 1.0, 1.0])
    expected = np.linalg.solve(design.T @ design + penalty, design.T @ y)
    fit = model._fitted("test")
    np.testing.assert_allclose([fit.intercept, *fit.coefficients], expected, rtol=1e-10)
    assert summary.train_metrics["n_train_obs"] == len(y)
    assert summary.train_metrics["train_rmse"] == pytest.approx(
        np.sqrt(np.mean((y - design @ expected) ** 2))
    )
    assert model.available_checkpoints == (1,)
    np.testing.assert_allclose(np.abs(model.predict(data).weights).sum(axis=2), 1.0, atol=1e-10)
    with pytest.raises(ValueError, match="no valid observations"):
        linear().fit(replace(data, mask=np.zeros(data.mask.shape, dtype=bool)))


def test_a_pipeline_runs_its_postprocessors_in_order_and_is_saved(tmp_path):
    data = batch(n_dates=16, holes=0.0, n_assets=6)
    steps = (
        WeightConstraintPostprocessor(0.8, 0.0, 0.4, 0.3, max_group_weight=0.35),
        VolatilityTargetPostprocessor(target_volatility=0.05, min_periods=4),
    )
    pipeline = PortfolioAllocationPipeline(linear(), postprocessors=steps)
    assert pipeline.fit(data).model_fit.best_epoch == 1
    result = pipeline.predict(data)
    constrained = steps[0].transform(data, result.raw_weights)
    expected = steps[1].transform(data, constrained).weights
    np.testing.assert_array_equal(result.processed_weights.weights, expected)
    assert np.abs(constrained.weights).sum(axis=2).max() <= 0.8 + 1e-10
    assert constrained.metadata["postprocessor"] == "weight_constraints"
    assert constrained.checkpoint_step == 1
    loaded = PortfolioAllocationPipeline.load(pipeline.save(tmp_path / "pipeline.ml4t"))
    assert loaded.postprocessors == steps
    again = loaded.predict(data).processed_weights.weights
    np.testing.assert_array_equal(again, expected)
    bare = PortfolioAllocationPipeline(linear())
    bare.fit(data)
    prediction = bare.predict(data)
    assert prediction.processed_weights is prediction.raw_weights


@pytest.mark.parametrize("make", [linear, lstm, deep])
def test_a_fit_without_any_cell_raises(make):
    data = batch(n_dates=6, n_assets=3)
    model = make()
    with pytest.raises(ValueError, match="no valid observations"):
        model.fit(replace(data, mask=np.zeros(data.mask.shape, dtype=bool)))
    assert not model.is_fitted


def test_weights_of_other_assets_or_dates_raise():
    data = batch(n_dates=4, n_assets=3, holes=0.0)
    labelled = replace(data, asset_ids=("a", "b", "c"), timestamps=(1, 2, 3, 4))
    given = PortfolioWeightsResult(
        np.ones((*data.features.shape[:3],)), asset_ids=("b", "a", "c"), timestamps=(1, 2, 3, 4)
    )
    step = WeightConstraintPostprocessor()
    with pytest.raises(ValueError, match="must have the asset_ids of the batch"):
        step.transform(labelled, given)
    other = replace(given, asset_ids=(), timestamps=(1, 2, 3, 5))
    with pytest.raises(ValueError, match="must have the timestamps of the batch"):
        step.transform(labelled, other)
    bare = replace(data, asset_ids=(), timestamps=())
    assert step.transform(bare, given).asset_ids == ("b", "a", "c")


def test_the_volatility_target_reads_no_return_of_its_date_or_later():
    data = batch(n_dates=20, holes=0.0)
    model = linear()
    model.fit(data)
    raw, target = model.predict(data), VolatilityTargetPostprocessor(0.1, min_periods=5)
    expected = target.transform(data, raw).weights
    returns = np.array(data.returns)
    returns[:, 12:] = 9.0
    changed = target.transform(replace(data, returns=returns), raw).weights
    np.testing.assert_array_equal(changed[:, :13], expected[:, :13])
    np.testing.assert_array_equal(expected[:, :5], raw.weights[:, :5])
    date, window = 15, 2
    past = data.returns[window, :date] @ raw.weights[window, date]
    decay = 0.5 ** (np.arange(date, 0, -1) / 20.0)
    volatility = np.sqrt(252.0 * (decay * past**2).sum() / decay.sum())
    np.testing.assert_allclose(
        expected[window, date], raw.weights[window, date] * min(0.1 / volatility, 3.0), rtol=1e-12
    )


def test_a_date_without_a_known_return_is_no_observation_of_the_volatility():
    data = batch(n_dates=20, holes=0.0)
    raw = PortfolioWeightsResult(np.random.default_rng(0).uniform(-1, 1, (4, 20, 5)))
    target = VolatilityTargetPostprocessor(0.1, min_periods=5)
    gaps = gone_on(data, [2, 11])
    result = target.transform(gaps, raw).weights
    # Dates 0 to 5 have fewer than five known returns before them.
    np.testing.assert_array_equal(result[:, :6], raw.weights[:, :6])
    assert (result[:, 6] != raw.weights[:, 6]).any()
    date, window = 15, 2
    days = np.setdiff1d(np.arange(date), [2, 11])
    past = data.returns[window, days] @ raw.weights[window, date]
    decay = 0.5 ** ((date - days) / 20.0)
    volatility = np.sqrt(252.0 * (decay * past**2).sum() / decay.sum())
    np.testing.assert_allclose(
        result[window, date], raw.weights[window, date] * min(0.1 / volatility, 3.0), rtol=1e-12
    )


def test_the_plain_turnover_limit_scales_the_change():
    wanted = np.array([[[0.5, -0.5], [-0.5, 0.5]]])
    got = apply_turnover_limit(
        wanted,
        previous_weights=np.array([[0.5, -0.5]]),
        mask=np.array([[[True, False], [True, True]]]),
        turnover_limit=0.4,
    )
    np.testing.assert_allclose(got, [[[0.5, 0.0], [0.5 - 0.8 / 3, 0.4 / 3]]])
    kept = apply_turnover_limit(
        wanted, previous_weights=np.array([[0.3, 0.1]]), mask=None, turnover_limit=0.0
    )
    np.testing.assert_array_equal(kept, [[[0.3, 0.1], [0.3, 0.1]]])
    with pytest.raises(ValueError, match="turnover_limit"):
        apply_turnover_limit(wanted, previous_weights=None, mask=None, turnover_limit=-1.0)


def test_a_panel_in_single_precision_is_not_widened_whole():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((1, 60, 800, 40), dtype=np.float32)
    returns = 0.02 * features[..., 0] + 0.02 * rng.standard_normal((1, 60, 800), dtype=np.float32)
    batch = PortfolioSequenceBatch(features, returns=returns)
    wide = replace(batch, features=features.astype(np.float64), returns=returns.astype(np.float64))
    single, double = linear(), linear()
    double.fit(wide)
    tracemalloc.start()
    try:
        single.fit(batch)
        got = single.predict(batch).weights
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * features.nbytes
    np.testing.assert_allclose(got, double.predict(wide).weights, rtol=0, atol=1e-12)
