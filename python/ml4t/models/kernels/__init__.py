"""The compiled kernels, with names, shapes and records: the only importer of `_core`.

Every kernel releases the interpreter, runs on the package's own thread pool (see
`set_num_threads`), gives the same bits for any number of threads, and works in a forked child.
Arrays of float32 and float64 are read where they lie, whatever their strides; results are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models import _core
from ml4t.models._core import BUILD_PROFILE, get_num_threads, set_num_threads
from ml4t.models.kernels._arrays import bools, floats
from ml4t.models.kernels.factors import (
    PCAFactors,
    RPPCAFactors,
    pca,
    project_pca,
    project_rp_pca,
    rp_pca,
)
from ml4t.models.kernels.instrumented import (
    IPCACertificate,
    IPCAFitMeasures,
    IPCASettings,
    IPCASolution,
    ipca,
    ipca_factors,
    ipca_fit_measures,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "BUILD_PROFILE",
    "IPCACertificate",
    "IPCAFitMeasures",
    "IPCASettings",
    "IPCASolution",
    "Moments",
    "PCAFactors",
    "RPPCAFactors",
    "content_digest",
    "get_num_threads",
    "ipca",
    "ipca_factors",
    "ipca_fit_measures",
    "panel_moments",
    "pca",
    "project_pca",
    "project_rp_pca",
    "row_moments",
    "rp_pca",
    "set_num_threads",
]

# Elements that a strided array is copied at a time: a bounded scratch, not a second panel.
_SCRATCH = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Second moments of every date: all that linear cross-sectional estimation needs.

    With Z_t the instruments of the usable rows of date t (the constant first when asked for, then
    the L characteristics; P columns) and r_t their returns.

    Attributes
    ----------
    n_assets : ndarray of uint32, shape (T,)
        Usable rows.
    gram : ndarray of float64, shape (T, P (P + 1) / 2)
        Upper triangle of Z_t'Z_t, row by row: (0, 0), (0, 1), ..., (0, P - 1), (1, 1), ...
    cross : ndarray of float64, shape (T, P)
        Z_t'r_t.
    return_squares : ndarray of float64, shape (T,)
        r_t'r_t.
    """

    n_assets: NDArray[np.uint32]
    gram: NDArray[np.float64]
    cross: NDArray[np.float64]
    return_squares: NDArray[np.float64]

    @property
    def full_gram(self) -> NDArray[np.float64]:
        """Z_t'Z_t as symmetric matrices, shape (T, P, P); built on every call."""
        n_dates, n_instruments = self.cross.shape
        row, column = np.triu_indices(n_instruments)
        full = np.empty((n_dates, n_instruments, n_instruments))
        full[:, row, column] = self.gram
        full[:, column, row] = self.gram
        return full


def panel_moments(
    characteristics: ArrayLike,
    returns: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    constant: bool = True,
) -> Moments:
    """Moments of a padded panel, date by date.

    A row is usable when its mask is true and its characteristics and return are finite; others are
    skipped. Two float32 inputs are multiplied in float32 and summed so over at most 64 rows, all
    beyond in float64 (relative error below 1e-6); other inputs are computed in float64.

    Parameters
    ----------
    characteristics : array_like, shape (T, N, L)
        Characteristics known before the returns.
    returns : array_like, shape (T, N)
        Return per period, as a fraction.
    mask : array_like of bool, shape (T, N), optional
        Cells where it is false are not read.
    constant : bool, default True
        Put a constant in front of the characteristics.

    Returns
    -------
    Moments
        With P = L + 1 instruments, or L without the constant.

    Raises
    ------
    ValueError
        When the shapes do not line up.

    Notes
    -----
    Managed portfolios and their second moments of Kelly, Pruitt and Su (2019), "Characteristics Are
    Covariances", JFE 134(3), section 2, without the division by the number of assets.
    """
    return Moments(
        *_core.panel_moments(
            floats("characteristics", characteristics, 3),
            floats("returns", returns, 2),
            None if mask is None else bools("mask", mask, 2),
            constant,
        )
    )


def row_moments(
    characteristics: ArrayLike, returns: ArrayLike, offsets: ArrayLike, *, constant: bool = True
) -> Moments:
    """Moments of rows sorted by date.

    Parameters
    ----------
    characteristics : array_like, shape (rows, L)
        Characteristics known before the returns.
    returns : array_like, shape (rows,)
        Return per period, as a fraction.
    offsets : array_like of int, shape (T + 1,)
        The rows of date t are `offsets[t]:offsets[t + 1]`.
    constant : bool, default True
        Put a constant in front of the characteristics.

    Returns
    -------
    Moments
        As `panel_moments` gives.

    Raises
    ------
    ValueError
        When the shapes do not line up, or the offsets do not rise from 0 to the number of rows.
    """
    ends = np.asarray(offsets)
    if ends.ndim != 1 or not np.issubdtype(ends.dtype, np.integer) or (ends < 0).any():
        raise ValueError(
            f"offsets must be non-negative integers of shape (T + 1,); "
            f"got {ends.dtype} of shape {ends.shape}"
        )
    return Moments(
        *_core.row_moments(
            floats("characteristics", characteristics, 2),
            floats("returns", returns, 1),
            ends.astype(np.int64),
            constant,
        )
    )


def content_digest(array: NDArray[Any]) -> bytes:
    """Digest what an array holds, read in C order; 16 bytes.

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
