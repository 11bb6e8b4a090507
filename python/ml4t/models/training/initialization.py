"""Parameters drawn from an own generator, with the distributions that PyTorch's layers use.

`nn.Linear(...)` draws from the global generator when it is built. Networks here are built empty and
filled by these functions instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def uniform_(tensor: Tensor, bound: float, source: torch.Generator) -> None:
    """Fill `tensor` with draws from U(-bound, bound)."""
    with torch.no_grad():
        tensor.uniform_(-bound, bound, generator=source)


def linear_(weight: Tensor, bias: Tensor | None, source: torch.Generator) -> None:
    """Fill weight (out, in) and bias (out,) from U(-1/sqrt(fan_in), 1/sqrt(fan_in))."""
    bound = 1.0 / math.sqrt(max(weight.shape[-1], 1))
    uniform_(weight, bound, source)
    if bias is not None:
        uniform_(bias, bound, source)


def empty(*shape: int, device: torch.device, dtype: torch.dtype) -> nn.Parameter:
    """Make a parameter without values."""
    return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))


def lstm(
    n_inputs: int,
    n_hidden: int,
    source: torch.Generator,
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> nn.LSTM:
    """Build a one-layer LSTM with parameters from U(-1/sqrt(hidden), 1/sqrt(hidden))."""
    # On the meta device the constructor's own draws are not made.
    layer = nn.LSTM(n_inputs, n_hidden, batch_first=True, device="meta", dtype=dtype)
    layer = layer.to_empty(device=device)
    for parameter in layer.parameters():
        uniform_(parameter, 1.0 / math.sqrt(n_hidden), source)
    return layer
