"""The identity of inputs: what changes it, what does not, what it gives away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

import tiny
from ml4t.models.kernels import content_digest, get_num_threads, set_num_threads
from ml4t.models.lifecycle.fingerprint import fingerprint
from ml4t.models.types import CrossSectionBatch, LatentFactorState, PersistentPanelBatch

CHUNK_BYTES = 1 << 18

any_array = arrays_of.arrays(
    st.sampled_from(["f8", "f4", "i8", "i4", "u1", "?", "U3", "M8[ns]", ">f8"]),
    arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@given(any_array, st.randoms(use_true_random=False))
def test_layout_does_not_change_the_digest(array, random):
    want = content_digest(array)
    assert len(want) == 16
    axes = list(range(array.ndim))
    random.shuffle(axes)
    permuted = array.transpose(axes).copy().transpose(np.argsort(axes))
    every_other = np.repeat(array, 2, axis=-1)[..., ::2] if array.ndim else array
    backwards = array[::-1].copy()[::-1] if array.ndim else array
    for same in (np.asfortranarray(array), permuted, every_other, backwards):
        np.testing.assert_array_equal(same, array)
        assert content_digest(same) == want


@given(
    arrays_of.arrays(np.float64, arrays_of.array_shapes(max_dims=3, max_side=5)),
    st.data(),
)
def test_a_changed_entry_changes_the_digest(array, data):
    at = tuple(data.draw(st.integers(0, size - 1)) for size in array.shape)
    changed = array.copy()
    if np.isnan(array[at]):
        changed[at] = 0.0
    else:
        changed.view(np.uint64)[at] ^= 1
    assert content_digest(changed) != content_digest(array)


@pytest.mark.parametrize("n_bytes", [0, 1, 2, 3])
def test_content_around_the_ends_of_chunks_is_read(n_bytes):
    content = np.arange(2 * CHUNK_BYTES + n_bytes, dtype=np.uint32).view(np.uint8)[: -3 or None]
    want = content_digest(content)
    assert content_digest(np.stack([content, content], axis=1)[:, 0]) == want
    for at in (0, CHUNK_BYTES - 1, CHUNK_BYTES, len(content) - 1):
        changed = content.copy()
        changed[at] ^= 1
        assert content_digest(changed) != want
    assert content_digest(content[:-1]) != want


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_missing_value_is_the_same_whatever_its_payload(dtype):
    plain = np.array([1.0, np.nan, 2.0, np.inf], dtype=dtype)
    odd = plain.copy()
    odd.view(f"u{plain.itemsize}")[1] ^= 5
    assert np.isnan(odd[1])
    assert odd.tobytes() != plain.tobytes()
    assert content_digest(odd) == content_digest(plain)
    assert content_digest(-odd) != content_digest(plain)  # the infinity changed its sign


def test_the_number_of_threads_does_not_change_the_digest():
    content = np.random.default_rng(0).standard_normal(5 * CHUNK_BYTES // 8 + 7)
    before, result = get_num_threads(), set()
    try:
        for n_threads in (1, 2, 7):
            set_num_threads(n_threads)
            result.add(content_digest(content))
    finally:
        set_num_threads(before)
    assert len(result) == 1


def test_python_objects_have_no_content_to_digest():
    with pytest.raises(TypeError, match="array must hold plain values, not Python objects"):
        content_digest(np.array([None]))


def sha(*inputs: object) -> str:
    return fingerprint(inputs).sha256


def test_axes_are_counted_per_input_and_field():
    state = LatentFactorState(np.ones((5, 4, 2)), factor_returns=np.ones((5, 2)))
    batch = CrossSectionBatch(np.ones((5, 4, 3)), mask=np.ones((5, 4), dtype=bool))
    assert fingerprint([state, None, "text", batch, np.ones((7, 1))]).dimensions == {
        "input_0_asset_betas_0": 5,
        "input_0_asset_betas_1": 4,
        "input_0_asset_betas_2": 2,
        "input_0_factor_returns_0": 5,
        "input_0_factor_returns_1": 2,
        "input_1_characteristics_0": 5,
        "input_1_characteristics_1": 4,
        "input_1_characteristics_2": 3,
        "input_1_mask_0": 5,
        "input_1_mask_1": 4,
        "input_2_values_0": 7,
        "input_2_values_1": 1,
    }


RETURNS = np.arange(6.0).reshape(2, 3)
PLAIN = PersistentPanelBatch(RETURNS, timestamps=("2020", "2021"), asset_ids=("a", "b", "c"))


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAIN, metadata={"owner": "me"}),
        replace(PLAIN, returns=np.asfortranarray(RETURNS)),
        replace(PLAIN, returns=np.repeat(RETURNS, 2, axis=1)[:, ::2]),
        replace(PLAIN, asset_ids=["a", "b", "c"]),
        replace(PLAIN, timestamps=["2020", "2021"]),
    ],
    ids=["metadata", "fortran", "strided", "ids in a list", "timestamps in a list"],
)
def test_it_stays_when_the_data_stay(other):
    assert sha(other) == sha(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        replace(PLAIN, returns=RETURNS + np.eye(2, 3) * 1e-15),
        replace(PLAIN, returns=RETURNS.astype("f4")),
        replace(PLAIN, returns=None),
        replace(PLAIN, returns=None, characteristics=RETURNS[:, :, None]),
        replace(PLAIN, asset_ids=("a", "c", "b")),
        replace(PLAIN, asset_ids=()),
        replace(PLAIN, timestamps=("2020", "2022")),
        replace(PLAIN, timestamps=()),
        replace(PLAIN, timestamps=(2020, 2021)),
    ],
    ids=["value", "dtype", "none", "field", "order of ids", "no ids", "date", "no dates", "kind"],
)
def test_it_changes_when_the_data_change(other):
    assert sha(other) != sha(PLAIN)


def test_where_one_part_ends_is_part_of_it():
    texts = [("ab", "c"), ("a", "bc"), ("abc", "")]
    result = {sha(replace(PLAIN, returns=RETURNS[:, :2], asset_ids=("x", "y"), timestamps=t))
             for t in texts}  # fmt: skip
    assert len(result) == 3
    assert sha(PLAIN, PLAIN) != sha(PLAIN)
    assert sha(PLAIN, replace(PLAIN, asset_ids=())) != sha(replace(PLAIN, asset_ids=()), PLAIN)


@dataclass(frozen=True)
class Opaque:
    moments: tuple[object, ...]


def moments_in_time():
    zone = ZoneInfo("America/New_York")
    return (
        date(2020, 1, 31),
        datetime(2020, 1, 31, 16, tzinfo=zone),
        datetime(2020, 1, 31, 16, tzinfo=timezone(timedelta(hours=-5))),
        np.datetime64("2020-01-31T16:00:00.000000001", "ns"),
        object(),
    )


def test_it_is_the_same_in_another_process():
    expected = sha(PLAIN, Opaque(moments_in_time()), {"not": "counted"})
    code = (
        "import test_fingerprint as t;"
        "print(t.sha(t.PLAIN, t.Opaque(t.moments_in_time()), {'not': 'counted'}))"
    )
    path = os.pathsep.join([*filter(None, sys.path), os.path.dirname(__file__)])  # noqa: PTH120
    environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "77"}
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == expected


def test_a_record_gives_nothing_of_the_data_away():
    batch = replace(tiny.panel(), timestamps=tuple(f"hidden-{i}" for i in range(12)))
    model = tiny.MeanModel(tiny.PCAConfig(n_factors=3))
    expected = json.dumps(asdict(model.fit(batch).run_record))
    assert len(expected) < 2000
    for secret in ("secret", "hidden", "owner"):
        assert secret not in expected
