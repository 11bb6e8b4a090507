"""Publication of an artifact directory: readers see one whole generation.

The new generation is written into a sibling directory, `.{name}.staging-...`, and flushed. Files of
others are hard-linked into it (copied where the file system has no links), so that they stay. Then
the staging directory takes the place of the old one:

1. ``os.replace(staging, target)``, which is all when the target is absent or empty;
2. a directory that is not empty cannot be replaced in this way. Linux and macOS can exchange two
   directories in one step; a crash at any moment leaves the old generation or the new one;
3. elsewhere (Windows, some network file systems) the old directory is first renamed to
   `.{name}.backup-...`. A crash between the two steps leaves no directory of that name, and the old
   generation whole under the other; the next publication puts it back before it begins.

A crash may leave a staging directory behind. It is never read, and safe to delete.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml4t.models.artifacts import disk

if TYPE_CHECKING:
    from ml4t.models.types import FitRunRecord

MANIFEST = "manifest.json"
FRAMES = ("predictions", "weights")
OWN = frozenset(
    {MANIFEST, *(f"{name}.parquet" for name in FRAMES), *(f"{name}.spec.json" for name in FRAMES)}
)
CHECKPOINTS = ("checkpoint", "checkpoint_epoch", "checkpoint_step")
NOT_EMPTY = {errno.ENOTEMPTY, errno.EEXIST}
RENAME_EXCHANGE = 2  # the same number on Linux and macOS


def publish(artifact_dir: Path, write: Callable[[Path], None]) -> None:
    """Fill a staging directory by `write`, then replace `artifact_dir` by it.

    Parameters
    ----------
    artifact_dir : Path
        A symbolic link to a directory is followed.
    write : callable
        Takes the staging directory.

    Raises
    ------
    ValueError
        When `artifact_dir` is something other than a directory.
    OSError
        When the directory is read-only, or the generation cannot be written; the old one stays.
    """
    target = Path(os.path.realpath(artifact_dir))
    _require_replaceable(target, artifact_dir)
    target.parent.mkdir(parents=True, exist_ok=True)
    _restore_after_crash(target)
    staging = _sibling(target, "staging")
    staging.mkdir()  # unlike tempfile's, with the permissions that the umask allows
    try:
        if target.is_dir():
            disk.keep_permissions(target.stat(), staging)
        write(staging)
        if target.is_dir():
            _carry(target, staging)
        _flush(staging)
        inside = _working_directory(target)
        old = _swap(staging, target)
    except BaseException:
        disk.remove_tree(staging)
        raise
    if inside is not None:
        os.chdir(inside)
    with contextlib.suppress(OSError):  # the new generation is in place
        disk.flush_directory(target.parent)
    if old is not None:
        _carry_latecomers(old, target)
        disk.remove_tree(old)


def _require_replaceable(target: Path, given: Path) -> None:
    if (target.exists() or target.is_symlink()) and not target.is_dir():
        raise ValueError(f"artifact_dir must be a directory; got the file {given}")
    # A directory without write permission stays, although its parent allows the swap.
    if target.is_dir() and not (target.stat().st_mode & 0o222 and os.access(target, os.W_OK)):
        message = "artifact_dir must be writable; it is read-only"
        raise PermissionError(errno.EACCES, message, str(given))


def write_manifest(directory: Path, files: Iterable[str]) -> None:
    """List the files of a generation."""
    _write_json(directory / MANIFEST, {"files": sorted(files), "format_version": 1})


def write_spec(
    path: Path,
    record: FitRunRecord,
    *,
    columns: Sequence[str],
    n_rows: int,
    metadata: Mapping[str, Any],
) -> Path:
    """Write a JSON beside a Parquet file: its model, configuration, data and checkpoint.

    The file is `{stem}.spec.json`. It holds hashes of data and content, never data. `checkpoint` is
    a list when the frame holds several.
    """
    fit = asdict(record)
    checkpoint = next((metadata[key] for key in CHECKPOINTS if key in metadata), None)
    spec = {
        "format_version": 1,
        "file": path.name,
        "file_sha256": _digest(path),
        "frame_type": metadata.get("frame_type"),
        "columns": list(columns),
        "n_rows": n_rows,
        "model_name": fit["model_name"],
        "package_version": fit["package_version"],
        "config": fit["config"],
        "input_sha256": fit["input_sha256"],
        "checkpoint": checkpoint,
        "fit_record": fit,
    }
    return _write_json(path.with_suffix(".spec.json"), spec)


def _write_json(path: Path, content: dict[str, Any]) -> Path:
    text = json.dumps(content, indent=2, sort_keys=True, default=str) + "\n"
    return disk.write_whole(path, text.encode("utf-8", "backslashreplace"))


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _working_directory(target: Path) -> Path | None:
    """Working directory of the process, where the swap would remove it."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return None
    return here if here.is_relative_to(target) else None


def _sibling(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.{role}-{secrets.token_hex(8)}")


def _replace(source: Path, target: Path) -> None:
    os.replace(source, target)  # noqa: PTH105 - by this name, so that tests can make it fail


def _restore_after_crash(target: Path) -> None:
    if target.exists():
        return
    prefix = f".{target.name}.backup-"  # not a pattern: the name may hold brackets
    backups = [one for one in target.parent.iterdir() if one.name.startswith(prefix)]
    if backups:
        _replace(max(backups, key=lambda one: one.stat().st_mtime), target)


def _swap(staging: Path, target: Path) -> Path | None:
    """Move staging to target; return the place of the old generation, None without one."""
    try:
        _replace(staging, target)
    except OSError as error:
        occupied = error.errno in NOT_EMPTY or (os.name == "nt" and target.is_dir())
        if not occupied:
            raise
    else:
        return None
    if _exchange(staging, target):
        return staging
    backup = _sibling(target, "backup")
    _replace(target, backup)
    try:
        _replace(staging, target)
    except BaseException:
        _replace(backup, target)
        raise
    return backup


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two directories in one step; False where the system cannot."""
    name = {"linux": "renameat2", "darwin": "renamex_np"}.get(sys.platform)
    try:
        rename = getattr(ctypes.CDLL(None, use_errno=True), name) if name else None
    except (AttributeError, OSError):
        return False
    if rename is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    if sys.platform == "darwin":
        return bool(rename(*paths, RENAME_EXCHANGE) == 0)
    here = -100  # AT_FDCWD
    return bool(rename(here, paths[0], here, paths[1], RENAME_EXCHANGE) == 0)


def _carry(old: Path, new: Path) -> None:
    """Link the files of others into the new generation; own files keep their permissions."""
    for entry in old.iterdir():
        if entry.name not in OWN:
            _link(entry, new / entry.name)
        elif entry.is_file() and (new / entry.name).is_file():
            disk.keep_permissions(entry.stat(), new / entry.name)


def _link(source: Path, copy: Path) -> None:
    if source.is_symlink():
        copy.symlink_to(source.readlink())
    elif source.is_dir():
        copy.mkdir()
        for entry in source.iterdir():
            _link(entry, copy / entry.name)
        shutil.copystat(source, copy)  # last: it may take the permission to write away
    else:
        try:
            os.link(source, copy)
        except OSError:
            shutil.copy2(source, copy)


def _carry_latecomers(old: Path, new: Path) -> None:
    """Move files that others write into the old generation after the links are made."""
    for entry in old.iterdir():
        if entry.name not in OWN:
            with contextlib.suppress(OSError):
                _move_newer(entry, new / entry.name)


def _move_newer(source: Path, kept: Path) -> None:
    if source.is_symlink() or not source.is_dir() or not kept.is_dir():
        if not (kept.exists() and source.exists() and source.samefile(kept)):
            _replace(source, kept)
        return
    for entry in source.iterdir():
        _move_newer(entry, kept / entry.name)


def _flush(directory: Path) -> None:
    """Flush own files and their names to disk before the swap."""
    for name in OWN:
        path = directory / name
        if path.is_file():
            with path.open("rb+" if os.name == "nt" else "rb") as file:
                os.fsync(file.fileno())
    disk.flush_directory(directory)
