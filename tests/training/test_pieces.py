from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from ml4t.models.training import callbacks as progress
from ml4t.models.training import initialization as initial
from ml4t.models.training import noise
from ml4t.models.training.batching import shuffled
from ml4t.models.training.device import generator, resolve_device, resolve_dtype, to_tensor
from ml4t.models.training.stopping import Better, Patience

CPU = torch.device("cpu")


def metric(*values):
    return torch.tensor(values, dtype=torch.float64)


def stops_at(rule, series):
    seen = None
    for epoch, values in enumerate(series, start=1):
        seen = rule.update(seen, epoch, values)
        if bool(rule.exhausted(seen).all()):
            return epoch
    return None


def test_patience_counts_epochs_without_improvement():
    series = [{"loss": metric(v)} for v in (3.0, 2.0, 2.0, 2.5, 1.0)]
    assert stops_at(Patience((Better("loss"),), limit=2), series) == 4
    assert stops_at(Patience((Better("loss"),), limit=3), series) is None


def test_patience_is_renewed_by_any_watched_metric():
    rule = Patience((Better("loss"), Better("sharpe", "max")), limit=2)
    series = [{"loss": metric(1.0), "sharpe": metric(v)} for v in (0.1, 0.2, 0.3, 0.3, 0.3)]
    assert stops_at(rule, series) == 5


def test_burn_in_sets_no_best_and_counts_no_bad_epoch():
    series = [{"loss": metric(v)} for v in (0.0, 0.0, 0.0, 5.0, 4.0, 4.0, 4.0)]
    assert stops_at(Patience((Better("loss"),), limit=2, burn_in=3), series) == 7


def test_smoothed_patience_follows_the_exponential_average():
    values = [1.0, 3.0, 1.0, 1.0]
    averages, level = [], values[0]
    for value in values:
        level = 0.5 * level + 0.5 * value
        averages.append(level)
    rule = Patience((Better("s", "max"),), limit=9, smoothing=0.5)
    seen = None
    for epoch, value in enumerate(values, start=1):
        seen = rule.update(seen, epoch, {"s": metric(value)})
        assert float(seen.smoothed["s"]) == averages[epoch - 1]
    assert int(seen.bad) == 2
    assert float(seen.best["s"]) == max(averages)


def test_an_improvement_must_exceed_min_delta():
    rule = Better("x", min_delta=0.1)
    assert rule.improved(metric(0.85), metric(1.0)).item()
    assert not rule.improved(metric(0.9000001), metric(1.0)).item()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"watch": (), "limit": 1}, "watch"),
        ({"watch": (Better("x"),), "limit": 0}, "limit"),
        ({"watch": (Better("x"),), "limit": 1, "smoothing": 0.0}, "smoothing"),
    ],
)
def test_impossible_rules_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        Patience(**settings)


def test_a_metric_that_is_not_reported_is_named():
    with pytest.raises(KeyError, match="'sharpe' is not reported"):
        Better("sharpe").value({"loss": metric(1.0)})


@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_dropout_meets_its_rate_and_keeps_the_mean(rate):
    n = 400_000
    out = noise.dropout(torch.ones(n, dtype=torch.float64), rate, generator(0, CPU))
    dropped = float((out == 0).double().mean())
    sigma = (rate * (1 - rate) / n) ** 0.5
    assert abs(dropped - rate) < 5 * sigma
    np.testing.assert_allclose(out[out != 0].unique().numpy(), 1 / (1 - rate), rtol=2e-5)


def test_no_source_means_no_noise():
    x = torch.ones(9)
    assert noise.dropout(x, 0.5, None) is x
    assert noise.gaussian(x, 0.5, None) is x


def test_layers_are_drawn_from_their_own_generator_with_torch_bounds():
    before = torch.get_rng_state()
    layer = initial.lstm(3, 4, generator(0, CPU), device=CPU, dtype=torch.float64)
    again = initial.lstm(3, 4, generator(0, CPU), device=CPU, dtype=torch.float64)
    for a, b in zip(layer.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
        assert float(a.detach().abs().max()) <= 0.5
    assert torch.equal(torch.get_rng_state(), before)


def test_minibatches_cover_every_row_once():
    batches = list(shuffled(23, 5, generator(0, CPU)))
    assert [len(b) for b in batches] == [5, 5, 5, 5, 3]
    assert sorted(torch.cat(batches).tolist()) == list(range(23))


@pytest.mark.parametrize(
    ("rows", "sizes"), [(11, [5, 6]), (12, [5, 5, 2]), (1, [1]), (5, [5]), (6, [6])]
)
def test_a_trailing_single_row_joins_the_batch_before(rows, sizes):
    batches = list(shuffled(rows, 5, generator(0, CPU), join_single=True))
    assert [len(b) for b in batches] == sizes
    assert torch.equal(torch.cat(batches), torch.cat(list(shuffled(rows, 5, generator(0, CPU)))))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.bool_, np.int64])
def test_read_only_arrays_become_tensors_without_copy_or_warning(dtype):
    array = np.arange(12).reshape(3, 4).astype(dtype)
    view = array.view()
    view.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_tensor(view, device=CPU)
    assert tensor.data_ptr() == array.__array_interface__["data"][0]
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_a_tensor_keeps_the_memory_of_its_array_alive():
    array = np.full(100_000, 3.0)
    array.flags.writeable = False
    tensor = to_tensor(array, device=CPU)
    del array
    np.full(100_000, 5.0)
    assert bool((tensor == 3.0).all())


def test_any_layout_and_byte_order_is_taken():
    array = np.arange(12.0).reshape(3, 4)
    for other in (array[::-1, ::-1], array.T, array.astype(">f8"), np.broadcast_to(1.5, (2, 3))):
        np.testing.assert_array_equal(to_tensor(other, device=CPU).numpy(), other)


def test_dtype_is_changed_when_asked():
    assert to_tensor(np.ones(2, np.float32), device=CPU, dtype=torch.float64).dtype == torch.float64


def test_unavailable_devices_are_named():
    assert resolve_device("auto").type in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match="CUDA"):
            resolve_device("cuda:3")
    if not torch.backends.mps.is_available():
        with pytest.raises(RuntimeError, match="MPS"):
            resolve_device("mps")
    with pytest.raises(ValueError, match="dtype"):
        resolve_dtype("float16")


@pytest.mark.parametrize(
    ("callbacks", "got"), [("bar", "str"), (3, "int"), ([progress.Callback(), print], "at 1")]
)
def test_a_callback_without_its_methods_raises(callbacks, got):
    with pytest.raises(TypeError, match=rf"callbacks must be a sequence of Callback; got .*{got}"):
        progress.listeners(callbacks, progress=False)


def test_listeners_may_come_from_a_generator():
    given = [progress.Callback(), progress.Callback()]
    assert progress.listeners((one for one in given), progress=False)[1:] == tuple(given)
