"""Fingerprint of the inputs of a fit: sizes of axes, and one hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from ml4t.models.kernels import content_digest

# Belongs to the caller; never looked at.
_SKIPPED = "metadata"
# Fields that were added later: without a value they leave the hash as it was.
_ADDED = {"feature_names", "context_names"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identity of the inputs of a fit.

    Attributes
    ----------
    dimensions : dict of str to int
        Size of every axis of every array: `input_{i}_{field}_{axis}`, where i counts inputs.
    sha256 : str
        64 hexadecimal digits that change with arrays, identifiers and timestamps, and with nothing
        else: not with metadata, memory layout, or the payload of a NaN.
    """

    dimensions: dict[str, int]
    sha256: str


def fingerprint(inputs: Iterable[object]) -> Fingerprint:
    """Take the identity of the inputs of a fit.

    Parameters
    ----------
    inputs : iterable
        Arguments in order. Dataclasses and bare arrays count; None and anything else do not.
    """
    counted = (one for one in inputs if isinstance(one, np.ndarray) or _is_record(one))
    dimensions: dict[str, int] = {}
    # Parts are prefixed with their length, so that different inputs do not collide.
    hasher = hashlib.sha256()
    for i, one in enumerate(counted):
        for name, value in _named(one):
            if isinstance(value, np.ndarray):
                axes = enumerate(value.shape)
                dimensions |= {f"input_{i}_{name}_{axis}": size for axis, size in axes}
            for part in _pieces(value):
                hasher.update(f"{i} {name} {len(part)} ".encode())
                hasher.update(part)
    return Fingerprint(dimensions, hasher.hexdigest())


def _is_record(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, type)


def _named(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, np.ndarray):
        yield "values", value
        return
    for field in fields(value):
        part = getattr(value, field.name)
        if field.name in _ADDED and not part:
            continue
        if field.name != _SKIPPED and part is not None:
            yield field.name, part


def _pieces(value: Any) -> Iterator[bytes]:
    """Write a value as pieces of bytes."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield f"{value.dtype.newbyteorder('<').str} {value.shape}".encode()
        yield content_digest(value)
    elif _is_record(value):
        yield type(value).__name__.encode()
        for name, part in _named(value):
            yield name.encode()
            yield from _pieces(part)
    elif isinstance(value, Mapping):
        yield f"mapping {len(value)}".encode()
        for key, part in value.items():
            yield _text(key)
            yield from _pieces(part)
    elif isinstance(value, str) or not isinstance(value, Iterable):
        yield _text(value)
    else:
        items = [_text(item) for item in value]
        yield f"sequence {len(items)}".encode()
        yield np.array([len(item) for item in items], dtype="<i8").tobytes()
        yield b"".join(items)


def _text(value: object) -> bytes:
    # The default repr is an address: it says nothing of the value and differs from run to run.
    opaque = type(value).__repr__ is object.__repr__
    text = "" if opaque else repr(value)
    return f"{type(value).__name__} {text}".encode(errors="surrogatepass")
