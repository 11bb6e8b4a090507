"""Reports of fits: what a record may hold, and in which words it is refused."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest

from ml4t.models.types import FitRunRecord, FitSummary

GOOD = {
    "schema_version": 1,
    "package_version": "0.2.0",
    "model_name": "pca",
    "config": {"n_factors": 2},
    "seed": 42,
    "resolved_device": "cpu",
    "resolved_dtype": "float64",
    "input_dimensions": {"input_0_returns_0": 12},
    "input_sha256": "0123456789abcdef" * 4,
    "stopping_reason": "completed",
    "skipped_updates": 0,
    "elapsed_seconds": 0.5,
    "error_type": None,
}


def test_fields_stand_in_the_order_of_the_contract():
    assert [f.name for f in dataclasses.fields(FitRunRecord)] == list(GOOD)
    assert FitRunRecord(*GOOD.values()) == FitRunRecord(**GOOD)
    assert " ".join(f.name for f in dataclasses.fields(FitSummary)) == (
        "converged train_metrics val_metrics best_epoch history notes run_record"
    )


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("schema_version", 2, "schema_version must be 1; got 2"),
        ("schema_version", True, "schema_version must be an integer"),
        ("package_version", "", "package_version must be non-empty"),
        ("model_name", "", "model_name must be non-empty"),
        ("model_name", None, "model_name must be non-empty"),
        ("input_sha256", "0" * 63, "input_sha256 must be 64 lowercase hexadecimal digits"),
        ("input_sha256", "A" * 64, "input_sha256 must be 64 lowercase hexadecimal digits"),
        ("input_sha256", "0" * 64 + "\n", "input_sha256 must be 64 lowercase hexadecimal digits"),
        ("input_sha256", None, "input_sha256 must be 64 lowercase hexadecimal digits"),
        ("skipped_updates", -1, "skipped_updates must be an integer >= 0; got -1"),
        ("elapsed_seconds", -0.1, "elapsed_seconds must be a finite number >= 0; got -0.1"),
        ("elapsed_seconds", float("nan"), "elapsed_seconds must be a finite number"),
        ("elapsed_seconds", float("inf"), "elapsed_seconds must be a finite number"),
    ],
)
def test_a_record_that_no_fit_can_have_written_is_refused(name, value, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        FitRunRecord(**GOOD | {name: value})


def test_a_record_survives_a_pickle():
    record = FitRunRecord(**GOOD)
    assert pickle.loads(pickle.dumps(record)) == record
    assert dataclasses.replace(record, seed=7).seed == 7


def test_a_summary_holds_plain_values():
    summary = FitSummary(
        converged=np.True_,
        train_metrics={"loss": np.float32(0.5), "n_train_periods": 12},
        history=[{"epoch": 1, "phase": "moment", "train_loss": np.float64(2.0)}],
        notes=["one"],
        best_epoch=("conditional", 3),
    )
    assert summary.converged is True
    assert summary.train_metrics == {"loss": 0.5, "n_train_periods": 12.0}
    assert {type(value) for value in summary.train_metrics.values()} == {float}
    assert summary.history == ({"epoch": 1.0, "phase": "moment", "train_loss": 2.0},)
    assert summary.notes == ("one",)
    assert summary.best_epoch == ("conditional", 3)


def test_a_summary_needs_to_say_only_whether_it_converged():
    summary = FitSummary(True)
    assert (summary.train_metrics, summary.val_metrics) == ({}, {})
    assert (summary.history, summary.notes) == ((), ())
    assert summary.best_epoch is None
    assert summary.run_record is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        summary.converged = False


def test_metrics_that_are_not_finite_are_findings():
    one = FitSummary(False, {"loss": float("nan")})
    assert one == FitSummary(False, {"loss": float("nan")})
    assert one == pickle.loads(pickle.dumps(one))


def test_metrics_are_numbers():
    with pytest.raises(TypeError, match=r"^train_metrics\['loss'\] must be a number; got list$"):
        FitSummary(True, {"loss": [1.0]})
    with pytest.raises(TypeError, match=r"^history entry 1\['loss'\] must be a number"):
        FitSummary(True, history=({"loss": 1.0}, {"loss": None}))
