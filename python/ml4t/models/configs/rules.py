"""The kinds of settings: a type and the rule its values obey, under one name.

A config writes `tol: Positive = 1e-6`; `BaseModelConfig` applies the rule behind the name and keeps
what the rule returns, so that a NumPy integer becomes an int and a list becomes a tuple.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from typing import Annotated, Any, TypeAlias

from ml4t.models.checks import (
    require_bool,
    require_int,
    require_one_of,
    require_real,
    require_seed,
)

# Larger settings are mistakes: they are refused before memory is taken on their word.
MOST_ENTRIES = 100_000  # of a tuple, checkpoints too
MOST_LAYERS = 100
MOST_WIDE = 65_536  # a layer, a state, the factors
MOST_MEMBERS = 10_000  # of an ensemble, starts of an estimation
MOST_STEPS = 1_000_000  # of a training
MOST = 1_000_000_000  # of what takes no memory by itself

Rule: TypeAlias = Callable[[str, Any], Any]


def optional(rule: Rule) -> Rule:
    """Obey the rule, or be None."""
    return lambda name, value: None if value is None else rule(name, value)


def one_of(*allowed: str) -> Rule:
    """Be one of these words."""
    return partial(require_one_of, allowed=allowed)


def tuple_of(rule: Rule, length: int | None = None, at_most: int = MOST_ENTRIES) -> Rule:
    """Be a sequence of entries that obey the rule, of the given length when there is one."""

    def require_tuple(name: str, value: Any) -> tuple[Any, ...]:
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise TypeError(f"{name} must be a sequence; got {type(value).__name__}")
        given = tuple(islice(value, at_most + 1))
        if len(given) > at_most:
            raise ValueError(f"{name} must have at most {at_most} entries; got more")
        entries = tuple(rule(f"{name} entry {i}", entry) for i, entry in enumerate(given))
        if length is not None and len(entries) != length:
            raise ValueError(f"{name} must have {length} entries; got {len(entries)}")
        return entries

    return require_tuple


def require_device(name: str, value: object) -> str:
    """Be `auto`, `cpu`, `mps`, `cuda` or `cuda:<digits>`, in any case."""
    if isinstance(value, str) and re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", value.lower()):
        return value.lower()
    raise ValueError(f"{name} must be auto, cpu, mps, cuda or cuda:<index>; got {value!r}")


def require_checkpoint(name: str, value: object) -> int | str:
    """Be "best" or an epoch."""
    if not isinstance(value, str):
        return require_int(name, value, at_least=1, at_most=2 * MOST_STEPS)
    if value != "best":
        raise ValueError(f"{name} must be an integer >= 1 or 'best'; got {value!r}")
    return value


def require_label(name: str, value: object) -> str | int:
    """Be a name or a position."""
    return value if isinstance(value, str) else require_int(name, value, at_least=0)


Flag = Annotated[bool, require_bool]
Seed = Annotated[int, require_seed]
WholeNumber = Annotated[int, partial(require_int, at_least=0, at_most=MOST)]
Count = Annotated[int, partial(require_int, at_least=1, at_most=MOST)]
OptionalCount = Annotated[int | None, optional(partial(require_int, at_least=1, at_most=MOST))]
Width = Annotated[int, partial(require_int, at_least=1, at_most=MOST_WIDE)]
Widths = Annotated[
    tuple[int, ...],
    tuple_of(partial(require_int, at_least=1, at_most=MOST_WIDE), at_most=MOST_LAYERS),
]
Layers = Annotated[int, partial(require_int, at_least=1, at_most=MOST_LAYERS)]
Members = Annotated[int, partial(require_int, at_least=1, at_most=MOST_MEMBERS)]
Steps = Annotated[int, partial(require_int, at_least=1, at_most=MOST_STEPS)]
StepNumbers = Annotated[
    tuple[int, ...], tuple_of(partial(require_int, at_least=1, at_most=MOST_STEPS))
]
Labels = Annotated[tuple[str | int, ...], tuple_of(require_label)]

Real = Annotated[float, require_real]
NonNegative = Annotated[float, partial(require_real, at_least=0.0)]
Positive = Annotated[float, partial(require_real, above=0.0)]
OptionalPositive = Annotated[float | None, optional(partial(require_real, above=0.0))]
Probability = Annotated[float, partial(require_real, at_least=0.0, below=1.0)]
Share = Annotated[float, partial(require_real, at_least=0.0, at_most=1.0)]
PositiveShare = Annotated[float, partial(require_real, above=0.0, at_most=1.0)]

Device = Annotated[str, require_device]
Precision = Annotated[str, one_of("float32", "float64")]
TaskType = Annotated[str, one_of("regression", "classification")]
Checkpoint = Annotated[int | str | None, optional(require_checkpoint)]
