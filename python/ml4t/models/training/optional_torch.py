"""The error that names PyTorch when it is not installed."""

from __future__ import annotations


def require_torch(what: str) -> None:
    """Raise `ModuleNotFoundError` without PyTorch.

    Parameters
    ----------
    what : str
        Name of the model that needs it.

    Raises
    ------
    ModuleNotFoundError
        Naming PyTorch and the extra that installs it.
    """
    try:
        import torch  # noqa: F401, PLC0415 - optional
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f"{what} needs PyTorch; install ml4t-models[deep]", name="torch"
        ) from error
