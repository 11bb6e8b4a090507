"""Every example runs, and shows what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_main_job_shows_the_known_result(tmp_path):
    # Monthly Sharpe ratios, 240 months rolling, four factors: .143 (PCA) and .285 (RP-PCA), as a
    # plain NumPy computation of Lettau and Pelger's design gives on the same data.
    shown = run("french_portfolios.py", "--output", str(tmp_path), "--factors", "4", "--quiet")
    assert re.search(r"^ +4 +0\.143 +0\.285 +2\.0x$", shown, re.MULTILINE), shown
    for model, months in (("pca", 579), ("rp-pca", 579), ("ipca", 519)):
        frame = pl.read_parquet(tmp_path / model / "predictions.parquet")
        assert frame.height == 30 * months
        assert frame.schema["month"] == pl.Date
        assert frame["portfolio"].n_unique() == 30
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert report.count("Plotly.newPlot") == 4
    assert "src=" not in report.split("<body>")[0]  # nothing is fetched
