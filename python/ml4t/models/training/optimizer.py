"""The optimizer of the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


def adam(network: nn.Module, *, lr: float, weight_decay: float = 0.0) -> torch.optim.Adam:
    """Make Adam of all parameters, in one pass over them where the device can."""
    parameters = list(network.parameters())
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.Adam(parameters, lr=lr, weight_decay=weight_decay, fused=fused)
