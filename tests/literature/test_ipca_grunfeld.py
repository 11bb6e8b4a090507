"""IPCA on Grunfeld's investment data: 11 firms, 20 years, invest ~ value, capital, no constant.

The data come with statsmodels. The values are a fit of the published formulas in double precision
to a tolerance of 1e-9, equal to those of PyPI `ipca` to eight digits; the mean factors and the
coefficients of determination inherit that tolerance.
"""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.datasets import grunfeld

from ml4t.models import CrossSectionBatch, IPCAConfig, IPCAModel
from ml4t.models.kernels import ipca, ipca_fit_measures, row_moments

N_FIRMS, N_YEARS = 11, 20
KNOWN = {
    "one factor": {
        "n_factors": 1,
        "alpha": False,
        "gamma": [[0.9916602040631755], [0.1288799428824404]],
        "first_factor": [0.10319681759241736],
        "mean_factor": [0.13245509155316054],
        "fit": [0.9001451073495628, 0.8234028999209249, 0.9999385106069529, 0.903849438524482],
    },
    "one factor with alpha": {
        "n_factors": 1,
        "alpha": True,
        "gamma": [
            [0.9990173623890074, 0.0012347394214143072],
            [-0.04432053299894518, 0.027831933339980543],
        ],
        "first_factor": [0.10099120962139226],
        "mean_factor": [0.13012090542470373],
        "fit": [0.9001779273378449, 0.8256477954657998, 0.9999292629389203, 0.9070176668191542],
    },
    "two factors": {
        "n_factors": 2,
        "alpha": False,
        "gamma": [
            [0.9690275339455419, -0.24695270489594098],
            [0.24695270489594096, 0.969027533945542],
        ],
        "first_factor": [0.09948130682706462, -0.025283011626055407],
        "mean_factor": [0.13720930864545283, 0.007005191478644826],
        "fit": [0.9039456901862238, 0.8331137600658105, 1.0, 0.9183053375222948],
    },
}


@pytest.fixture(scope="module")
def moments():
    data = grunfeld.load_pandas().data.sort_values(["year", "firm"])
    z = data[["value", "capital"]].to_numpy(dtype=float)
    offsets = np.arange(0, N_FIRMS * N_YEARS + 1, N_FIRMS)
    return row_moments(z, data["invest"].to_numpy(dtype=float), offsets, constant=False)


@pytest.mark.parametrize("name", KNOWN)
def test_reproduces_the_known_fit(moments, name):
    known = KNOWN[name]
    alpha = np.ones((N_YEARS, int(known["alpha"])))
    found = ipca(moments, known["n_factors"], observed=alpha, factor_ridge=0.0, gamma_ridge=0.0)
    gamma = np.hstack([found.gamma, found.gamma_observed])
    fit = ipca_fit_measures(moments, gamma, np.hstack([found.factors, alpha]))
    assert found.converged
    np.testing.assert_allclose(gamma, known["gamma"], atol=1e-8)
    np.testing.assert_allclose(found.factors[0], known["first_factor"], atol=1e-8)
    np.testing.assert_allclose(found.factors.mean(axis=0), known["mean_factor"], atol=1e-8)
    measures = [fit.total, fit.predictive, fit.managed_total, fit.managed_predictive]
    np.testing.assert_allclose(measures, known["fit"], atol=1e-8)


@pytest.mark.parametrize("name", KNOWN)
def test_the_default_ridges_do_not_show(moments, name):
    known = KNOWN[name]
    alpha = np.ones((N_YEARS, int(known["alpha"])))
    found = ipca(moments, known["n_factors"], observed=alpha)
    gamma = np.hstack([found.gamma, found.gamma_observed])
    # Two pseudo-assets in a million against eleven firms, where alpha is weakly identified.
    np.testing.assert_allclose(gamma, known["gamma"], atol=1e-5)


@pytest.mark.parametrize("name", KNOWN)
def test_the_model_reports_the_known_fit(name):
    known, data = KNOWN[name], grunfeld.load_pandas().data.sort_values(["year", "firm"])
    z = data[["value", "capital"]].to_numpy(dtype=float).reshape(N_YEARS, N_FIRMS, 2)
    returns = data["invest"].to_numpy(dtype=float).reshape(N_YEARS, N_FIRMS)
    batch = CrossSectionBatch(z, returns=returns)
    settings = {"factor_ridge": 0.0, "gamma_ridge": 0.0, "constant": False}
    model = IPCAModel(
        IPCAConfig(n_factors=known["n_factors"], intercept=known["alpha"], **settings)
    )
    assert model.fit(batch).converged
    loadings = [model.gamma] if model.alpha is None else [model.gamma, model.alpha[:, None]]
    np.testing.assert_allclose(np.hstack(loadings), known["gamma"], atol=1e-6)
    fit = model.fit_measures(batch)
    levels = (fit.assets, fit.managed_portfolios)
    got = [r2.against_zero for level in levels for r2 in (level.total, level.predictive)]
    np.testing.assert_allclose(got, known["fit"], atol=1e-6)


def test_as_many_factors_as_characteristics_leave_no_room_for_an_alpha(moments):
    known = KNOWN["two factors"]
    ones = np.ones((N_YEARS, 1))
    found = ipca(moments, 2, observed=ones, factor_ridge=0.0, gamma_ridge=0.0)
    fit = ipca_fit_measures(moments, found.gamma, found.factors)
    assert found.converged
    np.testing.assert_allclose(found.gamma_observed, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.gamma, known["gamma"], atol=1e-8)
    np.testing.assert_allclose(found.factors[0], known["first_factor"], atol=1e-8)
    measures = [fit.total, fit.predictive, fit.managed_total, fit.managed_predictive]
    np.testing.assert_allclose(measures, known["fit"], atol=1e-8)
