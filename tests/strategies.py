"""Random inputs shared by the property tests.

Shapes and kinds of trouble are drawn by hypothesis, so that failures shrink; the numbers come from
a seeded generator, so that examples stay cheap.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

SEEDS = st.integers(0, 2**32 - 1)
PRECISIONS = st.sampled_from([np.float64, np.float32])


@dataclass(frozen=True, slots=True)
class Panel:
    """A ragged panel.

    Attributes
    ----------
    characteristics : ndarray of float32 or float64, shape (T, N, L)
    returns : ndarray of the same type, shape (T, N)
    mask : ndarray of bool, shape (T, N)
    """

    characteristics: NDArray[Any]
    returns: NDArray[Any]
    mask: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Mask true, characteristics and return finite, shape (T, N)."""
        return self.mask & np.isfinite(self.returns) & np.isfinite(self.characteristics).all(axis=2)


@st.composite
def panels(
    draw: st.DrawFn,
    *,
    min_dates: int = 1,
    max_dates: int = 6,
    min_assets: int = 1,
    max_assets: int = 40,
    min_chars: int = 1,
    max_chars: int = 12,
    precisions: st.SearchStrategy[type] = PRECISIONS,
    holes: bool = True,
) -> Panel:
    """Draw a panel: NaN and infinite cells, masked cells, ties, a constant or doubled column.

    With `holes=False` every cell is finite and unmasked.
    """
    n_dates = draw(st.integers(min_dates, max_dates))
    n_assets = draw(st.integers(min_assets, max_assets))
    n_chars = draw(st.integers(min_chars, max_chars))
    rng = np.random.default_rng(draw(SEEDS))
    z = rng.standard_normal((n_dates, n_assets, n_chars))
    r = 0.1 * rng.standard_normal((n_dates, n_assets))
    mask = np.ones((n_dates, n_assets), dtype=np.bool_)
    if draw(st.booleans()):
        z = np.round(z)  # ties
    if n_chars > 0 and draw(st.booleans()):
        z[..., 0] = draw(st.sampled_from([0.0, 1.0]))
    if n_chars > 1 and draw(st.booleans()):
        z[..., -1] = z[..., 0]
    if holes:
        share = draw(st.sampled_from([0.0, 0.05, 0.5]))
        trouble = np.array([np.nan, np.inf, -np.inf])
        mask = rng.random(mask.shape) >= share
        for values, rate in ((z, share / max(n_chars, 1)), (r, share)):
            hit = rng.random(values.shape) < rate
            values[hit] = rng.choice(trouble, hit.sum())
    dtype = draw(precisions)
    return Panel(z.astype(dtype), r.astype(dtype), mask)


@st.composite
def relaid(draw: st.DrawFn, array: NDArray[Any]) -> NDArray[Any]:
    """Draw the same array in another memory layout: permuted, reversed or spread axes."""
    order = draw(st.permutations(range(array.ndim)))
    out = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    axis = draw(st.integers(0, array.ndim - 1))
    change = draw(st.sampled_from(["none", "reverse", "spread"]))
    if change == "reverse":
        return np.flip(np.flip(out, axis).copy(order="K"), axis)
    if change == "spread":
        shape = [n * (3 if i == axis else 1) for i, n in enumerate(out.shape)]
        wide = np.zeros(shape, dtype=out.dtype)
        view = wide[tuple(slice(None, None, 3 if i == axis else 1) for i in range(out.ndim))]
        view[...] = out
        return view
    return out
