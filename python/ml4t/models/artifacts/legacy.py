"""Reads the files of ml4t-models 0.1.x.

Such a file is a ZIP of `manifest.json` and `arrays.npz`. The manifest is JSON with

| key              | content                                                             |
|------------------|---------------------------------------------------------------------|
| `schema_version` | 1                                                                   |
| `model_type`     | `ml4t.models.<Class>`                                               |
| `config`         | the settings; a tuple is `{"__tuple__": [...]}`, as everywhere      |
| `state`          | `fit_run_record`, and the keys below                                |
| `arrays`         | per array its `dtype` (such as `<f8`) and `shape`                   |
| `arrays_sha256`  | of the bytes of `arrays.npz`                                        |

What 0.1.5 writes (all arrays float64 under `dtype="float64"`):

- PCAModel: asset_mean (N,), loadings (N, K), train_factor_returns (T, K) of demeaned returns;
  state asset_ids.
- RPPCAModel: asset_betas (N, K), factor_weights (N, K), train_factor_returns (T, K),
  eigenvalues (K,); state asset_ids.
- IPCAModel: gamma (L+1, K), the constant first, train_factor_returns (T, K); state asset_ids,
  n_features (L), fit_iterations, fit_converged.
- ExpandingMeanFactorForecaster: mean_factor_premium (K,).
- EWMABaseFactorForecaster: ewma_level (K,).
- AR1FactorForecaster: intercepts, slopes, last_values, fallback_mean, each (K,).
- LinearFeaturePortfolioModel: coefficients (F+1,), the intercept first; state asset_ids,
  n_features (F).
- LinearStochasticDiscountFactorReturnMapper: no arrays; state intercept, slope.

`asset_ids` is a tuple of str, empty when the batch had none. The mapper's config is
`{"model_name": ...}`; every other has the settings of its class in 0.1.x.

A model's `_from_v1(state, arrays)` gets the state without the record, tuples restored, and the
arrays by name. Neural files have `tensor_00000000`... and a `checkpoint_tree` in the state.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml4t.models.artifacts.files import ZIP, strict_json
from ml4t.models.types.record import FitRunRecord

_MANIFEST = "manifest.json"
_KEYS = {"schema_version", "model_type", "config", "state", "arrays_sha256", "arrays"}
_STATE_TYPES = {
    "asset_ids": tuple,
    "n_features": int,
    "fit_iterations": int,
    "fit_converged": bool,
    "intercept": float,
    "slope": float,
}
# What unpacks to more is a bomb: bytes at most, and bytes beyond 100 times the ZIP.
_MOST_BYTES = 1 << 28
_MOST_TEXT = 4 << 20  # of the manifest, which takes many times its size in memory
_FREE_BYTES, _FREE_TEXT, _RATIO = 16 << 20, 1 << 20, 100


@dataclass(frozen=True, slots=True)
class V1File:
    """What a 0.1.x file holds; `state` without the record."""

    model_type: str
    config: dict[str, Any]
    state: dict[str, Any]
    record: FitRunRecord
    arrays: dict[str, NDArray[Any]]


def begins_like_one(content: bytes) -> bool:
    """Tell a ZIP from everything else."""
    return content.startswith(ZIP)


def from_bytes(content: bytes) -> V1File:
    """Understand a 0.1.x file, or say why not.

    Raises
    ------
    ValueError
        When anything is damaged, missing, left over or contradictory.
    """
    members = _unzip(content, "file", (_MANIFEST, "arrays.npz"))
    manifest = strict_json(members[_MANIFEST], "manifest")
    if not isinstance(manifest, dict) or manifest.keys() != _KEYS:
        raise ValueError(f"manifest must have the keys {', '.join(sorted(_KEYS))}")
    if type(manifest["schema_version"]) is not int or manifest["schema_version"] != 1:
        raise ValueError(f"schema_version must be 1; got {manifest['schema_version']!r}")
    if hashlib.sha256(members["arrays.npz"]).hexdigest() != manifest["arrays_sha256"]:
        raise ValueError("arrays_sha256 must be the checksum of the arrays; it is not")
    try:
        config, state = _restored(manifest["config"]), _restored(manifest["state"])
    except RecursionError as error:
        raise ValueError("manifest must not be nested that deep") from error
    if not isinstance(config, dict) or not isinstance(state, dict):
        raise ValueError("config and state must be objects")
    _require_types(state)
    return V1File(
        model_type=manifest["model_type"],
        config=config,
        record=_record(state.pop("fit_run_record", None)),
        state=state,
        arrays=_arrays(members["arrays.npz"], manifest["arrays"]),
    )


def require_parts(what: str, parts: Mapping[str, Any], *names: str) -> None:
    """Refuse arrays or a state that are not exactly those that the model had."""
    if parts.keys() != set(names):
        raise ValueError(f"{what} must be {', '.join(names)}; got {', '.join(sorted(parts))}")


def _require_types(state: dict[str, Any]) -> None:
    """Refuse a state that 0.1.x could not have written; no identifier is quoted."""
    for name, kind in _STATE_TYPES.items():
        if name in state and type(state[name]) is not kind:
            got = type(state[name]).__name__
            raise ValueError(f"state {name!r} must be of type {kind.__name__}; got {got}")
    ids = state.get("asset_ids", ())
    if not all(isinstance(one, str) for one in ids) or len(set(ids)) < len(ids):
        raise ValueError("state 'asset_ids' must hold texts, each once")


def _unzip(content: bytes, what: str, names: Iterable[str]) -> dict[str, bytes]:
    """Unpack exactly these members, each once, each of bounded size."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            infos = archive.infolist()
            if sorted(info.filename for info in infos) != sorted(names):
                raise ValueError("it has other members than it should")
            _require_bounded(sum(info.file_size for info in infos), len(content))
            for info in infos:
                if info.filename == _MANIFEST:
                    _require_bounded(info.file_size, len(content), _MOST_TEXT, _FREE_TEXT)
            return {info.filename: archive.read(info) for info in infos}
    except Exception as error:  # zipfile raises whatever its reading stumbles over
        raise ValueError(f"{what} must be a ZIP as ml4t-models 0.1.x wrote it: {error}") from error


def _require_bounded(
    size: int, packed: int, most: int | None = None, free: int = _FREE_BYTES
) -> None:
    """Refuse to unpack many times the size of the ZIP."""
    limit = min(_MOST_BYTES if most is None else most, free + _RATIO * packed)
    if size > limit:
        raise ValueError(f"it unpacks to more than {limit} bytes")


def _arrays(content: bytes, declared: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(declared, dict):
        raise ValueError("arrays must name each array's dtype and shape")
    members = _unzip(content, "arrays.npz", [f"{name}.npy" for name in declared])
    return {name: _array(name, members[f"{name}.npy"], told) for name, told in declared.items()}


def _array(name: str, content: bytes, told: Any) -> NDArray[Any]:
    """Read one .npy; memory is taken for the bytes that are there, not those it speaks of."""
    handle = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(handle)
        if version != (1, 0):
            raise ValueError(f"npy version {version} is not 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        if told != {"dtype": dtype.str, "shape": list(shape)}:
            raise ValueError("the manifest speaks of another dtype or shape")
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"dtype {dtype} is not one of plain numbers")
        payload = handle.read()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(payload):
            raise ValueError("its size is not the one it names")
        flat = np.frombuffer(payload, dtype=dtype).astype(dtype.newbyteorder("="))
        return flat.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # the header is parsed as Python literals
        raise ValueError(f"array {name!r} is not valid: {error}") from error


def _record(told: Any) -> FitRunRecord:
    if not isinstance(told, dict):
        raise ValueError("state must have a fit_run_record")
    try:
        return FitRunRecord(**told)
    except TypeError as error:
        raise ValueError(f"fit_run_record is not valid: {error}") from error


def _restored(value: Any) -> Any:
    """Turn the marks of tuples back into tuples."""
    if isinstance(value, list):
        return [_restored(one) for one in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"__tuple__"} and isinstance(value["__tuple__"], list):
        return tuple(_restored(one) for one in value["__tuple__"])
    return {key: _restored(one) for key, one in value.items()}
