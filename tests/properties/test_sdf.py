"""The stochastic discount factor: closed forms, phases, labels, look-ahead, refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml4t.models import (
    CrossSectionBatch,
    LinearStochasticDiscountFactorReturnMapper,
    StochasticDiscountFactorBetaNetworkHead,
    StochasticDiscountFactorConfig,
    StochasticDiscountFactorModel,
    StochasticDiscountFactorState,
)
from ml4t.models.stochastic_discount_factor import fused_layers as feedforward
from ml4t.models.stochastic_discount_factor import model
from ml4t.models.stochastic_discount_factor import train as phases
from ml4t.models.stochastic_discount_factor.fused_layers import Rows, Workspace
from ml4t.models.stochastic_discount_factor.losses import Panel
from ml4t.models.stochastic_discount_factor.net import WeightNet, Widths
from ml4t.models.training.callbacks import Callback
from neural_families import one_thread, ragged_batch, sdf, sdf_config  # noqa: F401
from oracles import sdf as oracle

F64 = torch.float64


def panel_of(returns, mask=None):
    """A panel of T dates and N assets whose only job is to be priced."""
    mask = np.ones(returns.shape, bool) if mask is None else mask
    dates, assets = (torch.from_numpy(i) for i in np.nonzero(mask))
    rows = Rows(torch.zeros(len(dates), 1, dtype=F64), dates)
    values = torch.from_numpy(returns[mask])
    return Panel.of(rows, assets, values, None, len(returns)), assets


def minimiser(panel, assets):
    """Minimise the quadratic unconditional loss over one constant weight per asset, by Newton."""
    start = torch.zeros(int(assets.max()) + 1, dtype=F64)

    def loss(weights):
        return panel.loss(panel.discount_factor(weights[assets]))

    gradient = torch.autograd.functional.jacobian(loss, start)
    hessian = torch.autograd.functional.hessian(loss, start)
    return -torch.linalg.lstsq(hessian, gradient[:, None], driver="gelsd").solution[:, 0]


def french():
    portfolios = pytest.importorskip("linearmodels.datasets.french").load()
    columns = [c for c in portfolios.columns if c.startswith(("S", "M"))][:12]
    return portfolios[columns].to_numpy(float)


def simulated():
    rng = np.random.default_rng(0)
    mixing = np.eye(5) + 0.3 * rng.standard_normal((5, 5))
    return 0.01 + 0.05 * rng.standard_normal((300, 5)) @ mixing


def squared_sharpe(returns):
    mean = returns.mean(axis=0)
    return mean @ np.linalg.solve(np.cov(returns.T, ddof=0), mean)


@pytest.mark.parametrize("returns", [simulated(), french()], ids=["simulated", "french"])
def test_constant_weights_have_the_closed_form(returns):
    returns = returns[np.isfinite(returns).all(axis=1)]
    panel, assets = panel_of(returns)
    got = minimiser(panel, assets)
    second = returns.T @ returns / len(returns)
    expected = np.linalg.solve(second, returns.mean(axis=0))
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-3, atol=1e-3)
    sdf_values = panel.discount_factor(got[assets])
    assert float(panel.loss(sdf_values)) < 1e-12
    squared = squared_sharpe(returns)
    mean, deviation = float(sdf_values.mean()), float(sdf_values.std(unbiased=False))
    assert mean == pytest.approx(1.0 / (1.0 + squared), abs=1e-3)
    assert deviation / mean == pytest.approx(np.sqrt(squared), abs=1e-3)
    # The portfolio of the discount factor reaches the bound.
    assert float(panel.sharpe(sdf_values)) == pytest.approx(np.sqrt(squared), abs=1e-3)


def constant_weights(**settings):
    """On asset dummies: one free weight per asset and no adversary worth the name."""
    last = {"n_epochs_moment": 1, "n_epochs_cond": 1, "n_instruments": 1}
    last |= {"dropout": 0.0, "checkpoint_interval": settings["n_epochs_unc"]}
    return StochasticDiscountFactorModel(StochasticDiscountFactorConfig(**last, **settings))


def test_a_network_of_asset_dummies_reaches_the_hansen_jagannathan_bound():
    rng = np.random.default_rng(1)
    returns = np.array([0.3, 0.1, -0.2]) + rng.standard_normal((120, 3))
    batch = CrossSectionBatch(np.broadcast_to(np.eye(3), (120, 3, 3)), returns=returns)
    trained = constant_weights(hidden_dim=8, n_epochs_unc=500, lr=0.02)
    trained.fit(batch)
    state = trained.extract(batch, checkpoint=("unconditional", 500))
    second = returns.T @ returns / 120
    expected = np.linalg.solve(second, returns.mean(axis=0))
    np.testing.assert_allclose(state.asset_weights[0], expected, atol=1e-3)
    squared = squared_sharpe(returns)
    ratio = state.sdf_values.std() / state.sdf_values.mean()
    assert ratio == pytest.approx(np.sqrt(squared), abs=1e-3)


def in_deviations(returns):
    return np.diag(1.0 / returns.std(axis=0))


def principal(returns):
    values, vectors = np.linalg.eigh(returns.T @ returns / len(returns))
    return vectors / np.sqrt(values)


# Gradient steps see the portfolios through an invertible matrix, which moves neither the stochastic
# discount factor nor the bound. Of 18 collinear sorts they would need too many otherwise.
FRENCH = {
    "factors": (("MktRF", "SMB", "HML", "Mom"), in_deviations, 0.02, 500, 8),
    "industries": (
        ("NoDur", "Enrgy", "Utils", "Telcm", "Hlth", "BusEq"),
        in_deviations,
        0.01,
        2000,
        8,
    ),
    "sorts": (("S1", "S3", "S5"), principal, 0.01, 400, 16),
}


@pytest.mark.parametrize("case", FRENCH.values(), ids=FRENCH)
def test_training_on_french_portfolios_reaches_the_closed_form_and_the_bound(case):
    names, matrix_of, lr, epochs, width = case
    portfolios = pytest.importorskip("linearmodels.datasets.french").load()
    returns = portfolios[[c for c in portfolios if c.startswith(names)]].to_numpy(float)
    returns = returns[np.isfinite(returns).all(axis=1)]
    n_dates, n_assets = returns.shape
    matrix = matrix_of(returns)
    dummies = np.broadcast_to(np.eye(n_assets), (n_dates, n_assets, n_assets))
    batch = CrossSectionBatch(dummies, returns=returns @ matrix)
    trained = constant_weights(hidden_dim=width, n_epochs_unc=epochs, lr=lr)
    trained.fit(batch)
    state = trained.extract(batch, checkpoint=("unconditional", epochs))
    np.testing.assert_allclose(
        state.asset_weights, state.asset_weights[:1] + 0.0 * returns, rtol=1e-12
    )
    second, mean = returns.T @ returns / n_dates, returns.mean(axis=0)
    expected = np.linalg.solve(second, mean)
    got = matrix @ state.asset_weights[0]
    assert np.linalg.norm(got - expected) < 1e-3 * np.linalg.norm(expected)
    np.testing.assert_allclose(state.sdf_values, 1.0 - returns @ got, rtol=1e-12)
    values, bound = state.sdf_values, np.sqrt(squared_sharpe(returns))
    assert values.std() / values.mean() == pytest.approx(bound, rel=1e-3)
    np.testing.assert_allclose(returns.T @ values / n_dates, 0.0, atol=1e-3 * abs(mean).min())


def test_loss_is_the_papers_on_ragged_panels():
    rng = np.random.default_rng(2)
    returns, mask = rng.standard_normal((9, 6)), rng.random((9, 6)) < 0.6
    mask[:, 5] = False  # an asset that is never there counts nowhere
    panel, _ = panel_of(returns, mask)
    weights = rng.standard_normal((9, 6)) * mask
    instruments = rng.standard_normal((9, 6, 3))
    expected = oracle.pricing_loss(*(torch.from_numpy(a) for a in (weights, returns, mask)))
    sdf_values = panel.discount_factor(torch.from_numpy(weights[mask]))
    torch.testing.assert_close(panel.loss(sdf_values), expected)
    expected = oracle.pricing_loss(
        *(torch.from_numpy(a) for a in (weights, returns, mask, instruments * mask[..., None]))
    )
    payoffs = torch.from_numpy((returns[..., None] * instruments)[mask].T)
    torch.testing.assert_close(panel.loss(sdf_values, payoffs), expected)
    constant = panel.loss(sdf_values, panel.returns * torch.ones(3, 1, dtype=F64))
    torch.testing.assert_close(constant, panel.loss(sdf_values))


def test_an_asset_with_one_date_weighs_one_over_the_longest_history():
    returns = np.array([[1.0, 2.0], [3.0, np.nan], [2.0, np.nan], [1.0, np.nan]])
    panel, _ = panel_of(returns, np.isfinite(returns))
    ones = torch.ones(4, dtype=F64)
    expected = 0.5 * (1.0 * (7.0 / 4.0) ** 2 + 0.25 * 2.0**2)
    assert float(panel.loss(ones)) == pytest.approx(expected, rel=1e-15)


def test_sharpe_is_that_of_one_minus_m():
    returns = np.array([[0.1], [0.3], [-0.1]])
    panel, _ = panel_of(returns)
    sdf_values = panel.discount_factor(torch.full((3,), 2.0, dtype=F64))
    np.testing.assert_allclose(sdf_values, 1.0 - 2.0 * returns[:, 0])
    assert float(panel.sharpe(sdf_values)) == pytest.approx(0.1 / np.std([0.1, 0.3, -0.1]))
    flat = panel.discount_factor(torch.zeros(3, dtype=F64))
    assert float(panel.sharpe(flat)) == 0.0


def case(seed=0, n_context=2):
    source = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=F64)

    dates = torch.sort(torch.randint(0, 4, (23,), generator=source)).values
    rows = Rows(normal(23, 3), dates)
    net = WeightNet(Widths(3, n_context, 2, 6), source, F64)
    return net, rows, normal(4, n_context) if n_context else None


@pytest.mark.parametrize("n_context", [0, 2])
def test_network_and_gradient_are_those_of_the_plain_one(n_context, monkeypatch):
    monkeypatch.setattr(feedforward, "block_rows", lambda _device: 5)
    net, rows, context = case(n_context=n_context)
    plain = oracle.PlainWeights(3, n_context, 2, 6, 0.0).to(F64)
    plain = oracle.copy_weights(net, plain)
    states = None if context is None else plain.lstm(context[None])[0][0]
    z = (
        rows.characteristics
        if states is None
        else torch.cat([rows.characteristics, states[rows.dates]], dim=1)
    )
    expected = plain.ffn(z)[:, 0]
    source = torch.Generator().manual_seed(0)
    got = net.train_on(rows, context, Workspace(), rate=0.0, source=source)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(net.read(rows, context), expected.detach())
    outer = torch.linspace(-1, 1, 23, dtype=F64)
    (got @ outer).backward()
    (expected @ outer).backward()
    weight = plain.ffn[0].weight.grad
    torch.testing.assert_close(net.first.weight.grad, weight[:, :3])
    if n_context:
        torch.testing.assert_close(net.first.state_weight.grad, weight[:, 3:])
        for a, b in zip(net.first.lstm.parameters(), plain.lstm.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad)
    torch.testing.assert_close(net.first.bias.grad[:, 0], plain.ffn[0].bias.grad)
    torch.testing.assert_close(net.second_weight.grad, plain.ffn[3].weight.grad)
    torch.testing.assert_close(net.second_bias.grad[:, 0], plain.ffn[3].bias.grad)
    torch.testing.assert_close(net.last_weight.grad, plain.ffn[6].weight.grad)
    torch.testing.assert_close(net.last_bias.grad, plain.ffn[6].bias.grad)


def test_gradient_with_dropout_is_that_of_the_masked_function():
    net, rows, context = case()

    def value():
        source = torch.Generator().manual_seed(5)
        return net.train_on(rows, context, Workspace(), rate=0.3, source=source)

    value().square().sum().backward()
    for name in ("first.weight", "second_weight", "last_weight", "first.bias"):
        parameter = net.get_parameter(name)
        step = 1e-6
        with torch.no_grad():
            flat = parameter.view(-1)
            flat[0] += step
            up = float(value().square().sum())
            flat[0] -= 2 * step
            down = float(value().square().sum())
            flat[0] += step
        numeric = (up - down) / (2 * step)
        assert float(parameter.grad.view(-1)[0]) == pytest.approx(numeric, rel=1e-5, abs=1e-8)


def test_dropout_keeps_the_mean_of_the_last_layer():
    net, rows, context = case()
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        net.second_weight.zero_()
        draws = torch.stack(
            [net.train_on(rows, context, Workspace(), rate=0.2, source=source) for _ in range(4000)]
        )
    error = (draws.mean(dim=0) - net.read(rows, context)).abs().max()
    assert float(error) < 5 * float(draws.std(dim=0).max()) / np.sqrt(4000)


def test_loss_curves_are_those_of_the_plain_loop():
    batch = ragged_batch(n_dates=10, n_assets=7)
    config = sdf_config(dropout=0.0, n_epochs_unc=5, n_epochs_moment=4, n_epochs_cond=5)
    training = model._sample(batch, "timestamps", "float64", "test")
    where, panel = training.cells.where, phases.panel(config, training)
    start = phases.Member(config, panel, None, config.seed)
    plain = oracle.copy_weights(start.net, oracle.PlainWeights(3, 2, 2, 5, 0.0).to(F64))
    adversary = oracle.copy_weights(start.moments, oracle.PlainMoments(3, 2, 3, 2, 0.0).to(F64))
    learned = phases.learn(config, panel, None, patience=None)
    z = torch.from_numpy(np.where(where[..., None], batch.characteristics, 0.0))
    r = torch.from_numpy(np.where(where, batch.returns, 0.0))
    first, last = oracle.train(
        plain, adversary, z, r, torch.from_numpy(where),
        torch.from_numpy(np.array(batch.context_features)), epochs=(5, 4, 5), lr=0.02,
    )  # fmt: skip
    got = [entry["train_loss"] for entry in learned.history]
    np.testing.assert_allclose(got, first + last, rtol=1e-7)


def step_effects(name):
    """Loss on the training batch before and after one small step of a phase."""
    batch = ragged_batch()
    config = sdf_config(dropout=0.0, lr=1e-5)
    training = model._sample(batch, "timestamps", "float64", "test")
    panel = phases.panel(config, training)
    member = phases.Member(config, panel, None, 0)
    phase = {p.name: p for p in member.phases(None)}[name]
    phase.begin()
    before = next(iter(phase.losses(1)))
    phase.optimizer.zero_grad()
    (-before if phase.ascent else before).backward()
    phase.optimizer.step()
    return float(before.detach()), float(next(iter(phase.losses(2))).detach())


@pytest.mark.parametrize("name", ["unconditional", "conditional"])
def test_a_weight_step_never_raises_the_loss(name):
    before, after = step_effects(name)
    assert after < before


def test_an_adversary_step_never_lowers_the_loss():
    before, after = step_effects("moment")
    assert after > before


@pytest.mark.parametrize("constant", [1.0, -0.6])
def test_a_constant_moment_network_gives_the_unconditional_problem(constant):
    batch = ragged_batch()
    config = sdf_config(dropout=0.0)
    panel = phases.panel(config, model._sample(batch, "timestamps", "float64", "test"))
    member = phases.Member(config, panel, None, 0)
    with torch.no_grad():
        for parameter in member.moments.parameters():
            parameter.zero_()
        # tanh(20) is 1 in double precision.
        member.moments.first.bias.fill_(20.0 if constant == 1.0 else np.arctanh(constant))

    def losses_and_gradients(name):
        phase = {p.name: p for p in member.phases(None)}[name]
        phase.begin()
        loss = next(iter(phase.losses(1)))
        return [loss, *torch.autograd.grad(loss, list(member.net.parameters()))]

    conditional = losses_and_gradients("conditional")
    for got, plain in zip(conditional, losses_and_gradients("unconditional"), strict=True):
        torch.testing.assert_close(got, constant**2 * plain, rtol=1e-12, atol=1e-15)


def test_ensemble_weights_are_the_mean_of_the_members():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    together = sdf(n_ensemble=3)
    together.fit(batch, validation_batch=later)
    alone = []
    for member in range(3):
        single = sdf(seed=42 + member)
        single.fit(batch, validation_batch=later)
        alone.append(single)
    for label in together.available_checkpoints:
        got = together.extract(batch, checkpoint=label)
        expected = [one.extract(batch, checkpoint=label) for one in alone]
        weights = np.mean([state.asset_weights for state in expected], axis=0)
        np.testing.assert_allclose(got.asset_weights, weights, rtol=1e-12, atol=1e-15)
        values = np.mean([state.sdf_values for state in expected], axis=0)
        np.testing.assert_allclose(got.sdf_values, values, rtol=1e-12)


def test_members_may_stop_at_different_epochs(tmp_path):
    batch, later = ragged_batch(), ragged_batch(seed=1)
    trained = sdf(n_ensemble=2, n_epochs_unc=40, n_epochs_cond=40, checkpoint_interval=1, lr=0.1)
    summary = trained.fit(batch, validation_batch=later, patience=2)
    assert summary.run_record.stopping_reason == "early_stopping"
    loaded = StochasticDiscountFactorModel.load(trained.save(tmp_path / "sdf.ml4t"))
    for label in trained.available_checkpoints:
        np.testing.assert_array_equal(
            loaded.extract(batch, checkpoint=label).asset_weights,
            trained.extract(batch, checkpoint=label).asset_weights,
        )


def test_labels_new_and_old():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    trained = sdf(n_epochs_unc=4, n_epochs_cond=6, checkpoint_interval=2)
    summary = trained.fit(batch)
    kept = (
        ("unconditional", 2),
        ("unconditional", 4),
        ("conditional", 2),
        ("conditional", 4),
        ("conditional", 6),
    )
    assert trained.available_checkpoints == kept
    assert summary.best_epoch == trained.extract(batch).checkpoint_epoch == ("conditional", 6)
    assert trained.extract(batch, checkpoint=4).checkpoint_epoch == ("unconditional", 4)
    assert trained.extract(batch, checkpoint=10).checkpoint_epoch == ("conditional", 6)
    for unknown in (3, 99, -1, 0, 4.0, True, "x", ["conditional", 6], ("conditional", 5)):
        with pytest.raises(ValueError, match="not in available_checkpoints"):
            trained.extract(batch, checkpoint=unknown)
    summary = trained.fit(batch, validation_batch=later)
    assert summary.val_metrics == {}
    legacy = {
        model.VAL_BEST_LOSS_UNCONDITIONAL: ("unconditional", 0),
        model.VAL_BEST_SHARPE_UNCONDITIONAL: ("unconditional", -1),
        model.VAL_BEST_LOSS_CONDITIONAL: ("conditional", 0),
        model.VAL_BEST_SHARPE_CONDITIONAL: ("conditional", -1),
    }
    for old, new in legacy.items():
        assert new in trained.available_checkpoints
        assert trained.extract(batch, checkpoint=old).checkpoint_epoch == new
    with pytest.raises(ValueError, match="not in available_checkpoints"):
        trained.extract(batch, checkpoint=0)  # of 0.1.x, no label
    assert trained.extract(batch).checkpoint_epoch == ("conditional", 6)
    best = sdf(default_checkpoint="best")
    best.fit(batch, validation_batch=later)
    assert best.extract(batch).checkpoint_epoch == ("conditional", 0)
    best.fit(batch)
    assert best.extract(batch).checkpoint_epoch == ("conditional", 3)


def test_burn_in_keeps_nothing_early():
    trained = sdf(n_epochs_unc=4, n_epochs_cond=6, checkpoint_interval=2, burn_in_epochs=3)
    trained.fit(ragged_batch(), validation_batch=ragged_batch(seed=1))
    assert all(epoch <= 0 or epoch > 3 for _, epoch in trained.available_checkpoints)
    with pytest.raises(ValueError, match="burn_in_epochs"):
        sdf(burn_in_epochs=50).fit(ragged_batch())


def test_history_names_the_phase_of_every_epoch():
    summary = sdf(n_epochs_unc=2, n_epochs_cond=3).fit(ragged_batch())
    settings = [(entry["phase"], entry["epoch"]) for entry in summary.history]
    assert settings == [("unconditional", e) for e in (1.0, 2.0)] + [
        ("conditional", e) for e in (1.0, 2.0, 3.0)
    ]
    assert set(summary.history[0]) == {"epoch", "phase", "train_loss", "train_sharpe"}
    assert summary.train_metrics == {"n_train_periods": 8.0, "n_checkpoints": 1.0}


def test_sdf_values_are_one_minus_the_portfolio_return():
    batch = ragged_batch()
    trained = sdf()
    trained.fit(batch)
    returns = np.array(batch.returns)
    returns[5] = np.nan
    state = trained.extract(replace(batch, returns=returns))
    expected = 1.0 - np.nansum(state.asset_weights * returns, axis=1)
    expected[5] = np.nan
    np.testing.assert_allclose(state.sdf_values, expected, rtol=1e-13)
    assert trained.extract(replace(batch, returns=None)).sdf_values is None


def test_the_adversary_may_choose_the_epoch():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    losses = []
    for by in ("unconditional", "conditional"):
        summary = sdf(validation_loss=by).fit(batch, validation_batch=later)
        losses.append([entry["val_loss"] for entry in summary.history])
    assert losses[0][:3] == losses[1][:3], "the first phase knows no adversary"
    assert losses[0][3:] != losses[1][3:]


class Stop(Callback):
    def __init__(self, phase, epoch):
        self.at, self.state = (phase, epoch), None

    def on_epoch(self, event):
        if (event.phase, event.epoch) == self.at:
            self.state = event.capture()
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    "phase", ["unconditional, member 1", "moment, member 0", "conditional, member 0"]
)
def test_an_interrupted_fit_resumes_with_the_same_bits(phase):
    batch, later = ragged_batch(), ragged_batch(seed=1)
    whole, broken = sdf(n_ensemble=2), sdf(n_ensemble=2)
    whole.fit(batch, validation_batch=later)
    stop = Stop(phase, 1)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(batch, validation_batch=later, callbacks=[stop])
    broken.fit(batch, validation_batch=later, resume=stop.state)
    for label in whole.available_checkpoints:
        np.testing.assert_array_equal(
            whole.extract(batch, checkpoint=label).asset_weights,
            broken.extract(batch, checkpoint=label).asset_weights,
        )


def test_invalid_batches_raise_and_name_the_array(monkeypatch):
    batch = ragged_batch()
    with pytest.raises(ValueError, match="validation_batch requires returns"):
        sdf().fit(batch, validation_batch=replace(batch, returns=None))
    with pytest.raises(ValueError, match="no valid SDF validation observations"):
        sdf().fit(batch, validation_batch=replace(batch, mask=np.zeros_like(batch.mask)))
    with pytest.raises(ValueError, match="context feature dimension"):
        sdf().fit(batch, validation_batch=replace(batch, context_features=None))
    trained = sdf()
    trained.fit(batch)
    with pytest.raises(ValueError, match="context feature dimension"):
        trained.extract(replace(batch, context_features=np.ones((batch.n_periods, 3))))
    gap = np.array(batch.context_features)
    gap[3, 0] = np.nan
    with pytest.raises(ValueError, match="context_features must be finite; date 3"):
        trained.fit(replace(batch, context_features=gap))
    monkeypatch.setattr(StochasticDiscountFactorConfig, "output_mode", "returns")
    with pytest.raises(ValueError, match="weight-native"):
        sdf().fit(batch)
    monkeypatch.setattr(StochasticDiscountFactorConfig, "output_mode", "weights")
    monkeypatch.setattr(StochasticDiscountFactorConfig, "expected_return_mapper", "spline")
    with pytest.raises(ValueError, match="expected_return_mapper"):
        sdf().fit(batch)


def test_mapper_is_the_pooled_regression(tmp_path):
    rng = np.random.default_rng(0)
    weights, returns = rng.standard_normal((6, 5)), rng.standard_normal((6, 5))
    weights[0, 0], returns[1, 1] = np.nan, np.nan
    state = StochasticDiscountFactorState(weights, timestamps=range(6))
    batch = CrossSectionBatch(np.zeros((6, 5, 1)), returns=returns)
    mapper = LinearStochasticDiscountFactorReturnMapper()
    with pytest.raises(RuntimeError, match="fitted before predict"):
        mapper.predict(state)
    with pytest.raises(RuntimeError, match="fitted before save"):
        mapper.save(tmp_path / "m")
    summary = mapper.fit(state, batch)
    usable = np.isfinite(weights) & np.isfinite(returns)
    slope, intercept = np.polyfit(weights[usable], returns[usable], 1)
    assert summary.train_metrics == pytest.approx({"intercept": intercept, "slope": slope})
    assert summary.run_record.resolved_dtype == "float64"
    forecast = mapper.predict(state)
    np.testing.assert_allclose(forecast.expected_returns, intercept + slope * weights)
    assert forecast.metadata == {"mapper": "linear_stochastic_discount_factor_return"}
    loaded = LinearStochasticDiscountFactorReturnMapper.load(mapper.save(tmp_path / "m.ml4t"))
    np.testing.assert_array_equal(loaded.predict(state).expected_returns, forecast.expected_returns)
    with pytest.raises(ValueError, match="requires returns"):
        mapper.fit(state, replace(batch, returns=None))
    alone = replace(batch, returns=np.where(np.arange(30).reshape(6, 5) == 7, 1.0, np.nan))
    assert mapper.fit(state, alone).train_metrics == {"intercept": 0.0, "slope": 0.0}


def test_beta_head_learns_return_times_factor():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    trained = sdf()
    trained.fit(batch)
    state, after = trained.extract(batch), trained.extract(later)
    beta = StochasticDiscountFactorBetaNetworkHead(
        sdf_config(beta_n_epochs=4, beta_checkpoint_interval=2, beta_hidden_dim=4, dropout=0.0)
    )
    summary = beta.fit(state, batch, validation_state=after, validation_batch=later)
    assert beta.available_checkpoints == (2, 4)
    losses = {int(entry["epoch"]): entry["val_loss"] for entry in summary.history}
    assert summary.best_epoch == min((2, 4), key=losses.get)
    assert summary.val_metrics["best_val_loss"] == min(losses.values())
    result = beta.predict(batch)
    assert result.metadata["checkpoint_epoch"] == 4
    assert result.metadata["signal_type"] == "stochastic_discount_factor_beta"
    scale = np.std(1.0 - state.sdf_values)
    assert result.metadata["f_hat_scale"] == pytest.approx(scale, rel=1e-12)
    plain = beta.fit(state, batch)
    assert plain.val_metrics == {}
    assert all(entry["val_loss"] == entry["train_loss"] for entry in plain.history)


def test_beta_head_refuses_by_name():
    batch = ragged_batch()
    trained = sdf()
    trained.fit(batch)
    state = trained.extract(batch)
    beta = StochasticDiscountFactorBetaNetworkHead(sdf_config())
    with pytest.raises(ValueError, match="requires returns"):
        beta.fit(state, replace(batch, returns=None))
    with pytest.raises(ValueError, match="include sdf_values"):
        beta.fit(replace(state, sdf_values=None), batch)
    with pytest.raises(ValueError, match="no valid observations"):
        beta.fit(state, replace(batch, mask=np.zeros_like(batch.mask)))
    with pytest.raises(ValueError, match="sdf_values must have a finite deviation"):
        beta.fit(replace(state, sdf_values=np.array([1e200, *state.sdf_values[1:]])), batch)
    with pytest.raises(ValueError, match="given together"):
        beta.fit(state, batch, validation_batch=batch)
    with pytest.raises(RuntimeError, match="fitted before predict"):
        beta.predict(batch)
    assert not beta.is_fitted
