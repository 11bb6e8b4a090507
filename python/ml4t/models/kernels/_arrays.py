"""Conversion of arrays for the compiled kernels."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Float64Array: TypeAlias = NDArray[np.float64]


def floats(name: str, values: ArrayLike, ndim: int) -> NDArray[Any]:
    """Float32 and float64 in native byte order as they are, other numbers as float64."""
    array = np.asarray(values)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    return _aligned(_of_dimension(name, array, ndim))


def mask_bytes(name: str, values: ArrayLike, ndim: int) -> NDArray[np.uint8]:
    """Truth values as their bytes, of which 0 alone is false.

    A NumPy bool may be any byte (`.view(bool)`, memory of others), a Rust bool only 0 or 1.
    """
    return _of_dimension(name, np.asarray(values, dtype=np.bool_), ndim).view(np.uint8)


def _of_dimension(name: str, array: NDArray[Any], ndim: int) -> NDArray[Any]:
    if array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimensions; got shape {array.shape}")
    return array


def _aligned(array: NDArray[Any]) -> NDArray[Any]:
    """Copy only where the elements are not aligned, as the kernels require."""
    return array if array.flags.aligned else array.copy()


def float64s(name: str, values: ArrayLike, ndim: int) -> Float64Array:
    """Any numbers as float64."""
    return _aligned(_of_dimension(name, np.asarray(values, dtype=np.float64), ndim))
