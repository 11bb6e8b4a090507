"""Kernels of a panel's cross-sections: moments, ranks, correlations, managed portfolios."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ml4t.models import _core
from ml4t.models.kernels._arrays import floats, mask_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from numpy.typing import ArrayLike, NDArray

    MomentArrays: TypeAlias = tuple[
        NDArray[np.uint32], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]
    ]


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
    def arrays(self) -> MomentArrays:
        """The four arrays in the order of the compiled kernels."""
        return self.n_assets, self.gram, self.cross, self.return_squares

    def select(self, dates: slice | NDArray[np.integer[Any]]) -> Moments:
        """Take dates by a slice (views) or by positions (copies)."""
        n_assets, gram, cross, return_squares = self.arrays
        return Moments(n_assets[dates], gram[dates], cross[dates], return_squares[dates])

    @classmethod
    def zeros(cls, n_dates: int, n_instruments: int) -> Moments:
        """Moments of dates without a row."""
        pairs = n_instruments * (n_instruments + 1) // 2
        return cls(
            np.zeros(n_dates, dtype=np.uint32),
            np.zeros((n_dates, pairs)),
            np.zeros((n_dates, n_instruments)),
            np.zeros(n_dates),
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Moments]) -> Moments:
        """Join moments of successive dates."""
        n_assets, gram, cross, return_squares = map(
            np.concatenate, zip(*(part.arrays for part in parts), strict=True)
        )
        return cls(n_assets, gram, cross, return_squares)

    def without_constant(self) -> Moments:
        """Moments of the characteristics alone, where the constant is the first instrument."""
        n_instruments = self.cross.shape[1]
        return Moments(
            self.n_assets, self.gram[:, n_instruments:], self.cross[:, 1:], self.return_squares
        )

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
            None if mask is None else mask_bytes("mask", mask, 2),
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


def managed_portfolios(
    characteristics: ArrayLike, returns: ArrayLike, mask: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Regress returns on characteristics and a constant, date by date.

    Parameters
    ----------
    characteristics : array_like, shape (T, N, L)
        Characteristics known before the returns.
    returns : array_like, shape (T, N)
        Return per period, as a fraction.
    mask : array_like of bool, shape (T, N), optional
        Cells where it is false are not read. Rows with a NaN or infinite value do not count either.

    Returns
    -------
    ndarray of float64, shape (T, L + 1)
        Least-squares coefficients, that of the constant last: returns per period of managed
        portfolios. The shortest solution where several fit equally well (tied or constant
        characteristics, few assets); the rank is decided on columns of unit length. Zero at dates
        without a usable row.

    Raises
    ------
    ValueError
        When the shapes do not line up.

    References
    ----------
    Gu, Kelly and Xiu (2021), "Autoencoder Asset Pricing Models", JoE 222(1), eq. (16).
    """
    return _core.managed_portfolios(
        floats("characteristics", characteristics, 3),
        floats("returns", returns, 2),
        None if mask is None else mask_bytes("mask", mask, 2),
    )


def average_ranks(values: ArrayLike, *, scaled: bool = False) -> NDArray[np.float64]:
    """Rank the cross-section of each date, ties sharing the mean of their places.

    Parameters
    ----------
    values : array_like, shape (T, N) or (T, N, L)
        Ranked over the assets, each date and characteristic by itself.
    scaled : bool, default False
        Give (rank - 1) / (n - 1) - 0.5 with n the number of values that are not NaN, so that ranks
        lie between -0.5 and 0.5; 0 where n = 1.

    Returns
    -------
    ndarray of float64, shape of `values`
        1 for the smallest. NaN where the value is NaN.

    Raises
    ------
    ValueError
        When `values` has neither two nor three dimensions.
    """
    array = np.asarray(values)
    if array.ndim == 2:
        return _core.average_ranks(floats("values", array[:, :, None], 3), scaled)[:, :, 0]
    return _core.average_ranks(floats("values", array, 3), scaled)


def cross_sectional_correlation(
    a: ArrayLike, b: ArrayLike, mask: ArrayLike | None = None, *, rank: bool = False
) -> NDArray[np.float64]:
    """Correlate two variables over the assets of each date.

    Parameters
    ----------
    a, b : array_like, shape (T, N)
    mask : array_like of bool, shape (T, N), optional
        Cells where it is false do not count, nor those where `a` or `b` is not finite.
    rank : bool, default False
        Correlate average ranks (Spearman) instead of the values (Pearson).

    Returns
    -------
    ndarray of float64, shape (T,)
        NaN where fewer than two cells count or a variable does not vary.

    Raises
    ------
    ValueError
        When the shapes do not line up.
    """
    return _core.cross_sectional_correlation(
        floats("a", a, 2),
        floats("b", b, 2),
        None if mask is None else mask_bytes("mask", mask, 2),
        rank,
    )
