"""The one sentence that names PyTorch when it is not installed."""

from __future__ import annotations

from importlib.util import find_spec


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
        found = find_spec("torch") is not None
    except ValueError:  # `sys.modules["torch"]` was set by hand, without a spec
        found = True
    if not found:
        raise ModuleNotFoundError(
            f'{what} needs PyTorch, which is not installed: pip install "ml4t-models[deep]"',
            name="torch",
        )
