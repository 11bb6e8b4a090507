"""What a fit reports about itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ml4t.models.checks import require_bool, require_int, require_real
from ml4t.models.types.base import Record

SCHEMA_VERSION = 1

Label: TypeAlias = int | tuple[str, int]


@dataclass(frozen=True, slots=True)
class FitRunRecord:
    """Record of a fit: enough to compare two fits, without the data.

    Attributes
    ----------
    schema_version : int
        1.
    package_version : str
    model_name : str
    config : dict
        The settings, as plain values.
    seed : int
    resolved_device : str
    resolved_dtype : str
    input_dimensions : dict of str to int
        Size of every axis of every input array.
    input_sha256 : str
        Digest of arrays, ids and timestamps; 64 lowercase hexadecimal digits.
    stopping_reason : str
    skipped_updates : int
        Optimiser steps that were left out.
    elapsed_seconds : float
    error_type : str, optional
        Class of the exception of a failed fit.

    Raises
    ------
    ValueError
        Naming the field that breaks its rule.
    """

    schema_version: int
    package_version: str
    model_name: str
    config: dict[str, Any]
    seed: int
    resolved_device: str
    resolved_dtype: str
    input_dimensions: dict[str, int]
    input_sha256: str
    stopping_reason: str
    skipped_updates: int
    elapsed_seconds: float
    error_type: str | None = None

    def __post_init__(self) -> None:
        """Reject a record that no fit writes."""
        if require_int("schema_version", self.schema_version) != SCHEMA_VERSION:
            raise ValueError(f"schema_version must be {SCHEMA_VERSION}; got {self.schema_version}")
        for name in ("package_version", "model_name"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} must be non-empty text; got {value!r}")
        digest = self.input_sha256
        if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
            raise ValueError(
                f"input_sha256 must be 64 lowercase hexadecimal digits; got {digest!r}"
            )
        skipped = require_int("skipped_updates", self.skipped_updates, at_least=0)
        elapsed = require_real("elapsed_seconds", self.elapsed_seconds, at_least=0.0)
        object.__setattr__(self, "skipped_updates", skipped)
        object.__setattr__(self, "elapsed_seconds", elapsed)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FitSummary(Record):
    """Result of a fit.

    Attributes
    ----------
    converged : bool
    train_metrics, val_metrics : dict of str to float
    best_epoch : int or (phase, epoch), optional
    history : tuple of dict of str to float or str
        One entry per reported step.
    notes : tuple of str
    run_record : FitRunRecord, optional
    """

    converged: bool
    train_metrics: dict[str, float] = field(default_factory=dict)
    val_metrics: dict[str, float] = field(default_factory=dict)
    best_epoch: Label | None = None
    history: tuple[dict[str, float | str], ...] = ()
    notes: tuple[str, ...] = ()
    run_record: FitRunRecord | None = None

    def __post_init__(self) -> None:
        """Make plain values of what an estimator reports."""
        self._hold(
            converged=require_bool("converged", self.converged),
            train_metrics=_numbers("train_metrics", self.train_metrics),
            val_metrics=_numbers("val_metrics", self.val_metrics),
            history=tuple(_entry(f"history entry {i}", one) for i, one in enumerate(self.history)),
            notes=tuple(self.notes),
        )


def _numbers(name: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    return {key: _number(f"{name}[{key!r}]", value) for key, value in metrics.items()}


def _entry(name: str, entry: Mapping[str, Any]) -> dict[str, float | str]:
    return {
        key: value if isinstance(value, str) else _number(f"{name}[{key!r}]", value)
        for key, value in entry.items()
    }


def _number(name: str, value: Any) -> float:
    # Not finite is a finding here, not a fault.
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number; got {type(value).__name__}") from error
