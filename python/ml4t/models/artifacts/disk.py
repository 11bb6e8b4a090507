"""Files on disk: read whole, written whole or not at all.

A new file is written beside the target under a name of its own, flushed, and takes the target's
place in one step. A crash or a full disk leaves the old file; of two writers the later one wins.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, NoReturn

_BEGINNING = 4096


def write_whole(path: str | os.PathLike[str], content: bytes | bytearray | memoryview) -> Path:
    """Write a file whole, or leave the old one.

    Parents are created; a link is followed. A new file has the permissions that the umask allows,
    one that replaces another has those of the other.

    Raises
    ------
    OSError
        When the target is no file, is read-only, or cannot be written; no temporary file stays.
    """
    given = Path(path)
    target = Path(os.path.realpath(given))
    replaced = _replaceable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".ml4t-{secrets.token_hex(8)}.tmp")
    try:
        with _create(temporary, target, replaced) as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, target)  # noqa: PTH105 - by this name, so that tests can make it fail
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    with contextlib.suppress(OSError):  # either file is whole if that fails
        flush_directory(target.parent)
    return given


def read(path: str | os.PathLike[str], begins_well: Callable[[bytes], bool]) -> bytes:
    """Read a file's bytes, once `begins_well` accepts the first of them.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is something other than a file, or begins like a file of another kind.
    """
    if not stat.S_ISREG(Path(path).stat().st_mode):
        raise ValueError(f"{os.fspath(path)} must be a file; it is something else")
    with Path(path).open("rb") as handle:
        beginning = handle.read(_BEGINNING)
        if not begins_well(beginning):
            raise ValueError(
                f"cannot load {os.fspath(path)}: not a model file: it does not begin like one"
            )
        return beginning + handle.read()


def flush_directory(folder: Path) -> None:
    """Make new names in a folder outlast a power cut."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def keep_permissions(of: os.stat_result, path: Path) -> None:
    """Give a file or folder the permissions, and if allowed the owner, of what it replaces."""
    if hasattr(os, "chown"):
        with contextlib.suppress(OSError):
            os.chown(path, of.st_uid, of.st_gid)
    path.chmod(stat.S_IMODE(of.st_mode))


def remove_tree(folder: Path) -> None:
    """Remove a folder of ours as far as possible, with the read-only folders in it."""
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        return
    with contextlib.suppress(OSError):
        folder.chmod(0o700)
        for here, inner, _ in os.walk(folder):
            for name in inner:
                if not Path(here, name).is_symlink():
                    Path(here, name).chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _replaceable(target: Path) -> os.stat_result | None:
    """Look at what the target replaces: a writable file or nothing."""
    try:
        status = target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISDIR(status.st_mode):
        _refuse(IsADirectoryError, errno.EISDIR, "path must name a file; it is a folder", target)
    if not stat.S_ISREG(status.st_mode):
        what = "a link to itself" if stat.S_ISLNK(status.st_mode) else "a device, pipe or socket"
        _refuse(OSError, errno.EINVAL, f"path must name a file; it is {what}", target)
    # A file without write permission is meant to stay, although its folder would let us replace it.
    if not status.st_mode & 0o222 or not os.access(target, os.W_OK):
        _refuse(PermissionError, errno.EACCES, "path must be writable; it is read-only", target)
    return status


def _create(temporary: Path, target: Path, replaced: os.stat_result | None) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        # Nobody else may read a private file while it is being written.
        descriptor = os.open(temporary, flags, 0o666 if replaced is None else 0o600)
    except PermissionError as error:
        message = "the folder of path must be writable; it is read-only"
        raise PermissionError(error.errno, message, str(target)) from error
    handle = os.fdopen(descriptor, "wb")
    if replaced is not None:
        try:
            keep_permissions(replaced, temporary)
        except BaseException:
            handle.close()
            raise
    return handle


def _refuse(kind: type[OSError], code: int, message: str, target: Path) -> NoReturn:
    raise kind(code, message, str(target))
