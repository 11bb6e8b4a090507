"""Files of 0.1.x, a ZIP of manifest.json and arrays.npz, that must be refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml4t.models.artifacts import legacy as v1
from ml4t.models.types.base import same_value

V1 = Path(__file__).parents[1] / "literature/v1"


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise RuntimeError('code was run')",)


@pytest.fixture(scope="module")
def old() -> bytes:
    return (V1 / "PCAModel.ml4t").read_bytes()


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(entries: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with (
        warnings.catch_warnings(action="ignore"),  # of names that stand there twice
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def old_file(manifest: dict[str, Any], arrays: bytes, **more: bytes) -> bytes:
    manifest = manifest | {"arrays_sha256": hashlib.sha256(arrays).hexdigest()}
    return zipped(
        [("manifest.json", json.dumps(manifest).encode()), ("arrays.npz", arrays), *more.items()]
    )


def npy(array: object, **save: Any) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asanyarray(array), **save)
    return buffer.getvalue()


def npz(arrays: dict[str, bytes]) -> bytes:
    return zipped([(f"{name}.npy", content) for name, content in arrays.items()])


def header(text: str, payload: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + payload


def test_an_old_file_with_a_flipped_bit_is_refused_or_the_same(old):
    whole, n_refused = v1.from_bytes(old), 0
    for at in range(len(old)):
        damaged = bytearray(old)
        damaged[at] ^= 1 << at % 8
        try:
            result = v1.from_bytes(bytes(damaged))
        except ValueError:
            n_refused += 1
            continue
        # Dates and attributes of members are read by nobody.
        assert result.record == whole.record
        assert (result.config, result.state) == (whole.config, whole.state)
        assert same_value(result.arrays, whole.arrays)
    assert n_refused > 0.9 * len(old)


def test_every_truncation_of_an_old_file_is_refused(old):
    for length in range(4, len(old)):
        with pytest.raises(ValueError, match="ZIP"):
            v1.from_bytes(old[:length])


OLD_MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "version": lambda m: m.update(schema_version=2),
    "version bool": lambda m: m.update(schema_version=True),
    "no version": lambda m: m.pop("schema_version"),
    "no state": lambda m: m.pop("state"),
    "state a list": lambda m: m.update(state=[]),
    "config a tuple": lambda m: m.update(config={"__tuple__": []}),
    "a key more": lambda m: m.update(more=1),
    "no record": lambda m: m["state"].pop("fit_run_record"),
    "record a list": lambda m: m["state"].update(fit_run_record=[]),
    "record refused": lambda m: m["state"]["fit_run_record"].update(input_sha256="x"),
    "record field more": lambda m: m["state"]["fit_run_record"].update(more=1),
    "ids a text": lambda m: m["state"].update(asset_ids="abcdef"),
    "ids a list": lambda m: m["state"].update(asset_ids=list("abcdef")),
    "ids integers": lambda m: m["state"].update(asset_ids={"__tuple__": [1, 2, 3, 4, 5, 6]}),
    "ids twice": lambda m: m["state"].update(asset_ids={"__tuple__": ["a"] * 6}),
    "count a text": lambda m: m["state"].update(n_features="2"),
    "flag a text": lambda m: m["state"].update(fit_converged="no"),
    "flag a number": lambda m: m["state"].update(fit_converged=1),
    "arrays a list": lambda m: m.update(arrays=[]),
    "array missing": lambda m: m["arrays"].pop("loadings"),
    "array more": lambda m: m["arrays"].update(more={"dtype": "<f8", "shape": [1]}),
    "array path": lambda m: m["arrays"].update({"../x": {"dtype": "<f8", "shape": [1]}}),
    "array dtype": lambda m: m["arrays"]["loadings"].update(dtype="<f4"),
    "array shape": lambda m: m["arrays"]["loadings"].update(shape=[2, 6]),
    "array told more": lambda m: m["arrays"]["loadings"].update(order="C"),
    "array told nothing": lambda m: m["arrays"].update(loadings=None),
}


@pytest.mark.parametrize("name", OLD_MANIFESTS)
def test_an_old_manifest_that_is_not_understood_is_refused(old, name):
    result = members(old)
    manifest = json.loads(result["manifest.json"])
    v1.from_bytes(old_file(manifest, result["arrays.npz"]))
    OLD_MANIFESTS[name](manifest)
    with pytest.raises(ValueError, match=r"must|valid"):
        v1.from_bytes(old_file(manifest, result["arrays.npz"]))


OLD_ARRAYS = {
    "objects": npy(np.array([Bomb()], dtype=object), allow_pickle=True),
    "records": npy(np.zeros(2, dtype=[("a", "f8")])),
    "text": npy(np.array(["a"])),
    "complex": npy(np.array([1j])),
    "newer npy": npy(np.ones(2), version=(2, 0)),
    "truncated": npy(np.ones(3))[:-1],
    "longer": npy(np.ones(3)) + b"\0",
    "no npy": b"hello",
    "empty": b"",
    "pickle": pickle.dumps(Bomb()),
    "huge": header("{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 60,)}"),
    "huge shape": header(
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000000)}"
    ),
    "negative": header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", bytes(8)),
    "code": header("{'descr': '<f8', 'fortran_order': False, 'shape': (exit(),)}"),
    "long header": header("(" * 60_000),
}


@pytest.mark.parametrize("name", OLD_ARRAYS)
def test_an_old_array_that_is_not_plain_is_refused(old, name):
    manifest = json.loads(members(old)["manifest.json"])
    for expected in ({"dtype": "<f8", "shape": [3]}, {"dtype": "|O", "shape": [1]}):
        content = old_file(manifest | {"arrays": {"a": expected}}, npz({"a": OLD_ARRAYS[name]}))
        with pytest.raises(ValueError, match="array 'a' is not valid"):
            v1.from_bytes(content)


def test_an_old_file_has_two_members_once(old):
    result = members(old)
    manifest, arrays = result["manifest.json"], result["arrays.npz"]
    pair = [("manifest.json", manifest), ("arrays.npz", arrays)]
    v1.from_bytes(zipped(pair))
    for wrong in (
        [],
        pair[:1],
        pair[1:],
        [*pair, ("more", b"")],
        [*pair, ("../../evil", b"x")],
        [*pair, pair[0]],
        [*pair, pair[1]],
        [("./manifest.json", manifest), pair[1]],
        [("/manifest.json", manifest), pair[1]],
    ):
        with pytest.raises(ValueError, match=r"other members|ZIP"):
            v1.from_bytes(zipped(wrong))
    with pytest.raises(ValueError, match="arrays_sha256 must be the checksum"):
        v1.from_bytes(zipped([pair[0], ("arrays.npz", npz({"a": npy(np.ones(1))}))]))


def test_an_endlessly_nested_manifest_is_refused(old):
    for mark in ("[", '{"__tuple__":['):
        content = zipped([("manifest.json", mark.encode() * 50_000), ("arrays.npz", b"")])
        with pytest.raises(ValueError, match=r"nested that deep|must be JSON"):
            v1.from_bytes(content)


@pytest.mark.parametrize(
    ("member", "filler"),
    [
        ("arrays.npz", b"\0"),
        ("manifest.json", b" "),
        ("manifest.json", b"[],"),
        ("manifest.json", b'"a":[],'),
        ("inner", b"\0"),
    ],
)
def test_a_bomb_is_not_unpacked(old, member, filler):
    """A ZIP of some 250 KB that would take gigabytes; it takes a hundred times its size at most."""
    parts = members(old)
    bomb = filler * ((250 << 20) // len(filler))
    if member == "inner":
        manifest = json.loads(parts["manifest.json"])
        manifest["arrays"] = {"a": {"dtype": "<f8", "shape": [len(bomb) // 8]}}
        content = old_file(manifest, npz({"a": bomb}))
    else:
        content = zipped([(member, bomb), *(one for one in parts.items() if one[0] != member)])
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to more than"):
            v1.from_bytes(content)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_the_largest_manifest_takes_bounded_memory(old):
    parts = members(old)
    manifest = b'{"a":[' + b"[]," * 300_000 + b"0]}"
    content = zipped([("manifest.json", manifest), ("arrays.npz", parts["arrays.npz"])])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="manifest must have the keys"):
            v1.from_bytes(content)
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


def test_a_large_file_of_numbers_loads(old):
    numbers = np.random.default_rng(0).normal(size=300_000)
    parts = members(old)
    manifest = json.loads(parts["manifest.json"])
    manifest["arrays"] = {"a": {"dtype": "<f8", "shape": [len(numbers)]}}
    loaded = v1.from_bytes(old_file(manifest, npz({"a": npy(numbers)})))
    np.testing.assert_array_equal(loaded.arrays["a"], numbers)


def test_an_old_file_that_no_hook_reads_is_refused_in_words(old, refused):
    refused(old, "model_type mismatch: expected ml4t.models.MeanModel, got 'ml4t.models.PCAModel'")
    manifest = json.loads(members(old)["manifest.json"]) | {"model_type": "ml4t.models.MeanModel"}
    refused(old_file(manifest, members(old)["arrays.npz"]), "cannot read a file of .* 0.1.x")
