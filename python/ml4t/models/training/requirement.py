"""The one sentence that names PyTorch when it is not installed."""

from __future__ import annotations

from importlib import import_module


def require_torch(what: str) -> None:
    """Refuse to go on without PyTorch.

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
        import_module("torch")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(
            f'{what} needs PyTorch, which is not installed: pip install "ml4t-models[deep]"',
            name="torch",
        ) from error
