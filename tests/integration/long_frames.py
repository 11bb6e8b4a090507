"""Random long frames, in every form that a caller may have them in."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from hypothesis import strategies as st

UNITS = ("ms", "us", "ns")
ZONES = (None, "UTC", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe")


class Columnar:
    """An object that narwhals does not know: `columns` and `frame[name]`."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self.columns = frame.columns
        self._frame = frame

    def __getitem__(self, name: str) -> list[Any]:
        return self._frame[name].to_list()


FORMS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "lazy": lambda frame: frame.lazy(),
    "pandas": lambda frame: frame.to_pandas(date_as_object=True),
    "pandas_arrow": lambda frame: frame.to_pandas(use_pyarrow_extension_array=True),
    "pyarrow": lambda frame: frame.to_arrow(),
    "mapping_of_lists": lambda frame: frame.to_dict(as_series=False),
    "mapping_of_series": lambda frame: frame.to_dict(),
    "object": Columnar,
}

FLOATS = st.one_of(
    st.floats(-1e3, 1e3, width=32),
    st.sampled_from([None, float("nan"), float("inf"), float("-inf")]),
)


@st.composite
def dates(draw: st.DrawFn, n_dates: int) -> pl.Series:
    """Distinct timestamps of any kind, ascending."""
    kind = draw(st.sampled_from(["date", "int", "text", *UNITS]))
    days = sorted(
        draw(st.lists(st.integers(0, 20_000), min_size=n_dates, max_size=n_dates, unique=True))
    )
    if kind == "date":
        return pl.Series("date", days, dtype=pl.Int32).cast(pl.Date)
    if kind == "int":
        return pl.Series("date", days, dtype=pl.Int64)
    if kind == "text":
        return pl.Series("date", [str(dt.date.fromordinal(1 + day)) for day in days])
    ticks_per_day = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}[kind]
    offset = draw(st.integers(0, ticks_per_day - 1))
    ticks = [day * ticks_per_day + offset for day in days]
    zone = draw(st.sampled_from(ZONES))
    return pl.Series("date", ticks, dtype=pl.Int64).cast(pl.Datetime(kind, zone))


@st.composite
def long_frames(draw: st.DrawFn, *, integer_ids: bool | None = None) -> pl.DataFrame:
    """Key columns `date` and `ticker`, values `x`, `y` and `r`, in a random row order."""
    n_dates, n_assets = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    stamps = draw(dates(n_dates))
    integers = draw(st.booleans()) if integer_ids is None else integer_ids
    ids: list[Any] = draw(
        st.lists(
            st.integers(0, 200) if integers else st.text("abAB1é", min_size=1, max_size=3),
            min_size=n_assets,
            max_size=n_assets,
            unique=True,
        )
    )
    cells = [(t, i) for t in range(n_dates) for i in range(n_assets)]
    kept = draw(st.lists(st.sampled_from(cells), min_size=1, unique=True))
    columns = {
        name: draw(st.lists(FLOATS, min_size=len(kept), max_size=len(kept))) for name in "xyr"
    }
    return pl.DataFrame(
        {
            "date": stamps.gather(np.array([t for t, _ in kept], dtype=np.uint32)),
            "ticker": pl.Series([ids[i] for _, i in kept]),
            **{name: pl.Series(values, dtype=pl.Float64) for name, values in columns.items()},
        }
    )


def regular(n_dates: int = 4, n_assets: int = 3) -> dict[str, list[Any]]:
    """A complete frame of numbers that can be told apart: date t, asset i has x = 10 t + i."""
    rows = [(t, i) for t in range(n_dates) for i in range(n_assets)]
    return {
        "timestamp": [dt.date(2024, 1, 1) + dt.timedelta(t) for t, _ in rows],
        "asset": [f"a{i}" for _, i in rows],
        "x": [10.0 * t + i for t, i in rows],
        "r": [t - 0.5 * i for t, i in rows],
        "vix": [20.0 + t for t, _ in rows],
        "sector": ["tech" if i % 2 else "energy" for _, i in rows],
        "cost": [0.001 * (1 + i) for _, i in rows],
    }


def to_pandas_objects(columns: dict[str, list[Any]]) -> pd.DataFrame:
    """A pandas frame whose columns are all of Python objects."""
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def to_arrow(columns: dict[str, list[Any]]) -> pa.Table:
    """A pyarrow table."""
    return pa.table(columns)
