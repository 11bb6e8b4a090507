"""Tests of loadings and their standard errors: laws, oracles, and what must be found."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from ml4t.models import (
    BootstrapTest,
    CharacteristicMoments,
    CrossSectionBatch,
    IPCAConfig,
    IPCAModel,
    kernels,
)
from ml4t.models.latent_factors.ipca.inference import verdict
from oracles import ipca_inference as oracle

T, N, L, K = 80, 60, 4, 2
NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}


def panel(seed=0, *, alpha=0.0, observed=0.0, silent=(), noise=0.05, shape=(T, N, L), k=K):
    """K factors, an alpha, an observed factor g, and characteristics without loadings."""
    n_dates, _, n_chars = shape
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, shape)
    loud = [row for row in range(n_chars + 1) if row not in silent]
    gamma = np.zeros((n_chars + 1, k))
    gamma[loud] = np.linalg.qr(rng.standard_normal((len(loud), k)))[0]
    f = rng.standard_normal((n_dates, k)) * np.linspace(0.05, 0.03, k) + 0.01
    g = 0.03 * rng.standard_normal((n_dates, 1))
    own, level = rng.standard_normal((2, n_chars + 1))
    b = f @ gamma.T + observed * g @ own[None] + alpha * level
    r = np.einsum("tnl,tl->tn", z, b[:, 1:]) + b[:, :1]
    return CrossSectionBatch(z, returns=r + noise * rng.standard_normal(r.shape)), g


def fitted(batch, g=None, **settings):
    model = IPCAModel(IPCAConfig(n_factors=K, **settings))
    assert model.fit(batch, observed_factors=g).converged
    return model


def managed(batch):
    """Managed portfolios, second moments and counts, as the oracle takes them."""
    moments = kernels.panel_moments(batch.characteristics, batch.returns, batch.mask)
    n = moments.n_assets.astype(float)
    return moments.cross / n[:, None], moments.full_gram / n[:, None, None], n


@pytest.fixture(scope="module")
def ragged():
    """A panel with an observed factor and holes, small enough for the oracles."""
    batch, g = panel(3, observed=1.0, alpha=0.002, shape=(25, 30, 2), noise=0.02)
    mask = np.random.default_rng(1).random((25, 30)) < 0.8
    return replace(batch, mask=mask), g


@pytest.mark.parametrize("weighting", ["panel", "portfolio"])
@pytest.mark.parametrize("what", ["alpha", "row", "rows", "observed"])
def test_draws_agree_with_the_paper_draw_by_draw(ragged, what, weighting):
    batch, g = ragged
    model = IPCAModel(IPCAConfig(n_factors=1, intercept=True, weighting=weighting, **NO_RIDGE))
    model.fit(batch, observed_factors=g)
    gamma = np.column_stack([model.gamma, model.gamma_observed, model.alpha])
    weights = np.zeros_like(gamma)
    cells = {
        "alpha": np.s_[:, 2],
        "row": np.s_[1, :1],
        "rows": np.s_[1:, :1],
        "observed": np.s_[:, 1],
    }
    weights[cells[what]] = 1.0
    if what == "alpha":
        got = model.test_alpha(n_draws=6, seed=5)
    elif what == "observed":
        got = model.test_observed_factors(n_draws=6, seed=5)
    else:
        names = "characteristic_0" if what == "row" else [1, "characteristic_1"]
        got = model.test_characteristics(names, n_draws=6, seed=5)
    noise = kernels.ipca_bootstrap_noise(len(g), draws=range(6), seed=5)
    x, w, n = managed(batch)
    ones = np.ones((len(g), 1))
    n = n if weighting == "panel" else np.ones_like(n)
    want = oracle.bootstrap(x, w, n, np.hstack([g, ones]), gamma, weights, 1, *noise)
    np.testing.assert_allclose(got.draws, want, rtol=1e-5)
    assert got.statistic == pytest.approx((weights * gamma**2).sum())
    assert got.p_value == (want > got.statistic).mean()
    assert got.n_failed == 0


def test_contributions_of_dates_agree_with_reweighting_them(ragged):
    batch, g = ragged
    model = IPCAModel(IPCAConfig(n_factors=1, intercept=True, tol=1e-10, **NO_RIDGE))
    model.fit(batch, observed_factors=g)
    gamma = np.column_stack([model.gamma, model.gamma_observed, model.alpha])
    both = np.hstack([g, np.ones_like(g)])
    moments = kernels.panel_moments(batch.characteristics, batch.returns, batch.mask)
    got = kernels.ipca_influence(moments, gamma, observed=both, **NO_RIDGE)
    want = oracle.influence(*managed(batch), both, gamma, 1)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    errors = model.standard_errors()
    every = np.column_stack([errors.gamma, errors.gamma_observed, errors.alpha])
    np.testing.assert_allclose(every, np.sqrt((want**2).sum(axis=0)), rtol=1e-4)
    np.testing.assert_allclose(np.diag(errors.covariance), every.T.ravel() ** 2, rtol=1e-12)


def test_contributions_of_dates_agree_with_reweighting_them_for_two_factors():
    batch, _ = panel(4, shape=(25, 30, 3), noise=0.02)
    model = fitted(batch, tol=1e-10, **NO_RIDGE)
    moments = kernels.panel_moments(batch.characteristics, batch.returns)
    got = kernels.ipca_influence(moments, model.gamma, **NO_RIDGE)
    want = oracle.influence(*managed(batch), np.zeros((25, 0)), model.gamma, K)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    np.testing.assert_allclose(got.sum(axis=0), 0.0, atol=1e-7 * np.abs(got).sum())


def test_a_planted_alpha_is_found_and_none_is_not():
    with_alpha, without = panel(1, alpha=0.02)[0], panel(1)[0]
    assert fitted(with_alpha, intercept=True).test_alpha(n_draws=200).p_value < 0.01
    assert fitted(without, intercept=True).test_alpha(n_draws=200).p_value > 0.05


def test_a_noise_characteristic_is_insignificant_and_the_others_are_not():
    batch, _ = panel(2, silent=(2,), noise=0.01)
    tests = fitted(batch).test_characteristics(n_draws=200)
    assert list(tests) == [f"characteristic_{i}" for i in range(L)]
    assert tests["characteristic_1"].p_value > 0.05
    assert all(t.p_value < 0.01 for name, t in tests.items() if name != "characteristic_1")


def test_a_planted_observed_factor_is_found_and_noise_is_not():
    batch, g = panel(3, observed=1.0)
    noise = np.random.default_rng(9).standard_normal((T, 1))
    model = fitted(batch, np.hstack([g, noise]))
    assert model.test_observed_factors(0, n_draws=200).p_value < 0.01
    assert model.test_observed_factors(1, n_draws=200).p_value > 0.05
    assert model.test_observed_factors(n_draws=200).p_value < 0.01


def test_the_unit_of_an_observed_factor_does_not_matter():
    batch, g = panel(3, observed=0.05)
    noise = np.random.default_rng(9).standard_normal((T, 1))
    got = fitted(batch, np.hstack([g, noise])).test_observed_factors(n_draws=50)
    other = fitted(batch, np.hstack([1e4 * g, noise])).test_observed_factors(n_draws=50)
    assert other.p_value == got.p_value


def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads():
    model = fitted(panel(1)[0], intercept=True)
    before = kernels.get_num_threads()
    try:
        result = []
        for n_threads in (1, 2, 5):
            kernels.set_num_threads(n_threads)
            result.append(model.test_alpha(n_draws=130, seed=3).draws.tobytes())
    finally:
        kernels.set_num_threads(before)
    assert len(set(result)) == 1
    assert model.test_alpha(n_draws=130, seed=4).draws.tobytes() != result[0]


def test_more_draws_begin_with_the_same_ones():
    model = fitted(panel(1)[0], intercept=True)
    few, many = model.test_alpha(n_draws=30), model.test_alpha(n_draws=250)
    np.testing.assert_array_equal(many.draws[:30], few.draws)


def test_a_characteristic_is_tested_alone_as_it_is_among_all():
    model = fitted(panel(2)[0])
    alone = model.test_characteristics("characteristic_2", n_draws=20)
    assert model.test_characteristics(n_draws=20)["characteristic_2"] == alone
    assert model.test_characteristics([3], n_draws=20) == alone


def test_the_variance_of_the_multipliers_scales_the_draws():
    x = [kernels.ipca_bootstrap_noise(500, seed=1, t_variance=v)[0] for v in (1.0, 5 / 3)]
    np.testing.assert_allclose(x[1], np.sqrt(5 / 3) * x[0], rtol=1e-12)


def test_multipliers_are_student_t_with_five_degrees_of_freedom():
    multipliers, donors = kernels.ipca_bootstrap_noise(
        200, draws=range(100), seed=2, t_variance=5 / 3
    )
    assert stats.kstest(multipliers.ravel(), stats.t(5).cdf).pvalue > 0.01
    counts = np.bincount(donors.ravel().astype(int), minlength=200)
    assert stats.chisquare(counts).pvalue > 0.01


def test_a_failed_draw_counts_against_significance_and_is_reported():
    got = verdict(1.0, np.array([np.nan, 0.5, 2.0, 0.1]), "none")
    assert (got.p_value, got.n_failed) == (0.5, 1)
    model = fitted(panel(1)[0], intercept=True)
    model.set_params(config__max_iter=1)
    assert not model.fit(panel(1)[0]).converged
    starved = model.test_alpha(n_draws=10)
    assert (starved.p_value, starved.n_failed) == (1.0, 10)
    assert np.isnan(starved.draws).all()


def test_moments_of_the_same_rows_give_the_same_test():
    batch, _ = panel(1)
    names = ["size", "value", "momentum", "quality"]
    moments = CharacteristicMoments.from_batch(replace(batch, feature_names=tuple(names)))
    by_moments, by_batch = fitted(moments), fitted(batch)
    assert by_moments.instrument_names == ("constant", *names)
    got = by_moments.test_characteristics("momentum", n_draws=20)
    want = by_batch.test_characteristics(3, n_draws=20)
    np.testing.assert_array_equal(got.draws, want.draws)


def test_what_was_not_fitted_here_needs_the_panel_again(tmp_path):
    batch, g = panel(3, observed=1.0)
    model = fitted(batch, g, intercept=True)
    want = model.test_alpha(n_draws=20)
    loaded = IPCAModel.load(model.save(tmp_path / "model.ml4t"))
    for other in (loaded, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        with pytest.raises(ValueError, match="batch must be given"):
            other.test_alpha()
        assert other.test_alpha(n_draws=20, batch=batch, observed_factors=g) == want
    with pytest.raises(
        ValueError, match=r"observed_factors must have the fitted number of .* 1; got 0"
    ):
        loaded.test_alpha(batch=batch)
    with pytest.raises(ValueError, match="batch must be the panel that the model was fitted on"):
        loaded.test_alpha(batch=panel(4)[0], observed_factors=g)
    # The same instruments: only what is left over tells these from the panel of the fit.
    others = (replace(batch, returns=batch.returns * 1.01), g), (batch, g[::-1]), (batch, 2.0 * g)
    for other, factors in others:
        with pytest.raises(ValueError, match="batch and observed_factors must be those"):
            loaded.test_alpha(batch=other, observed_factors=factors)
        with pytest.raises(ValueError, match="batch and observed_factors must be those"):
            loaded.standard_errors(batch=other, observed_factors=factors)
    with pytest.raises(TypeError, match="batch must be a CrossSectionBatch or"):
        loaded.test_alpha(batch=g)


def test_inference_rejects_arguments_by_name():
    batch, g = panel(3)
    model = IPCAModel(IPCAConfig(n_factors=K))
    with pytest.raises(RuntimeError, match="must be fitted before"):
        model.test_characteristics()
    model = fitted(batch, g)
    with pytest.raises(ValueError, match="test_alpha needs a model with intercept=True"):
        model.test_alpha()
    with pytest.raises(ValueError, match=r"names must be among constant, .*; got 'size'"):
        model.test_characteristics("size")
    with pytest.raises(ValueError, match=r"names must be among .*; got 5"):
        model.test_characteristics([0, 5])
    for name in (1.5, True, -1):
        with pytest.raises(ValueError, match=r"names must be an integer >= 0; got"):
            model.test_characteristics(name)
    with pytest.raises(TypeError, match="progress must be True or False"):
        model.test_observed_factors(progress="yes")
    with pytest.raises(ValueError, match=r"n_draws must be an integer >= 1 and < 2\*\*63; got"):
        model.test_observed_factors(n_draws=2**63)
    with pytest.raises(ValueError, match="names must not be empty"):
        model.test_characteristics([])
    with pytest.raises(
        ValueError, match=r"indices must name some of 1 observed factors; got \[1\]"
    ):
        model.test_observed_factors(1)
    with pytest.raises(ValueError, match="n_draws must be an integer >= 1; got 0"):
        model.test_observed_factors(n_draws=0)
    with pytest.raises(ValueError, match=r"n_draws must be at most .*; got 1000000000000"):
        model.test_observed_factors(n_draws=10**13)
    with pytest.raises(ValueError, match="t_variance must be a finite number > 0"):
        model.test_observed_factors(t_variance=0.0)
    with pytest.raises(ValueError, match="seed must be an integer >= 0"):
        model.test_observed_factors(seed=-1)
    moments = kernels.panel_moments(batch.characteristics, batch.returns)
    gamma = np.eye(L + 1)[:, :1]
    for weights in (-np.ones_like(gamma), np.full_like(gamma, np.nan)):
        with pytest.raises(ValueError, match="weights must be at least 0 and finite"):
            kernels.ipca_bootstrap(moments, gamma, weights)
    with pytest.raises(ValueError, match=r"weights must have shape \[5, 1\]; got \[5, 2\]"):
        kernels.ipca_bootstrap(moments, gamma, np.ones((5, 2)))
    with pytest.raises(ValueError, match="draws must be a range in steps of one"):
        kernels.ipca_bootstrap(moments, gamma, gamma, draws=range(0, 10, 2))


def test_progress_moves_by_draws(capsys):
    pytest.importorskip("tqdm")
    model = fitted(panel(1)[0], intercept=True)
    shown = model.test_alpha(n_draws=250, progress=True)
    assert "250" in capsys.readouterr().err
    assert shown == model.test_alpha(n_draws=250)
    assert isinstance(shown, BootstrapTest)


def test_standard_errors_cover_the_truth():
    """95 % intervals hold the planted loadings in 95 % of panels, up to three standard errors."""
    n_panels, hits = 150, []
    for seed in range(n_panels):
        batch, g = panel(seed, shape=(120, 60, 3), noise=0.1, k=1, observed=0.5, alpha=0.002)
        model = IPCAModel(IPCAConfig(n_factors=1, intercept=True))
        model.fit(batch, observed_factors=g)
        rng = np.random.default_rng(seed)
        rng.uniform(-0.5, 0.5, (120, 60, 3))
        truth = np.linalg.qr(rng.standard_normal((4, 1)))[0]
        rng.standard_normal((120, 1))
        rng.standard_normal((120, 1))
        own, level = rng.standard_normal((2, 4))
        truth *= np.sign((truth * model.gamma).sum())
        outside = np.eye(4) - truth @ truth.T
        errors = model.standard_errors()
        gaps = [
            (model.gamma - truth)[:, 0] / errors.gamma[:, 0],
            (model.gamma_observed[:, 0] - outside @ (0.5 * own)) / errors.gamma_observed[:, 0],
            (model.alpha - outside @ (0.002 * level)) / errors.alpha,
        ]
        hits.append([(np.abs(gap) <= 1.96).mean() for gap in gaps])
    rates = np.mean(hits, axis=0)
    # 150 panels of four loadings that are not independent: between 150 and 600 trials.
    assert (np.abs(rates - 0.95) <= 3 * np.sqrt(0.95 * 0.05 / n_panels)).all(), rates


@pytest.mark.slow
def test_under_the_null_five_percent_tests_reject_five_percent_of_panels():
    n_panels, p_values = 500, []
    for seed in range(n_panels):
        batch, g = panel(1000 + seed, silent=(3,), noise=0.03, shape=(150, 40, 3), k=1)
        model = IPCAModel(IPCAConfig(n_factors=1, intercept=True))
        model.fit(batch, observed_factors=g)
        options = {"n_draws": 99, "seed": seed}
        tests = (
            model.test_alpha(**options),
            model.test_characteristics(3, **options),
            model.test_observed_factors(**options),
        )
        p_values.append([test.p_value for test in tests])
    # (1 + draws beyond) / (1 + draws) is exactly uniform where draws and statistic are alike.
    rates = ((99 * np.array(p_values) + 1) / 100 <= 0.05).mean(axis=0)
    assert ((rates >= 0.03) & (rates <= 0.07)).all(), rates


@pytest.mark.slow
def test_planted_loadings_are_found_in_nine_of_ten_panels():
    n_panels, result = 60, []
    for seed in range(n_panels):
        size = {"alpha": 0.01, "observed": 0.2, "noise": 0.03, "shape": (150, 40, 3), "k": 1}
        batch, g = panel(3000 + seed, **size)
        model = IPCAModel(IPCAConfig(n_factors=1, intercept=True))
        model.fit(batch, observed_factors=g)
        loud = int(np.abs(model.gamma[1:, 0]).argmax()) + 1
        tests = (
            model.test_alpha(n_draws=99),
            model.test_characteristics(loud, n_draws=99),
            model.test_observed_factors(n_draws=99),
        )
        result.append([test.p_value <= 0.05 for test in tests])
    power = np.mean(result, axis=0)
    assert (power >= 0.9).all(), power
