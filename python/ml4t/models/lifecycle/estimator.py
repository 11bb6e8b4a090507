"""Base of estimators: settings, one frozen fit or none, the record of the last attempt."""

from __future__ import annotations

import os  # noqa: TC003 - public signatures stay readable at run time
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from ml4t.models.artifacts import files, records
from ml4t.models.artifacts.codec import pack, settled, unpack
from ml4t.models.checks import require_finite, require_type
from ml4t.models.lifecycle import fit_record
from ml4t.models.lifecycle.fingerprint import Fingerprint, fingerprint
from ml4t.models.lifecycle.parameters import Parameters, show
from ml4t.models.types.record import FitRunRecord, FitSummary

ConfigT = TypeVar("ConfigT")
FitT = TypeVar("FitT")


@dataclass(frozen=True, slots=True)
class Estimated(Generic[FitT]):
    """Result of an estimation.

    Attributes
    ----------
    fit : frozen dataclass
        Of arrays, numbers, text, tuples, dicts and further such records.
    summary : FitSummary
        Without `run_record`.
    stopping_reason : str, optional
        Such as "early_stopping", where it does not follow from the summary.
    sample : object, optional
        Sample that inference uses again; it stays in this process, in no copy, pickle or file.
    """

    fit: FitT
    summary: FitSummary
    stopping_reason: str | None = None
    sample: Any = None


@dataclass(frozen=True, slots=True)
class Fitted(Generic[FitT]):
    """A fit, the record of the run that made it, and the sample that the object itself keeps."""

    fit: FitT
    record: FitRunRecord
    sample: Any = None


@dataclass(frozen=True, slots=True)
class _State(Generic[FitT]):
    """All that fitting changes, replaced in one assignment."""

    result: Fitted[FitT] | None = None
    last_record: FitRunRecord | None = None


class Fittable(Parameters, Generic[ConfigT, FitT]):
    """Base of models, forecasters and mappers that learn.

    A subclass names its `config_type` and `fit_type` (a frozen dataclass that checks itself in
    `__post_init__`) and writes `fit` as `return self._run(lambda: self._estimate(batch), batch)`.
    The fit is replaced whole or not at all. Fits of different objects may run at the same time.

    Parameters
    ----------
    config
        Settings, an instance of `config_type`.
    """

    config_type: ClassVar[type] = object
    fit_type: ClassVar[type] = object

    def __init__(self, config: ConfigT) -> None:
        self._config: ConfigT = require_type("config", config, self.config_type)
        self._state: _State[FitT] = _State()

    @property
    def config(self) -> ConfigT:
        """Settings; `set_params` changes them."""
        return self._config

    @property
    def is_fitted(self) -> bool:
        """Whether there is a fit to use."""
        return self._state.result is not None

    @property
    def last_fit_record(self) -> FitRunRecord | None:
        """Record of the last attempt to fit, failed ones included; None before the first."""
        return self._state.last_record

    @property
    def available_checkpoints(self) -> tuple[Any, ...]:
        """Training checkpoints to choose from; none unless the model trains in epochs."""
        return ()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the settings, the fit and its record into one file, whole or not at all.

        Parameters
        ----------
        path : path-like
            Any name; missing folders are created, an existing file is replaced.

        Raises
        ------
        RuntimeError
            Before a fit.
        OSError
            When the target cannot be written; an existing file stays.
        """
        return files.write(path, self.to_artifact())

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, device: str | None = None) -> Self:
        """Read a file that `save` wrote, or one of 0.1.x where that is possible.

        Parameters
        ----------
        path : path-like
        device : str, optional
            Instead of the stored one.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ValueError
            When the file is damaged, of another class, or not understood in full.
        """
        return records.load(path, lambda artifact: cls.from_artifact(artifact, device=device))

    def to_artifact(self) -> files.Artifact:
        """Convert to the artifact that `save` writes."""
        result, last = self._require_fitted("save"), self.last_fit_record
        fit, arrays = pack(result.fit, "fit")
        last = None if last == result.record else last
        artifact = files.Artifact(
            model_type=self._model_type(),
            package_version=files.package_version(),
            config=pack(self._config, "config")[0],
            state={
                "fit": fit,
                "record": pack(result.record, "record")[0],
                "last_record": pack(last, "last_record")[0],
            },
            arrays=arrays,
        )
        # What could not be read again is refused now, not on the day it is needed.
        self.from_artifact(artifact)
        return artifact

    @classmethod
    def from_artifact(cls, artifact: files.Artifact, *, device: str | None = None) -> Self:
        """Restore an object from an artifact of `to_artifact`; raise `ValueError` otherwise."""
        records.require_model_type(artifact, cls._model_type())
        config = unpack(artifact.config, cls.config_type, {}, "config")
        state = artifact.state
        if not isinstance(state, dict) or state.keys() != {"fit", "record", "last_record"}:
            raise ValueError("state must hold a fit, its record and the last record")
        fit = unpack(state["fit"], cls.fit_type, artifact.arrays, "fit")
        record = unpack(state["record"], FitRunRecord, {}, "record")
        last = unpack(state["last_record"], FitRunRecord | None, {}, "last_record")
        return cls._restored(config, fit, record, last or record, device)

    def __repr__(self) -> str:
        """Show the settings that are not defaults, and the sizes of the fitted arrays."""
        parts = [show(self._config)]
        result = self._state.result
        if result is not None:
            parts.append(f"fitted on {_sizes(result.record.input_dimensions) or 'no arrays'}")
        return f"{type(self).__name__}({', '.join(parts)})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave the sample behind: a copy or a pickle is for predicting."""
        state, result = self._state, self._state.result
        kept = replace(state, result=result and replace(result, sample=None))
        return {**self.__dict__, "_state": kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a copy's or a pickle's state; NumPy forgets that arrays were read-only."""
        self.__dict__.update(state)
        result = self._state.result
        settled_result = result and replace(result, fit=settled(result.fit))
        self._state = replace(self._state, result=settled_result)

    def _run(self, estimate: Callable[[], Estimated[FitT]], *inputs: object) -> FitSummary:
        """Run an estimation and take its fit; if it fails or is interrupted, keep the earlier one.

        Fit, record and sample are replaced in one assignment, the last thing that happens.

        A fit in which a number is not finite has failed. A field in which NaN marks what is missing
        declares it: see `checks.NAN_IS_MISSING`.

        Parameters
        ----------
        estimate : callable
            Returns the estimates; changes nothing of the object.
        *inputs
            Arguments of `fit` in order, positional ones first.
        """
        started, config = time.perf_counter(), self._config
        taken = fingerprint(inputs)
        try:
            # What overflows is an error below, with a name.
            with np.errstate(over="ignore", invalid="ignore"):
                estimated = estimate()
            fit = settled(require_type("fit", estimated.fit, self.fit_type))
            record = self._record(config, taken, started, estimated)
            summary = replace(estimated.summary, run_record=record)
            self._require_finite(fit, summary)
            state = _State(Fitted(fit, record, estimated.sample), record)
        except Exception as error:
            failed = fit_record.make_record(
                config,
                taken,
                time.perf_counter() - started,
                stopping_reason="failed",
                error_type=type(error).__name__,
            )
            self._state = replace(self._state, last_record=failed)
            raise
        self._state = state
        return summary

    def _require_finite(self, fit: FitT, summary: FitSummary) -> None:
        """Raise where a number is not finite and its field does not declare it."""
        name = type(self).__name__
        require_finite(f"{name} fit", fit)
        require_finite(f"{name} train_metrics", summary.train_metrics)
        require_finite(f"{name} val_metrics", summary.val_metrics)

    def _fitted(self, verb: str) -> FitT:
        """Give the fit; raise `RuntimeError` before one."""
        return self._require_fitted(verb).fit

    def _require_fitted(self, verb: str) -> Fitted[FitT]:
        result = self._state.result
        if result is None:
            raise RuntimeError(f"{type(self).__name__} must be fitted before {verb}")
        return result

    def _resolved_device(self) -> str | None:
        """Device that a fit used, where it is not the one of the settings."""
        return None

    def _resolved_dtype(self) -> str | None:
        """Precision that a fit used, where it is not the one of the settings."""
        return None

    @classmethod
    def _from_config(cls, config: ConfigT) -> Self:
        """Make an unfitted object; for constructors that take something else."""
        return cls(config)

    @classmethod
    def _require_settings(cls, config: ConfigT, fit: FitT) -> None:
        """Reject a fit that contradicts the settings; `load` relies on it."""

    @classmethod
    def _model_type(cls) -> str:
        return f"ml4t.models.{cls.__name__}"

    @classmethod
    def _restored(
        cls,
        config: Any,
        fit: FitT,
        record: FitRunRecord,
        last: FitRunRecord,
        device: str | None,
    ) -> Self:
        if device is not None and not hasattr(config, "device"):
            raise ValueError(f"device must be None: {cls.__name__} runs on none; got {device!r}")
        cls._require_settings(config, fit)
        try:
            require_finite("fit", fit)
        except FloatingPointError as error:
            raise ValueError(str(error)) from error
        model = cls._from_config(config if device is None else replace(config, device=device))
        model._state = _State(Fitted(settled(fit), record), last)
        return model

    def _record(
        self, config: Any, taken: Fingerprint, started: float, estimated: Estimated[FitT]
    ) -> FitRunRecord:
        summary = estimated.summary
        return fit_record.make_record(
            config,
            taken,
            time.perf_counter() - started,
            stopping_reason=estimated.stopping_reason
            or fit_record.stopping_reason(config, summary),
            skipped_updates=fit_record.skipped_updates(summary),
            device=self._resolved_device(),
            dtype=self._resolved_dtype(),
        )

    def _take_params(self, values: Mapping[str, Any]) -> None:
        """Store parameters; a fit belongs to its settings and goes with them."""
        rest = dict(values)
        config: ConfigT = rest.pop("config", self._config)
        require_type("config", config, self.config_type)
        if config != self._config:
            rest["_state"] = replace(self._state, result=None)
        super()._take_params({**rest, "_config": config})


def _sizes(dimensions: Mapping[str, int]) -> str:
    """Write the array sizes of the first input as "returns (120, 30)"."""
    shapes: dict[str, list[int]] = {}
    for key, size in dimensions.items():
        if key.startswith("input_0_"):
            name, _, _ = key.removeprefix("input_0_").rpartition("_")
            shapes.setdefault(name, []).append(size)
    return ", ".join(f"{name} {tuple(sizes)}" for name, sizes in shapes.items())
