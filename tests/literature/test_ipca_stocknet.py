"""IPCA on 234 weeks of 84 to 88 US stocks with 15 ranked characteristics.

The panel and the known values lie in the folder that ML4T_TEST_DATA names; the values were computed
in double precision from the formulas of Kelly, Pruitt and Su. In early weeks one characteristic is
fully tied, so that its rank is constant and the second moment singular.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml4t.models import CharacteristicMoments, IPCAConfig, IPCAModel
from ml4t.models.kernels import ipca, ipca_fit_measures, row_moments

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("ML4T_TEST_DATA" not in os.environ, reason="ML4T_TEST_DATA is not set"),
]
CASES = [(k, alpha) for k in (1, 2, 3, 4) for alpha in (False, True)]


def folder() -> Path:
    return Path(os.environ["ML4T_TEST_DATA"])


@pytest.fixture(scope="module")
def known():
    return json.loads((folder() / "fixture_stocknet_ipca.json").read_text())


@pytest.fixture(scope="module")
def moments(known):
    names = [name for name in known["chars"] if name != "const"]
    frame = pl.read_parquet(folder() / "stocknet88_weekly_chars.parquet").sort("week")
    frame = frame.with_columns(pl.col(names).fill_nan(None))
    ranks = [(pl.col(c).rank("average").over("week") - 1) for c in names]
    spans = [(pl.col(c).count().over("week") - 1) for c in names]
    z = frame.select(
        (rank / span - 0.5).fill_null(0.0).alias(c)
        for c, rank, span in zip(names, ranks, spans, strict=True)
    )
    counts = frame.group_by("week", maintain_order=True).len()["len"].to_numpy()
    offsets = np.concatenate([[0], np.cumsum(counts.astype(np.int64))]).astype(np.int64)
    return row_moments(z.to_numpy(), frame["ret_next"].to_numpy(), offsets, constant=True)


@pytest.mark.parametrize(("n_factors", "alpha"), CASES)
def test_reproduces_the_known_fit(moments, known, n_factors, alpha):
    want = known[f"K{n_factors}_alpha{int(alpha)}"]
    ones = np.ones((len(moments.n_assets), int(alpha)))
    found = ipca(moments, n_factors, observed=ones, factor_ridge=0.0, gamma_ridge=0.0)
    gamma = np.hstack([found.gamma, found.gamma_observed])
    fit = ipca_fit_measures(moments, gamma, np.hstack([found.factors, ones]))
    assert found.converged
    assert found.certificate.monotone
    constant_first = np.roll(np.array(want["Gamma"]), 1, axis=0)
    np.testing.assert_allclose(gamma, constant_first, atol=2e-8)
    np.testing.assert_allclose(found.factors.mean(axis=0), want["F_mean"], atol=1e-8)
    strengths = (found.factors**2).sum(axis=0)
    np.testing.assert_allclose(strengths, want["FF_diag"], rtol=1e-7)
    for measure, name in [
        (fit.total, "R2_total"),
        (fit.predictive, "R2_pred"),
        (fit.managed_total, "R2x_total"),
        (fit.managed_predictive, "R2x_pred"),
    ]:
        np.testing.assert_allclose(measure, want[name], atol=1e-8)


@pytest.mark.parametrize(("n_factors", "alpha"), CASES)
def test_the_model_reports_the_known_fit(moments, known, n_factors, alpha):
    want = known[f"K{n_factors}_alpha{int(alpha)}"]
    panel = CharacteristicMoments(
        packed_gram=moments.gram,
        cross=moments.cross,
        return_squares=moments.return_squares,
        n_assets=moments.n_assets,
    )
    config = IPCAConfig(n_factors=n_factors, intercept=alpha, factor_ridge=0.0, gamma_ridge=0.0)
    model = IPCAModel(config)
    assert model.fit(panel).converged
    loadings = [model.gamma] if model.alpha is None else [model.gamma, model.alpha[:, None]]
    np.testing.assert_allclose(
        np.hstack(loadings), np.roll(np.array(want["Gamma"]), 1, axis=0), atol=1e-6
    )
    fit = model.fit_measures(panel)
    levels = (fit.assets, fit.managed_portfolios)
    got = [r2.against_zero for level in levels for r2 in (level.total, level.predictive)]
    names = ("R2_total", "R2_pred", "R2x_total", "R2x_pred")
    np.testing.assert_allclose(got, [want[name] for name in names], atol=1e-6)
