from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import CharacteristicMoments, CrossSectionBatch
from ml4t.models.moments import blocks as sources
from ml4t.models.moments import scan as scanning
from ml4t.models.panel.ranks import cross_sectional_ranks
from oracles import ranks as oracle
from properties.test_characteristic_moments import assert_close
from strategies import panels

DAY = date(2000, 1, 31)
ROW_BLOCKS = st.sampled_from([1, 2, 8, 64])


def long_frame(panel):
    """Rows of the unmasked cells in order of date, then asset; missing values as null and NaN."""
    at, asset = np.nonzero(panel.mask)
    z = panel.characteristics[at, asset]
    names = [f"c{i}" for i in range(z.shape[1])]
    frame = pl.DataFrame(
        {
            "date": [DAY + timedelta(days=int(t)) for t in at],
            "symbol": [f"s{i}" for i in asset],
            "ret": panel.returns[at, asset],
            **{name: z[:, i] for i, name in enumerate(names)},
        },
        schema_overrides={"date": pl.Date, "symbol": pl.String},
    )
    null_first = [pl.col(names[0]).fill_nan(None)] if names else []
    return frame.with_columns(null_first), names


def in_memory(panel, names, characteristics=None):
    """Moments of the dates that have a row."""
    there = np.flatnonzero(panel.mask.any(axis=1))
    z = panel.characteristics if characteristics is None else characteristics
    batch = CrossSectionBatch(
        z[there],
        returns=panel.returns[there],
        mask=panel.mask[there],
        timestamps=[DAY + timedelta(days=int(t)) for t in there],
    )
    return CharacteristicMoments.from_batch(replace(batch, feature_names=tuple(names)))


@pytest.fixture
def blocks(monkeypatch):
    """Set how many rows a block has."""

    def of(n_rows, frame):
        monkeypatch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * n_rows)

    return of


def scan(source, names, **options):
    options = {"entity_col": "symbol"} | options
    return CharacteristicMoments.scan(source, feature_cols=names, return_col="ret", **options)


@st.composite
def cut_frames(draw, **options):
    panel = draw(panels(**options))
    return panel, *long_frame(panel)


@given(case=cut_frames(), n_rows=ROW_BLOCKS)
def test_blocks_of_rows_give_the_bits_of_the_panel_in_memory(case, n_rows):
    panel, frame, names = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * n_rows)
        got = scan(frame, names)
        lazy = scan(frame.lazy(), names)
    if 4 * n_rows >= int(panel.mask.sum(axis=1).max()):
        assert got == in_memory(panel, names)
    else:  # a date that is larger than four blocks is a sum of parts
        assert_close(got, in_memory(panel, names))
    assert lazy == got


@given(case=cut_frames(), n_rows=ROW_BLOCKS, seed=st.integers(0, 99))
def test_rows_in_no_order_give_the_same_sums(case, n_rows, seed):
    panel, frame, names = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * n_rows)
        got = scan(frame.sample(fraction=1.0, shuffle=True, seed=seed), names)
    assert_close(got, in_memory(panel, names))


@given(case=cut_frames(), n_rows=ROW_BLOCKS)
def test_ranks_are_of_whole_dates_wherever_a_block_ends(case, n_rows):
    panel, frame, names = case
    ranked = np.zeros(panel.characteristics.shape)
    for t, there in enumerate(panel.mask):
        ranked[t, there] = oracle.cross_sectional_ranks(panel.characteristics[t, there])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * n_rows)
        got = scan(frame, names, rank=True)
        pooled = scan_in_threads(2, frame, names, rank=True)
    assert_close(got, in_memory(panel, names, ranked))
    assert pooled == got


@given(case=cut_frames(), n_rows=ROW_BLOCKS)
def test_large_dates_are_summed_in_parts_and_do_not_travel(case, n_rows):
    panel, frame, names = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 8 * (frame.width - 1) * n_rows)
        patch.setattr(scanning, "CUT_ROWS", 3)
        got = scan(frame, names, entity_col=None)
    assert_close(got, in_memory(panel, names))


@pytest.mark.parametrize("sizes", [[9_000] * 8, [40_000, 1, 17_000, 60_000, 16_385, 30, 16_384]])
@pytest.mark.parametrize("newest_first", [False, True])
def test_large_dates_have_the_bits_of_the_panel_in_memory(tmp_path, blocks, sizes, newest_first):
    rng = np.random.default_rng(0)
    at = np.repeat(np.arange(len(sizes)), sizes)
    z, returns = rng.standard_normal((len(at), 3)), rng.standard_normal(len(at))
    panel = np.full((len(sizes), max(sizes), 4), np.nan)
    panel[at, np.concatenate([np.arange(n) for n in sizes])] = np.column_stack([z, returns])
    days = [DAY + timedelta(days=int(t)) for t in range(len(sizes))]
    batch = CrossSectionBatch(panel[..., :3], returns=panel[..., 3], timestamps=days)
    in_one = CharacteristicMoments.from_batch(replace(batch, feature_names=("c0", "c1", "c2")))
    frame = pl.DataFrame({"date": [days[t] for t in at], "ret": returns}).with_columns(
        pl.Series(f"c{i}", z[:, i]) for i in range(3)
    )
    if newest_first:
        order = pl.col("date").rank("dense", descending=True)
        frame = frame.sort(order, maintain_order=True)
    blocks(1 << 14, frame)
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=sizes[0])
    for source in (frame, frame.lazy(), tmp_path / "a.parquet"):
        assert scan(source, ["c0", "c1", "c2"], entity_col=None) == in_one
        assert scan_in_threads(2, source, ["c0", "c1", "c2"], entity_col=None) == in_one


def test_a_date_in_many_files_is_put_together(tmp_path, blocks):
    frame = sample_frame(n_dates=3, n_assets=30)
    blocks(16, frame)
    for first in range(0, 90, 10):
        frame.slice(first, 10).write_parquet(tmp_path / f"{first}.parquet")
    got = scan(tmp_path, ["c0", "c1"])
    assert got == scan(frame, ["c0", "c1"])
    assert got == scan_in_threads(2, tmp_path, ["c0", "c1"])
    blocks(1024, frame)
    assert got == scan(frame, ["c0", "c1"])


def test_only_rows_of_dates_that_two_files_share_travel(tmp_path, blocks):
    class Here:
        def __init__(self):
            self.pieces = []

        def submit(self, function, *arguments):
            self.pieces.append(function(*arguments))
            return SimpleNamespace(result=lambda piece=self.pieces[-1]: piece)

    frame = sample_frame(n_dates=20)
    names = ["c0", "c1"]
    blocks(16, frame)
    for i, rows in enumerate([frame[:70], frame[:0], frame[70:101], frame[101:]]):
        rows.write_parquet(tmp_path / f"{i}.parquet")
    here = Here()
    got = scan(tmp_path, names, executor=here, rank=True)
    # Blocks of two dates of seven rows; the second and the third file share a date.
    assert len(here.pieces) == 5 + 3 + 3
    travels = [(piece.first is not None, piece.last is not None) for piece in here.pieces]
    assert [i for i, ends in enumerate(travels) if any(ends)] == [7, 8]
    assert got == scan(frame, names, rank=True)


def scan_in_threads(n_workers, frame, names, **options):
    with ThreadPoolExecutor(n_workers) as pool:
        return scan(frame, names, executor=pool, **options)


@given(case=cut_frames(), n_rows=ROW_BLOCKS, shuffle=st.booleans())
def test_the_number_of_workers_changes_no_bit(case, n_rows, shuffle):
    _, frame, names = case
    if shuffle:
        frame = frame.sample(fraction=1.0, shuffle=True, seed=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", 8 * frame.width * n_rows)
        alone = scan(frame, names)
        for n_workers in (1, 3):
            assert scan_in_threads(n_workers, frame, names) == alone


@given(panels(max_dates=1))
def test_ranks_agree_with_counting(panel):
    z = panel.characteristics[0]
    np.testing.assert_allclose(
        cross_sectional_ranks(z), oracle.cross_sectional_ranks(z), rtol=0, atol=1e-15
    )


def test_ranks_do_not_look_at_returns():
    frame = sample_frame()
    gone = frame.with_columns(pl.when(pl.col("symbol") != "s3").then("ret"))
    both = [scan(one, ["c0", "c1"], rank=True) for one in (frame, gone)]
    rank = oracle.cross_sectional_ranks(frame.filter(date=DAY).select("c0", "c1").to_numpy())
    want = both[0].gram[0] - np.outer(*[np.r_[1.0, rank[3]]] * 2)
    np.testing.assert_allclose(both[1].gram[0], want, atol=1e-14)


def sample_frame(n_dates=6, n_assets=7, seed=0):
    rng = np.random.default_rng(seed)
    n = n_dates * n_assets
    return pl.DataFrame(
        {
            "date": [DAY + timedelta(days=31 * t) for t in range(n_dates) for _ in range(n_assets)],
            "symbol": [f"s{i}" for _ in range(n_dates) for i in range(n_assets)],
            "ret": 0.1 * rng.standard_normal(n),
            "c0": rng.standard_normal(n),
            "c1": rng.standard_normal(n).round(),
        }
    )


@pytest.mark.parametrize("rank", [False, True])
def test_parquet_in_every_form(tmp_path, blocks, rank):
    frame = sample_frame()
    blocks(10, frame)
    names = ["c0", "c1"]
    want = scan(frame, names, rank=rank)
    whole, parts = tmp_path / "whole.parquet", tmp_path / "parts"
    parts.mkdir()
    frame.write_parquet(whole, row_group_size=5)
    for i, first in enumerate(range(0, frame.height, 11)):  # files end in the middle of dates
        frame.slice(first, 11).write_parquet(parts / f"{i}.parquet", row_group_size=4)
    listed = sorted(parts.iterdir())
    for source in (whole, str(whole), parts, parts / "*.parquet", [str(p) for p in listed]):
        assert scan(source, names, rank=rank) == want
    assert scan(pl.scan_parquet(whole), names, rank=rank) == want
    with ThreadPoolExecutor(2) as pool:
        assert scan(parts, names, rank=rank, executor=pool) == want
    if not rank:
        assert_close(scan(listed[::-1], names), want)


def test_row_groups_that_end_with_dates_give_the_same_bits(tmp_path):
    frame = sample_frame()
    frame.write_parquet(tmp_path / "a.parquet", row_group_size=7)
    assert scan(tmp_path / "a.parquet", ["c0"]) == scan(frame, ["c0"])


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([1, 1, 2]),
        pl.Series(["2001-01", "2001-01", "2001-02"]),
        pl.Series(["2001-01", "2001-01", "2001-02"], dtype=pl.Enum(["2001-01", "2001-02"])),
        pl.Series([date(2001, 1, 1)] * 2 + [date(2001, 2, 1)]),
        *(
            pl.Series([datetime(2001, 1, 1)] * 2 + [datetime(2001, 2, 1)]).cast(pl.Datetime(unit))
            for unit in ("ms", "us", "ns")
        ),
        pl.Series([datetime(2001, 1, 1)] * 2 + [datetime(2001, 2, 1)]).dt.replace_time_zone(
            "America/New_York"
        ),
    ],
    ids=lambda times: str(times.dtype),
)
def test_labels_are_the_values_of_the_column(times):
    frame = pl.DataFrame({"when": times, "ret": [1, 2, 3], "c": [True, False, None]})
    got = CharacteristicMoments.scan(
        frame, feature_cols=["c"], return_col="ret", timestamp_col="when"
    )
    assert got.timestamps == (times[0], times[2])
    assert got.n_assets.tolist() == [2, 0]
    assert got.cross[0].tolist() == [3.0, 1.0]
    if times.dtype == pl.Datetime("us", "America/New_York"):
        assert got.timestamps[0].tzinfo == ZoneInfo("America/New_York")


def test_a_frame_without_rows_has_no_dates():
    got = scan(sample_frame().clear(), ["c0", "c1"])
    assert got.n_periods == 0
    assert got.instrument_names == ("constant", "c0", "c1")


def test_single_precision_files_are_computed_in_double(tmp_path):
    frame = sample_frame().with_columns(pl.col("c0", "c1", "ret").cast(pl.Float32))
    frame.write_parquet(tmp_path / "a.parquet")
    got = scan(tmp_path / "a.parquet", ["c0", "c1"])
    assert got == scan(frame.with_columns(pl.col("c0", "c1", "ret").cast(pl.Float64)), ["c0", "c1"])


def test_only_the_columns_named_are_read(tmp_path):
    frame = sample_frame().with_columns(other=pl.lit("text"))
    read = []

    class Watched(ThreadPoolExecutor):
        def submit(self, function, block, plan):
            read.append(plan.columns)
            return super().submit(function, block, plan)

    frame.write_parquet(tmp_path / "a.parquet")
    with Watched(1) as pool:
        scan(tmp_path / "a.parquet", ["c0"], executor=pool, entity_col=None)
    assert read == [("date", "ret", "c0")]


def test_progress_counts_rows_and_silence_is_the_default(tmp_path, capsys, blocks):
    frame = sample_frame()
    blocks(8, frame)
    scan(frame, ["c0"])
    assert capsys.readouterr() == ("", "")
    scan(frame, ["c0"], progress=True)
    shown = capsys.readouterr().err
    assert "moments: 100%" in shown
    assert "42.0/42.0" in shown
    assert "rows/s" in shown


ROWS = sample_frame()


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (ROWS.to_dict(), {}, TypeError, "source must be a polars frame"),
        ("nowhere/*.parquet", {}, FileNotFoundError, "names none"),
        ([], {}, FileNotFoundError, "at least one Parquet file"),
        (ROWS, {"feature_cols": "c0"}, TypeError, "feature_cols must be a sequence of names"),
        (ROWS, {"feature_cols": []}, ValueError, "feature_cols must be unique, at least one"),
        (ROWS, {"feature_cols": ["c0", "c0"]}, ValueError, "feature_cols must be unique"),
        (ROWS, {"feature_cols": ["ret"]}, ValueError, "feature_cols must be columns of their own"),
        (ROWS, {"feature_cols": ["c9"]}, KeyError, r"columns \['c9'\] not found in the frame"),
        (ROWS, {"feature_cols": ["symbol"]}, ValueError, "'symbol' must be numeric; got String"),
        (ROWS, {"return_col": "r"}, KeyError, r"columns \['r'\] not found"),
        (ROWS, {"timestamp_col": "t"}, ValueError, "timestamp column 't' was not found"),
        (ROWS.drop("date"), {}, ValueError, "Could not resolve a timestamp"),
        (ROWS, {"timestamp_col": "c1"}, ValueError, "must hold dates, integers or text"),
        (ROWS, {"rank": 1}, ValueError, "rank must be"),
        (ROWS, {"entity_col": "date"}, ValueError, "columns must have one role each"),
        (ROWS, {"return_col": "c0", "feature_cols": ["date"]}, ValueError, "one role each"),
        (ROWS, {"feature_cols": ["constant"]}, ValueError, "instrument_names must be unique"),
        (ROWS, {"executor": 2}, TypeError, r"executor must have submit\(function, \*arguments\)"),
        (ROWS[::-1], {"rank": True}, ValueError, "rank=True needs rows in order of 'date'"),
        (pl.concat([ROWS, ROWS[:3]]), {"entity_col": "symbol"}, ValueError, "Duplicate"),
        (
            ROWS.with_columns(pl.when(pl.col("c0") > 0).then("date").alias("date")),
            {},
            ValueError,
            r"'date' must name every row; got a missing one at row \d",
        ),
        (
            ROWS.with_columns(pl.lit("2001-01").cast(pl.Categorical).alias("date")),
            {},
            ValueError,
            "'date' must have an order in time; got categories without one",
        ),
    ],
)
def test_the_error_names_the_cause(source, options, error, message):
    arguments = {"feature_cols": ["c0"], "return_col": "ret"} | options
    with pytest.raises(error, match=message):
        CharacteristicMoments.scan(source, **arguments)


def test_a_file_may_not_count_twice(tmp_path):
    ROWS.write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="source must name every file once"):
        scan([tmp_path / "a.parquet", tmp_path / "*.parquet"], ["c0"])
    (tmp_path / "link.parquet").symlink_to(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="source must name every file once"):
        scan([tmp_path / "a.parquet", tmp_path / "link.parquet"], ["c0"])


def test_a_folder_that_is_named_like_a_file_is_a_folder(tmp_path):
    """Other engines write a data set into a folder `prices.parquet`."""
    folder = tmp_path / "prices.parquet"
    folder.mkdir()
    ROWS.write_parquet(folder / "part-0.parquet")
    for source in (tmp_path, folder, *(str(tmp_path / p) for p in ("*.parquet", "*", "**"))):
        assert_close(scan(source, ["c0"]), scan(ROWS, ["c0"]), 0.0)


@pytest.mark.parametrize("name", ["run[1]", "a[bc]", "ü ñ", "100%", "#1"])
def test_a_folder_may_have_any_name(tmp_path, name):
    """Brackets in the name of a folder that exists are no pattern; those of a file may be one."""
    folder = tmp_path / name
    folder.mkdir()
    for other in ("run1", "ab", "ac"):
        (tmp_path / other).mkdir()
        ROWS.with_columns(ret=pl.lit(9.0)).write_parquet(tmp_path / other / "1.parquet")
    ROWS.write_parquet(folder / "1.parquet")
    for source in ("1.parquet", "*.parquet", "[0-9].parquet", "**", "."):
        assert scan(str(folder / source), ["c0"]) == scan(ROWS, ["c0"])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    ROWS.write_parquet(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"cannot read .*b\.parquet"):
        scan(tmp_path, ["c0"])


def test_a_wide_file_is_read_some_columns_at_a_time(tmp_path, monkeypatch):
    frame, asked = sample_frame(), []
    wide = frame.with_columns(pl.col("c0").alias(f"x{i}") for i in range(60))
    names = [f"x{i}" for i in range(60)]
    wide.write_parquet(tmp_path / "a.parquet")
    collect = pl.LazyFrame.collect

    def counted(self, *arguments, **options):
        got = collect(self, *arguments, **options)
        asked.append(got.width)
        return got

    monkeypatch.setattr(pl.LazyFrame, "collect", counted)
    assert_close(scan(tmp_path, names), scan(wide, names), 0.0)
    assert max(asked) == 24  # so many row groups of a column are held, not sixty


def test_a_pool_that_forks_is_rejected_rather_than_waited_for():
    forks = multiprocessing.get_context("fork")
    with (
        ProcessPoolExecutor(1, mp_context=forks) as pool,
        pytest.raises(ValueError, match="executor must start its processes afresh"),
    ):
        scan(ROWS, ["c0"], executor=pool)


def test_an_asset_twice_at_a_date_is_rejected_across_blocks(blocks):
    blocks(8, ROWS)
    twice = pl.concat([ROWS[:14], ROWS[13:]])
    with pytest.raises(ValueError, match=r"Duplicate \(timestamp, entity\) rows: .*'s6'"):
        scan(twice, ["c0"])
    assert scan(twice, ["c0"], entity_col=None).n_assets.tolist() == [7, 8, 7, 7, 7, 7]


@pytest.mark.parametrize("kinds", [(pl.Categorical, pl.String), (pl.Int32, pl.Int64)])
def test_files_may_name_assets_in_different_types(tmp_path, kinds):
    number = pl.col("symbol").str.slice(1)
    frame = ROWS if pl.String in kinds else ROWS.with_columns(number.cast(pl.Int64))

    def written(*parts):
        for part, kind in zip(parts, kinds, strict=True):
            changed = part.with_columns(pl.col("symbol").cast(kind))
            changed.write_parquet(tmp_path / f"{kind}.parquet")
        return [tmp_path / f"{kind}.parquet" for kind in kinds]

    assert scan(written(frame[:10], frame[10:]), ["c0"]) == scan(frame, ["c0"])
    with pytest.raises(ValueError, match="Duplicate"):
        scan(written(frame[:10], frame[9:]), ["c0"])


def test_files_out_of_order_cannot_be_ranked(tmp_path):
    ROWS[:20].write_parquet(tmp_path / "b.parquet")
    ROWS[20:].write_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="needs rows in order of 'date', across files as well"):
        scan(tmp_path, ["c0"], rank=True)


def test_what_a_worker_raises_reaches_the_caller_and_stops_the_rest(blocks):
    blocks(4, ROWS)
    wrong = pl.concat([ROWS[:1], ROWS[:1], ROWS[1:]])
    with ThreadPoolExecutor(1) as pool, pytest.raises(ValueError, match="Duplicate"):
        scan(wrong, ["c0"], executor=pool)


def test_dates_that_only_folders_name_are_read(tmp_path):
    frame, names = sample_frame(), ["c0", "c1"]
    for (day,), rows in frame.partition_by("date", as_dict=True).items():
        folder = tmp_path / "data" / f"date={day}"
        folder.mkdir(parents=True)
        rows.drop("date").write_parquet(folder / "0.parquet")
    for source in (tmp_path / "data", str(tmp_path / "data" / "*" / "*.parquet")):
        got, want = scan(source, names), scan(frame, names)
        assert got.timestamps == want.timestamps
        assert_close(got, want, 0.0)


def test_a_column_of_the_file_wins_over_its_folders_name(tmp_path):
    frame, names = sample_frame(), ["c0", "c1"]
    folder = tmp_path / "date=1999-01-31"
    folder.mkdir()
    frame.write_parquet(folder / "0.parquet")
    assert scan(folder, names).timestamps == scan(frame, names).timestamps


def test_months_of_two_digits_follow_those_of_one(tmp_path):
    frame, names = sample_frame(n_dates=12), ["c0", "c1"]
    for number, (_, rows) in enumerate(frame.partition_by("date", as_dict=True).items(), 1):
        folder = tmp_path / f"month={number}"
        folder.mkdir()
        rows.write_parquet(folder / "0.parquet")
    assert_close(scan(tmp_path, names, rank=True), scan(frame, names, rank=True), 0.0)


def test_shards_can_be_summed():
    frame, names = sample_frame(), ["c0", "c1"]
    shards = [scan(frame[first : first + 9], names) for first in range(0, frame.height, 9)]
    assert_close(sum(shards), scan(frame, names), 1e-13)


# What is no data, or none yet

LONG = pl.DataFrame(
    {"date": np.repeat(np.arange(3), 5), "id": [*range(5)] * 3, "x": np.linspace(0, 1, 15)}
).with_columns(ret=pl.lit(0.01))


def scan_long(source, **options):
    return CharacteristicMoments.scan(
        source, feature_cols=["x"], return_col="ret", timestamp_col="date", **options
    )


@pytest.fixture
def lake(tmp_path):
    """A data set as Spark and Delta leave it, below a folder that is hidden itself."""
    root = tmp_path / ".cache" / "lake"
    for place in ("part-0", "_temporary/0/part-0", "_delta_log/0", ".staging/part-0", "_metadata"):
        path = root / f"{place}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        LONG.write_parquet(path)
    return root


@pytest.mark.parametrize("pattern", ["", "*.parquet", "**/*.parquet", "*", "part-*"])
def test_names_that_begin_with_an_underscore_or_a_dot_are_no_data(lake, pattern):
    assert scan_long(lake / pattern).n_assets.tolist() == [5, 5, 5]


@pytest.mark.parametrize(
    "spelled", ["_metadata.parquet", "_temporary", "_temporary/*/*.parquet", "_delta*/*.parquet"]
)
def test_a_hidden_name_that_is_spelled_out_is_data(lake, spelled):
    assert scan_long(lake / spelled).n_assets.tolist() == [5, 5, 5]


def test_partitions_below_hidden_folders_are_no_data(tmp_path):
    for place in ("date=0", "_temporary/date=0"):
        (tmp_path / place).mkdir(parents=True)
        LONG.filter(pl.col("date") == 0).drop("date").write_parquet(tmp_path / place / "a.parquet")
    assert scan_long(tmp_path).n_assets.tolist() == [5]


def test_a_folder_of_hidden_files_alone_leads_to_none(tmp_path):
    LONG.write_parquet(tmp_path / "_part.parquet")
    with pytest.raises(FileNotFoundError, match=r"names none \(1 hidden: names that begin with"):
        scan_long(tmp_path)


@pytest.mark.parametrize(
    "options", [{}, {"entity_col": "id"}, {"rank": True}, {"missing": "median"}]
)
@pytest.mark.parametrize("form", ["frame", "lazy", "file", "files", "lazy file"])
def test_a_source_without_rows_gives_no_dates(tmp_path, form, options):
    path, empty = tmp_path / "none.parquet", LONG.head(0)
    empty.write_parquet(path)
    empty.write_parquet(tmp_path / "none-either.parquet")
    source = {
        "frame": empty,
        "lazy": empty.lazy(),
        "file": path,
        "files": [path, tmp_path / "none-either.parquet"],
        "lazy file": pl.scan_parquet(path),
    }[form]
    moments = scan_long(source, **options)
    assert (moments.n_periods, moments.n_instruments, moments.timestamps) == (0, 2, ())


def test_a_file_without_rows_among_others_changes_nothing(tmp_path):
    LONG.write_parquet(tmp_path / "1.parquet")
    for name in ("0.parquet", "2.parquet"):
        LONG.head(0).write_parquet(tmp_path / name)
    assert scan_long(tmp_path) == scan_long(LONG)


def test_entities_that_are_whole_floats_are_integers(tmp_path):
    floats = LONG.with_columns(pl.col("id").cast(pl.Float64))
    assert scan_long(floats, entity_col="id") == scan_long(LONG, entity_col="id")
    floats.filter(pl.col("date") == 0).write_parquet(tmp_path / "0.parquet")
    LONG.filter(pl.col("date") == 0).write_parquet(tmp_path / "1.parquet")
    with pytest.raises(ValueError, match=r"^Duplicate \(timestamp, entity\) rows: \(0, "):
        scan_long(tmp_path, entity_col="id")


@pytest.mark.parametrize(
    "bad",
    [pl.col("id") + 0.5, pl.col("id") / 0, pl.col("id") > 3, pl.lit(DAY), 2.0**53],
    ids=str,
)
def test_entities_that_are_neither_text_nor_integers_are_rejected(bad):
    frame = LONG.with_columns(id=bad if isinstance(bad, pl.Expr) else pl.lit(bad))
    with pytest.raises(ValueError, match=r"^column 'id' must hold text or integers; got "):
        scan_long(frame, entity_col="id")


@pytest.mark.parametrize("column", ["x", "ret"])
@pytest.mark.parametrize("bad", ["1.5%", DAY, timedelta(1), [1.0]], ids=repr)
@pytest.mark.parametrize("form", ["frame", "lazy", "file"])
def test_a_column_of_another_type_than_numbers_is_rejected_by_name(tmp_path, column, bad, form):
    frame = LONG.with_columns(pl.lit(bad).alias(column))
    frame.write_parquet(tmp_path / "a.parquet")
    source = {"frame": frame, "lazy": frame.lazy(), "file": tmp_path}[form]
    with pytest.raises(ValueError, match=rf"^column '{column}' must be numeric; got "):
        scan_long(source)


@pytest.mark.parametrize("dtype", [pl.Boolean, pl.Decimal(10, 2), pl.Int64, pl.UInt64])
def test_numbers_of_every_type_are_numbers(dtype):
    whole = LONG.with_columns(x=(pl.col("id") % 2).cast(pl.Float64))
    assert scan_long(whole.with_columns(pl.col("x").cast(pl.Int64).cast(dtype))) == scan_long(whole)
