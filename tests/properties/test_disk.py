"""Every writer of the package: a file is whole or not there, whatever the disk and the path."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import file_kinds
from ml4t.models.artifacts import disk

KINDS = file_kinds.kinds()
POSIX = pytest.mark.skipif(os.name == "nt", reason="files of POSIX")


@pytest.fixture(params=KINDS)
def kind(request) -> file_kinds.Kind:
    return KINDS[request.param]


def fail(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("step", ["open", "fdopen", "fsync", "replace"])
def test_a_failing_disk_raises_os_error_and_leaves_the_old_file(tmp_path, monkeypatch, kind, step):
    path = tmp_path / "m"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            kind.write(path)
        with pytest.raises(OSError, match="No space left"):
            kind.write(tmp_path / "new")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"m": b"old"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, kind):
    (tmp_path / "m").write_bytes(b"old")
    create = disk._create

    def on_full_disk(*arguments: Any) -> Any:
        create(*arguments).close()
        return Path("/dev/full").open("wb")

    monkeypatch.setattr(disk, "_create", on_full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        kind.write(tmp_path / "m")
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {"m": b"old"}


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(tmp_path, kind, mode):
    path = kind.write(tmp_path / "m")
    before = os.umask(0o022)
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~before
    path.chmod(mode)
    kind.write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    kind.load(path)


@POSIX
def test_a_private_file_is_private_while_it_is_written(tmp_path, monkeypatch):
    path, observed = tmp_path / "m", []
    path.touch(0o600)
    real = os.fsync

    def look(descriptor):
        observed.append(stat.S_IMODE(os.fstat(descriptor).st_mode))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", look)
    disk.write_whole(path, b"new")
    assert observed[0] == 0o600


@pytest.mark.parametrize(
    "name", ["run[1]", "a[bc]", "a*b?", "ünï cödé 数据", "-rf", "#%20&", "a'b\"c", "m." + "x" * 240]
)
def test_any_name_is_written_and_read(tmp_path, kind, name):
    if os.name == "nt" and set(name) & set('*?"'):
        pytest.skip("not a name on Windows")
    path = tmp_path / name[:10] / name
    assert kind.write(path) == path
    kind.load(path)
    assert [one.name for one in path.parent.iterdir()] == [name]


def test_what_is_no_file_is_no_target(tmp_path, kind):
    with pytest.raises(IsADirectoryError, match="path must name a file; it is a folder"):
        kind.write(tmp_path)
    (tmp_path / "m").write_bytes(b"")
    with pytest.raises(OSError, match=r"m"):
        kind.write(tmp_path / "m" / "inner")
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


@POSIX
def test_pipes_and_circles_of_links_are_no_targets(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "one").symlink_to(tmp_path / "other")
    (tmp_path / "other").symlink_to(tmp_path / "one")
    for name, what in (("pipe", "a device, pipe or socket"), ("one", "a link to itself")):
        with pytest.raises(OSError, match=f"path must name a file; it is {what}"):
            kind.write(tmp_path / name)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["one", "other", "pipe"]
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@POSIX
def test_a_link_is_followed_also_to_where_nothing_is(tmp_path, kind):
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "real")
    kind.write(tmp_path / "link")
    kind.write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    kind.load(tmp_path / "deep" / "real")


def test_of_writers_at_the_same_time_one_wins_and_readers_see_whole_files(tmp_path, kind):
    path = kind.write(tmp_path / "m")
    with ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(kind.write, path) for _ in range(6)]
        while not all(one.done() for one in writers):
            kind.load(path)
        for one in writers:
            one.result()
    assert [one.name for one in tmp_path.iterdir()] == ["m"]


AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path[:0] = {path!r}
import file_kinds
folder = Path(sys.argv[1])
kinds = file_kinds.kinds()
for kind in kinds.values():  # what is imported late may be out of the user's reach
    kind.write(folder / "warm").unlink()
os.setgid(65534)
os.setuid(65534)
for name, kind in kinds.items():
    for at in ("locked/m", "locked/new", "open/foreign"):
        try:
            kind.write(folder / at)
        except PermissionError as error:
            print(name, at, error.strerror, sep="|")
    kind.write(folder / "open" / name)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="becomes another user")
def test_where_a_user_may_not_write_nothing_changes():
    # pytest's own folder is closed to other users.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        require_nobody_changes_nothing(Path(folder))


def require_nobody_changes_nothing(tmp_path: Path) -> None:
    for name, mode in (("locked", 0o755), ("open", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    for name in ("locked/m", "open/foreign"):
        (tmp_path / name).write_bytes(b"old")
        (tmp_path / name).chmod(0o644)
    code = AS_NOBODY.format(path=sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    lines = [tuple(line.split("|")) for line in done.stdout.splitlines()]
    file, folder = "path must be writable; it is read-only", "the folder of path must be writable"
    wanted = {"locked/m": file, "locked/new": folder, "open/foreign": file}
    assert [(name, at) for name, at, _ in lines] == [(n, at) for n in KINDS for at in wanted]
    assert all(wanted[at] in what for _, at, what in lines)
    assert [one.name for one in (tmp_path / "locked").iterdir()] == ["m"]
    assert {one.name for one in (tmp_path / "open").iterdir()} == {"foreign", *KINDS}
    assert (tmp_path / "open" / "foreign").read_bytes() == b"old"
    for name, kind in KINDS.items():
        kind.load(tmp_path / "open" / name)


def test_a_compression_that_does_not_exist_leaves_the_old_file(tmp_path):
    path = file_kinds.frame().write_parquet(tmp_path / "m")
    with pytest.raises(ValueError, match=r"nonsense"):
        file_kinds.frame(2.0).write_parquet(path, compression="nonsense")
    assert pl.read_parquet(path)["prediction_value"].unique().to_list() == [1.0]
    assert [one.name for one in tmp_path.iterdir()] == ["m"]
