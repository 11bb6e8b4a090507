"""RP-PCA of Kenneth French's portfolios against published numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from literature.make_rppca_french import excess_returns, max_sharpe_ratio
from ml4t.models.kernels import pca, rp_pca

KNOWN = json.loads((Path(__file__).parent / "rppca_french.json").read_text())
# The fixture is rounded to four decimals.
ROUNDED = 5.1e-5


@pytest.fixture(scope="module")
def panel():
    return excess_returns()


def test_the_sample_is_the_published_one(panel):
    assert panel.shape == (KNOWN["n_dates"], 30)


@pytest.mark.parametrize("gamma", ["-1", "20"])
def test_eigenvalues(panel, gamma):
    found = rp_pca(panel, 5, gamma=float(gamma)).eigenvalues
    np.testing.assert_allclose(found, KNOWN["eigenvalues"][gamma], rtol=0, atol=ROUNDED)


@pytest.mark.parametrize("n_factors", ["4", "5"])
@pytest.mark.parametrize("gamma", ["-1", "20"])
def test_sharpe_ratio_of_the_factors(panel, n_factors, gamma):
    factors = rp_pca(panel, int(n_factors), gamma=float(gamma)).factors
    known = KNOWN["max_sharpe_ratio"][n_factors][gamma]
    assert max_sharpe_ratio(factors) == pytest.approx(known, abs=ROUNDED)


def test_gamma_of_minus_one_is_pca(panel):
    risk_premium, plain = rp_pca(panel, 5, gamma=-1.0), pca(panel, 5)
    np.testing.assert_allclose(risk_premium.loadings, plain.loadings, atol=1e-11)
    np.testing.assert_allclose(risk_premium.factors, plain.factors, atol=1e-9)


@pytest.mark.parametrize("gamma", ["-1", "20"])
def test_out_of_sample(panel, gamma):
    # Loadings and tangency weights from the past 240 months only.
    earned, errors = [], []
    for end in range(240, len(panel)):
        fit = rp_pca(panel[end - 240 : end], 4, gamma=float(gamma))
        covariance = np.cov(fit.factors.T, ddof=0)
        realised = panel[end] @ fit.factor_weights
        earned.append(realised @ np.linalg.solve(covariance, fit.factors.mean(axis=0)))
        errors.append(panel[end] - fit.asset_betas @ realised)
    known = KNOWN["out_of_sample"]
    ratio = np.mean(earned) / np.std(earned)
    assert ratio == pytest.approx(known["sharpe_ratio"][gamma], abs=5.1e-4)
    rms_alpha = np.sqrt(np.mean(np.mean(errors, axis=0) ** 2))
    assert rms_alpha == pytest.approx(known["rms_alpha"][gamma], abs=5.1e-4)


@pytest.mark.real_data
def test_every_number_of_the_large_fixture(panel, real_data):
    fixture = json.loads((real_data / "fixture_rppca_french.json").read_text())
    cases = {key: case for key, case in fixture.items() if re.fullmatch(r"K\d+_g-?\d+", key)}
    assert cases
    for key, case in cases.items():
        n_factors, gamma = (int(part[1:]) for part in key.split("_"))
        fit = rp_pca(panel, n_factors, gamma=float(gamma))
        np.testing.assert_allclose(fit.eigenvalues, case["eig"][:n_factors], rtol=1e-9)
        assert max_sharpe_ratio(fit.factors) == pytest.approx(case["max_sr"], rel=1e-8), key
        rms_alpha = np.sqrt(np.mean(fit.alphas**2))
        assert rms_alpha == pytest.approx(case["rms_alpha"], rel=1e-8), key
        idiosyncratic = np.mean(fit.residual_variances / fit.variances)
        assert idiosyncratic == pytest.approx(case["idio"], rel=1e-8), key
