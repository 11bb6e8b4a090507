"""The conditional autoencoder: its mathematics, its ensemble, its refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml4t.models import CAEConfig, CAEModel
from ml4t.models.latent_factors.cae import ensemble, objective, sample
from ml4t.models.latent_factors.cae import train as estimate
from ml4t.models.latent_factors.cae.net import CAENet, Moments, Sizes
from ml4t.models.latent_factors.cae.objective import Rows
from ml4t.models.training.batching import shuffled
from ml4t.models.training.callbacks import Callback
from neural_families import cae, labelled, one_thread, ragged_batch  # noqa: F401
from oracles import cae as oracle

CPU, F64 = torch.device("cpu"), torch.float64


def rows_of(n_rows=60, n_dates=5, n_chars=4, n_inputs=5, seed=0, *, labels=False):
    source = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=source, dtype=F64)

    design = torch.cat([normal(n_rows, n_chars), torch.ones(n_rows, 1, dtype=F64)], dim=1)
    targets = (normal(n_rows) > 0).double() if labels else normal(n_rows)
    dates = torch.randint(0, n_dates, (n_rows,), generator=source)
    return Rows(design, targets, dates, normal(n_dates, n_inputs))


def net_of(hidden, seeds=(0, 1), n_factors=3):
    return CAENet(Sizes(4, 5, hidden, n_factors), seeds, device=CPU, dtype=F64)


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5), (6, 5, 3)])
@pytest.mark.parametrize("labels", [False, True], ids=["regression", "classification"])
@pytest.mark.parametrize("seeds", [(0, 1), (0,)], ids=["two", "alone"])
def test_loss_and_gradients_are_those_of_the_plain_network(hidden, labels, seeds, monkeypatch):
    monkeypatch.setattr("ml4t.models.latent_factors.cae.fused_single.BLOCK", 7)
    net, rows = net_of(hidden, seeds), rows_of(labels=labels)
    moments = Moments.of(rows.design) if len(seeds) > 1 else None
    loss = objective.mean_error(net, rows, moments, classification=labels)
    (loss * torch.tensor([1.0, 2.0])[: len(seeds)]).sum().backward()
    for member in range(len(seeds)):
        plain = oracle.plain_copy(net_of(hidden, seeds), member)
        scores = plain(rows.design[:, :-1], rows.inputs[rows.dates])
        error = (
            torch.nn.functional.binary_cross_entropy_with_logits
            if labels
            else torch.nn.functional.mse_loss
        )(scores, rows.targets)
        torch.testing.assert_close(loss[member], error)
        (error * (1.0 + member)).backward()
        torch.testing.assert_close(net.factor_weight.grad[member], plain.factor.weight.grad)
        torch.testing.assert_close(net.output_weight.grad[member], plain.beta[-1].weight.grad)
        for layer in range(len(hidden)):
            linear, norm = plain.beta[3 * layer], plain.beta[3 * layer + 1]
            for name, parameter in (
                ("weight", linear.weight),
                ("scale", norm.weight),
                ("shift", norm.bias),
            ):
                got = getattr(net, f"{name}_{layer}").grad[member]
                torch.testing.assert_close(got, parameter.grad, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(getattr(net, f"variance_{layer}")[member], norm.running_var)


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_loss_curve_is_that_of_the_plain_loop(hidden):
    batch = ragged_batch(n_dates=12, n_assets=15)
    config = CAEConfig(
        n_factors=2, hidden_units=hidden, n_epochs=6, batch_size=50, lr=0.01, n_ensemble=2
    )
    cells, inputs = sample.training_sample(batch, config, "test")
    learned = estimate.learn(config, cells, inputs, None, patience=1)
    z, y = torch.from_numpy(cells.cells.characteristics[:, :-1]), torch.from_numpy(cells.targets)
    x = torch.from_numpy(inputs[cells.cells.dates])
    source = torch.Generator().manual_seed(0)
    orders = [torch.cat(list(shuffled(len(y), 50, source))) for _ in range(6)]
    sizes = Sizes(z.shape[1], x.shape[1], hidden, 2)
    start = CAENet(sizes, (42, 43), device=CPU, dtype=F64)
    curves = [
        oracle.train(
            oracle.plain_copy(start, member),
            z,
            x,
            y,
            orders=orders,
            batch_size=50,
            lr=0.01,
            l1=1e-4,
        )
        for member in range(2)
    ]
    got = [entry["train_loss"] for entry in learned.history]
    expected = np.mean(curves, axis=0)[[4, 5]]  # grid (5, 6)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def test_l1_scopes_cover_the_weights_they_name():
    net = net_of((6, 5))
    sizes = {
        s: sorted(tuple(w.shape[1:]) for w in net.weights(s))
        for s in ("beta_hidden", "beta", "factor", "all")
    }
    hidden, output, factor = [(5, 6), (6, 4)], [(3, 5)], [(3, 5)]
    assert sizes == {
        "beta_hidden": hidden,
        "beta": sorted(hidden + output),
        "factor": factor,
        "all": sorted(hidden + output + factor),
    }
    total = objective.penalty(net, "all")
    expected = sum(w.abs().sum(dim=(1, 2)) for w in net.weights("all"))
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("settings", [{}, {"batch_size": 20}, {"hidden_units": (4, 3)}])
def test_members_are_what_they_are_alone(settings):
    batch, later = ragged_batch(n_dates=14), ragged_batch(seed=1)
    config = {"n_epochs": 40, "lr": 0.1, "dtype": "float64"} | settings
    together = cae(n_ensemble=3, **config)
    together.fit(batch, validation_batch=later, patience=3)
    states = together.extract_per_member(batch)
    for member, state in enumerate(states):
        alone = cae(seed=42 + member, **config)
        alone.fit(batch, validation_batch=later, patience=3)
        expected = alone.extract(batch)
        np.testing.assert_allclose(state.asset_betas, expected.asset_betas, rtol=1e-7, atol=1e-10)
        np.testing.assert_allclose(state.factor_returns, expected.factor_returns, rtol=1e-7)
        assert state.metadata["ensemble_member"] == member
        assert state.metadata["n_ensemble"] == 3


def fitted_of(state):
    return np.einsum("tnk,tk->tn", state.asset_betas, state.factor_returns)


def test_fitted_returns_are_the_mean_of_the_members():
    batch = ragged_batch()
    model = cae(n_ensemble=4)
    model.fit(batch)
    members = np.mean([fitted_of(s) for s in model.extract_per_member(batch)], axis=0)
    got = model.fitted_returns(batch).expected_returns
    np.testing.assert_allclose(got, members, rtol=1e-12, atol=1e-14)


def test_members_that_agree_up_to_their_basis_average_to_themselves():
    rng = np.random.default_rng(0)
    betas, factors = rng.standard_normal((200, 3)), rng.standard_normal((50, 3))
    turns = [np.eye(3), rng.standard_normal((3, 3)), 5.0 * rng.standard_normal((3, 3))]
    all_betas = np.stack([betas @ a for a in turns])
    all_factors = np.stack([factors @ np.linalg.inv(a).T for a in turns])
    cross = np.einsum("erk,frl->ekfl", all_betas, all_betas) / 200
    moments = np.einsum("etk,etl->ekl", all_factors, all_factors) / 50
    bases = ensemble.common_bases(cross, moments)
    mean_betas = np.mean([b @ a for b, a in zip(all_betas, bases, strict=True)], axis=0)
    mean_factors = np.mean(
        [f @ np.linalg.inv(a).T for f, a in zip(all_factors, bases, strict=True)], axis=0
    )
    np.testing.assert_allclose(mean_betas @ mean_factors.T, betas @ factors.T, atol=1e-10)


def test_alignment_survives_a_dead_factor():
    rng = np.random.default_rng(0)
    betas = rng.standard_normal((2, 50, 3))
    betas[1, :, 2] = 0.0
    cross = np.einsum("erk,frl->ekfl", betas, betas) / 50
    bases = ensemble.common_bases(cross, np.stack([np.diag([1.0, 0.5, 0.0])] * 2))
    assert np.isfinite(bases).all()
    assert np.isfinite(np.linalg.inv(bases)).all()


def test_a_members_basis_does_not_move_the_ensemble():
    """Turning one member's betas and factors against each other changes no average."""
    batch = ragged_batch()
    model = cae(n_ensemble=3)
    model.fit(batch)
    before = model.extract(batch)
    net = estimate.network(model.config, model._fitted("t").checkpoints[3])
    cells, inputs = sample.training_sample(batch, model.config, "t")
    betas = estimate.member_betas(net, cells.cells)
    factors = estimate.member_factors(net, inputs)
    turn = np.array([[2.0, 1.0], [-1.0, 0.5]])
    betas[1] = betas[1] @ turn
    factors[1] = factors[1] @ np.linalg.inv(turn).T
    cross = np.einsum("erk,frl->ekfl", betas, betas) / betas.shape[1]
    moments = np.einsum("etk,etl->ekl", factors, factors) / factors.shape[1]
    bases = ensemble.common_bases(cross, moments)
    mean_b = np.mean([b @ a for b, a in zip(betas, bases, strict=True)], axis=0)
    mean_f = np.mean([f @ np.linalg.inv(a).T for f, a in zip(factors, bases, strict=True)], axis=0)
    expected = fitted_of(before)
    usable = (
        batch.mask & np.isfinite(batch.characteristics).all(axis=2) & np.isfinite(batch.returns)
    )
    got = (mean_b * mean_f[cells.cells.dates]).sum(axis=1)
    np.testing.assert_allclose(got, expected[usable], rtol=1e-6, atol=1e-10)


def test_managed_portfolios_are_the_dates_regressions_on_masked_cells_only():
    batch = ragged_batch()
    got = sample.factor_inputs(batch, CAEConfig())
    for date in range(batch.n_periods):
        use = batch.mask[date] & np.isfinite(batch.characteristics[date]).all(axis=1)
        use &= np.isfinite(batch.factor_returns[date])
        design = np.column_stack([batch.characteristics[date, use], np.ones(use.sum())])
        expected = np.linalg.lstsq(design, batch.factor_returns[date, use], rcond=None)[0]
        np.testing.assert_allclose(got[date], expected, rtol=1e-9, atol=1e-12)


def test_checkpoints_follow_grid_and_validation():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    plain = cae(n_epochs=6, checkpoint_interval=4, default_checkpoint=4)
    summary = plain.fit(batch)
    assert plain.available_checkpoints == (4, 6)
    assert summary.best_epoch == plain.extract(batch).checkpoint_epoch == 4
    assert [entry["epoch"] for entry in summary.history] == [4.0, 6.0]
    assert summary.val_metrics == {}
    summary = plain.fit(batch, validation_batch=later)
    assert plain.available_checkpoints == (0, 4, 6)
    assert summary.best_epoch == plain.extract(batch).checkpoint_epoch == 0
    assert summary.history[-1]["checkpoint"] == "validation_best"
    assert summary.val_metrics["best_val_loss"] == summary.history[-1]["val_loss"]
    assert plain.extract(batch, checkpoint=6).checkpoint_epoch == 6


def test_members_may_stop_at_different_epochs(tmp_path):
    batch, later = ragged_batch(), ragged_batch(seed=1)
    model = cae(n_ensemble=3, n_epochs=200, lr=0.1, checkpoint_interval=1)
    summary = model.fit(batch, validation_batch=later, patience=2)
    assert summary.run_record.stopping_reason == "early_stopping"
    last = model.available_checkpoints[-1]
    assert last < 200
    states = model._fitted("t").checkpoints
    moved = np.abs(states[last]["factor_weight"] - states[last - 1]["factor_weight"])
    assert 0 < np.count_nonzero(moved.max(axis=(1, 2)) == 0.0) < 3, "some stopped before others"
    loaded = CAEModel.load(model.save(tmp_path / "cae.ml4t"))
    np.testing.assert_array_equal(
        loaded.extract(batch).asset_betas, model.extract(batch).asset_betas
    )


def test_context_may_feed_the_factor_network():
    batch = ragged_batch()
    context = np.array(batch.context_features)
    context[2] = np.nan
    batch = replace(batch, context_features=context)
    model = cae(factor_inputs="context")
    model.fit(batch)
    state = model.extract(replace(batch, returns=None, factor_returns=None))
    weight = model._fitted("t").checkpoints[3]["factor_weight"][0]
    expected = context @ weight.T
    np.testing.assert_allclose(state.factor_returns, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="context feature dimension"):
        model.extract(replace(batch, context_features=np.ones((batch.n_periods, 3))))
    with pytest.raises(ValueError, match="needs context_features"):
        model.fit(replace(batch, context_features=None))


def test_without_returns_extraction_gives_betas_only():
    batch = ragged_batch()
    model = cae()
    model.fit(batch)
    bare = replace(batch, returns=None, factor_returns=None)
    assert model.extract(bare).factor_returns is None
    with pytest.raises(ValueError, match="requires returns for fitted_returns"):
        model.fitted_returns(bare)


def test_single_row_batches_are_skipped_and_counted():
    batch = ragged_batch()
    n_rows = int(
        (
            batch.mask & np.isfinite(batch.returns) & np.isfinite(batch.characteristics).all(axis=2)
        ).sum()
    )
    size = n_rows - 1
    summary = cae(batch_size=size, n_ensemble=2, n_epochs=3).fit(batch)
    assert summary.train_metrics["skipped_updates"] == 6
    assert summary.run_record.skipped_updates == 6
    assert cae(batch_size=size, hidden_units=()).fit(batch).train_metrics["skipped_updates"] == 0


def test_batches_of_one_row_update_nothing():
    model = cae(batch_size=1)
    with pytest.raises(ValueError, match="updated no parameters"):
        model.fit(ragged_batch())
    assert not model.is_fitted


def test_invalid_batches_raise_and_name_the_array():
    batch = ragged_batch()
    labels = labelled(batch)
    with pytest.raises(ValueError, match="classification requires factor_returns"):
        cae(task_type="classification").fit(replace(labels, factor_returns=None))
    with pytest.raises(ValueError, match="validation_batch requires returns"):
        cae().fit(batch, validation_batch=replace(batch, returns=None))
    with pytest.raises(ValueError, match=r"validation_batch.*no valid observations"):
        cae().fit(batch, validation_batch=replace(batch, mask=np.zeros_like(batch.mask)))
    with pytest.raises(ValueError, match="feature dimension"):
        cae().fit(batch, validation_batch=ragged_batch(n_chars=4))
    with pytest.raises(ValueError, match="patience must be an integer >= 1"):
        cae().fit(batch, patience=0)


class Stop(Callback):
    def __init__(self, epoch):
        self.epoch, self.state = epoch, None

    def on_epoch(self, event):
        if event.epoch == self.epoch:
            self.state = event.capture()
            raise KeyboardInterrupt


def test_an_interrupted_fit_resumes_with_the_same_bits():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    settings = {"n_epochs": 8, "batch_size": 20, "n_ensemble": 2}
    whole, broken = cae(**settings), cae(**settings)
    whole.fit(batch, validation_batch=later)
    stop = Stop(3)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(batch, validation_batch=later, callbacks=[stop])
    assert not broken.is_fitted
    with pytest.raises(
        ValueError, match=r"resume must be a state of a fit with the same .* its n_factors differ"
    ):
        cae(**settings, n_factors=3).fit(batch, validation_batch=later, resume=stop.state)
    broken.fit(batch, validation_batch=later, resume=stop.state)
    for epoch in whole.available_checkpoints:
        a, b = whole.extract(batch, checkpoint=epoch), broken.extract(batch, checkpoint=epoch)
        np.testing.assert_array_equal(a.asset_betas, b.asset_betas)
        np.testing.assert_array_equal(a.factor_returns, b.factor_returns)


def test_summary_counts_what_was_trained():
    batch = ragged_batch()
    metrics = cae(n_ensemble=2).fit(batch).train_metrics
    assert metrics == {
        "n_train_periods": 8.0,
        "n_checkpoints": 1.0,
        "n_ensemble": 2.0,
        "skipped_updates": 0.0,
    }
