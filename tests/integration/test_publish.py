"""The artifact directory: old or new, never half; files of others stay."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml4t.models.integration import (
    predictions_frame_from_asset_forecast,
    publish,
    surfaces,
    weights_frame_from_asset_weights,
    write_backtest_frames,
)
from ml4t.models.types import AssetForecastResult, AssetWeightsResult, FitRunRecord

RECORD = FitRunRecord(
    schema_version=1,
    package_version="0.2.0",
    model_name="pca",
    config={"n_factors": 2},
    seed=0,
    resolved_device="cpu",
    resolved_dtype="float64",
    input_dimensions={"input_0_returns_0": 3},
    input_sha256="0" * 64,
    stopping_reason="completed",
    skipped_updates=0,
    elapsed_seconds=0.1,
)


def predictions(value: float, n_assets: int = 2):
    return predictions_frame_from_asset_forecast(
        AssetForecastResult(np.full((3, n_assets), value), metadata={"checkpoint": 7})
    )


def weights(value: float, n_assets: int = 2):
    return weights_frame_from_asset_weights(AssetWeightsResult(np.full((3, n_assets), value)))


def names(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


@pytest.fixture
def target(tmp_path):
    return tmp_path / "deep" / "artifacts"


@pytest.fixture(params=["exchange", "two renames"])
def swap(request, monkeypatch):
    """Publish both ways: in one step, and as where the system cannot."""
    if request.param == "two renames":
        monkeypatch.setattr(publish, "_exchange", lambda _one, _other: False)


@pytest.mark.usefixtures("swap")
def test_a_generation_replaces_the_one_before(target):
    paths = write_backtest_frames(target, predictions=predictions(1.0), weights=weights(1.0))
    assert paths == {
        "predictions": target / "predictions.parquet",
        "weights": target / "weights.parquet",
    }
    assert names(target) == ["manifest.json", "predictions.parquet", "weights.parquet"]
    manifest = json.loads((target / "manifest.json").read_text())
    assert manifest == {"files": ["predictions.parquet", "weights.parquet"], "format_version": 1}
    write_backtest_frames(target, predictions=predictions(2.0))
    assert names(target) == ["manifest.json", "predictions.parquet"]
    assert (
        pl.read_parquet(target / "predictions.parquet")["prediction_value"].to_list() == [2.0] * 6
    )
    assert names(target.parent) == ["artifacts", *(f"artifacts/{one}" for one in names(target))]


@pytest.mark.usefixtures("swap")
def test_files_of_others_stay_with_their_inodes(target):
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine")
    (target / "sub" / "deeper").mkdir(parents=True)
    (target / "sub" / "deeper" / "more.txt").write_text("also mine")
    (target / "link").symlink_to("notes.txt")
    (target / "dangling").symlink_to("nowhere")
    before = (target / "notes.txt").stat()
    with (target / "notes.txt").open("a") as open_file:
        for value in (1.0, 2.0):
            write_backtest_frames(target, predictions=predictions(value))
        open_file.write(" still")
    after = (target / "notes.txt").stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert (target / "notes.txt").read_text() == "mine still"
    assert (target / "sub" / "deeper" / "more.txt").read_text() == "also mine"
    assert (target / "link").read_text() == "mine still"
    assert (target / "dangling").is_symlink()


@pytest.mark.usefixtures("swap")
def test_a_file_that_arrives_while_publishing_stays(target, monkeypatch):
    write_backtest_frames(target, predictions=predictions(1.0))
    (target / "replaced.txt").write_text("old")
    real = publish._flush

    def write_meanwhile(directory):
        real(directory)
        (target / "late.txt").write_text("late")
        (target / "other.tmp").write_text("new")
        (target / "other.tmp").replace(target / "replaced.txt")

    monkeypatch.setattr(publish, "_flush", write_meanwhile)
    write_backtest_frames(target, predictions=predictions(2.0))
    assert (target / "late.txt").read_text() == "late"
    assert (target / "replaced.txt").read_text() == "new"


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(target, umask):
    before = os.umask(umask)
    try:
        paths = write_backtest_frames(target, predictions=predictions(1.0))
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == 0o777 & ~umask
    assert stat.S_IMODE(paths["predictions"].stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((target / "manifest.json").stat().st_mode) == 0o666 & ~umask


def test_a_directory_keeps_its_permissions(target):
    target.mkdir(parents=True)
    target.chmod(0o2750)
    for value in (1.0, 2.0):
        write_backtest_frames(target, predictions=predictions(value))
    assert stat.S_IMODE(target.stat().st_mode) == 0o2750


def test_a_symbolic_link_to_a_directory_is_followed(target, tmp_path):
    link = tmp_path / "link"
    target.mkdir(parents=True)
    link.symlink_to(target)
    write_backtest_frames(link, predictions=predictions(1.0))
    assert link.is_symlink()
    assert (target / "predictions.parquet").is_file()


@pytest.mark.usefixtures("swap")
@pytest.mark.parametrize("n_before", [0, 1])
@pytest.mark.parametrize("here", [".", "sub"])
def test_the_working_directory_stays_the_published_one(target, monkeypatch, n_before, here):
    (target / here).mkdir(parents=True)
    monkeypatch.chdir(target / here)
    for value in range(n_before + 1):
        write_backtest_frames(os.path.relpath(target), predictions=predictions(float(value)))
    assert (target / here).samefile(".")
    assert pl.read_parquet(os.path.relpath(target / "predictions.parquet")).height == 6


# --- failures


def test_a_file_in_the_way_is_rejected(target):
    target.parent.mkdir()
    target.write_text("a file")
    with pytest.raises(ValueError, match="artifact_dir must be a directory"):
        write_backtest_frames(target, predictions=predictions(1.0))
    assert target.read_text() == "a file"


def test_what_is_no_frame_is_rejected(target):
    with pytest.raises(TypeError, match="predictions must be a ResultsFrame; got int"):
        write_backtest_frames(target, predictions=1)
    assert not target.exists()


def assert_untouched(target, value):
    assert names(target) == ["manifest.json", "notes.txt", "predictions.parquet"]
    table = pl.read_parquet(target / "predictions.parquet")
    assert table["prediction_value"].unique().to_list() == [value]
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.fixture
def published(target):
    target.mkdir(parents=True)
    (target / "notes.txt").write_text("mine")
    write_backtest_frames(target, predictions=predictions(1.0))
    return target


def test_a_writer_that_writes_nothing_is_reported(published, monkeypatch):
    monkeypatch.setattr(surfaces.ResultsFrame, "write_parquet", lambda self, path, **_: path)
    with pytest.raises(OSError, match=r"writer did not create predictions\.parquet"):
        write_backtest_frames(published, predictions=predictions(2.0))
    assert_untouched(published, 1.0)


def test_a_failing_write_leaves_the_old_generation(published, monkeypatch):
    real = surfaces.ResultsFrame.write_parquet

    def fail_on_weights(self, path, *, compression):
        assert compression == "lz4"
        if path.name == "weights.parquet":
            raise OSError("disk full")
        return real(self, path, compression=compression)

    monkeypatch.setattr(surfaces.ResultsFrame, "write_parquet", fail_on_weights)
    with pytest.raises(OSError, match="disk full"):
        write_backtest_frames(
            published, predictions=predictions(2.0), weights=weights(2.0), compression="lz4"
        )
    assert_untouched(published, 1.0)


@pytest.mark.usefixtures("swap")
def test_a_failing_swap_leaves_the_old_generation(published, monkeypatch):
    real = os.replace

    def fail_on_staging(source, destination):
        if ".staging-" in str(source):
            raise OSError("cannot swap")
        return real(source, destination)

    monkeypatch.setattr(surfaces.os, "replace", fail_on_staging)
    with pytest.raises(OSError, match="cannot swap"):
        write_backtest_frames(published, predictions=predictions(2.0))
    assert_untouched(published, 1.0)


def test_a_failing_second_rename_restores_the_old_generation(published, monkeypatch):
    monkeypatch.setattr(publish, "_exchange", lambda _one, _other: False)
    real, calls = os.replace, []

    def fail_late(source, destination):
        if source.name.endswith(".tmp"):  # a file that is written into the staging directory
            return real(source, destination)
        calls.append(source)
        if ".staging-" in str(source) and len(calls) > 1:
            raise OSError("cannot swap")
        return real(source, destination)

    monkeypatch.setattr(os, "replace", fail_late)
    with pytest.raises(OSError, match="cannot swap"):
        write_backtest_frames(published, predictions=predictions(2.0))
    assert len(calls) == 4  # refused, aside, failed, back
    assert_untouched(published, 1.0)


def test_what_a_crash_between_two_renames_left_is_put_back(published):
    aside = published.with_name(".artifacts.backup-0123456789abcdef")
    published.rename(aside)
    write_backtest_frames(published, weights=weights(2.0))
    assert names(published) == ["manifest.json", "notes.txt", "weights.parquet"]
    assert not aside.exists()


@pytest.mark.parametrize("name", ["run[1]", "a[bc]", "r*n", "ü ñ"])
def test_the_backup_that_is_put_back_has_exactly_the_name(tmp_path, name):
    target, alike = tmp_path / name, tmp_path / ".run1.backup-0123456789abcdef"
    alike.mkdir()
    (tmp_path / ".ab.backup-0123456789abcdef").mkdir()
    write_backtest_frames(target, predictions=predictions(1.0))
    (target / "notes.txt").write_text("mine")
    target.rename(tmp_path / f".{name}.backup-0123456789abcdef")
    write_backtest_frames(target, weights=weights(2.0))
    assert names(target) == ["manifest.json", "notes.txt", "weights.parquet"]
    left = {".run1.backup-0123456789abcdef", ".ab.backup-0123456789abcdef", name}
    assert {one.name for one in tmp_path.iterdir()} == left


@pytest.mark.usefixtures("swap")
def test_frames_and_their_directory_keep_their_permissions(published):
    published.chmod(0o700)
    for mode in (0o600, 0o640):
        (published / "predictions.parquet").chmod(mode)
        write_backtest_frames(published, predictions=predictions(2.0), fit_record=RECORD)
        assert stat.S_IMODE((published / "predictions.parquet").stat().st_mode) == mode
    assert stat.S_IMODE(published.stat().st_mode) == 0o700


def test_a_generation_of_a_closed_directory_is_closed_while_it_is_written(published, monkeypatch):
    published.chmod(0o700)
    observed, real = [], surfaces.ResultsFrame.write_parquet

    def look(self, path, *, compression):
        observed.append(stat.S_IMODE(path.parent.stat().st_mode))
        return real(self, path, compression=compression)

    monkeypatch.setattr(surfaces.ResultsFrame, "write_parquet", look)
    write_backtest_frames(published, predictions=predictions(2.0))
    assert observed == [0o700]


def test_a_read_only_directory_is_rejected_and_nothing_is_left(published):
    published.chmod(0o555)
    with pytest.raises(PermissionError, match="artifact_dir must be writable; it is read-only"):
        write_backtest_frames(published, predictions=predictions(2.0))
    published.chmod(0o755)
    assert_untouched(published, 1.0)


AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
import numpy as np
from ml4t.models.integration import *
from ml4t.models.types import *
folder = Path(sys.argv[1])
frame = predictions_frame_from_asset_forecast(AssetForecastResult(np.full((3, 2), 2.0)))
write_backtest_frames(folder / "warm", predictions=frame)
os.setgid(65534)
os.setuid(65534)
target = folder / "open" / "mine"
for _ in range(2):
    write_backtest_frames(target, predictions=frame)
    (target / "sub").mkdir(exist_ok=True)
    if not (target / "sub" / "kept").exists():
        (target / "sub" / "kept").write_text("kept")
    (target / "sub").chmod(0o555)
for name in ("closed/new", "open/foreign", "open/locked"):
    if name == "open/locked":
        (folder / name).mkdir()
        (folder / name).chmod(0o555)
    try:
        write_backtest_frames(folder / name, predictions=frame)
    except PermissionError as error:
        print(name)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_where_a_user_may_not_write_no_staging_is_left():
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        for name, mode in (("closed", 0o755), ("open", 0o777), ("open/foreign", 0o755)):
            (folder / name).mkdir()
            (folder / name).chmod(mode)
        code = AS_NOBODY.format(path=sys.path)
        done = subprocess.run(
            [sys.executable, "-c", code, temporary], check=False, capture_output=True, text=True
        )
        assert not done.returncode, done.stderr
        assert done.stdout.split() == ["closed/new", "open/foreign", "open/locked"]
        assert not list((folder / "closed").iterdir())
        assert names(folder / "open") == [
            *("foreign", "locked", "mine", "mine/manifest.json", "mine/predictions.parquet"),
            *("mine/sub", "mine/sub/kept"),
        ]
        assert stat.S_IMODE((folder / "open" / "mine" / "sub").stat().st_mode) == 0o555


def test_of_publishers_at_the_same_time_one_wins_and_nothing_is_left(published):
    with ThreadPoolExecutor(3) as pool:
        for done in [
            pool.submit(
                write_backtest_frames,
                published,
                predictions=predictions(float(value)),
                weights=weights(float(value)),
            )
            for value in range(9)
        ]:
            done.result()
    value = pl.read_parquet(published / "predictions.parquet")["prediction_value"].unique()
    weight = pl.read_parquet(published / "weights.parquet")["weight"].unique()
    assert value.to_list() == weight.to_list()
    assert (published / "notes.txt").read_text() == "mine"
    assert [one.name for one in published.parent.iterdir()] == [published.name]


PUBLISH_FOR_EVER = """
import itertools, sys
import numpy as np
from ml4t.models.integration import *
from ml4t.models.types import *
for value in itertools.count(2):
    book = np.full((50, 200), float(value))
    write_backtest_frames(
        sys.argv[1],
        predictions=predictions_frame_from_asset_forecast(AssetForecastResult(book)),
        weights=weights_frame_from_asset_weights(AssetWeightsResult(book)),
    )
    print(value, flush=True)
"""


@pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs an atomic exchange")
def test_a_writer_killed_at_any_moment_leaves_one_whole_generation(published):
    rng = random.Random(0)
    path = f"import sys; sys.path[:0] = {sys.path!r}\n"
    write_backtest_frames(published, predictions=predictions(1.0), weights=weights(1.0))
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", path + PUBLISH_FOR_EVER, str(published)],
            stdout=subprocess.PIPE,
            text=True,
        )
        with child:
            first = child.stdout.readline()
            assert first
            time.sleep(rng.uniform(0.0, 0.06))
            child.send_signal(signal.SIGKILL)
        value = pl.read_parquet(published / "predictions.parquet")["prediction_value"]
        weight = pl.read_parquet(published / "weights.parquet")["weight"]
        assert value.n_unique() == weight.n_unique() == 1
        assert value[0] == weight[0]
        assert (published / "notes.txt").read_text() == "mine"
        assert json.loads((published / "manifest.json").read_text())["format_version"] == 1


def test_every_step_of_publishing_can_be_the_last(published, monkeypatch):
    """A crash after any system call that moves something: the directory is whole."""

    class CrashError(BaseException):
        pass

    for step in ("mkdir", "link", "fsync", "replace"):
        for at in range(4):
            calls = []
            real = getattr(os, step)

            def crash(*args, calls=calls, at=at, real=real, **options):
                calls.append(args)
                if len(calls) == at + 1:
                    raise CrashError
                return real(*args, **options)

            with monkeypatch.context() as patch:
                patch.setattr(os, step, crash)
                with contextlib.suppress(CrashError):
                    write_backtest_frames(published, predictions=predictions(2.0))
            table = pl.read_parquet(published / "predictions.parquet")
            assert table["prediction_value"].n_unique() == 1
            assert names(published) == ["manifest.json", "notes.txt", "predictions.parquet"]


# --- the spec


def test_a_spec_names_model_config_data_and_checkpoint_of_the_file(target):
    paths = write_backtest_frames(target, predictions=predictions(1.0), fit_record=RECORD)
    assert names(target) == ["manifest.json", "predictions.parquet", "predictions.spec.json"]
    spec = json.loads((target / "predictions.spec.json").read_text())
    assert spec["model_name"] == "pca"
    assert spec["config"] == {"n_factors": 2}
    assert spec["input_sha256"] == RECORD.input_sha256
    assert spec["checkpoint"] == 7
    assert spec["columns"] == ["timestamp", "asset", "prediction_value"]
    assert spec["n_rows"] == 6
    content = hashlib.sha256(paths["predictions"].read_bytes()).hexdigest()
    assert spec["file_sha256"] == content
    # It belongs to the generation.
    write_backtest_frames(target, predictions=predictions(1.0))
    assert names(target) == ["manifest.json", "predictions.parquet"]
