from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import kernels
from ml4t.models.kernels import ipca, ipca_factors, ipca_fit_measures, row_moments
from oracles import ipca as oracle
from strategies import SEEDS, panels

NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}
# Two solutions of a well-identified problem, each converged to rounding, in double precision.
CLOSE = 1e-7


@dataclass(frozen=True)
class Sample:
    """A ragged panel with strong factors: `z[t]` (n_t, P), `r[t]` (n_t,), observed g (T, M)."""

    z: list[np.ndarray]
    r: list[np.ndarray]
    observed: np.ndarray
    n_factors: int

    def _repr_pretty_(self, printer, _cycle):
        """Say the sizes: hypothesis would print every number."""
        n_rows = [len(r) for r in self.r]
        printer.text(f"Sample({n_rows} rows, P={self.z[0].shape[1]}, K={self.n_factors})")

    @property
    def moments(self):
        offsets = np.cumsum([0, *(len(r) for r in self.r)])
        return row_moments(np.vstack(self.z), np.concatenate(self.r), offsets, constant=False)

    def solve(self, **settings):
        return ipca(
            self.moments, self.n_factors, observed=self.observed, **{**NO_RIDGE, **settings}
        )

    def fitted(self, solution):
        b = solution.factors @ solution.gamma.T
        b = b + self.observed[solution.dates_used] @ solution.gamma_observed.T
        return np.concatenate(
            [self.z[t] @ b_t for t, b_t in zip(solution.dates_used, b, strict=True)]
        )


@st.composite
def samples(draw, *, noise=0.02, latent=(1, 3), observed=(0, 2)):
    rng = np.random.default_rng(draw(SEEDS))
    k = draw(st.integers(*latent))
    m = draw(st.integers(*observed))
    p = draw(st.integers(max(k, 1) + 1, 6))
    n_dates = draw(st.integers(12, 25))
    sizes = rng.integers(3 * p, 6 * p, n_dates)
    gamma = np.linalg.qr(rng.standard_normal((p, p)))[0][:, : k + min(m, p - k)]
    gamma = np.hstack([gamma, rng.standard_normal((p, k + m - gamma.shape[1]))])
    strength = np.linspace(1.0, 0.5, k)
    f = 0.05 * strength * rng.standard_normal((n_dates, k)) + 0.03
    g = 0.05 * rng.standard_normal((n_dates, m))
    if m and draw(st.booleans()):
        g[:, 0] = 1.0  # an instrumented alpha
        gamma[:, k] *= 0.05
    z = [rng.standard_normal((n, p)) for n in sizes]
    b = np.hstack([f, g]) @ gamma.T
    r = [z_t @ b_t + noise * rng.standard_normal(len(z_t)) for z_t, b_t in zip(z, b, strict=True)]
    return Sample(z, r, g, k)


def angle(a, b):
    """Sine of the largest principal angle between two orthonormal bases."""
    return np.linalg.norm(b - a @ (a.T @ b), 2) if a.shape[1] else 0.0


def bits(solution):
    arrays = (solution.gamma, solution.gamma_observed, solution.factors)
    return [array.tobytes() for array in arrays]


@given(samples())
def test_agrees_with_alternating_least_squares_from_the_paper(sample):
    got = sample.solve()
    latent, own, factors, _ = oracle.ipca(
        sample.z, sample.r, sample.n_factors, observed=sample.observed
    )
    assert got.converged
    np.testing.assert_allclose(got.gamma, latent, atol=CLOSE)
    np.testing.assert_allclose(got.gamma_observed, own, atol=CLOSE)
    np.testing.assert_allclose(got.factors, factors, atol=CLOSE)


@given(samples())
def test_both_first_order_conditions_hold(sample):
    got = sample.solve()
    residual = np.split(
        np.concatenate(sample.r) - sample.fitted(got), np.cumsum([len(r) for r in sample.r])[:-1]
    )
    score = np.array([z.T @ e for z, e in zip(sample.z, residual, strict=True)])
    pull = np.array([z.T @ r for z, r in zip(sample.z, sample.r, strict=True)])
    both = np.hstack([got.factors, sample.observed])
    assert np.linalg.norm(score.T @ both) <= 1e-9 * np.linalg.norm(pull.T @ both)
    assert np.linalg.norm(score @ got.gamma) <= 1e-9 * np.linalg.norm(pull @ got.gamma)


@given(samples(), SEEDS)
def test_an_invertible_recombination_of_instruments_changes_no_fitted_value(sample, seed):
    p = sample.z[0].shape[1]
    mix = np.random.default_rng(seed).standard_normal((p, p)) + 3.0 * np.eye(p)
    mixed = replace(sample, z=[z @ mix for z in sample.z])
    got, other = sample.solve(), mixed.solve()
    scale = np.sqrt(np.mean(np.concatenate(sample.r) ** 2))
    np.testing.assert_allclose(mixed.fitted(other), sample.fitted(got), atol=CLOSE * scale)
    back = np.linalg.qr(mix @ other.gamma)[0]
    assert angle(got.gamma, back) <= CLOSE


@given(samples())
def test_instruments_of_wildly_different_scales_are_fine(sample):
    p = sample.z[0].shape[1]
    scales = 10.0 ** np.linspace(-6, 6, p)
    wild = replace(sample, z=[z * scales for z in sample.z])
    got, other = sample.solve(), wild.solve()
    assert other.converged
    scale = np.sqrt(np.mean(np.concatenate(sample.r) ** 2))
    np.testing.assert_allclose(wild.fitted(other), sample.fitted(got), atol=CLOSE * scale)


@given(samples(observed=(0, 0)), st.sampled_from([1e-3, 1e6]))
def test_the_scale_of_returns_changes_only_the_factors(sample, scale):
    scaled = replace(sample, r=[scale * r for r in sample.r])
    got, other = sample.solve(), scaled.solve()
    np.testing.assert_allclose(other.gamma, got.gamma, atol=1e-9)
    np.testing.assert_allclose(other.factors / scale, got.factors, atol=1e-9)


@given(samples(observed=(1, 2)), st.sampled_from([1e-4, 1e4]))
def test_the_scale_of_an_observed_factor_changes_only_its_loadings(sample, scale):
    scaled = replace(sample, observed=scale * sample.observed)
    got, other = sample.solve(), scaled.solve()
    np.testing.assert_allclose(other.gamma, got.gamma, atol=CLOSE)
    np.testing.assert_allclose(scale * other.gamma_observed, got.gamma_observed, atol=CLOSE)


@given(SEEDS, st.integers(1, 3))
def test_with_assets_as_instruments_it_is_pca_about_zero(seed, k):
    rng = np.random.default_rng(seed)
    r = rng.standard_normal((30, k)) @ rng.standard_normal((k, 6)) * [[3.0]] + 0.3
    r += 0.1 * rng.standard_normal((30, 6))
    sample = Sample([np.eye(6)] * 30, list(r), np.zeros((30, 0)), k)
    got = sample.solve()
    eigenvectors = np.linalg.svd(r.T @ r)[0][:, :k]
    assert angle(eigenvectors, got.gamma) <= 1e-9
    np.testing.assert_allclose(got.factors, r @ got.gamma, atol=1e-9)


@given(samples(observed=(0, 0)), SEEDS)
def test_with_the_same_instruments_every_date_it_is_a_generalised_eigenproblem(sample, seed):
    rng = np.random.default_rng(seed)
    z = sample.z[0]
    r = [
        z @ rng.standard_normal(z.shape[1]) * 0.1 + 0.01 * rng.standard_normal(len(z))
        for _ in sample.r
    ]
    got = replace(sample, z=[z] * len(r), r=r).solve()
    x = np.array([z.T @ r_t for r_t in r])
    root = np.linalg.inv(np.linalg.cholesky(z.T @ z))
    values = np.linalg.eigvalsh(root @ x.T @ x @ root.T)
    k = sample.n_factors
    explained = (np.concatenate(r) ** 2).sum() - values[::-1][:k].sum()
    np.testing.assert_allclose(got.certificate.ssr, explained, rtol=1e-9)


@given(samples(observed=(0, 0)))
def test_as_many_factors_as_instruments_is_a_regression_each_date(sample):
    p = sample.z[0].shape[1]
    got = replace(sample, n_factors=p).solve()
    assert got.converged
    assert got.certificate.n_als + got.certificate.n_newton <= 3
    slopes = np.array([np.linalg.lstsq(z, r)[0] for z, r in zip(sample.z, sample.r, strict=True)])
    np.testing.assert_allclose(got.factors @ got.gamma.T, slopes, atol=1e-9)


@given(samples(latent=(0, 0), observed=(1, 2)))
def test_without_latent_factors_it_is_pooled_least_squares(sample):
    got = sample.solve()
    rows = np.vstack([np.kron(z, g) for z, g in zip(sample.z, sample.observed, strict=True)])
    slopes = np.linalg.lstsq(rows, np.concatenate(sample.r))[0]
    assert got.converged
    assert got.factors.shape == (len(sample.r), 0)
    np.testing.assert_allclose(got.gamma_observed.ravel(), slopes, atol=1e-9)


@given(samples())
def test_every_row_twice_changes_nothing(sample):
    twice = replace(
        sample, z=[np.vstack([z, z]) for z in sample.z], r=[np.tile(r, 2) for r in sample.r]
    )
    got, other = sample.solve(), twice.solve()
    np.testing.assert_allclose(other.gamma, got.gamma, atol=CLOSE)
    np.testing.assert_allclose(other.factors, got.factors, atol=CLOSE)


@given(samples(), st.randoms(use_true_random=False))
def test_the_order_of_dates_is_a_label(sample, random):
    order = list(range(len(sample.r)))
    random.shuffle(order)
    shuffled = Sample(
        [sample.z[t] for t in order],
        [sample.r[t] for t in order],
        sample.observed[order],
        sample.n_factors,
    )
    got, other = sample.solve(), shuffled.solve()
    np.testing.assert_allclose(other.gamma, got.gamma, atol=CLOSE)
    np.testing.assert_allclose(other.factors, got.factors[order], atol=CLOSE)


@given(samples(noise=0.3))
def test_no_sweep_raises_the_objective(sample):
    p, m = sample.z[0].shape[1], sample.observed.shape[1]
    start = np.hstack([np.eye(p)[:, : sample.n_factors], np.zeros((p, m))])
    path = [sample.solve(start=start, max_iter=n).certificate for n in range(1, 8)]
    assert all(step.monotone for step in path)
    assert (np.diff([step.objective for step in path]) <= 1e-12).all()
    # The last certificate tells the whole way: what each of the shorter ones ended with.
    last = path[-1]
    n_sweeps = last.n_als + last.n_newton
    assert (len(last.objectives), len(last.steps)) == (n_sweeps + 1, n_sweeps)
    ends = path[:n_sweeps]
    assert last.objectives[1 : len(ends) + 1] == tuple(one.objective for one in ends)
    assert last.steps[: len(ends)] == tuple(one.subspace_step for one in ends)
    assert last.objectives[-1] == last.objective


@given(samples(noise=0.2, observed=(0, 0)), SEEDS)
def test_one_more_factor_or_an_alpha_explains_more(sample, seed):
    p, n_dates = sample.z[0].shape[1], len(sample.r)
    got = sample.solve()
    more = np.random.default_rng(seed).standard_normal((p, 1))
    # Nested: where the smaller model ends, the larger one can begin. There may be other minima.
    factor = replace(sample, n_factors=sample.n_factors + 1).solve(
        start=np.hstack([got.gamma, more])
    )
    alpha = replace(sample, observed=np.ones((n_dates, 1))).solve(
        start=np.hstack([got.gamma, np.zeros((p, 1))])
    )
    slack = 1e-9 * got.certificate.ssr
    assert factor.certificate.ssr <= got.certificate.ssr + slack
    assert alpha.certificate.ssr <= got.certificate.ssr + slack


@given(samples())
def test_the_solution_is_in_the_identified_form(sample):
    got = sample.solve()
    k = sample.n_factors
    np.testing.assert_allclose(got.gamma.T @ got.gamma, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(got.gamma.T @ got.gamma_observed, 0.0, atol=1e-12)
    second = got.factors.T @ got.factors / len(got.factors)
    np.testing.assert_allclose(second, np.diag(np.diag(second)), atol=1e-12)
    assert (np.diff(np.diag(second)) <= 0).all()
    assert (got.factors.mean(axis=0) >= 0).all()


@given(samples(noise=0.1))
def test_default_settings_are_at_the_fixed_point(sample):
    got = ipca(sample.moments, sample.n_factors, observed=sample.observed)
    loadings = np.hstack([got.gamma, got.gamma_observed])
    again = ipca(
        sample.moments, sample.n_factors, observed=sample.observed, start=loadings, tol=1e-11
    )
    assert got.converged
    assert angle(again.gamma, got.gamma) <= 1e-9
    assert again.certificate.n_als + again.certificate.n_newton <= 3


@given(panels(min_dates=2, min_assets=2, min_chars=1, max_chars=5), st.data())
def test_convergence_is_never_claimed_without_the_certificate(panel, data):
    moments = kernels.panel_moments(panel.characteristics, panel.returns, panel.mask)
    k = data.draw(st.integers(1, moments.cross.shape[1]))
    tol = data.draw(st.sampled_from([1e-3, 1e-6, 1e-9]))
    max_iter = data.draw(st.sampled_from([1, 5, 500]))
    try:
        single = panel.returns.dtype == np.float32
        rank = 1e-6 if single else 1e-11
        got = ipca(moments, k, tol=tol, max_iter=max_iter, rank_tolerance=rank)
    except ValueError as refusal:
        if not any(word in str(refusal) for word in ("rank", "no usable observation")):
            raise
        return
    proof = got.certificate
    assert proof.n_als + proof.n_newton <= max_iter
    assert np.isfinite(got.gamma).all()
    assert np.isfinite(got.factors).all()
    np.testing.assert_allclose(got.gamma.T @ got.gamma, np.eye(k), atol=1e-9)
    if got.converged:
        assert max(proof.gamma_condition, proof.factor_condition, proof.subspace_step) <= tol


@given(samples(noise=0.1), st.integers(2, 5))
def test_threads_do_not_change_a_bit(sample, n_threads):
    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(1)
        alone = sample.solve()
        kernels.set_num_threads(n_threads)
        together = sample.solve()
    finally:
        kernels.set_num_threads(before)
    assert bits(together) == bits(alone)


@given(samples())
def test_the_factor_step_alone_gives_the_training_factors(sample):
    for max_iter in (1, 500):
        got = sample.solve(max_iter=max_iter)
        assert got.certificate.n_als == 1 or max_iter > 1
        again = ipca_factors(
            sample.moments,
            got.gamma,
            gamma_observed=got.gamma_observed,
            observed=sample.observed,
            ridge=got.ridge,
            instrument_second_moment=got.instrument_second_moment,
        )
        assert again.tobytes() == got.factors.tobytes()


@given(samples(observed=(0, 1)))
def test_a_doubled_and_a_silent_characteristic_are_counted_and_change_no_fit(sample):
    more = replace(sample, z=[np.hstack([z, z[:, :1], np.zeros((len(z), 1))]) for z in sample.z])
    got, other = sample.solve(), more.solve()
    assert got.certificate.n_unidentified == 0
    assert other.certificate.n_unidentified == 2
    assert other.converged
    scale = np.sqrt(np.mean(np.concatenate(sample.r) ** 2))
    np.testing.assert_allclose(more.fitted(other), sample.fitted(got), atol=CLOSE * scale)
    # Minimum norm: equal shares of the doubled one, nothing on the silent one.
    np.testing.assert_allclose(other.gamma[0], other.gamma[-2], atol=1e-10)
    np.testing.assert_allclose(other.gamma[-1], 0.0, atol=1e-12)


@given(samples(observed=(0, 0), latent=(2, 3)), st.sampled_from([0.0, 1e-6]))
def test_dates_with_fewer_rows_than_factors_are_singular_and_harmless(sample, ridge):
    z = [z[:1] if t % 4 == 0 else z for t, z in enumerate(sample.z)]
    r = [r[:1] if t % 4 == 0 else r for t, r in enumerate(sample.r)]
    thin = replace(sample, z=z, r=r)
    got = thin.solve(min_assets=1, factor_ridge=ridge)
    assert got.converged
    assert got.certificate.monotone
    assert got.certificate.n_singular_dates == len(range(0, len(z), 4))
    if ridge == 0.0:
        assert got.certificate.date_condition == np.inf
        explained = [
            z_t @ got.gamma @ f_t for z_t, f_t in zip(z[::4], got.factors[::4], strict=True)
        ]
        np.testing.assert_allclose(np.concatenate(explained), np.concatenate(r[::4]), atol=1e-9)


@given(samples())
def test_dates_without_enough_rows_are_left_out(sample):
    z = [z[:1] if t in (2, 5) else z for t, z in enumerate(sample.z)]
    r = [r[:1] if t in (2, 5) else r for t, r in enumerate(sample.r)]
    thin = replace(sample, z=z, r=r)
    kept = [t for t in range(len(r)) if t not in (2, 5)]
    without = Sample(
        [z[t] for t in kept], [r[t] for t in kept], sample.observed[kept], sample.n_factors
    )
    got, other = thin.solve(), without.solve()
    assert got.dates_used.tolist() == kept
    assert bits(got) == bits(other)


@given(samples())
def test_portfolio_weighting_is_the_panel_of_rows_divided_by_root_n(sample):
    roots = [np.sqrt(len(r)) for r in sample.r]
    divided = replace(
        sample,
        z=[z / root for z, root in zip(sample.z, roots, strict=True)],
        r=[r / root for r, root in zip(sample.r, roots, strict=True)],
    )
    got, other = sample.solve(weighting="portfolio"), divided.solve()
    np.testing.assert_allclose(got.gamma, other.gamma, atol=CLOSE)
    np.testing.assert_allclose(got.factors, other.factors, atol=CLOSE)


@given(samples(), st.sampled_from([1e-6, 0.1, 5.0]), st.sampled_from([0.0, 3.0]))
def test_a_ridge_is_a_number_of_pseudo_assets_with_return_zero(sample, factor_ridge, gamma_ridge):
    moments = sample.moments
    got = sample.solve(factor_ridge=factor_ridge, gamma_ridge=gamma_ridge)
    ridge = factor_ridge + gamma_ridge / len(sample.r)
    pooled = moments.gram.sum(axis=0) / moments.n_assets.sum()
    padded = replace(moments, gram=moments.gram + ridge * pooled)
    want = ipca(padded, sample.n_factors, observed=sample.observed, **NO_RIDGE)
    assert got.ridge == pytest.approx(ridge)
    np.testing.assert_allclose(got.gamma, want.gamma, atol=CLOSE)
    np.testing.assert_allclose(got.factors, want.factors, atol=CLOSE)


@given(samples(noise=0.1), st.integers(1, 2))
def test_more_factors_than_there_are_still_converge(sample, extra):
    p = sample.z[0].shape[1]
    k = min(sample.n_factors + extra, p)
    got = replace(sample, n_factors=k).solve()
    assert got.converged
    assert got.certificate.monotone


@given(samples())
def test_fit_measures_agree_with_the_rows(sample):
    got = sample.solve()
    gamma = np.hstack([got.gamma, got.gamma_observed])
    factors = np.hstack([got.factors, sample.observed])
    fit = ipca_fit_measures(sample.moments, gamma, factors)
    paths = {"total": factors, "predictive": np.broadcast_to(factors.mean(axis=0), factors.shape)}
    for name, path in paths.items():
        errors = [r - z @ (gamma @ f) for z, r, f in zip(sample.z, sample.r, path, strict=True)]
        r2 = 1 - sum((e**2).sum() for e in errors) / sum((r**2).sum() for r in sample.r)
        x = [z.T @ r / len(r) for z, r in zip(sample.z, sample.r, strict=True)]
        left = [z.T @ e / len(e) for z, e in zip(sample.z, errors, strict=True)]
        managed = 1 - sum((v**2).sum() for v in left) / sum((v**2).sum() for v in x)
        assert getattr(fit, name) == pytest.approx(r2, abs=1e-11)
        assert getattr(fit, f"managed_{name}") == pytest.approx(managed, abs=1e-11)


@pytest.fixture(scope="module")
def sample():
    rng = np.random.default_rng(0)
    z = [rng.standard_normal((8, 3)) for _ in range(10)]
    r = [z_t @ [0.1, 0.2, 0.0] * rng.standard_normal() for z_t in z]
    return Sample(z, [r_t + 0.01 * rng.standard_normal(8) for r_t in r], np.zeros((10, 0)), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_factors": 0}, r"n_factors must be between 1 and 3; got 0"),
        ({"n_factors": 4}, r"n_factors must be between 1 and 3; got 4"),
        ({"tol": 0.0}, r"tol must be a finite number > 0; got 0.0"),
        ({"max_iter": 0}, r"max_iter must be an integer >= 1; got 0"),
        ({"factor_ridge": -1.0}, r"factor_ridge must be"),
        ({"weighting": "size"}, r"weighting must be one of panel, portfolio; got 'size'"),
        ({"rank_tolerance": 1.0}, r"rank_tolerance must be"),
        (
            {"min_assets": 9},
            r"characteristics has no usable .* min_assets=9 rows .* got 80 such rows on 10",
        ),
        ({"observed": np.ones((9, 1))}, r"observed must have shape \[10, 1\]; got \[9, 1\]"),
        ({"observed": np.ones(10)}, r"observed must have 2 dimensions"),
        ({"observed": np.full((10, 1), np.nan)}, r"observed must be finite .* at date 0"),
        ({"observed": np.full((10, 1), 1e80)}, r"at most 1e75 .* got 1e80 at date 0, factor 0"),
        ({"observed": np.ones((10, 2))}, r"observed_factors .* has rank 1, .* support 2 factors"),
        ({"observed": np.zeros((10, 1))}, r"observed_factors .* has rank 0, .* support 1 factors"),
        ({"start": np.ones((3, 2))}, r"start must have shape \[3, 1\]; got \[3, 2\]"),
        ({"start": np.full((3, 1), np.inf)}, r"start must be finite"),
    ],
)
def test_refuses_by_name(sample, arguments, message):
    arguments = {"n_factors": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        ipca(sample.moments, **arguments)


@pytest.mark.parametrize(
    ("scale_z", "scale_r", "message"),
    [
        (
            1e100,
            1.0,
            r"squares of a characteristic .* at most 1e150 .*e20[01] at date 4, instrument",
        ),
        (1e200, 1.0, r"squares of a characteristic .* got inf at date 4, instrument 0: rescale"),
        (1.0, 1e300, r"squared returns must be finite .* got inf at date 4"),
        (1.0, 1e80, r"squared returns must be finite .* at date 4"),
    ],
)
def test_numbers_whose_squares_overflow_are_refused_with_their_date(
    sample, scale_z, scale_r, message
):
    z = [z * (scale_z if t == 4 else 1.0) for t, z in enumerate(sample.z)]
    r = [r * (scale_r if t == 4 else 1.0) for t, r in enumerate(sample.r)]
    with np.errstate(over="ignore"), pytest.raises(ValueError, match=message):
        ipca(replace(sample, z=z, r=r).moments, 1)


@pytest.mark.parametrize(("scale_z", "scale_r"), [(1e70, 1.0), (1.0, 1e70), (1e-70, 1e-70)])
def test_numbers_whose_squares_do_not_overflow_are_fine(sample, scale_z, scale_r):
    moved = replace(sample, z=[scale_z * z for z in sample.z], r=[scale_r * r for r in sample.r])
    got, want = ipca(moved.moments, 1), ipca(sample.moments, 1)
    assert got.converged
    np.testing.assert_allclose(got.gamma, want.gamma, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-160, 1e-200, 1e-300])
@pytest.mark.parametrize("what", ["characteristic", "squared returns"])
def test_numbers_whose_squares_vanish_are_refused(sample, what, scale):
    scale_z, scale_r = (scale, 1.0) if what == "characteristic" else (1.0, scale)
    z = [z * [1.0, scale_z, 1.0] for z in sample.z]
    moved = replace(sample, z=z, r=[scale_r * r for r in sample.r])
    with pytest.raises(ValueError, match=f"{what} must be zero or at least 1e-290; .* rescale"):
        ipca(moved.moments, 1)


def test_refuses_more_factors_than_the_data_carry(sample):
    doubled = replace(sample, z=[z[:, [0, 1, 1]] for z in sample.z])
    with pytest.raises(ValueError, match=r"characteristics has rank 2, .* support 3 factors"):
        ipca(doubled.moments, 3)
    short = replace(sample, z=sample.z[:2], r=sample.r[:2])
    with pytest.raises(ValueError, match=r"usable dates has rank 2, .* support 3 factors"):
        ipca(short.moments, 3)
    silent = replace(sample, r=[0.0 * r for r in sample.r])
    with pytest.raises(ValueError, match=r"returns has rank 0, .* support 1 factors"):
        ipca(silent.moments, 1)


def test_a_date_without_rows_has_no_factor(sample):
    z, r = [*sample.z, np.zeros((0, 3))], [*sample.r, np.zeros(0)]
    longer = replace(sample, z=z, r=r, observed=np.zeros((11, 0)))
    got = longer.solve()
    factors = ipca_factors(longer.moments, got.gamma)
    assert got.dates_used.tolist() == list(range(10))
    assert np.isnan(factors[10]).all()
    assert np.isfinite(factors[:10]).all()
