"""The record of a fit: model, settings, inputs, result."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ml4t.models.artifacts.files import package_version
from ml4t.models.types.record import SCHEMA_VERSION, FitRunRecord, FitSummary

if TYPE_CHECKING:
    from ml4t.models.lifecycle.fingerprint import Fingerprint


def make_record(
    config: Any,
    inputs: Fingerprint,
    elapsed_seconds: float,
    *,
    stopping_reason: str,
    skipped_updates: int = 0,
    error_type: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> FitRunRecord:
    """Make the record of a fit.

    Parameters
    ----------
    config : dataclass
        Settings; `seed` (0 if there is none), `device` ("cpu") and `dtype` ("float64") are read
        from it where they are not given.
    inputs : Fingerprint
    elapsed_seconds : float
    stopping_reason : str
        See `stopping_reason`; "failed" goes with an `error_type`.
    skipped_updates : int
    error_type : str, optional
    device, dtype : str, optional
        Those that the fit used.
    """
    device = getattr(config, "device", "cpu") if device is None else device
    return FitRunRecord(
        schema_version=SCHEMA_VERSION,
        package_version=package_version(),
        model_name=config.model_name,
        config=asdict(config),
        seed=int(getattr(config, "seed", 0)),
        resolved_device=str(device).strip().lower(),
        resolved_dtype=getattr(config, "dtype", "float64") if dtype is None else dtype,
        input_dimensions=inputs.dimensions,
        input_sha256=inputs.sha256,
        stopping_reason=stopping_reason,
        skipped_updates=skipped_updates,
        elapsed_seconds=elapsed_seconds,
        error_type=error_type,
    )


def stopping_reason(config: object, summary: FitSummary) -> str:
    """Give the reason why a successful fit ended, from its summary.

    A fit that stopped early for want of improvement passes its reason itself.
    """
    if not summary.converged:
        return "iteration_limit"
    if hasattr(config, "max_iter"):
        return "converged"
    planned = getattr(config, "max_iters", None)
    reached = summary.history[-1].get("step", planned) if summary.history else planned
    if planned is not None and isinstance(reached, (int, float)) and reached < planned:
        return "early_stopping"
    return "completed"


def skipped_updates(summary: FitSummary) -> int:
    """Optimiser steps that a fit left out."""
    return int(summary.train_metrics.get("skipped_updates", 0))
