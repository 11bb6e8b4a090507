from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from ml4t.models.training.batching import shuffled
from ml4t.models.training.callbacks import Callback, listeners
from ml4t.models.training.checkpoints import Schedule
from ml4t.models.training.initialization import empty, uniform_
from ml4t.models.training.loop import Phase, run
from ml4t.models.training.noise import dropout
from ml4t.models.training.run_state import RunState
from ml4t.models.training.stopping import Better, Patience

CPU = torch.device("cpu")


class Line(nn.Module):
    """E straight lines through the origin: weight (E, 3)."""

    def __init__(self, seeds):
        super().__init__()
        self.weight = empty(len(seeds), 3, device=CPU, dtype=torch.float64)
        for member, seed in zip(self.weight, seeds, strict=True):
            uniform_(member, 1.0, torch.Generator().manual_seed(seed))


def data():
    source = torch.Generator().manual_seed(7)
    x = torch.randn(40, 3, generator=source, dtype=torch.float64)
    y = x @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    return x, y + 0.1 * torch.randn(40, generator=source, dtype=torch.float64)


def line_run(seeds=(0,), epochs=8, rate=0.1, lr=0.05, resume=None, callbacks=(), patience=None):
    """Two phases, one network, one optimizer: minibatches with dropout, then a full batch."""
    x, y = data()
    network = Line(seeds)
    shuffle, noise = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr)

    def error(rows, source):
        # One mask for all members, so that a member does not depend on how many there are.
        design = dropout(x[rows], rate, source)
        return (design @ network.weight.T - y[rows, None]).square().mean(dim=0)

    everything = torch.arange(40)
    phases = [
        Phase(
            name="minibatch",
            network=network,
            optimizer=optimizer,
            losses=lambda _: (error(rows, noise) for rows in shuffled(30, 8, shuffle)),
            schedule=Schedule(epochs, (2, epochs)),
            members=len(seeds),
            evaluate=lambda: {"val_loss": error(torch.arange(30, 40), None)},
            keep_best={"best": Better("val_loss")},
            patience=patience,
        ),
        Phase(
            name="full",
            network=network,
            optimizer=optimizer,
            losses=lambda _: iter([error(everything, noise)]),
            schedule=Schedule(epochs, (epochs,)),
            members=len(seeds),
        ),
    ]
    trained = run(
        phases,
        generators=(shuffle, noise),
        listeners=listeners(tuple(callbacks), progress=False),
        resume=resume,
    )
    return trained, network


def one_member(trained, index):
    """Everything that a member's training left behind."""
    out = []
    for phase in trained:
        out += [value[index] for _, metrics in phase.history for value in metrics.values()]
        out += [state["weight"][index] for state in phase.checkpoints.values()]
        out += [best.state["weight"][index] for best in phase.best.values()]
        out.append(phase.last_epoch[index])
    return out


def assert_same_bits(left, right):
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a, b)


def single(seed=0, **settings):
    trained, _ = line_run((seed,), **settings)
    return one_member(trained, 0)


def test_least_squares_is_found_by_full_batch_descent():
    x, y = data()
    network = Line((3,))
    phase = Phase(
        name="ols",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.3),
        losses=lambda _: iter([(x @ network.weight[0] - y).square().mean()]),
        schedule=Schedule(200),
    )
    run([phase])
    expected = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    torch.testing.assert_close(network.weight[0].detach(), expected, rtol=0, atol=1e-12)


def test_ascent_raises_and_frozen_parts_stay():
    network, frozen = Line((0,)), nn.Sequential(nn.Dropout(0.5))
    seen = []

    def losses(_epoch):
        seen.append((network.training, frozen.training))
        yield -(network.weight - 2.0).square().sum()

    phase = Phase(
        name="ascent",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.25),
        losses=losses,
        schedule=Schedule(60),
        frozen=(frozen,),
        ascent=True,
    )
    (trained,) = run([phase])
    losses_seen = [float(m["train_loss"]) for _, m in trained.history]
    assert losses_seen == sorted(losses_seen)
    np.testing.assert_allclose(network.weight.detach().numpy(), 2.0, atol=1e-12)
    assert set(seen) == {(True, False)}


def test_same_seed_same_bits_and_global_generators_untouched():
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    flags = torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()
    first, second = single(), single()
    assert_same_bits(first, second)
    assert torch.equal(torch.get_rng_state(), torch_before)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002
    assert (torch.are_deterministic_algorithms_enabled(), torch.get_default_dtype()) == flags


def test_concurrent_runs_equal_serial_ones():
    serial = [single(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(single, range(4)))
    for a, b in zip(serial, together, strict=True):
        assert_same_bits(a, b)


@pytest.mark.parametrize("patience", [None, Patience((Better("val_loss"),), limit=2)])
def test_members_trained_together_equal_members_alone(patience):
    seeds = (0, 1, 2)
    together, _ = line_run(seeds, epochs=25, lr=0.4, patience=patience)
    stops = together[0].last_epoch.tolist()
    assert patience is None or len(set(stops)) > 1, f"choose data where stops differ: {stops}"
    for index, seed in enumerate(seeds):
        alone, _ = line_run((seed,), epochs=25, lr=0.4, patience=patience)
        phase, lone = together[0], alone[0]
        last = stops[index]
        assert int(lone.last_epoch) == last
        for (_, a), (_, b) in zip(phase.history[:last], lone.history, strict=True):
            torch.testing.assert_close(a["val_loss"][index], b["val_loss"][0], rtol=1e-12, atol=0)
        torch.testing.assert_close(
            phase.best["best"].state["weight"][index], lone.best["best"].state["weight"][0]
        )
        assert phase.best["best"].epoch[index] == lone.best["best"].epoch[0]
        # A stopped member keeps the state in which it stopped.
        if last < 25 and 25 in phase.checkpoints:
            kept = phase.checkpoints[25]["weight"][index]
            torch.testing.assert_close(
                kept, line_state_after(seed, last, patience), rtol=1e-12, atol=0
            )


def line_state_after(seed, epochs, patience):
    trained, _ = line_run((seed,), epochs=epochs, lr=0.4, patience=patience)
    return trained[0].checkpoints[epochs]["weight"][0]


class InterruptError(Exception):
    pass


class StopAfter(Callback):
    def __init__(self, phase, epoch):
        self.at, self.state = (phase, epoch), None

    def on_epoch(self, event):
        if (event.phase, event.epoch) == self.at:
            self.state = event.capture()
            raise InterruptError


@pytest.mark.parametrize("at", [("minibatch", 1), ("minibatch", 8), ("full", 3), ("full", 8)])
def test_a_resumed_run_has_the_bits_of_an_unbroken_one(at, tmp_path):
    unbroken = single()
    stop = StopAfter(*at)
    with pytest.raises(InterruptError):
        line_run(callbacks=[stop])
    path = stop.state.save(tmp_path / "deep" / "run.pt")
    resumed = single(resume=RunState.load(path))
    assert_same_bits(resumed, unbroken)


def test_a_state_on_disk_is_complete_or_raises(tmp_path, monkeypatch):
    stop, path = StopAfter("minibatch", 1), tmp_path / "run.pt"
    with pytest.raises(InterruptError):
        line_run(callbacks=[stop])
    kept = stop.state.save(path).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("the disk is full")))
        with pytest.raises(OSError, match="the disk is full"):
            stop.state.save(path)
    assert path.read_bytes() == kept
    assert [one.name for one in tmp_path.iterdir()] == ["run.pt"]
    for content in (b"", kept[:100], kept[: len(kept) // 2], b"{}"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot load .*run\.pt"):
            RunState.load(path)
    torch.save({"other": 1}, path)
    with pytest.raises(ValueError, match=r"cannot load .*run\.pt"):
        RunState.load(path)


def test_a_resumed_run_remembers_its_stopping_rules():
    rule = Patience((Better("val_loss"),), limit=2)
    unbroken, _ = line_run(epochs=25, lr=0.4, patience=rule)
    stop = StopAfter("minibatch", int(unbroken[0].last_epoch[0]) - 1)
    with pytest.raises(InterruptError):
        line_run(epochs=25, lr=0.4, patience=rule, callbacks=[stop])
    resumed, _ = line_run(epochs=25, lr=0.4, patience=rule, resume=stop.state)
    assert_same_bits(one_member(resumed, 0), one_member(unbroken, 0))


def test_a_state_of_other_phases_raises():
    stop = StopAfter("minibatch", 1)
    with pytest.raises(InterruptError):
        line_run(callbacks=[stop])
    network = Line((0,))
    phase = Phase(
        name="other",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        losses=lambda _: iter(()),
        schedule=Schedule(1),
    )
    with pytest.raises(ValueError, match="resume must come from the phases"):
        run([phase], resume=stop.state)
    with pytest.raises(TypeError, match="resume must be a RunState"):
        run([phase], resume="state")


def broken(loss, *, lr=0.1, evaluate=None, members=None):
    network = Line((0, 1))
    phase = Phase(
        name="demo",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        losses=lambda epoch: iter([loss(network.weight, epoch)]),
        schedule=Schedule(3),
        evaluate=evaluate,
        members=members,
    )
    return run([phase])


def test_guards_name_what_phase_and_epoch():
    where = r"at epoch 2 \(phase demo\)"
    with pytest.raises(FloatingPointError, match=f"non-finite training loss {where}"):
        broken(lambda w, epoch: w.sum() * (1.0 if epoch == 1 else torch.nan))
    with pytest.raises(FloatingPointError, match=r"training gradient at epoch 1 \(phase demo\)"):
        broken(lambda w, _: (w - w.detach()).sqrt().sum())
    with pytest.raises(FloatingPointError, match="non-finite training gradient norm at epoch 1"):
        broken(lambda w, _: (w * 1e300).sum() * 1e-300 + (w * 1e200).sum())
    with pytest.raises(FloatingPointError, match="non-finite model parameter at epoch 1"):
        broken(lambda w, _: w.sum() * 1e10, lr=1e308)
    with pytest.raises(FloatingPointError, match="non-finite val_loss at epoch 1"):
        broken(lambda w, _: w.sum(), evaluate=lambda: {"val_loss": float("nan")})
    with pytest.raises(FloatingPointError, match=r"training loss at epoch 1.*members \[1\]"):
        broken(lambda w, _: w.sum(dim=1) / torch.tensor([1.0, 0.0]), members=2)


def test_an_epoch_without_a_loss_raises():
    network = Line((0,))
    phase = Phase(
        name="demo",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        losses=lambda _: iter(()),
        schedule=Schedule(1),
    )
    with pytest.raises(ValueError, match="demo: epoch 1 yielded no loss"):
        run([phase])


def test_gradients_are_clipped_to_the_norm():
    network = Line((0,))
    before = network.weight.detach().clone()
    phase = Phase(
        name="clip",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        losses=lambda _: iter([100.0 * network.weight.sum()]),
        schedule=Schedule(1),
        max_grad_norm=0.3,
    )
    run([phase])
    step = (before - network.weight.detach()).norm()
    assert float(step) == pytest.approx(0.3, rel=1e-6)


def test_the_best_state_is_restored_when_asked():
    network = Line((0,))
    values = {1: 3.0, 2: 1.0, 3: 2.0}
    epochs, states = iter(values), {}

    def evaluate():
        epoch = next(epochs)
        states[epoch] = network.weight.detach().clone()
        return {"score": values[epoch]}

    phase = Phase(
        name="best",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        losses=lambda _: iter([network.weight.sum()]),
        schedule=Schedule(3),
        evaluate=evaluate,
        keep_best={"low": Better("score"), "high": Better("score", "max", burn_in=1)},
        restore="low",
    )
    (trained,) = run([phase])
    assert (int(trained.best["low"].epoch), int(trained.best["high"].epoch)) == (2, 3)
    assert torch.equal(network.weight, states[2])


def test_callbacks_hear_every_phase_and_epoch(capsys):
    events = []

    class Listen(Callback):
        def on_start(self, event):
            events.append(("start", event.phase, event.total))

        def on_epoch(self, event):
            events.append((event.phase, event.epoch, sorted(event.metrics)))

        def on_end(self, event):
            events.append(("end", event.phase, event.epoch, event.stopped_early))

    line_run(epochs=2, callbacks=[Listen()])
    assert events == [
        ("start", "minibatch", 2),
        ("minibatch", 1, ["train_loss", "val_loss"]),
        ("minibatch", 2, ["train_loss", "val_loss"]),
        ("end", "minibatch", 2, False),
        ("start", "full", 2),
        ("full", 1, ["train_loss"]),
        ("full", 2, ["train_loss"]),
        ("end", "full", 2, False),
    ]
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_shown_only_when_asked(capsys):
    network = Line((0,))
    phase = Phase(
        name="barred",
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        losses=lambda _: iter([network.weight.sum()]),
        schedule=Schedule(2),
    )
    run([phase], listeners=listeners((), progress=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "barred" in err
