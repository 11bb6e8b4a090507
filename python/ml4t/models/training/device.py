"""Device, dtype, generators, and tensors from arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def resolve_device(name: str) -> torch.device:
    """Turn a config's device into an available one.

    Parameters
    ----------
    name : str
        `auto`, `cpu`, `cuda`, `cuda:<index>` or `mps`. `auto` takes CUDA when there is a GPU and
        the CPU otherwise (MPS has no float64 and is never chosen unasked).

    Raises
    ------
    RuntimeError
        When the device is not available, naming CUDA or MPS.
    """
    wanted = name.strip().lower()
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise RuntimeError(f"device={name!r} needs CUDA; {count} CUDA devices are available")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise RuntimeError(f"device={name!r} needs MPS, which is not available")
    return device


def resolve_dtype(name: str) -> torch.dtype:
    """Turn `float32` or `float64` into a torch dtype."""
    if name not in _DTYPES:
        raise ValueError(f"dtype must be one of {sorted(_DTYPES)}; got {name!r}")
    return _DTYPES[name]


class _NoDraws(torch.Generator):
    """Source of networks on the meta device, which have shapes and no numbers."""

    device = torch.device("meta")


def generator(seed: int, device: torch.device) -> torch.Generator:
    """Make a generator of its own on `device`; global generators stay as they are."""
    if device.type == "meta":
        return _NoDraws()
    # A member's or an epoch's seed may lie beyond the largest that torch takes.
    return torch.Generator(device=device).manual_seed(seed if seed < 2**64 else seed - 2**64)


def spawn(source: torch.Generator) -> torch.Generator:
    """Make a further generator on the same device, seeded by a draw from `source`."""
    seed = torch.empty((), dtype=torch.int64, device=source.device).random_(generator=source)
    return generator(int(seed), source.device)


class _Window:
    """The memory of a read-only array, offered as if it could be written."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._kept_alive = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def to_tensor(
    array: NDArray[Any], *, device: torch.device, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Hand an array to torch in C order, without a copy unless order, dtype or device differ.

    Sums and products round by the layout of what they read: in one order, equal arrays give equal
    bits.

    Read-only arrays are welcome and cause no warning: the tensor may share memory with `array`, and
    nobody writes into it, since data tensors are only read.

    Parameters
    ----------
    array : ndarray
        Any strides and byte order.
    device : torch.device
    dtype : torch.dtype, optional
        The array's own when left out.
    """
    array = np.asarray(array, dtype=array.dtype.newbyteorder("="), order="C")
    if not array.flags.writeable:
        # torch warns about read-only memory, and silencing warnings is not thread-safe.
        array = np.asarray(_Window(array))
    return torch.from_numpy(array).to(device=device, dtype=dtype)
