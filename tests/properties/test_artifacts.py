"""Model files: nothing lost on the way, whole or not there, readable anywhere."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from numpy.typing import NDArray

import tiny
from ml4t.models.artifacts import disk, files
from ml4t.models.artifacts.codec import pack, settled, unpack
from ml4t.models.types.base import same_value

TESTS = Path(tiny.__file__).parent

numbers = arrays_of.arrays(
    st.sampled_from(["f8", "f4", "i8", "i4", "u2", "u1", "?", "M8[ns]", "m8[D]"]),
    arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(),
    numbers,
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(timezone(timedelta(hours=-5)))),
    st.just(datetime(2020, 11, 1, 1, 30, tzinfo=ZoneInfo("America/New_York"), fold=1)),
    st.just(np.datetime64("2020-01-31T16:00:00.000000001", "ns")),
)
keys = st.text() | st.integers() | st.tuples(st.text(), st.integers())
anything = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=12,
)


def through_bytes(value: object, hint: object) -> Any:
    state, arrays = pack(value, "fit")
    content = files.to_bytes(files.Artifact("ml4t.models.X", "0.2.0", None, state, arrays))
    artifact = files.from_bytes(bytes(content))
    return unpack(artifact.state, hint, artifact.arrays, "fit")


def same_bits(left: object, right: object) -> bool:
    if isinstance(left, np.ndarray):
        return left.tobytes() == right.tobytes() and same_value(left, right)
    return type(left) is type(right) and same_value(left, right)


@given(anything)
def test_a_value_comes_back_as_it_was(value):
    json.dumps(pack(value, "fit")[0], allow_nan=False)
    assert same_bits(through_bytes(value, Any), value)


def test_keys_that_look_alike_stay_apart():
    value = {1: np.ones(2), "1": np.zeros(3), "a": {"b": np.ones(1)}, "a.b": np.zeros(1)}
    assert same_value(through_bytes(value, Any), value)


@dataclass(frozen=True)
class Leaf:
    weights: dict[str, NDArray[np.float32]]
    loss: float
    epoch: int | tuple[str, int] | None


@dataclass(frozen=True)
class Tree:
    kind: Literal["conditional", "unconditional"]
    by_label: dict[tuple[str, int], Leaf]
    pair: tuple[Leaf, int]
    history: tuple[dict[str, float | str], ...]
    mask: NDArray[np.bool_] | None = None
    at: date | None = None


leaves = st.builds(
    Leaf,
    st.dictionaries(st.text(max_size=4), arrays_of.arrays(np.float32, (2, 3)), max_size=2),
    st.floats(),
    st.none() | st.integers() | st.tuples(st.text(), st.integers()),
)
trees = st.builds(
    Tree,
    st.sampled_from(["conditional", "unconditional"]),
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.integers()), leaves, max_size=2),
    st.tuples(leaves, st.integers()),
    st.lists(st.dictionaries(st.text(), st.floats() | st.text(), max_size=2)).map(tuple),
    st.none() | arrays_of.arrays(np.bool_, (3,)),
    st.none() | st.dates(),
)


@given(trees)
def test_a_record_comes_back_as_it_was(tree):
    assert same_record(through_bytes(tree, Tree), tree)


def same_record(left: Tree, right: Tree) -> bool:
    return json.dumps(pack(left, "fit")[0]) == json.dumps(pack(right, "fit")[0]) and all(
        a.tobytes() == b.tobytes()
        for a, b in zip(pack(left, "fit")[1].values(), pack(right, "fit")[1].values(), strict=True)
    )


LEAF = Leaf({"w": np.ones(2, np.float32)}, 0.5, ("conditional", 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(LEAF, loss="low"), r"fit\.loss must be float; got str"),
        (replace(LEAF, loss=True), r"fit\.loss must be float; got bool"),
        (replace(LEAF, epoch=1.5), r"fit\.epoch must be int \| tuple\[str, int\] \| None"),
        (replace(LEAF, epoch=("a", "b")), r"fit\.epoch\.1 must be int; got str"),
        (replace(LEAF, epoch=("a", 1, 2)), r"fit\.epoch must have 2 items; got 3"),
        (replace(LEAF, weights={"w": np.ones(2)}), r"fit\.weights\.w must hold float32; got dtype"),
        (replace(LEAF, weights=None), r"fit\.weights must be dict; got NoneType"),
        (tiny.Spread(0.0, 1.0), r"fit must be Leaf; got Spread"),
    ],
)
def test_the_class_says_what_may_be_there(wrong, message):
    with pytest.raises(ValueError, match=message):
        through_bytes(wrong, Leaf)


@pytest.mark.parametrize("what", [b"x", {1, 2}, np.array([None]), np.array(["a"]), 1j, Leaf])
def test_what_no_file_holds_is_refused_by_name(what):
    with pytest.raises(TypeError, match=r"^fit\.0 must"):
        pack((what,), "fit")


def test_settled_arrays_are_nobody_elses():
    mine = np.arange(6.0).reshape(2, 3)
    leaf = settled(Leaf({"w": mine.T}, 1.0, None))
    got = leaf.weights["w"]
    assert got.flags.c_contiguous
    assert not got.flags.writeable
    assert not np.shares_memory(got, mine)
    assert settled(got) is got
    assert mine.flags.writeable


def test_a_fit_round_trips_to_the_last_bit(tmp_path):
    for dtype in ("float32", "float64"):
        model = tiny.fitted(dtype=dtype)
        path = model.save(tmp_path / "a" / "b" / "model.any-extension")
        again = tiny.MeanModel.load(path)
        assert again.config == model.config
        assert again.predict().tobytes() == model.predict().tobytes()
        assert again.last_fit_record == model.last_fit_record
        assert again._fitted("look").by_label["mean", 3]["a.b"].tolist() == [[0, 3], [1, 4], [2, 5]]
        assert repr(again) == repr(model)
        assert again.save(tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_record_of_a_failed_refit_is_kept_beside_the_fits(tmp_path):
    model = tiny.fitted()
    with pytest.raises(AttributeError):
        model.fit(None)
    again = tiny.MeanModel.load(model.save(tmp_path / "m"))
    assert again.last_fit_record == model.last_fit_record
    assert again.last_fit_record.stopping_reason == "failed"
    assert "fitted on returns (12, 4)" in repr(again)


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), *sys.path]))
    }
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_fresh_process_reads_the_same(tmp_path):
    model = tiny.fitted()
    code = (
        "import sys, tiny; m = tiny.MeanModel.load(sys.argv[1]);"
        "print(m.predict().tobytes().hex()); print(m.last_fit_record)"
    )
    out, _ = run(code, model.save(tmp_path / "m")).communicate(timeout=60)
    assert out.splitlines() == [model.predict().tobytes().hex(), repr(model.last_fit_record)]


def test_anyone_can_look_into_a_file(tmp_path):
    path = tiny.fitted().save(tmp_path / "model.safetensors")
    with safetensors.safe_open(path, "numpy") as opened:
        manifest = json.loads(opened.metadata()["ml4t.models"])
        assert opened.get_tensor("fit.n_observed").tolist() == [12, 11, 12, 12]
    assert manifest["model_type"] == "ml4t.models.MeanModel"
    assert manifest["format_version"] == 1
    assert manifest["config"]["fields"]["n_factors"] == 3


def test_the_device_may_be_another(tmp_path):
    path = tiny.fitted().save(tmp_path / "m")
    assert tiny.MeanModel.load(path, device="CUDA:1").config.device == "cuda:1"
    assert tiny.MeanModel.load(path).config.device == "cpu"
    with pytest.raises(ValueError, match="device must be auto, cpu, mps, cuda"):
        tiny.MeanModel.load(path, device="tpu")


def test_what_cannot_be_read_again_is_not_written(tmp_path):
    class Loose(tiny.MeanModel):
        def _estimate(self, batch):
            result = super()._estimate(batch)
            return replace(result, fit=replace(result.fit, spreads=("wide",)))

    model = Loose(tiny.PCAConfig())
    model.fit(tiny.panel())
    with pytest.raises(ValueError, match=r"fit\.spreads\.0 must be Spread; got str"):
        model.save(tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_a_file_written_before_a_setting_existed_still_loads():
    artifact = tiny.fitted().to_artifact()
    fields = dict(artifact.config["fields"])
    del fields["dtype"]
    older = replace(artifact, config={"record": "PCAConfig", "fields": fields})
    assert tiny.MeanModel.from_artifact(older).config.dtype == "float64"


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        path = tiny.fitted().save(tmp_path / "m")
        path = tiny.fitted().save(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    tiny.fitted().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert tiny.MeanModel.load(tmp_path / "real").is_fitted


def test_a_folder_is_no_target_and_no_source(tmp_path):
    with pytest.raises(IsADirectoryError, match="path must name a file; it is a folder"):
        tiny.fitted().save(tmp_path)
    with pytest.raises(ValueError, match="must be a file; it is something else"):
        tiny.MeanModel.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        tiny.MeanModel.load(tmp_path / "nowhere")


def test_a_read_only_file_stays(tmp_path):
    path = tiny.fitted().save(tmp_path / "m")
    before = path.read_bytes()
    path.chmod(0o444)
    with pytest.raises(PermissionError, match="path must be writable; it is read-only"):
        tiny.fitted(seed=1).save(path)
    assert path.read_bytes() == before


def test_a_read_only_folder_is_named(tmp_path, monkeypatch):
    # The superuser may write anywhere, so the refusal of the system is played.
    def refuse(path, *rest):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="folder of path must be writable") as caught:
        tiny.fitted().save(tmp_path / "m")
    assert caught.value.filename == str(tmp_path / "m")


def full_disk(*arguments: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch, step, error):
    path = tiny.fitted().save(tmp_path / "m")
    before = path.read_bytes()

    def fail(*arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(type(error)):
            tiny.fitted(seed=1).save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["m"]
    assert path.read_bytes() == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tiny.fitted().save(tmp_path / "m")
    before, create = path.read_bytes(), disk._create

    def on_full_disk(*arguments: Any) -> Any:
        create(*arguments).close()
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(disk, "_create", on_full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        tiny.fitted(seed=1).save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["m"]
    assert path.read_bytes() == before


WRITER = """
import sys, numpy as np, tiny
models = []
for seed in (0, 1):
    model = tiny.fitted(seed)
    fit = tiny.replace(model._fitted("look"), last=np.full(200_000, float(seed)))
    result = tiny.replace(model._state.result, fit=fit)
    model._state = tiny.replace(model._state, result=result)
    models.append(model)
models[0].save(sys.argv[1])
print("ready", flush=True)
while True:
    for model in models:
        model.save(sys.argv[1])
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    delays = random.Random(0)
    for _ in range(5):
        writer = run(WRITER, tmp_path / "m")
        assert writer.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.0, 0.06))
        writer.send_signal(signal.SIGKILL)
        writer.communicate(timeout=60)
        result = tiny.MeanModel.load(tmp_path / "m")._fitted("look")
        assert result.last[0] in (0.0, 1.0)
        assert (result.last == result.last[0]).all()
