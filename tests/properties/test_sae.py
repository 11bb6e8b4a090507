"""The supervised autoencoder: its loss, its rows, its options, its refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from ml4t.models import CrossSectionBatch
from ml4t.models.asset_prediction.sae import net, objective, sample
from ml4t.models.asset_prediction.sae import train as estimate
from ml4t.models.asset_prediction.sae.net import Noise, SAENet, Sizes
from ml4t.models.training import noise
from ml4t.models.training.batching import shuffled
from ml4t.models.training.callbacks import Callback
from neural_families import labelled, one_thread, ragged_batch, sae  # noqa: F401
from oracles import sae as oracle

F64 = torch.float64
SIZES = Sizes(n_features=4, bottleneck=3, aux=5, main=(6, 5, 4, 3), n_targets=2)
QUIET = (0.0,) * 8


def net_and_rows(n_rows=30, seed=0):
    source = torch.Generator().manual_seed(seed)
    net = SAENet(SIZES, source, F64)
    x = torch.randn(n_rows, 4, generator=source, dtype=F64)
    y = (torch.randn(n_rows, 2, generator=source, dtype=F64) > 0).double()
    return net, x, y


@pytest.mark.parametrize("classification", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_loss_and_gradients_are_those_of_the_plain_network(classification, training):
    net, x, y = net_and_rows()
    plain = oracle.plain_copy(net, SIZES)
    net.train(training)
    plain.train(training)
    outputs = net(x.T.contiguous(), None)
    ones = torch.ones(30, dtype=F64)
    parts = objective.parts(outputs, x.T, y.T, ones, classification=classification)
    got = parts.total(0.7, 0.3)
    expected = oracle.loss(plain(x), x, y, alpha=0.7, aux_weight=0.3, classification=classification)
    torch.testing.assert_close(got, expected)
    got.backward()
    expected.backward()
    for own, other in (
        (net.encoder.weight, plain.encoder[0].weight),
        (net.decoder.weight, plain.decoder[1].weight),
        (net.main[2].weight, plain.main[10].weight),
        (net.main_norms[1].scale, plain.main[7].weight),
        (net.input_norm.shift, plain.input_norm.bias),
        (net.aux_norm.scale, plain.aux[1].weight),
    ):
        torch.testing.assert_close(own.grad, other.grad)
    torch.testing.assert_close(net.main_norm.variance, plain.main[0].running_var)


def test_hidden_units_are_dropped_at_their_rates_and_the_kept_ones_scaled():
    network = net_and_rows()[0]
    rates = (0.0,) * 4 + (0.3, 0.5, 0.1, 0.2)
    draw = Noise(torch.Generator().manual_seed(6), 0.0, rates)
    pairs = list(zip(network.main[1:3], network.main_norms[1:3], strict=True))
    rows = torch.randn(6, 30, generator=torch.Generator().manual_seed(5), dtype=F64)
    got = net._hidden(rows, pairs, draw, 5)
    source, expected = torch.Generator().manual_seed(6), rows
    for (linear, norm), rate in zip(pairs, (0.5, 0.1), strict=True):
        normed = torch.nn.functional.batch_norm(
            (linear.weight @ expected).T, None, None, norm.scale, norm.shift, True, 0.01, 1e-3
        )
        kept = noise.keep_mask((normed.T).shape, rate, source)
        expected = torch.nn.functional.silu(normed).T * kept * noise.keep_scale(rate)
    torch.testing.assert_close(got, expected)


def test_parts_add_up_to_the_loss_and_zero_weights_give_the_mean_square():
    net, x, y = net_and_rows()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        outputs = net.eval()(x.T.contiguous(), None)
    parts = objective.parts(outputs, x.T, y.T, torch.ones(30, dtype=F64), classification=False)
    assert float(parts.reconstruction) == pytest.approx(float(x.square().mean()), rel=1e-15)
    assert float(parts.main) == float(parts.aux) == pytest.approx(float(y.square().mean()))
    total = parts.total(0.5, 0.25)
    assert float(total) == float(parts.reconstruction + 0.5 * parts.main + 0.25 * parts.aux)


def test_doubling_a_weight_is_doubling_the_row():
    net, x, y = net_and_rows()
    net.eval()  # running moments: a batch norm in training sees rows, not weights
    weights = torch.ones(30, dtype=F64)
    weights[7] = 2.0
    twice = torch.cat([torch.arange(30), torch.tensor([7])])

    def value(rows, weight):
        outputs = net(x[rows].T.contiguous(), None)
        parts = objective.parts(outputs, x[rows].T, y[rows].T, weight, classification=False)
        return parts.total(1.0, 1.0)

    heavy = value(torch.arange(30), weights)
    double = value(twice, torch.ones(31, dtype=F64))
    torch.testing.assert_close(heavy, double, rtol=1e-14, atol=0)
    for one, other in zip(
        torch.autograd.grad(heavy, net.main.parameters()),
        torch.autograd.grad(double, net.main.parameters()),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("batch_size", [None, 20])
def test_loss_curve_is_that_of_the_plain_loop(batch_size):
    batch = ragged_batch()
    model = sae(dropout_rates=QUIET, noise_std=0.0, n_epochs=4, batch_size=batch_size)
    summary = model.fit(batch)
    rows = sample.training_sample(batch, model.config, "test")
    x, y = torch.from_numpy(rows.cells.characteristics), torch.from_numpy(rows.targets)
    sizes = estimate.sizes_of(model.config, 3, 1)
    plain = oracle.plain_copy(SAENet(sizes, torch.Generator().manual_seed(42), F64), sizes)
    size = batch_size or len(x)
    orders = [
        torch.cat(list(shuffled(len(x), size, torch.Generator().manual_seed(42 + epoch))))
        for epoch in range(1, 5)
    ]
    assert len(x) % size != 1
    expected = oracle.train(plain, x, y, orders=orders, batch_size=size, lr=0.02)
    got = [entry["train_loss"] for entry in summary.history]
    np.testing.assert_allclose(got, expected, rtol=1e-7)


def test_noise_and_dropout_apply_in_training_only():
    net, x, _ = net_and_rows(n_rows=200)
    noise = Noise(torch.Generator().manual_seed(0), 0.1, (0.0, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2))
    rows = x.T.contiguous()
    assert not torch.equal(net(rows, noise).main, net(rows, noise).main)
    net.eval()
    assert torch.equal(net(rows, None).main, net.predict(rows))


def test_gradient_with_dropout_is_that_of_the_masked_function():
    net, x, y = net_and_rows()
    rows = x.T.contiguous()

    def value():
        noise = Noise(torch.Generator().manual_seed(3), 0.05, (0.0, *(0.3,) * 7))
        parts = objective.parts(
            net(rows, noise), rows, y.T, torch.ones(30, dtype=F64), classification=False
        )
        return parts.total(1.0, 1.0)

    value().backward()
    for name in ("encoder.weight", "main.1.weight", "aux.weight", "main_output.weight"):
        parameter = net.get_parameter(name)
        flat, step = parameter.data.view(-1), 1e-6
        flat[0] += step
        up = float(value().detach())
        flat[0] -= 2 * step
        down = float(value().detach())
        flat[0] += step
        numeric = (up - down) / (2 * step)
        assert float(parameter.grad.view(-1)[0]) == pytest.approx(numeric, rel=1e-4, abs=1e-9)


def interaction(seed, n_dates=30, n_assets=60):
    """Returns that are a product of two characteristics: a line sees nothing of it."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_dates, n_assets, 4))
    r = 0.5 * z[..., 0] * z[..., 1] + 0.2 * rng.standard_normal((n_dates, n_assets))
    return CrossSectionBatch(z, returns=r)


def test_it_beats_ridge_regression_on_an_interaction():
    train, test = interaction(0), interaction(1)
    model = sae(
        bottleneck_dim=16, aux_hidden_dim=16, main_hidden_units=(32, 32, 16, 16), n_epochs=25,
        lr=5e-3, batch_size=256, dropout_rates=(0.0, 0.0, *(0.1,) * 6),
    )  # fmt: skip
    model.fit(train)
    predicted = model.predict(test).signal_values
    x = train.characteristics.reshape(-1, 4)
    slopes = np.linalg.solve(x.T @ x + np.eye(4), x.T @ train.returns.ravel())
    ridge = test.characteristics @ slopes
    total = np.square(test.returns).sum()
    r2 = {
        name: 1.0 - np.square(test.returns - p).sum() / total
        for name, p in (("sae", predicted), ("ridge", ridge))
    }
    # The signal is 1 - 0.04 / 0.29 = 86 % of the variance.
    assert r2["ridge"] < 0.02
    assert r2["sae"] > 0.5


def test_several_targets_and_their_mean():
    batch = ragged_batch()
    targets = np.stack([batch.returns, -2.0 * batch.returns], axis=2)
    model = sae()
    model.fit(batch, targets=targets)
    each = model.predict_targets(batch)
    assert each.shape == (8, 9, 2)
    np.testing.assert_array_equal(model.predict(batch).signal_values, each.mean(axis=2))
    single, plain = sae(), sae()
    single.fit(batch, targets=np.array(batch.returns)[:, :, None])
    plain.fit(batch)
    np.testing.assert_array_equal(
        single.predict(batch).signal_values, plain.predict(batch).signal_values
    )
    with pytest.raises(ValueError, match="validation_targets must have the 2 targets"):
        model.fit(batch, targets=targets, validation_batch=batch)


def test_equal_weights_change_nothing_and_zero_weight_is_absence():
    batch = ragged_batch()
    plain, ones, without, zero = sae(), sae(), sae(), sae()
    plain.fit(batch)
    ones.fit(batch, sample_weights=np.ones(batch.returns.shape))
    np.testing.assert_array_equal(
        ones.predict(batch).signal_values, plain.predict(batch).signal_values
    )
    weights = np.ones(batch.returns.shape)
    weights[0, :3] = 0.0
    mask = batch.mask & (weights > 0)
    without.fit(replace(batch, mask=mask))
    zero.fit(batch, sample_weights=weights)
    np.testing.assert_array_equal(
        zero.predict(batch).signal_values, without.predict(batch).signal_values
    )
    with pytest.raises(ValueError, match="sample_weights must be >= 0"):
        sae().fit(batch, sample_weights=-weights)
    masked = np.where(batch.mask, 1.0, -1.0)  # what a masked cell weighs is never read
    ones.fit(batch, sample_weights=masked)
    np.testing.assert_array_equal(
        ones.predict(batch).signal_values, plain.predict(batch).signal_values
    )
    with pytest.raises(ValueError, match="sample_weights for SAEModel must have shape"):
        sae().fit(batch, sample_weights=np.ones((2, 2)))
    with pytest.raises(ValueError, match="sample_weights must hold real numbers"):
        sae().fit(batch, sample_weights="heavy")


def test_classification_predicts_probabilities():
    batch = labelled(ragged_batch())
    model = sae(task_type="classification")
    model.fit(batch)
    values = model.predict(batch).signal_values
    finite = values[np.isfinite(values)]
    assert ((finite > 0) & (finite < 1)).all()


def test_checkpoints_and_history():
    batch, later = ragged_batch(), ragged_batch(seed=1)
    model = sae(n_epochs=5, checkpoint_interval=2)
    summary = model.fit(batch, validation_batch=later)
    assert model.available_checkpoints == (2, 4, 5)
    losses = {int(entry["epoch"]): entry["val_loss"] for entry in summary.history}
    assert list(losses) == [1, 2, 3, 4, 5]
    assert summary.best_epoch == min((2, 4, 5), key=losses.get)
    assert summary.val_metrics == {"best_val_loss": min(losses.values())}
    assert model.predict(batch).metadata["checkpoint_epoch"] == 5
    assert model.predict(batch, checkpoint=2).metadata["checkpoint_epoch"] == 2
    best = sae(n_epochs=5, checkpoint_interval=2, default_checkpoint="best")
    best.fit(batch, validation_batch=later)
    assert best.predict(batch).metadata["checkpoint_epoch"] == summary.best_epoch
    plain = sae().fit(batch)
    assert plain.val_metrics == {}
    assert all(entry["val_loss"] == entry["train_loss"] for entry in plain.history)


def test_single_rows_never_make_a_batch():
    batch = ragged_batch()
    n_rows = len(sample.training_sample(batch, sae().config, "test"))
    assert sae(batch_size=n_rows - 1).fit(batch).converged
    assert sae(batch_size=1).fit(batch).converged


def test_invalid_batches_raise_and_name_the_array():
    batch = ragged_batch()
    one = np.zeros_like(batch.mask)
    one[0, 0] = True
    with pytest.raises(ValueError, match="at least 2 valid observations"):
        sae().fit(replace(batch, mask=one))
    with pytest.raises(ValueError, match="validation_batch requires returns"):
        sae().fit(batch, validation_batch=replace(batch, returns=None))
    with pytest.raises(ValueError, match="feature dimension"):
        sae().fit(batch, validation_batch=ragged_batch(n_chars=4))
    with pytest.raises(ValueError, match="at least 1 feature"):
        sae().fit(replace(batch, characteristics=batch.characteristics[..., :0]))
    with pytest.raises(ValueError, match="at least 1 target"):
        sae().fit(batch, targets=np.ones((8, 9, 0)))


class Stop(Callback):
    state = None

    def on_epoch(self, event):
        if event.epoch == 2:
            self.state = event.capture()
            raise KeyboardInterrupt


def test_an_interrupted_fit_resumes_with_the_same_bits():
    batch = ragged_batch()
    whole, broken, stop = sae(batch_size=16, n_epochs=5), sae(batch_size=16, n_epochs=5), Stop()
    whole.fit(batch)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(batch, callbacks=[stop])
    broken.fit(batch, resume=stop.state)
    np.testing.assert_array_equal(
        broken.predict(batch).signal_values, whole.predict(batch).signal_values
    )
