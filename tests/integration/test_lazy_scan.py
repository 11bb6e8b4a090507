from __future__ import annotations

import pickle
from datetime import timedelta

import polars as pl
import pytest

from integration.test_scan import sample_frame, scan, scan_in_threads
from ml4t.models.panel import sources
from ml4t.models.panel.lazy import slices_are_cheap
from properties.test_characteristic_moments import assert_close

NAMES = ["c0", "c1"]
SCALE = pl.DataFrame({"symbol": ["s1", "s2", "s5"], "scale": [2.0, 3.0, 5.0]}).lazy()
SIZE = pl.col("c0")

ROW_BY_ROW = {
    "bare": lambda frame: frame,
    "select": lambda frame: frame.select("c1", "ret", "c0", "symbol", "date"),
    "drop": lambda frame: frame.drop("extra"),
    "rename": lambda frame: frame.rename({"c0": "c1", "c1": "c0"}),
    "cast": lambda frame: frame.cast({"c1": pl.Float32}),
    "change": lambda frame: frame.with_columns(SIZE * 2 - pl.col("c1"), ret=pl.col("ret") / 100),
    "twice": lambda frame: frame.with_columns(x=SIZE.abs()).with_columns(c1=pl.col("x").log1p()),
    "literal": lambda frame: frame.with_columns(c1=pl.lit(0.5)),
    "gaps": lambda frame: frame.with_columns(c1=pl.when(SIZE > 0).then("c1")),
    "text": lambda frame: frame.with_columns(symbol=pl.col("symbol").str.to_uppercase()),
}
ACROSS_ROWS = {
    "filter": lambda frame: frame.filter(SIZE > 0),
    "lag": lambda frame: frame.with_columns(SIZE.shift(1).over("symbol")),
    "rank": lambda frame: frame.with_columns(SIZE.rank().over("date")),
    "sum": lambda frame: frame.with_columns(SIZE.cum_sum()),
    "mean": lambda frame: frame.with_columns(SIZE - SIZE.mean()),
    "join": lambda frame: frame.join(SCALE, on="symbol", how="left", maintain_order="left"),
    "tail": lambda frame: frame.tail(20),
    "sort": lambda frame: frame.sort("date", "c0"),
    "unique": lambda frame: frame.unique(["date", "symbol"], maintain_order=True),
    "explode": lambda frame: frame.with_columns(c1=pl.concat_list("c1")).explode("c1"),
    "concat": lambda frame: pl.concat([frame, frame.with_columns(pl.col("date") + DAYS)]),
    "python": lambda frame: frame.with_columns(
        SIZE.map_batches(lambda column: column * 2, is_elementwise=True)
    ),
    "opaque": lambda frame: frame.map_batches(lambda all_rows: all_rows.reverse()),
}
EITHER = {"head": lambda frame: frame.head(25), "slice": lambda frame: frame.slice(9, 20)}
DAYS = timedelta(days=31 * 6)
PLANS = ROW_BY_ROW | ACROSS_ROWS | EITHER


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Three files; blocks of sixteen rows."""
    frame = sample_frame().with_columns(extra=pl.lit("x"))
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * 5 * 16)
    for i, first in enumerate(range(0, frame.height, 16)):  # files end in the middle of dates
        frame.slice(first, 16).write_parquet(tmp_path / f"{i}.parquet", row_group_size=5)
    return tmp_path


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_plan_gives_the_bits_of_its_rows(folder, plan):
    lazy = plan(pl.scan_parquet(folder))
    want = scan(lazy.collect(), NAMES)
    assert scan(lazy, NAMES) == want
    assert scan_in_threads(2, lazy, NAMES) == want


def test_files_that_are_scanned_lazily_give_the_bits_of_their_paths(folder):
    assert scan(pl.scan_parquet(folder), NAMES) == scan(folder, NAMES)
    lazy = pl.scan_parquet(folder).with_columns(SIZE)
    assert scan(lazy, NAMES, rank=True) == scan(folder, NAMES, rank=True)


@pytest.mark.parametrize(
    ("plan", "cheap"),
    [(plan, True) for plan in ROW_BY_ROW.values()]
    + [(plan, False) for plan in ACROSS_ROWS.values()],
    ids=[*ROW_BY_ROW, *ACROSS_ROWS],
)
def test_slices_are_read_where_rows_stand_alone(folder, plan, cheap):
    assert slices_are_cheap(plan(pl.scan_parquet(folder))) is cheap


def test_frames_that_are_no_files_are_streamed(tmp_path):
    frame = sample_frame()
    frame.write_csv(tmp_path / "a.csv")
    assert not slices_are_cheap(frame.lazy())
    assert not slices_are_cheap(pl.scan_csv(tmp_path / "a.csv"))


def test_many_files_are_streamed(tmp_path):
    frame = sample_frame()
    for i in range(65):
        frame.write_parquet(tmp_path / f"{i:02d}.parquet")
    assert not slices_are_cheap(pl.scan_parquet(tmp_path))
    assert slices_are_cheap(pl.scan_parquet(sorted(tmp_path.iterdir())[:64]))


@pytest.mark.parametrize(
    "name",
    [
        "SLICE: Positive { offset: 1, len: 1 }",
        "x\nSLICE: Positive { offset: 1, len: 1 }\n",
        "x\nSLICE: (1, 1)\nRENAME",
        'x"] \nParquet SCAN [a.parquet]\n',
    ],
)
def test_names_that_look_like_plans_deceive_nobody(folder, name):
    renamed = pl.scan_parquet(folder).rename({"c0": name})
    for plan in (renamed.filter(pl.col(name) > 0), renamed.with_columns(pl.col(name).cum_sum())):
        assert not slices_are_cheap(plan)
        assert scan(plan, [name, "c1"]) == scan(plan.collect(), [name, "c1"])
    assert scan(renamed, [name, "c1"]) == scan(renamed.collect(), [name, "c1"])


def test_dates_that_only_folders_name_are_read(tmp_path):
    frame = sample_frame()
    for (day,), rows in frame.partition_by("date", as_dict=True).items():
        (tmp_path / f"date={day}").mkdir()
        rows.drop("date").write_parquet(tmp_path / f"date={day}" / "0.parquet")
    lazy = pl.scan_parquet(tmp_path, hive_partitioning=True)
    assert slices_are_cheap(lazy)
    assert lazy.collect_schema()["date"] == pl.Date
    assert scan(lazy, NAMES) == scan(frame, NAMES)


@pytest.mark.parametrize("plan", [ROW_BY_ROW["bare"], ROW_BY_ROW["change"]], ids=["bare", "change"])
@pytest.mark.parametrize("old", [False, True])
def test_a_block_is_read_at_a_time(folder, monkeypatch, plan, old):
    collect, heights = pl.LazyFrame.collect, []

    def counted(self, *arguments, **options):
        found = collect(self, *arguments, **options)
        heights.append(found.height)
        return found

    lazy = plan(pl.scan_parquet(folder))
    want = scan(lazy.collect(), NAMES)
    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    if old:
        monkeypatch.delattr(pl.LazyFrame, "collect_batches", raising=False)
    assert scan(lazy, NAMES) == want
    # Dates of sixteen rows and one more, until there are none; rows of two dates, three times.
    assert sorted(heights) == [0, 14, 14, 14, 14, 17, 17]


def test_an_old_polars_collects_what_cannot_be_sliced(folder, monkeypatch):
    monkeypatch.delattr(pl.LazyFrame, "collect_batches", raising=False)
    lazy = ACROSS_ROWS["filter"](pl.scan_parquet(folder))
    assert scan(lazy, NAMES) == scan(lazy.collect(), NAMES)


def test_blocks_of_a_plan_travel_as_rows(folder):
    columns = ["date", "c0"]
    plan = pl.scan_parquet(folder).select(columns)
    block = sources.PlanRows(plan, 14, 14, (False, True))
    got = pickle.loads(pickle.dumps(block))
    assert isinstance(got, sources.FrameRows)
    assert (got.first, got.cut) == (14, (False, True))
    assert got.read(columns).equals(sample_frame()[14:28].select(columns))


def test_a_file_without_rows_has_no_dates(tmp_path):
    sample_frame().clear().write_parquet(tmp_path / "a.parquet")
    assert scan(pl.scan_parquet(tmp_path / "a.parquet"), NAMES).n_periods == 0


def test_a_missing_date_is_named_by_its_row(tmp_path):
    frame = sample_frame().with_columns(pl.when(pl.int_range(pl.len()) != 30).then("date"))
    frame.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="got a missing one at row 30"):
        scan(pl.scan_parquet(tmp_path / "a.parquet"), NAMES)


def test_rows_in_no_order_are_summed(tmp_path):
    frame = sample_frame()
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(tmp_path / "a.parquet")
    assert_close(scan(pl.scan_parquet(tmp_path / "a.parquet"), NAMES), scan(frame, NAMES))
