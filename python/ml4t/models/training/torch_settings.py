"""Run training and prediction under fixed torch settings, whatever the caller's.

Precision (`torch.autocast`), gradients (`torch.no_grad`, `torch.inference_mode`) and the device of
new tensors (`torch.set_default_device`) are settings of the calling thread, and this module resets
them for the duration of a call. What is global to the process (default dtype, deterministic
algorithms, anomaly detection) cannot be changed without disturbing other threads; it is left alone,
and nothing here depends on it, except `torch.set_float32_matmul_precision`: a process that allows
shorter products of float32 gets them here too.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = ("cpu", "cuda", "mps")


@contextmanager
def isolated(*, gradients: bool) -> Iterator[None]:
    """Run under fixed settings of torch, with or without gradients; also a decorator.

    Parameters
    ----------
    gradients : bool
        True to train, False to predict.
    """
    with ExitStack() as stack:
        # A tensor made in inference mode could not be trained, nor be changed outside of it.
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.set_grad_enabled(gradients))
        for kind in KINDS:
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
