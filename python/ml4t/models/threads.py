"""How many threads the kernels use. The number never changes a result."""

from __future__ import annotations

from ml4t.models import kernels
from ml4t.models.checks import require_int

__all__ = ["get_num_threads", "set_num_threads"]

MOST = 4096
"""More is surely a mistake."""


def set_num_threads(n: int) -> None:
    """Cap the threads of the kernels, for the whole process from the next call on.

    The networks' threads are PyTorch's own (`torch.set_num_threads`).

    Parameters
    ----------
    n : int
        From 1 to 4096. The start value is what the environment's `ML4T_NUM_THREADS` is at import,
        else all cores (with a warning where the variable is no such number).

    Raises
    ------
    ValueError, TypeError
        When `n` is not an integer from 1 to 4096; the cap stays as it was.
    """
    n = require_int("n", n, at_least=1)
    if n > MOST:
        raise ValueError(f"n must be at most {MOST}; got {n}")
    kernels.set_num_threads(n)


def get_num_threads() -> int:
    """Threads that the next kernel will use."""
    return kernels.get_num_threads()
