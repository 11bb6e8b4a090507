"""One byte changed, cut off or added: no file that the package writes is read any more."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import file_kinds
from ml4t.models import PCAConfig, PCAModel, WalkForward
from ml4t.models.types import PersistentPanelBatch

KINDS = {name: kind for name, kind in file_kinds.kinds().items() if name != "frame"}


def mutants(content: bytes, n_flips: int):
    """Flip one bit or a whole byte at the ends and at random places; cut and append."""
    rng = np.random.default_rng(0)
    places = {*range(24), *range(len(content) - 24, len(content))}
    places |= set(rng.integers(len(content), size=n_flips).tolist())
    for at in sorted(places):
        damaged = bytearray(content)
        damaged[at] ^= int(rng.choice([1, 2, 4, 8, 16, 32, 64, 128, 255]))
        yield bytes(damaged)
    for length in (0, 1, 8, len(content) // 2, len(content) - 8, len(content) - 1):
        yield content[:length]
    for more in (b"\0", b" ", b"\n", content):
        yield content + more
        yield more + content


@pytest.mark.parametrize("name", KINDS)
def test_no_mutant_of_a_file_loads(tmp_path, name):
    path = KINDS[name].write(tmp_path / "m")
    KINDS[name].load(path)
    n_tried = 0
    for content in mutants(path.read_bytes(), 250):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot load"):
            KINDS[name].load(path)
        n_tried += 1
    assert n_tried > 250


@pytest.mark.parametrize("name", ["run.json", "fold_00001.safetensors", "model_00001.safetensors"])
def test_no_mutant_of_a_walk_is_gone_on_with(tmp_path, name):
    batch = PersistentPanelBatch(returns=np.random.default_rng(0).normal(size=(9, 4)))
    walk = WalkForward(PCAModel(PCAConfig(n_factors=1)), min_periods=6)
    folder = tmp_path / "walk"
    walk.run(batch, folder=folder)
    good = (folder / name).read_bytes()
    for content in list(mutants(good, 30))[::3]:
        (folder / name).write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot go on from|folder must be of the same"):
            walk.run(batch, folder=folder)
    (folder / name).write_bytes(good)
    walk.run(batch, folder=folder)
    shutil.rmtree(folder)
