"""Finished folds on disk, from which an interrupted run is resumed: one file for each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ml4t.models.artifacts import disk, files, records
from ml4t.models.lifecycle.fingerprint import fingerprint
from ml4t.models.pipelines import PipelineFitResult, PortfolioPipelineFitResult
from ml4t.models.types import (
    AssetForecastResult,
    AssetSignalResult,
    AssetWeightsResult,
    FitSummary,
    LatentFactorPrediction,
    LatentFactorState,
    PortfolioPrediction,
    PortfolioWeightsResult,
    StochasticDiscountFactorState,
)
from ml4t.models.walk_forward.fold import Course, Outcome

if TYPE_CHECKING:
    import os

    from ml4t.models.walk_forward.schedule import Fold

_MODEL_TYPE = "ml4t.models.WalkForwardFold"


# Read at run time: what a file may hold.
_Summary: TypeAlias = FitSummary | PipelineFitResult | PortfolioPipelineFitResult
_Result: TypeAlias = (
    LatentFactorState
    | LatentFactorPrediction
    | AssetForecastResult
    | AssetSignalResult
    | AssetWeightsResult
    | StochasticDiscountFactorState
    | PortfolioWeightsResult
    | PortfolioPrediction
)


@dataclass(frozen=True, slots=True)
class _Stored:
    bounds: tuple[int, int, int, int]
    summary: _Summary
    result: _Result
    run: str
    model: str


class FoldStore:
    """A folder of finished folds; belongs to one model, one schedule and one data set.

    Parameters
    ----------
    folder : path-like
        Created where it is missing.
    course : Course
    folds : sequence of Fold

    Raises
    ------
    ValueError
        When the folder belongs to another run.
    TypeError
        When the model cannot be saved.
    """

    def __init__(
        self, folder: str | os.PathLike[str], course: Course, folds: tuple[Fold, ...]
    ) -> None:
        self._folder = Path(folder)
        self._model_class = type(course.model)
        if not hasattr(course.model, "save") or not hasattr(self._model_class, "load"):
            raise TypeError(f"folder needs a model with save; got {self._model_class.__name__}")
        self._folder.mkdir(parents=True, exist_ok=True)
        data_hash = fingerprint([course.data])
        identity = {
            "data": data_hash.sha256,
            "model": repr(_settings(course.model)),
            "warm_start": course.warm_start,
            "folds": [list(_bounds(fold)) for fold in folds],
        }
        if course.observed is not None:
            identity["observed_factors"] = hashlib.sha256(course.observed.tobytes()).hexdigest()
        record = self._folder / "run.json"
        text = json.dumps(identity).encode()
        self._run = hashlib.sha256(text).hexdigest()
        self._folds = folds
        if not record.exists():
            disk.write_whole(record, text)
        elif _content(record, len(text)) != text:
            raise ValueError(
                f"folder must be of the same model, folds and data; {self._folder} has a run "
                f"of other {_differing(record, identity)}: use another folder"
            )

    def read(self, number: int) -> Outcome | None:
        """Give a fold that was finished; None if it was not.

        Raises
        ------
        ValueError
            When a file is damaged, or is not of this run.
        """
        path, model_path = self._path(number), self._model_path(number)
        if not path.exists():
            return None
        try:
            stored: _Stored = records.load_record(path, _MODEL_TYPE, _Stored, name="fold")
            if (stored.run, stored.bounds) != (self._run, _bounds(self._folds[number])):
                raise ValueError("it is of another run, or another fold")
            if _digest(model_path) != stored.model:
                raise ValueError(f"{model_path.name} is not the model that was kept with it")
            model = self._model_class.load(model_path)
        except (ValueError, FileNotFoundError) as error:
            raise ValueError(
                f"cannot go on from {path}: {error}; without it, it is redone"
            ) from error
        return Outcome(self._folds[number], model, stored.summary, stored.result)

    def write(self, number: int, outcome: Outcome) -> None:
        """Keep a fold: the model first, so that every fold on disk is complete."""
        path, model_path = self._path(number), self._model_path(number)
        if path.exists():  # another process of the same run was faster
            return
        kept = None
        # It may also put its model between our two files.
        while kept is None or kept != _digest(model_path):
            kept = _digest(outcome.model.save(model_path))
            bounds = _bounds(outcome.fold)
            stored = _Stored(bounds, outcome.summary, outcome.result, self._run, kept)
            records.save_record(path, _MODEL_TYPE, stored, name="fold")

    def _path(self, number: int) -> Path:
        return self._folder / f"fold_{number:05d}.safetensors"

    def _model_path(self, number: int) -> Path:
        return self._folder / f"model_{number:05d}.safetensors"


def _differing(record: Path, identity: dict[str, Any]) -> str:
    """Name what a run that is on disk does not share with this one."""
    try:
        kept = dict(files.strict_json(_content(record, 1 << 24), record.name))
    except (ValueError, TypeError):
        return "settings, whose run.json cannot be read"
    names = [name for name in identity | kept if identity.get(name) != kept.get(name)]
    return ", ".join(name.replace("_", " ") for name in names)


def _content(path: Path, at_most: int) -> bytes:
    """Read a file, or one byte more than `at_most` of it."""
    with path.open("rb") as file:
        return file.read(at_most + 1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bounds(fold: Fold) -> tuple[int, int, int, int]:
    return (fold.train_start, fold.train_stop, fold.predict_start, fold.predict_stop)


def _settings(model: Any) -> dict[str, Any]:
    """Show settings only: whether the model that was passed is fitted does not matter."""
    params = model.get_params() if hasattr(model, "get_params") else {"": model}
    return {name: value for name, value in params.items() if not hasattr(value, "get_params")}
