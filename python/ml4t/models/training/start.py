"""Parameters from which training begins in place of random ones; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ml4t.models.checks import require_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray


def parts(start: Mapping[str, Any] | None) -> tuple[NDArray[Any], ...]:
    """Arrays of a start in the order of their names, for the fingerprint of a fit."""
    if start is None:
        return ()
    if not isinstance(start, Mapping):
        raise TypeError(f"start must be a mapping of names to arrays; got {type(start).__name__}")
    return tuple(np.asarray(start[name]) for name in sorted(start))


def begin(network: Any, start: Mapping[str, Any]) -> None:
    """Copy the parameters of a former fit into a network.

    Raises
    ------
    ValueError
        When they are those of a network of other sizes.
    """
    own = network.state_dict()
    if own.keys() != start.keys():
        raise ValueError(f"start must hold the parameters {sorted(own)}; got {sorted(start)}")
    import torch  # noqa: PLC0415 - torch is optional

    for name, value in own.items():
        require_shape(f"start of {name}", tuple(value.shape), tuple(start[name].shape))
        value.copy_(torch.from_numpy(np.array(start[name])))
