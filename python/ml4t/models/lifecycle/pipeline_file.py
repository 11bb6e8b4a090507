"""The file of a pipeline: several objects in one."""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from ml4t.models.artifacts import files, records
from ml4t.models.artifacts.codec import Arrays, pack, unpack
from ml4t.models.lifecycle.estimator import Fittable

_FITTED = ("model_type", "package_version", "config", "state")
_STATELESS = ("model_type", "config")


def save(path: str | os.PathLike[str], model_type: str, parts: Mapping[str, Any]) -> Path:
    """Write named parts into one file, whole or not at all.

    Parameters
    ----------
    path : path-like
    model_type : str
        Of the whole, such as "ml4t.models.LatentFactorForecastPipeline".
    parts : mapping of str to object
        Fitted objects of this package, and objects that are nothing but their `config`.

    Raises
    ------
    RuntimeError
        When a part is not fitted.
    TypeError
        When a part is not of this package.
    OSError
        When the target cannot be written; an existing file stays.
    """
    state: dict[str, Any] = {}
    arrays: Arrays = {}
    for name, part in parts.items():
        state[name], own = _pack(name, part)
        arrays |= {f"{name}/{key}": array for key, array in own.items()}
    artifact = files.Artifact(
        model_type, files.package_version(), config=None, state=state, arrays=arrays
    )
    return files.write(path, artifact)


def load(
    path: str | os.PathLike[str],
    model_type: str,
    families: Mapping[str, str],
    *,
    device: str | None = None,
) -> dict[str, Any]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : path-like
    model_type : str
    families : mapping of str to str
        Subpackage of the classes that a part may have, by the first word of its name.
    device : str, optional

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When the file is damaged, of another type, or not understood in full.
    """

    def understand(artifact: files.Artifact) -> dict[str, Any]:
        records.require_model_type(artifact, model_type)
        return _unpack_all(artifact, families, device)

    return records.load(path, understand)


def _pack(name: str, part: Any) -> tuple[dict[str, Any], Arrays]:
    if isinstance(part, Fittable):
        inner = part.to_artifact()
        _own_class(inner.model_type)
        return {key: getattr(inner, key) for key in _FITTED}, inner.arrays
    model_type = f"ml4t.models.{type(part).__name__}"
    try:
        if _own_class(model_type) is type(part):
            return {"model_type": model_type, "config": pack(part.config, "config")[0]}, {}
    except ValueError:
        pass
    raise TypeError(f"{name} must be of this package to be saved; got {type(part).__name__}")


def _unpack_all(
    artifact: files.Artifact, families: Mapping[str, str], device: str | None
) -> dict[str, Any]:
    if not isinstance(artifact.state, dict):
        raise ValueError("state must have named parts")
    left = dict(artifact.arrays)
    parts = {}
    for name, entry in artifact.state.items():
        own = {key.removeprefix(f"{name}/"): left.pop(key) for key in _keys_of(name, left)}
        parts[name] = _unpack(name, entry, own, device)
        family = families.get(name.partition(" ")[0])
        if type(parts[name]).__module__.split(".")[2:3] != [family]:
            raise ValueError(
                f"{name} must be of the package's {family}; got {type(parts[name]).__name__}"
            )
    if left:
        raise ValueError(f"every array must belong to a part; {min(left)!r} does not")
    return parts


def _keys_of(name: str, arrays: Mapping[str, Any]) -> list[str]:
    return [key for key in arrays if key.startswith(f"{name}/")]


def _unpack(name: str, entry: Any, arrays: Arrays, device: str | None) -> Any:
    if not isinstance(entry, dict) or entry.keys() not in (set(_FITTED), set(_STATELESS)):
        raise ValueError(f"{name} must be a part that a pipeline can hold")
    kind = _own_class(entry["model_type"])
    if issubclass(kind, Fittable):
        if entry.keys() != set(_FITTED):
            raise ValueError(f"{name} must be fitted")
        own_device = device if hasattr(kind.config_type, "device") else None
        return kind.from_artifact(files.Artifact(**entry, arrays=arrays), device=own_device)
    config = unpack(entry["config"], kind.config_type, arrays, "config")
    # A part that is nothing but its settings may be its own config.
    return config if isinstance(config, kind) else kind(config)


def _own_class(model_type: object) -> Any:
    """Find a public class of this package; no other name in a file is looked up."""
    name = str(model_type).removeprefix("ml4t.models.")
    package = import_module("ml4t.models")  # late: it stands above everything
    if name not in package.__all__:
        raise ValueError(f"model_type must be a class of this package; got {model_type!r}")
    kind = getattr(package, name)
    if not (isinstance(kind, type) and hasattr(kind, "config_type")):
        raise ValueError(f"model_type must be a model, forecaster or mapper; got {model_type!r}")
    return kind
