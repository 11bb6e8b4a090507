from __future__ import annotations

import pickle
from datetime import timedelta

import polars as pl
import pytest

from integration.test_scan import DAY, sample_frame, scan, scan_in_threads
from ml4t.models.moments import blocks as sources
from ml4t.models.moments.lazy_plans import ranges_of_dates, slices_are_cheap
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
BY_DATE = {
    "filter": lambda frame: frame.filter(SIZE > 0),
    "dates": lambda frame: frame.filter(pl.col("date").is_between(DAY + DAYS / 6, DAY + DAYS / 2)),
    "known": lambda frame: frame.filter(SIZE > -1).drop_nulls(["ret", "c0"]),
    "then": lambda frame: frame.filter(SIZE > 0).rename({"c1": "x"}).with_columns(c1=SIZE * 2),
    "rank": lambda frame: frame.with_columns(SIZE.rank().over("date")),
    "middle": lambda frame: frame.filter(SIZE > 0).with_columns(
        SIZE - SIZE.max().over("date"), c1=pl.col("c1").fill_null(SIZE.median().over("date"))
    ),
}
STREAMED = {
    "lag": lambda frame: frame.with_columns(SIZE.shift(1).over("symbol")),
    "sum": lambda frame: frame.with_columns(SIZE.cum_sum()),
    "mean": lambda frame: frame.filter(SIZE.mean() < SIZE),
    "join": lambda frame: frame.join(SCALE, on="symbol", how="left", maintain_order="left"),
    "tail": lambda frame: frame.tail(20),
    "sort": lambda frame: frame.sort("date", "c0"),
    "reverse": lambda frame: frame.filter(SIZE > 0).reverse(),
    "unique": lambda frame: frame.unique(["date", "symbol"], maintain_order=True),
    "explode": lambda frame: frame.with_columns(c1=pl.concat_list("c1")).explode("c1"),
    "concat": lambda frame: pl.concat([frame, frame.with_columns(pl.col("date") + DAYS)]),
    "python": lambda frame: frame.with_columns(
        SIZE.map_batches(lambda column: column * 2, is_elementwise=True)
    ),
    "opaque": lambda frame: frame.map_batches(lambda all_rows: all_rows.reverse()),
    "window": lambda frame: frame.with_columns(pl.col("date").max().over("date")),
}
EITHER = {"head": lambda frame: frame.head(25), "slice": lambda frame: frame.slice(9, 20)}
DAYS = timedelta(days=31 * 6)
PLANS = ROW_BY_ROW | BY_DATE | STREAMED | EITHER


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


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_what_costs_its_own_rows_is_read_in_parts(folder, plan, request):
    name, lazy = request.node.callspec.id, plan(pl.scan_parquet(folder))
    assert slices_are_cheap(lazy) is (name in ROW_BY_ROW) or name in EITHER
    assert bool(ranges_of_dates(lazy, "date", 16, 64)) is (name not in STREAMED | EITHER)


def test_ranges_are_as_many_whole_dates_as_fit(folder):
    lazy = pl.scan_parquet(folder)
    for n_rows, want in [(13, [7] * 6), (14, [14] * 3), (27, [21, 21]), (42, [42])]:
        ranges = ranges_of_dates(lazy, "date", n_rows, 100)
        assert [size for size, _ in ranges] == want
        assert pl.concat([rows.collect() for _, rows in ranges]).equals(lazy.collect())
    assert not ranges_of_dates(lazy, "date", 2, 6)  # a date would have to be cut


@pytest.mark.parametrize(
    ("kind", "cheap"),
    [
        (pl.Int32, True),
        (pl.UInt8, True),
        (pl.String, True),
        (pl.Datetime("ms"), True),
        (pl.Datetime("us"), True),
        (pl.Datetime("ns"), False),
        (pl.Datetime("us", "UTC"), False),
        (pl.Enum([f"2001-0{month}" for month in range(1, 10)]), False),
    ],
    ids=str,
)
def test_dates_of_all_types(tmp_path, monkeypatch, kind, cheap):
    frame = sample_frame()
    monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * 16)
    month = pl.col("date").rle_id()
    if kind == pl.String or isinstance(kind, pl.Enum):
        month = "2001-0" + (month + 1).cast(pl.String)
    elif str(kind).startswith("Datetime"):
        month = pl.col("date").cast(pl.Datetime("us"))
    frame = frame.with_columns(month.cast(kind).alias("date"))
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=5)
    lazy = pl.scan_parquet(tmp_path / "a.parquet").filter(SIZE > 0)
    assert bool(ranges_of_dates(lazy, "date", 16, 64)) is cheap
    assert scan(lazy, NAMES) == scan(frame.filter(SIZE > 0), NAMES)


@pytest.mark.parametrize("order", [["c1"], ["symbol", "date"]])
def test_filtered_rows_in_no_order_are_streamed(tmp_path, order):
    frame = sample_frame().sort(order)
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=5)
    lazy = pl.scan_parquet(tmp_path / "a.parquet").filter(SIZE > 0)
    assert not ranges_of_dates(lazy, "date", 16, 64)
    assert scan(lazy, NAMES) == scan(frame.filter(SIZE > 0), NAMES)


def test_sums_of_windows_are_rounded_by_polars(folder):
    """Its engines differ among themselves in the last bit."""
    lazy = pl.scan_parquet(folder).with_columns(SIZE - SIZE.mean().over("date"))
    assert ranges_of_dates(lazy, "date", 16, 64)
    assert_close(scan(lazy, NAMES), scan(lazy.collect(), NAMES))


def test_a_window_is_read_in_one_run(folder, monkeypatch):
    monkeypatch.setattr(sources, "_AT_A_TIME", 1)
    rows = pl.scan_parquet(folder).with_columns(SIZE.shuffle().over("date"))
    columns, widths, collect = ["date", "c0", "c1"], [], pl.LazyFrame.collect

    def counted(self, *arguments, **options):
        got = collect(self, *arguments, **options)
        widths.append(got.width)
        return got

    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    for plan, want in [(rows, 3), (pl.scan_parquet(folder).filter(SIZE > 0), 1)]:
        widths.clear()
        for block in sources.opened(plan).blocks(columns, 16):
            block.read(columns)
        assert set(widths) == {want}


def test_rows_that_change_meanwhile_are_reported(folder):
    block = sources.PlanRows(pl.scan_parquet(folder), 14, 41, (False, False), at_once=False)
    with pytest.raises(ValueError, match=r"whenever it is read; from row 14 it gave 41 .* then 42"):
        block.read(["date", "c0"])


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
def test_column_names_do_not_change_the_plan(folder, name):
    renamed = pl.scan_parquet(folder).rename({"c0": name})
    for plan in (renamed.filter(pl.col(name) > 0), renamed.with_columns(pl.col(name).cum_sum())):
        assert not slices_are_cheap(plan)
        assert not ranges_of_dates(plan.with_columns(pl.col(name).cum_sum()), "date", 16, 64)
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
    lazy, frame = (each.filter(SIZE > 0) for each in (lazy, frame))
    assert ranges_of_dates(lazy, "date", 16, 64)
    assert scan(lazy, NAMES) == scan(frame, NAMES)


@pytest.mark.parametrize("plan", [ROW_BY_ROW["bare"], ROW_BY_ROW["change"]], ids=["bare", "change"])
@pytest.mark.parametrize("old", [False, True])
def test_a_block_is_read_at_a_time(folder, monkeypatch, plan, old):
    collect, heights = pl.LazyFrame.collect, []

    def counted(self, *arguments, **options):
        got = collect(self, *arguments, **options)
        heights.append(got.height)
        return got

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
    lazy = STREAMED["sum"](pl.scan_parquet(folder))
    assert scan(lazy, NAMES) == scan(lazy.collect(), NAMES)


def test_blocks_of_a_plan_travel_as_rows(folder):
    columns = ["date", "c0"]
    plan = pl.scan_parquet(folder).select(columns)
    block = sources.PlanRows(plan.slice(14, 14), 14, 14, (False, True), at_once=False)
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
    lazy = pl.scan_parquet(tmp_path / "a.parquet")
    for source, row in [(lazy, 30), (lazy.filter(pl.col("symbol") != "s0"), 25)]:
        with pytest.raises(ValueError, match=f"got a missing one at row {row}"):
            scan(source, NAMES)


def test_rows_in_no_order_are_summed(tmp_path):
    frame = sample_frame()
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(tmp_path / "a.parquet")
    assert_close(scan(pl.scan_parquet(tmp_path / "a.parquet"), NAMES), scan(frame, NAMES))
