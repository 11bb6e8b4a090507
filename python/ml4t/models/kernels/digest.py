"""Digest of the content of an array."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import _core
from ml4t.models.checks import truth_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

# Elements that a strided array is copied at a time: a bounded scratch, not a second panel.
_SCRATCH = 1 << 16


def content_digest(array: NDArray[Any]) -> bytes:
    """Digest the content of an array, read in C order; 16 bytes.

    Memory layout, byte order of the machine's words in memory, NaN payloads and the number of
    threads do not change it; dtype and shape are not part of it. A contiguous array is read in
    place, any other through a small buffer. It detects change, not forgery.

    Parameters
    ----------
    array : ndarray of any dtype but object, any shape

    Raises
    ------
    TypeError
        When the array holds Python objects.

    References
    ----------
    Collet, XXH3 (xxhash.com), over chunks.
    """
    if array.dtype.hasobject:
        raise TypeError(f"array must hold plain values, not Python objects; got {array.dtype}")
    array = truth_values(array)
    native = array.dtype.newbyteorder("<")
    if native != array.dtype:
        array = array.astype(native)
    is_float = array.dtype.kind == "f" and array.dtype.itemsize in (4, 8)
    return _core.content_digest(_pieces(array), array.dtype.itemsize if is_float else 0)


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[np.uint8]]:
    """Yield the bytes of an array in C order."""
    if array.size == 0:
        return
    if array.flags.c_contiguous:
        yield array.reshape(-1).view(np.uint8)
        return
    pieces = np.nditer(
        array,
        flags=["external_loop", "buffered"],
        op_flags=["readonly"],
        order="C",
        buffersize=_SCRATCH,
    )
    for piece in pieces:
        yield np.ascontiguousarray(piece).view(np.uint8)
