"""Records saved and loaded: one file each, one text for what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ml4t.models.artifacts import codec, files, legacy

T = TypeVar("T")


def load(path: str | os.PathLike[str], understand: Callable[[files.Artifact], T]) -> T:
    """Read a file and understand its content.

    Parameters
    ----------
    path : path-like
        A file of this version under present or former names, or one of 0.1.x.
    understand : callable
        Takes the artifact; raises `ValueError` or `FloatingPointError` where it is not valid.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged or not understood in full, naming it.
    """
    content = files.read(path)
    try:
        if legacy.begins_like_one(content):
            artifact = legacy.as_artifact(legacy.from_bytes(content))
        else:
            artifact = files.from_bytes(content)
        legacy.update_records(artifact.config, artifact.state)
        return understand(artifact)
    except (ValueError, FloatingPointError) as error:
        raise ValueError(f"cannot load {os.fspath(path)}: {error}") from error


def require_model_type(artifact: files.Artifact, model_type: str) -> None:
    """Reject a file of another class."""
    if artifact.model_type != model_type:
        raise ValueError(f"model_type mismatch: expected {model_type}, got {artifact.model_type!r}")


def save_record(
    path: str | os.PathLike[str], model_type: str, record: object, *, name: str
) -> Path:
    """Write one record into a file, whole or not at all.

    Parameters
    ----------
    path : path-like
    model_type : str
        Such as "ml4t.models.CharacteristicMoments".
    record : frozen dataclass
    name : str
        First part of the names of its arrays.
    """
    state, arrays = codec.pack(record, name)
    version = files.package_version()
    return files.write(path, files.Artifact(model_type, version, None, state, arrays))


def load_record(
    path: str | os.PathLike[str],
    model_type: str,
    hint: Any,
    *,
    name: str,
    check: Callable[..., None] | None = None,
) -> Any:
    """Read what `save_record` wrote; errors as in `load`.

    Parameters
    ----------
    path, model_type, name
        As in `save_record`.
    hint : type
        Class of the record.
    check : callable, optional
        Called with `name` and the record; raises `ValueError` or `FloatingPointError`.
    """

    def understand(artifact: files.Artifact) -> Any:
        require_model_type(artifact, model_type)
        record = codec.unpack(artifact.state, hint, artifact.arrays, name)
        if check is not None:
            check(name, record)
        return record

    return load(path, understand)
