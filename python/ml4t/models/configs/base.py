"""Base of all settings."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, ClassVar, get_args, get_origin, get_type_hints

from ml4t.models.configs.rules import Device, Precision, Rule, Seed


@dataclass(frozen=True, slots=True)
class BaseModelConfig:
    """Settings that every model has.

    Attributes
    ----------
    seed : int, default 42
        Of 64 bits, with or without sign.
    device : str, default "cpu"
        `auto`, `cpu`, `mps`, `cuda` or `cuda:<index>`, in any case; kept in lower case.
    dtype : str, default "float64"
        `float64` or `float32`; a Metal device (`mps`) has no float64.

    Raises
    ------
    ValueError
        Naming the setting that breaks its rule.
    TypeError
        When text is given for a number.
    """

    model_name: ClassVar[str]

    seed: Seed = 42
    device: Device = "cpu"
    dtype: Precision = "float64"

    def __post_init__(self) -> None:
        """Check every field by its rule; what depends on data is checked in `fit`."""
        # mypy takes the hash of an instance for the hash of its class.
        for name, rule in _rules(type(self)).items():  # type: ignore[arg-type]
            object.__setattr__(self, name, rule(name, getattr(self, name)))
        if self.device == "mps" and self.dtype == "float64":
            raise ValueError("device mps has no float64; set dtype='float32' or another device")
        self._require_consistent()

    def _require_consistent(self) -> None:
        """Reject settings that contradict each other."""


@cache
def _rules(config_type: type) -> dict[str, Rule]:
    """Read the rule of every field from its annotation."""
    hints = get_type_hints(config_type, include_extras=True)
    annotated = {f.name: hints[f.name] for f in fields(config_type)}
    return {
        name: get_args(hint)[1] for name, hint in annotated.items() if get_origin(hint) is Annotated
    }
