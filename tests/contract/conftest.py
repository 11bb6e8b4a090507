"""What tests of damaged files share."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny

MOST_BYTES = 4 << 20  # a hundred times the files tried here


@pytest.fixture
def refused(tmp_path: Path) -> Iterator[Callable[..., None]]:
    path = tmp_path / "m"

    def refuse(content: bytes, match: str = "^cannot load ") -> None:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=match):
            tiny.MeanModel.load(path)

    tiny.MeanModel.load(tiny.fitted().save(path))  # imports and caches, out of the measurement
    tracemalloc.start()
    yield refuse
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MOST_BYTES
