"""Assets of a request matched with those of the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def fitted_positions(
    model: str, *, fitted: Sequence[str], n_fitted: int, requested: Sequence[str], n_requested: int
) -> NDArray[np.intp]:
    """Positions of the requested assets in the fit.

    With identifiers on both sides the two sets must be equal, and the order is the request's;
    without them the order is by position. Messages carry counts, never identifiers.

    Parameters
    ----------
    model : str
        Name for the message.
    fitted, requested : sequence of str
        Identifiers; empty when a side has none.
    n_fitted, n_requested : int
        Number of assets on each side.

    Returns
    -------
    ndarray of intp, shape (N,)
        `fit_array[positions]` is in the order of the request.

    Raises
    ------
    ValueError
        When the two universes differ.
    """
    if n_fitted != n_requested:
        raise ValueError(
            f"{model}: the batch must have the fitted assets; fitted on {n_fitted} assets, got "
            f"{n_requested} (asset_ids and number of columns must agree with the fit)"
        )
    if not fitted or not requested or tuple(fitted) == tuple(requested):
        return np.arange(n_fitted, dtype=np.intp)
    position = {asset: index for index, asset in enumerate(fitted)}
    unknown = sum(asset not in position for asset in requested)
    if unknown:
        raise ValueError(
            f"{model}: asset_ids must be the fitted ones; {unknown} of {n_requested} were not in "
            "the fit"
        )
    return np.array([position[asset] for asset in requested], dtype=np.intp)


def labels(batch_ids: tuple[str, ...], fitted_ids: Sequence[str], n_assets: int) -> tuple[str, ...]:
    """Return the batch's identifiers, or the fitted ones where they are as many."""
    if batch_ids or len(fitted_ids) != n_assets:
        return batch_ids
    return tuple(fitted_ids)
