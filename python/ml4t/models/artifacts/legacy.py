"""Reading of everything written before: files of 0.1.x, and former names of fields.

A file of 0.1.x becomes an `Artifact` of this version, which the class reads like any other. It is a
ZIP of `manifest.json` and `arrays.npz`. The manifest is JSON with

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

A converter takes the state without the record, tuples restored, and the arrays by name, and gives
the fields of the fit. Files of networks (`tensor_00000000`..., a `checkpoint_tree` in the state)
have no converter.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ml4t.models.artifacts.codec import JSON, Arrays, pack
from ml4t.models.artifacts.files import ZIP, Artifact, strict_json
from ml4t.models.types.record import FitRunRecord

State: TypeAlias = Mapping[str, Any]

FORMER_DEFAULTS: dict[str, dict[str, JSON]] = {"PCAConfig": {"missing": "mean"}}
"""Value of a field by record, in files that do not have it."""
FORMER_FIELDS: dict[str, dict[str, str]] = {
    "IPCAConfig": {"gamma_penalty": "penalty"},
    "IPCAFit": {"feature_names": "instrument_names"},
    "CharacteristicMoments": {"feature_names": "instrument_names"},
}
"""Present name of a field by record and former name, in files of this version."""
FORMER_VALUES: dict[str, dict[tuple[str, JSON], JSON]] = {
    "IPCAConfig": {("missing", "middle"): "median"},
}
"""Present value by record, field and former value."""

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
    """Content of a 0.1.x file; `state` without the record."""

    model_type: str
    config: dict[str, Any]
    state: dict[str, Any]
    record: FitRunRecord
    arrays: dict[str, NDArray[Any]]


def begins_like_one(content: bytes) -> bool:
    """Whether the content is a ZIP."""
    return content.startswith(ZIP)


def from_bytes(content: bytes) -> V1File:
    """Parse a 0.1.x file.

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


def as_artifact(file: V1File) -> Artifact:
    """Convert a 0.1.x file into what this version would have written.

    Raises
    ------
    ValueError
        When the class has no converter, or state and arrays are not those that it had.
    """
    name = str(file.model_type).removeprefix("ml4t.models.")
    if name not in _CONVERTERS:
        raise ValueError(
            f"{name} cannot read a file of ml4t-models 0.1.x; fit the model and save it again"
        )
    config_type, fit_type, convert = _CONVERTERS[name]
    try:
        fit, arrays = _record_of(fit_type, convert(file.state, file.arrays), "fit")
        config, _ = _record_of(config_type, file.config, "config")
    except Exception as error:  # a wrong state can make a converter fail anywhere
        raise ValueError(f"not a valid {name} of 0.1.x: {error!r}") from error
    record, _ = pack(file.record, "record")
    state = {"fit": fit, "record": record, "last_record": None}
    return Artifact(file.model_type, file.record.package_version, config, state, arrays)


def update_records(*trees: JSON) -> None:
    """Give records of former files the present names of fields and values, in place."""
    pending = list(trees)
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            fields = node.get("fields")
            if isinstance(fields, dict):
                _update(fields, str(node.get("record")))
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(part for part in node if isinstance(part, (dict, list)))


def _update(fields: dict[str, JSON], record: str) -> None:
    for name, value in FORMER_DEFAULTS.get(record, {}).items():
        fields.setdefault(name, value)
    for former, name in FORMER_FIELDS.get(record, {}).items():
        if former in fields and name not in fields:
            fields[name] = fields.pop(former)
    for (name, former), value in FORMER_VALUES.get(record, {}).items():
        if fields.get(name) == former:
            fields[name] = value


def _record_of(kind: str, fields: Mapping[str, Any], name: str) -> tuple[JSON, Arrays]:
    """Pack fields as a record of the class `kind`."""
    packed: JSON = {}
    arrays: Arrays = {}
    for field, value in fields.items():
        packed[field], own = pack(value, f"{name}.{field}")
        arrays |= own
    return {"record": kind, "fields": packed}, arrays


def _require_parts(what: str, parts: Mapping[str, Any], *names: str) -> None:
    """Reject arrays or a state that are not exactly those that the model had."""
    if parts.keys() != set(names):
        raise ValueError(f"{what} must be {', '.join(names)}; got {', '.join(sorted(parts))}")


def _pca(state: State, arrays: Arrays) -> State:
    """0.1.x realised factors of demeaned returns; adding mean times loadings makes them raw."""
    _require_parts("state", state, "asset_ids")
    _require_parts("arrays", arrays, "asset_mean", "loadings", "train_factor_returns")
    factors = arrays["train_factor_returns"] + arrays["asset_mean"] @ arrays["loadings"]
    return {**arrays, "train_factor_returns": factors, "asset_ids": state["asset_ids"]}


def _rp_pca(state: State, arrays: Arrays) -> State:
    """0.1.x has the same parts under the same names."""
    parts = "asset_betas", "factor_weights", "train_factor_returns", "eigenvalues"
    _require_parts("state", state, "asset_ids")
    _require_parts("arrays", arrays, *parts)
    return {**arrays, "asset_ids": state["asset_ids"]}


def _ipca(state: State, arrays: Arrays) -> State:
    """0.1.x had an absolute ridge, which is one in the metric of the identity."""
    _require_parts("state", state, "asset_ids", "n_features", "fit_iterations", "fit_converged")
    _require_parts("arrays", arrays, "gamma", "train_factor_returns")
    gamma = arrays["gamma"]
    return {
        **state,
        **arrays,
        "gamma_observed": np.empty((len(gamma), 0), dtype=gamma.dtype),
        "instrument_second_moment": np.eye(len(gamma)),
        "ridge": None,
    }


def _forecaster(state: State, arrays: Arrays) -> State:
    """0.1.x has the estimates under the names of the fit records."""
    _require_parts("state", state)
    return dict(arrays)


def _linear_portfolio(state: State, arrays: Arrays) -> State:
    """0.1.x has the intercept before the slopes, or none; the ids give the number of slots."""
    _require_parts("state", state, "asset_ids", "n_features")
    _require_parts("arrays", arrays, "coefficients")
    coefficients = arrays["coefficients"].astype(np.float64)
    n_features = state["n_features"]
    level, slopes = (
        (coefficients[0], coefficients[1:])
        if coefficients.size == n_features + 1
        else (0.0, coefficients)
    )
    if slopes.shape != (n_features,):
        raise ValueError(f"coefficients must have shape ({n_features},); got {slopes.shape}")
    ids = state["asset_ids"]
    return {
        "intercept": float(level),
        "coefficients": slopes,
        "n_assets": len(ids),
        "asset_ids": ids,
    }


def _return_mapper(state: State, arrays: Arrays) -> State:
    _require_parts("state", state, "intercept", "slope")
    _require_parts("arrays", arrays)
    return dict(state)


_CONVERTERS: Mapping[str, tuple[str, str, Callable[[State, Arrays], State]]] = {
    "PCAModel": ("PCAConfig", "PCAFit", _pca),
    "RPPCAModel": ("RPPCAConfig", "RPPCAFit", _rp_pca),
    "IPCAModel": ("IPCAConfig", "IPCAFit", _ipca),
    "ExpandingMeanFactorForecaster": (
        "ExpandingMeanForecasterConfig",
        "ExpandingMeanFit",
        _forecaster,
    ),
    "EWMABaseFactorForecaster": ("EWMABaseForecasterConfig", "EWMAFit", _forecaster),
    "AR1FactorForecaster": ("AR1ForecasterConfig", "AR1Fit", _forecaster),
    "LinearFeaturePortfolioModel": (
        "LinearPortfolioConfig",
        "LinearPortfolioFit",
        _linear_portfolio,
    ),
    "LinearStochasticDiscountFactorReturnMapper": (
        "MapperConfig",
        "LinearReturnFit",
        _return_mapper,
    ),
}
"""Names of settings and fit, and the converter, of every class whose 0.1.x files are read."""


def _require_types(state: dict[str, Any]) -> None:
    """Reject a state that 0.1.x could not have written; no identifier is quoted."""
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
    """Reject a content of many times the size of the ZIP."""
    limit = min(_MOST_BYTES if most is None else most, free + _RATIO * packed)
    if size > limit:
        raise ValueError(f"it unpacks to more than {limit} bytes")


def _arrays(content: bytes, declared: Any) -> dict[str, NDArray[Any]]:
    if not isinstance(declared, dict):
        raise ValueError("arrays must name each array's dtype and shape")
    members = _unzip(content, "arrays.npz", [f"{name}.npy" for name in declared])
    return {name: _array(name, members[f"{name}.npy"], header) for name, header in declared.items()}


def _array(name: str, content: bytes, header: Any) -> NDArray[Any]:
    """Read one .npy; memory is allocated for its bytes, whatever shape it names."""
    handle = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(handle)
        if version != (1, 0):
            raise ValueError(f"npy version {version} is not 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(handle)
        if header != {"dtype": dtype.str, "shape": list(shape)}:
            raise ValueError("the manifest has another dtype or shape")
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise ValueError(f"dtype {dtype} is not one of plain numbers")
        payload = handle.read()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(payload):
            raise ValueError("its size is not the one it names")
        flat = np.frombuffer(payload, dtype=dtype).astype(dtype.newbyteorder("="))
        return flat.reshape(shape, order="F" if fortran else "C")
    except Exception as error:  # the header is parsed as Python literals
        raise ValueError(f"array {name!r} is not valid: {error}") from error


def _record(fields: Any) -> FitRunRecord:
    if not isinstance(fields, dict):
        raise ValueError("state must have a fit_run_record")
    try:
        return FitRunRecord(**fields)
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
