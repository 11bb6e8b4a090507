"""Files that must be refused: each with a `ValueError`, no code run, no memory taken on trust."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tiny
from ml4t.models.artifacts import files


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return tiny.fitted().save(tmp_path_factory.mktemp("good") / "m").read_bytes()


def sealed(content: bytes) -> bytes:
    """Give a changed file the hash that its maker would have given it."""
    zeroed = bytearray(content)
    zeroed[files._DIGITS] = b"0" * 64
    zeroed[files._DIGITS] = hashlib.sha256(zeroed).hexdigest().encode()
    return bytes(zeroed)


def parts(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Take a file apart: manifest, tensors of the header, data."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    return json.loads(header.pop("__metadata__")["ml4t.models"]), header, content[end:]


def joined(manifest: object, tensors: object, data: bytes) -> bytes:
    """Build a file by hand, with a valid hash."""
    expected = (
        manifest if isinstance(manifest, str) else json.dumps(manifest, separators=(",", ":"))
    )
    entries = tensors if isinstance(tensors, str) else json.dumps(tensors, separators=(",", ":"))
    head = json.dumps({"__metadata__": {"ml4t.models": expected}}, separators=(",", ":"))[:-1]
    head += "," + entries.removeprefix("{") if tensors else "}"
    encoded = head.encode() + b" " * (-len(head) % 8)
    return sealed(struct.pack("<Q", len(encoded)) + encoded + data)


def test_a_file_built_by_hand_is_a_file(good, tmp_path):
    (tmp_path / "m").write_bytes(joined(*parts(good)))
    assert tiny.MeanModel.load(tmp_path / "m").is_fitted


def test_every_flipped_bit_is_found(good, refused):
    for at in range(8 * len(good)):
        damaged = bytearray(good)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(ValueError, match="model file"):
            files.from_bytes(bytes(damaged))
    refused(bytes(damaged), "damaged model file")


def test_every_truncation_is_found(good, refused):
    for length in range(len(good)):
        with pytest.raises(ValueError, match="model file"):
            files.from_bytes(good[:length])
    refused(good[:-1], "damaged model file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"PK\x03\x04",
        b"PK\x03\x04" + b"\xff" * 500,
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff" * 8 + b"{}",
        b"{}",
        pickle.dumps(print),
        np.random.default_rng(0).bytes(3000),
    ],
    ids=[
        "empty",
        "zeros",
        "zip magic",
        "broken zip",
        "png",
        "huge header",
        "json",
        "pickle",
        "noise",
    ],
)
def test_foreign_content_is_refused(content, refused):
    refused(content)


def test_something_appended_or_doubled_is_refused(good, refused):
    for content in (good + b"\0", good + good, b"\0" + good, good[8:]):
        refused(content)
        refused(sealed(content + bytes(max(0, 200 - len(content)))))


@pytest.mark.parametrize("length", [0, 1, 100, 2**20, 2**31, 2**53, 2**63, 2**64 - 1])
def test_a_wrong_header_length_is_refused(good, refused, length):
    refused(sealed(struct.pack("<Q", length) + good[8:]))


HUGE = [2**31, 2**31, 2**31]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [5]},
        {"shape": [2, 2]},
        {"shape": []},
        {"shape": HUGE},
        {"shape": [2**64]},
        {"shape": [-4]},
        {"shape": [4.0]},
        {"shape": "4"},
        {"shape": None},
        {"shape": [0, 2**62]},
        {"dtype": "F32"},
        {"dtype": "I64"},
        {"dtype": "U64"},
        {"dtype": "BOOL"},
        {"dtype": "BF16"},
        {"dtype": "F8_E4M3"},
        {"dtype": "O"},
        {"dtype": 8},
        {"data_offsets": [0, 2**40]},
        {"data_offsets": [2**40, 2**40 + 32]},
        {"data_offsets": [-8, 24]},
        {"data_offsets": [32, 0]},
        {"data_offsets": [1, 33]},
        {"data_offsets": []},
        {"data_offsets": "0"},
        {"shape": HUGE, "data_offsets": [0, 8 * 2**93]},
        {"surprise": 1},
        {"shape": {}},
    ],
    ids=str,
)
def test_a_tensor_that_is_not_what_it_says_is_refused(good, refused, change):
    manifest, tensors, data = parts(good)
    tensors["fit.mean"] = tensors["fit.mean"] | change
    refused(joined(manifest, tensors, data))


def test_a_bool_is_zero_or_one(good, refused):
    manifest, tensors, data = parts(good)
    name = "fit.n_observed"
    assert tensors[name]["data_offsets"][1] - tensors[name]["data_offsets"][0] == 32
    tensors[name] |= {"dtype": "BOOL", "shape": [32]}
    refused(joined(manifest, tensors, data), "must hold bools; got other bytes")


def test_arrays_must_be_those_of_the_fit(good, refused):
    manifest, tensors, data = parts(good)
    end = max(one["data_offsets"][1] for one in tensors.values())
    more = {"dtype": "F64", "shape": [1], "data_offsets": [end, end + 8]}
    refused(joined(manifest, tensors | {"fit.more": more}, data + bytes(8)), "'fit.more' is left")
    refused(joined(manifest, tensors | {"../../etc/passwd": more}, data + bytes(8)), "is left over")
    renamed = {name.replace("fit.last", "fit.first"): one for name, one in tensors.items()}
    refused(joined(manifest, renamed, data), "'fit.last' is missing")
    refused(joined(manifest, {}, b""), "is missing")
    refused(joined(manifest, tensors, data + bytes(8)))
    refused(joined(manifest, tensors, data[:-8]))
    twice = json.dumps(tensors)[:-1] + "," + json.dumps({"fit.last": tensors["fit.last"]})[1:]
    refused(joined(manifest, twice, data), "a key is repeated")


def fields(manifest: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = manifest["state"]["fit"]["fields"]
    return inner


def settings(manifest: dict[str, Any]) -> list[Any]:
    pairs: list[Any] = manifest["state"]["record"]["fields"]["config"]["dict"]
    return pairs


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = {"tuple": [value]}
    return value


# Each changes the manifest of a good file; the hash is made to hold.
MANIFESTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "other version": lambda m: m.update(format_version=2),
    "version as text": lambda m: m.update(format_version="1"),
    "version as bool": lambda m: m.update(format_version=True),
    "version as float": lambda m: m.update(format_version=1.0),
    "other model": lambda m: m.update(model_type="ml4t.models.PCAModel"),
    "model of elsewhere": lambda m: m.update(model_type="os.system"),
    "model a list": lambda m: m.update(model_type=["ml4t.models.MeanModel"]),
    "package a number": lambda m: m.update(package_version=1),
    "no state": lambda m: m.pop("state"),
    "no config": lambda m: m.pop("config"),
    "one key more": lambda m: m.update(hook="import os"),
    "state a list": lambda m: m.update(state=[]),
    "state null": lambda m: m.update(state=None),
    "config null": lambda m: m.update(config=None),
    "config a number": lambda m: m.update(config=3),
    "config of another": lambda m: m["config"].update(record="IPCAConfig"),
    "config with a field more": lambda m: m["config"]["fields"].update(__class__="x"),
    "config refused": lambda m: m["config"]["fields"].update(n_factors=0),
    "config of wrong type": lambda m: m["config"]["fields"].update(n_factors="3"),
    "config bool for int": lambda m: m["config"]["fields"].update(n_factors=True),
    "config device": lambda m: m["config"]["fields"].update(device="tpu"),
    "config fields a list": lambda m: m["config"].update(fields=[]),
    "config without fields": lambda m: m["config"].pop("fields"),
    "config with two tags": lambda m: m["config"].update(tuple=[]),
    "record missing": lambda m: m["state"].pop("record"),
    "record null": lambda m: m["state"].update(record=None),
    "record refused": lambda m: m["state"]["record"]["fields"].update(input_sha256="0"),
    "record version": lambda m: m["state"]["record"]["fields"].update(schema_version=2),
    "record without a field": lambda m: m["state"]["record"]["fields"].pop("seed"),
    "record negative time": lambda m: m["state"]["record"]["fields"].update(elapsed_seconds=-1.0),
    "record infinite time": lambda m: m["state"]["record"]["fields"].update(
        elapsed_seconds={"float": "inf"}
    ),
    "last record a number": lambda m: m["state"].update(last_record=1),
    "last record missing": lambda m: m["state"].pop("last_record"),
    "fit missing": lambda m: m["state"].pop("fit"),
    "fit null": lambda m: m["state"].update(fit=None),
    "fit of another class": lambda m: m["state"]["fit"].update(record="Spread"),
    "fit of a module": lambda m: m["state"]["fit"].update(record="os.system"),
    "fit class a number": lambda m: m["state"]["fit"].update(record=1),
    "fit without a field": lambda m: fields(m).pop("spreads"),
    "fit with a field more": lambda m: fields(m).update(extra=1),
    "array null": lambda m: fields(m).update(mean=None),
    "array a number": lambda m: fields(m).update(mean=1.0),
    "array of a number": lambda m: fields(m).update(mean={"array": 1}),
    "array of a path": lambda m: fields(m).update(mean={"array": "/etc/passwd"}),
    "array twice": lambda m: fields(m).update(mean={"array": "fit.last"}),
    "array with a remark": lambda m: fields(m)["mean"].update(remark=1),
    "array as dates": lambda m: fields(m)["n_observed"].update(dtype="datetime64[ns]"),
    "array as objects": lambda m: fields(m)["n_observed"].update(dtype="O"),
    "array with a dtype": lambda m: fields(m)["mean"].update(dtype="datetime64[ns]"),
    "arrays swapped": lambda m: fields(m).update(
        mean={"array": "fit.n_observed"}, n_observed={"array": "fit.mean"}
    ),
    "inconsistent ids": lambda m: fields(m).update(asset_ids={"tuple": ["a"]}),
    "ids a list": lambda m: fields(m).update(asset_ids=["a", "b", "c", "d"]),
    "ids numbers": lambda m: fields(m).update(asset_ids={"tuple": [1, 2, 3, 4]}),
    "ids text": lambda m: fields(m).update(asset_ids="abcd"),
    "tuple of nothing": lambda m: fields(m).update(asset_ids={"tuple": None}),
    "unknown kind": lambda m: fields(m).update(asset_ids={"pickle": "gASVAA=="}),
    "empty kind": lambda m: fields(m).update(asset_ids={}),
    "dunder kind": lambda m: fields(m).update(asset_ids={"__class__": "str"}),
    "date for text": lambda m: fields(m).update(asset_ids={"date": "2020-01-01"}),
    "float word": lambda m: fields(m)["spreads"]["tuple"][1]["fields"].update(low={"float": "one"}),
    "float list": lambda m: fields(m)["spreads"]["tuple"][1]["fields"].update(low={"float": []}),
    "dict of a list": lambda m: fields(m).update(by_label={"dict": {}}),
    "dict with a single": lambda m: fields(m)["by_label"]["dict"].append([1]),
    "dict with a number": lambda m: fields(m)["by_label"]["dict"].append(1),
    "dict with a list as key": lambda m: fields(m)["by_label"]["dict"].append([[1], {"dict": []}]),
    "dict with a key twice": lambda m: fields(m)["by_label"]["dict"].append(
        fields(m)["by_label"]["dict"][1]
    ),
    "dict keys of another kind": lambda m: fields(m)["by_label"]["dict"].append(
        ["a", {"dict": []}]
    ),
    "deep": lambda m: fields(m).update(asset_ids=nested(300)),
    "deep where anything goes": lambda m: settings(m).append(["x", nested(450)]),
    "array where there is none": lambda m: settings(m).append(["x", {"array": "fit.mean"}]),
    "record where there is none": lambda m: settings(m).append(
        ["x", {"record": "a", "fields": {}}]
    ),
    "zone of a path": lambda m: settings(m).append(
        ["x", {"datetime": ["2020-01-01", "../../etc/passwd", 0]}]
    ),
    "zone of a root": lambda m: settings(m).append(["x", {"datetime": ["2020-01-01", "/etc", 0]}]),
    "zone a number": lambda m: settings(m).append(["x", {"datetime": ["2020-01-01", 3, 0]}]),
    "no date": lambda m: settings(m).append(["x", {"date": "yesterday"}]),
    "date a number": lambda m: settings(m).append(["x", {"date": 3}]),
    "too many ticks": lambda m: settings(m).append(
        ["x", {"datetime64": [2**70, "datetime64[ns]"]}]
    ),
    "ticks of nothing": lambda m: settings(m).append(
        ["x", {"datetime64": [1, "datetime64[parsec]"]}]
    ),
    "ticks of objects": lambda m: settings(m).append(["x", {"datetime64": [1, "O"]}]),
    "huge number": lambda m: m["config"]["fields"].update(seed=10**4000),
    "float for int": lambda m: m["config"]["fields"].update(seed=1e300),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_is_not_understood_in_full_is_refused(good, refused, name):
    manifest, tensors, data = parts(good)
    MANIFESTS[name](manifest)
    if name == "huge number":  # Python itself refuses to read such digits
        expected = json.dumps(manifest | {"config": None}, separators=(",", ":"))
        refused(joined(expected.replace('"config":null', '"config":' + "9" * 5000), tensors, data))
        return
    refused(joined(manifest, tensors, data))


def test_another_models_file_says_so(good, refused, tmp_path):
    (tmp_path / "m").write_bytes(good)
    with pytest.raises(ValueError, match=r"model_type mismatch: expected .*OtherModel"):
        tiny.OtherModel.load(tmp_path / "m")


def test_json_must_be_plain(good, refused):
    manifest, tensors, data = parts(good)
    expected = json.dumps(manifest, separators=(",", ":"))
    twice = expected[:-1] + ',"state":null}'
    refused(joined(twice, tensors, data), "a key is repeated")
    for word in ("NaN", "Infinity", "-Infinity"):
        refused(
            joined(expected.replace('"n_factors":3', f'"n_factors":{word}'), tensors, data), word
        )
    for broken in (
        expected[:-1],
        expected + "}",
        expected.replace(":", " ", 3),
        "null",
        "[]",
        "3",
        "",
    ):
        refused(joined(broken, tensors, data))
    hash_first = expected.split(",", 1)[0]
    refused(joined(hash_first + ',"state":' + "[" * 200_000, tensors, data), "nested that deep")


def test_metadata_of_others_is_refused(good, refused):
    manifest, tensors, data = parts(good)
    content = joined(manifest, tensors, data)
    end = content.index(b'"},"fit.') + 1
    more = content[:end] + b',"more":"x"' + content[end:]
    length = int.from_bytes(content[:8], "little") + 11
    refused(sealed(struct.pack("<Q", length) + more[8:]), "the manifest and nothing else")
    other = json.dumps({"__metadata__": {"format": "pt"}} | tensors, separators=(",", ":")).encode()
    refused(struct.pack("<Q", len(other)) + other + data, "not a model file")
