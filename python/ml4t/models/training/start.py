"""Where training begins when not from random parameters; imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ml4t.models.checks import require_shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ml4t.models.training.state import RunState

    Resume: TypeAlias = RunState | Mapping[str, NDArray[Any]]


def parts(resume: Resume | None) -> tuple[NDArray[Any], ...]:
    """Arrays of former parameters in the order of their names, for the fingerprint of a fit."""
    if not isinstance(resume, Mapping):
        return ()
    return tuple(np.asarray(resume[name]) for name in sorted(resume))


def begin(network: Any, resume: Resume | None) -> RunState | None:
    """Copy former parameters into a network; whatever else `resume` is, is for the run to take.

    Raises
    ------
    ValueError
        When they are those of a network of other sizes.
    """
    if not isinstance(resume, Mapping):
        return resume
    own = network.state_dict()
    if own.keys() != resume.keys():
        raise ValueError(f"resume must hold the parameters {sorted(own)}; got {sorted(resume)}")
    import torch  # noqa: PLC0415 - torch is optional

    for name, value in own.items():
        require_shape(f"resume: {name}", tuple(value.shape), tuple(resume[name].shape))
        value.copy_(torch.from_numpy(np.array(resume[name])))
    return None
