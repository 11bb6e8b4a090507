"""Long frames to tensors, the slow and obvious way: dicts of dicts, one row at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def number(value: Any) -> float:
    """A finite number, or NaN."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def panel(
    columns: Mapping[str, Sequence[Any]], timestamp: str, entity: str, values: Sequence[str]
) -> tuple[list[Any], list[str], np.ndarray, np.ndarray]:
    """Timestamps, asset ids, values (T, N, L) and mask (T, N) of a long frame."""
    rows = sorted(
        range(len(columns[timestamp])),
        key=lambda row: (columns[timestamp][row], str(columns[entity][row])),
    )
    cells: dict[Any, dict[str, list[float]]] = {}
    assets: dict[str, None] = {}
    for row in rows:
        asset = str(columns[entity][row])
        assets[asset] = None
        of_date = cells.setdefault(columns[timestamp][row], {})
        if asset in of_date:
            raise ValueError("duplicate")
        of_date[asset] = [number(columns[name][row]) for name in values]
    tensor = np.full((len(cells), len(assets), len(values)), np.nan)
    mask = np.zeros((len(cells), len(assets)), dtype=bool)
    for t, date in enumerate(cells):
        for i, asset in enumerate(assets):
            if asset in cells[date]:
                tensor[t, i] = cells[date][asset]
                mask[t, i] = True
    return list(cells), list(assets), tensor, mask
