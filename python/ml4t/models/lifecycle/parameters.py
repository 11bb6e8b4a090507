"""Parameters by name, in the way of scikit-learn, so that `sklearn.base.clone` works.

A parameter is an argument of the constructor, kept under its name. Inside a parameter that is a
frozen dataclass, or has parameters itself, names go on after two underscores:
`config__n_factors`, `model__config__seed`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, TypeVar

SelfT = TypeVar("SelfT", bound="Parameters")


class Parameters:
    """Something whose constructor only stores its arguments, under their names."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Name the parameters.

        Parameters
        ----------
        deep : bool, default True
            Also those inside parameters.

        Returns
        -------
        dict of str to object
        """
        params: dict[str, Any] = {}
        for name in _names(type(self)):
            params[name] = value = getattr(self, name)
            if deep:
                params |= {f"{name}__{inner}": one for inner, one in _inside(value).items()}
        return params

    def set_params(self: SelfT, **params: Any) -> SelfT:
        """Change parameters; every value of a config is checked before anything changes.

        Parameters
        ----------
        **params
            By the names of `get_params`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For a name that is no parameter, or a value that its owner refuses.
        """
        known = _names(type(self))
        _require_known(type(self).__name__, params, known)
        values = {name: params[name] for name in known if name in params}
        nested = {name: inner for name in known if (inner := _under(name, params))}
        owners = {name: values.get(name, getattr(self, name)) for name in nested}
        for name, inner in nested.items():
            if not hasattr(owners[name], "set_params"):
                values[name] = _changed(owners[name], inner)
        self._take_params(values)
        for name, inner in nested.items():
            if hasattr(owners[name], "set_params"):
                owners[name].set_params(**inner)
        return self

    def _take_params(self, values: Mapping[str, Any]) -> None:
        """Store parameters that were checked, all of them at once."""
        vars(self).update(values)


def show(value: object) -> str:
    """Write a value as a call; of a dataclass only what differs from its defaults."""
    if not is_dataclass(value) or isinstance(value, type):
        return repr(value)
    settings = (
        f"{field.name}={getattr(value, field.name)!r}"
        for field in fields(value)
        if field.init and not _is_default(field, getattr(value, field.name))
    )
    return f"{type(value).__name__}({', '.join(settings)})"


def _is_default(field: Any, value: object) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return type(value) is type(default) and bool(value == default)


def _names(owner: type) -> list[str]:
    arguments = inspect.signature(owner).parameters.values()
    return [one.name for one in arguments if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]


def _inside(value: Any) -> dict[str, Any]:
    if isinstance(value, type):
        return {}
    if hasattr(value, "get_params"):
        inner: dict[str, Any] = value.get_params(deep=True)
        return inner
    if is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in fields(value) if field.init}
    return {}


def _under(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
    prefix = f"{name}__"
    return {
        key.removeprefix(prefix): value for key, value in params.items() if key.startswith(prefix)
    }


def _changed(value: Any, inner: Mapping[str, Any]) -> Any:
    _require_known(type(value).__name__, inner, list(_inside(value)))
    return replace(value, **inner)


def _require_known(owner: str, params: Mapping[str, Any], known: list[str]) -> None:
    for name in params:
        if name.partition("__")[0] not in known:
            raise ValueError(
                f"{owner} has no parameter {name!r}; it has {', '.join(known) or 'none'}"
            )
