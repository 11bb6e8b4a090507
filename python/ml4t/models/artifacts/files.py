"""The file of a fitted object: a safetensors file with a manifest in its header.

Layout, as safetensors defines it: 8 bytes with the length of the header (little-endian), the header
(JSON: a `__metadata__` text and, per tensor, dtype, shape and offsets), the tensors side by side.
The metadata has one entry, `ml4t.models`, whose text is the manifest:

| key              | content                                                             |
|------------------|---------------------------------------------------------------------|
| `content_sha256` | of the whole file with these 64 digits replaced by zeros; always first |
| `format_version` | 1                                                                   |
| `model_type`     | such as `ml4t.models.PCAModel`                                      |
| `package_version`| of the writer; for people                                           |
| `config`, `state`| what `artifacts.codec` makes of them                                |

A file is read in this order: it begins like one of ours; the hash holds; the header is what
safetensors allows; the manifest is understood. Nothing is allocated or run on a file's word.
"""

from __future__ import annotations

import hashlib
import json
import os  # noqa: TC003 - public signatures stay readable at run time
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from ml4t.models.artifacts import disk

if TYPE_CHECKING:
    from ml4t.models.artifacts.codec import JSON, Arrays

FORMAT_VERSION = 1
_KEYS = ("content_sha256", "format_version", "model_type", "package_version", "config", "state")
ZIP = b"PK\x03\x04"
_LENGTH = 8
_MOST_HEADER = 100_000_000  # as safetensors reads it
# Compact JSON, so every file begins the same way after the length: magic number and hash field.
_MAGIC = b'{"__metadata__":{"ml4t.models":"{\\"content_sha256\\":\\"'
_DIGITS = slice(_LENGTH + len(_MAGIC), _LENGTH + len(_MAGIC) + 64)
_DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    **{
        f"{letter.upper()}{8 * n}": np.dtype(f"<{letter}{n}")
        for letter in "iu"
        for n in (1, 2, 4, 8)
    },
}


@cache
def package_version() -> str:
    """Version of this package, as its distribution names it."""
    return version("ml4t-models")


@dataclass(frozen=True, slots=True)
class Artifact:
    """What a file holds.

    Attributes
    ----------
    model_type : str
        `ml4t.models.` and the name of the class.
    package_version : str
        Version of the package that wrote it.
    config, state : JSON
        As `artifacts.codec.pack` makes them.
    arrays : dict of str to ndarray
        Numbers and bools only.
    """

    model_type: str
    package_version: str
    config: JSON
    state: JSON
    arrays: Arrays = field(default_factory=dict)


def write(path: str | os.PathLike[str], artifact: Artifact) -> Path:
    """Write a file whole, or leave the old one.

    See `disk.write_whole`.

    Raises
    ------
    OSError
        When the target is a folder, is read-only, or cannot be written; no temporary file stays.
    """
    return disk.write_whole(path, to_bytes(artifact))


def read(path: str | os.PathLike[str]) -> bytes:
    """Read the bytes of a file that begins like one of ours, or like a ZIP of 0.1.x.

    Raises
    ------
    FileNotFoundError
        When there is no such file.
    ValueError
        When it is something other than a file, or begins otherwise.
    """
    return disk.read(path, lambda head: head.startswith(ZIP) or head[_LENGTH:].startswith(_MAGIC))


def to_bytes(artifact: Artifact) -> bytearray:
    """Lay an artifact out; the same artifact gives the same bytes."""
    manifest = dict.fromkeys(_KEYS, None) | {
        "content_sha256": "0" * 64,
        "format_version": FORMAT_VERSION,
        "model_type": artifact.model_type,
        "package_version": artifact.package_version,
        "config": artifact.config,
        "state": artifact.state,
    }
    text = json.dumps(manifest, allow_nan=False, separators=(",", ":"))
    arrays = {name: np.asarray(array, order="C") for name, array in artifact.arrays.items()}
    content = bytearray(safetensors.numpy.save(arrays, metadata={"ml4t.models": text}))
    if int.from_bytes(content[:_LENGTH], "little") > _MOST_HEADER:
        raise ValueError(f"labels and settings must fit a header of {_MOST_HEADER} bytes")
    if content[_LENGTH : _DIGITS.start] != _MAGIC:
        raise RuntimeError("this safetensors writes headers that do not begin with the metadata")
    content[_DIGITS] = hashlib.sha256(content).hexdigest().encode("ascii")
    return content


def from_bytes(content: bytes) -> Artifact:
    """Parse a file.

    Raises
    ------
    ValueError
        When the bytes are not exactly what `to_bytes` makes of some artifact.
    """
    _require_untouched(content)
    manifest = _manifest(content)
    known = manifest["format_version"]
    if type(known) is not int or known != FORMAT_VERSION:
        raise ValueError(f"format_version must be {FORMAT_VERSION}; got {known!r}")
    if not isinstance(manifest["model_type"], str):
        raise ValueError("model_type must be text")
    if not isinstance(manifest["package_version"], str):
        raise ValueError("package_version must be text")
    return Artifact(
        model_type=manifest["model_type"],
        package_version=manifest["package_version"],
        config=manifest["config"],
        state=manifest["state"],
        arrays=_arrays(content),
    )


def strict_json(text: str | bytes, what: str) -> Any:
    """Parse JSON without its loose ends: no repeated key, no NaN, no endless nesting."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError(f"{what} must not be nested that deep") from error
    except ValueError as error:
        raise ValueError(f"{what} must be JSON: {error}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        raise ValueError("a key is repeated")
    return mapping


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not a number")


def _require_untouched(content: bytes) -> None:
    if content[_LENGTH : _LENGTH + len(_MAGIC)] != _MAGIC or len(content) < _DIGITS.stop:
        raise ValueError("not a model file: it does not begin like one")
    digest = hashlib.sha256(content[: _DIGITS.start])
    digest.update(b"0" * 64)
    digest.update(memoryview(content)[_DIGITS.stop :])
    if digest.hexdigest().encode("ascii") != content[_DIGITS]:
        raise ValueError("damaged model file: its content does not have the hash it names")


def _manifest(content: bytes) -> dict[str, Any]:
    n_header = int.from_bytes(content[:_LENGTH], "little")
    if n_header > min(len(content) - _LENGTH, _MOST_HEADER):
        raise ValueError("damaged model file: the header is too long")
    header = strict_json(content[_LENGTH : _LENGTH + n_header], "header")
    if not all(isinstance(entry, dict) for entry in header.values()):
        raise ValueError("header must hold objects")
    metadata = header["__metadata__"]
    if metadata.keys() != {"ml4t.models"} or not isinstance(metadata["ml4t.models"], str):
        raise ValueError("header must hold the manifest and nothing else")
    for name, tensor in header.items():
        if name != "__metadata__" and tensor.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"array {name!r} must have dtype, shape and offsets, no more")
    manifest = strict_json(metadata["ml4t.models"], "manifest")
    if not isinstance(manifest, dict) or manifest.keys() != set(_KEYS):
        raise ValueError(f"manifest must have the keys {', '.join(_KEYS)}")
    return manifest


def _arrays(content: bytes) -> Arrays:
    try:
        tensors = safetensors.deserialize(content)  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"damaged model file: {error}") from error
    return {name: _array(name, tensor) for name, tensor in tensors}


def _array(name: str, tensor: dict[str, Any]) -> NDArray[Any]:
    dtype = _DTYPES.get(tensor["dtype"])
    if dtype is None:
        raise ValueError(f"array {name!r} must hold numbers or bools; got {tensor['dtype']}")
    if tensor["dtype"] == "BOOL" and (np.frombuffer(tensor["data"], np.uint8) > 1).any():
        raise ValueError(f"array {name!r} must hold bools; got other bytes")
    try:
        # A copy: memory of its own, aligned, and as large as its bytes.
        array = np.frombuffer(tensor["data"], dtype=dtype).reshape(tensor["shape"]).copy()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"array {name!r} must have the shape it names; {error}") from error
    array.flags.writeable = False
    return array
