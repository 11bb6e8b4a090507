"""Every example runs, and shows what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from linearmodels.datasets import french

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


@pytest.mark.slow
def test_the_autoencoder_beats_ipca_where_betas_are_nonlinear(tmp_path):
    # Gu, Kelly and Xiu (2021), section 4. Linear betas: IPCA is within .02 of the truth. Nonlinear
    # ones: the autoencoder reaches .28 and 2.3 times IPCA (published .318 against .119).
    page = tmp_path / "figure.html"
    shown = run("conditional_autoencoder.py", "--html", str(page))
    got = {
        name: [float(value) for value in values]
        for name, *values in (line.split() for line in shown.splitlines()[1:])
    }
    truth, ipca, _ = got["linear"]
    assert abs(ipca - truth) <= 0.02
    _, ipca, cae = got["nonlinear"]
    assert cae >= 0.28
    assert cae >= 2.3 * ipca
    assert "Plotly.newPlot" in page.read_text(encoding="utf-8")


def test_the_shortest_pipeline_ranks_by_premia():
    shown = dict(line.split(": ") for line in run("latent_factor_pipeline.py").splitlines())
    assert shown["forecast shape"] == "(2, 6)"
    # Betas times means of factors are means, up to the noise that two factors leave.
    assert shown["largest expected return"] == shown["largest mean so far"]


def test_the_hand_off_writes_what_it_shows(tmp_path):
    shown = run("integration_handoff.py", "--output", str(tmp_path / "out"))
    frame = pl.read_parquet(tmp_path / "out" / "predictions.parquet")
    assert frame.height == 4
    assert str(frame) in shown
    assert (tmp_path / "out" / "manifest.json").exists()


def test_the_policies_keep_the_steps_they_were_asked_to():
    shown = run("portfolio_neural.py")
    for name in ("LSTMPortfolioModel", "DeepPortfolioModel"):
        assert f"{name} checkpoints: (2, 4)" in shown
    assert shown.count("moved since step 2: True") == 2


def test_one_pipeline_serves_every_latent_factor_model():
    # Betas are a visible characteristic: each forecast must line up with realised means.
    shown = run("latent_factor_variants.py")
    got = dict(re.findall(r"^(\S+) +correlation with realised means (\S+)$", shown, re.MULTILINE))
    assert got.keys() == {"RP-PCA", "IPCA", "CAE"}
    assert all(float(value) > 0.8 for value in got.values()), got


def test_the_discount_factor_example_earns_out_of_sample():
    shown = run("stochastic_discount_factor.py")
    assert "chosen by validation loss: ('conditional', 0)" in shown
    ratio = re.search(r"Sharpe ratio out of sample (\S+)", shown)
    assert ratio is not None
    assert float(ratio[1]) > 0.3


def test_the_direct_prediction_example_finds_the_interaction():
    shown = run("direct_asset_prediction.py")
    right = re.search(r"signs predicted out of sample: (\d+)%", shown)
    assert right is not None
    assert int(right[1]) > 65


@pytest.mark.slow
def test_the_portfolio_example_nets_costs_of_every_strategy(tmp_path):
    shown = run("portfolio_learning.py", "--output", str(tmp_path))
    rows = re.findall(r"^([a-zA-Z ]+?) +(-?\d\.\d+) +(\d\.\d+) +(\d\.\d+)$", shown, re.MULTILINE)
    got = {name: tuple(float(value) for value in values) for name, *values in rows}
    assert got.keys() == {"linear", "LSTM", "deep", "equal weight", "inverse volatility"}
    for name in ("linear", "LSTM", "deep"):
        sharpe, turnover, gross = got[name]
        assert 0.3 < sharpe < 1.2  # the market's is 0.5 in these fifteen years
        assert turnover <= 0.5
        assert 0.95 < gross <= 1.0  # two months of a window fill the book
    panel = french.load().dropna().drop(columns=["dates", "MktRF", "SMB", "HML", "Mom", "RF"])
    net = panel.iloc[-180:, :25].to_numpy(dtype=float).mean(axis=1)
    net[::60] -= 0.002  # every window buys its book
    sharpe, turnover, gross = got["equal weight"]
    assert sharpe == pytest.approx(np.sqrt(12) * net.mean() / net.std(), abs=0.005)
    assert (turnover, gross) == (round(3 / 180, 3), 1.0)
    page = (tmp_path / "portfolio_learning.html").read_text(encoding="utf-8")
    assert "Plotly.newPlot" in page
    assert all(f'"name":"{name}"' in page for name in got)
