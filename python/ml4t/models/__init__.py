"""Finance-native models for empirical asset pricing and portfolio learning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ml4t.models._public_api import MODULE_OF, MODULES, STABLE_ROOT_EXPORTS

if TYPE_CHECKING:
    # What a type checker sees; a test holds it equal to `_public_api`.
    from ml4t.models.api import *  # noqa: F403
    from ml4t.models.asset_prediction import *  # noqa: F403
    from ml4t.models.configs import *  # noqa: F403
    from ml4t.models.forecasters import *  # noqa: F403
    from ml4t.models.integration import *  # noqa: F403
    from ml4t.models.latent_factors import *  # noqa: F403
    from ml4t.models.mappers import *  # noqa: F403
    from ml4t.models.moments import *  # noqa: F403
    from ml4t.models.pipelines import *  # noqa: F403
    from ml4t.models.plots import *  # noqa: F403
    from ml4t.models.portfolio import *  # noqa: F403
    from ml4t.models.stochastic_discount_factor import *  # noqa: F403
    from ml4t.models.threads import *  # noqa: F403
    from ml4t.models.types import *  # noqa: F403
    from ml4t.models.walk_forward import *  # noqa: F403

    __version__: str

__all__ = list(STABLE_ROOT_EXPORTS)


def __getattr__(name: str) -> Any:
    """Load a public name, or a module of public names, when it is first asked for."""
    if name in MODULE_OF:
        value = getattr(import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    elif name in MODULES:
        value = import_module(f"{__name__}.{name}")
    elif name == "__version__":
        value = import_module("importlib.metadata").version("ml4t-models")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULES, *STABLE_ROOT_EXPORTS})
