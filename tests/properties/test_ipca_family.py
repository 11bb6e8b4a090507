"""The members of the IPCA family: observed factors alone, gaps filled, forms, several starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel
from ml4t.models.latent_factors.ipca.solve import random_starts
from ml4t.models.panel.imputation import BLOCK_CELLS, fill_with_median
from strategies import SEEDS

NO_RIDGE = {"factor_ridge": 0.0, "gamma_ridge": 0.0}
T, N, L = 36, 25, 4


def panel(seed=0, *, observed=0, missing=0.0, noise=0.02, dtype=np.float64):
    """Two latent factors, `observed` observed ones; some returns are missing, too."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    gamma = np.linalg.qr(rng.standard_normal((L + 1, 2)))[0]
    f = np.array([0.02, 0.01]) + np.array([0.08, 0.04]) * rng.standard_normal((T, 2))
    g = 0.05 * rng.standard_normal((T, observed))
    own = rng.standard_normal((L + 1, observed))
    full = np.concatenate([np.ones((T, N, 1)), z], axis=2)
    r = np.einsum("tnp,tp->tn", full, f @ gamma.T + g @ own.T)
    r += noise * rng.standard_normal(r.shape)
    r[rng.random(r.shape) < 0.1] = np.nan
    z[rng.random(z.shape) < missing] = np.nan
    mask = rng.random(r.shape) < 0.9
    batch = CrossSectionBatch(
        z.astype(dtype), returns=r.astype(dtype), mask=mask, timestamps=range(T)
    )
    return batch, g


def fitted(batch, g=None, *, n_factors=2, tol=1e-10, **settings):
    model = IPCAModel(IPCAConfig(n_factors=n_factors, tol=tol, **{**NO_RIDGE, **settings}))
    summary = model.fit(batch, observed_factors=g)
    assert summary.converged
    return model, summary


def fitted_returns(model, batch, g=None):
    state = model.extract(batch, observed_factors=g)
    return np.einsum("tnk,tk->tn", state.asset_betas, state.factor_returns)


def rows(batch):
    """Instruments (rows, P), returns (rows,) and dates of the usable rows."""
    z = np.concatenate([np.ones((*batch.returns.shape, 1)), batch.characteristics], axis=2)
    usable = batch.mask & np.isfinite(batch.returns) & np.isfinite(z).all(axis=2)
    return z[usable], batch.returns[usable], np.nonzero(usable)[0]


@pytest.mark.parametrize("intercept", [False, True])
@given(seed=SEEDS, n_observed=st.integers(0, 2))
def test_observed_factors_alone_are_pooled_least_squares(intercept, seed, n_observed):
    batch, g = panel(seed, observed=n_observed)
    if not n_observed and not intercept:
        with pytest.raises(ValueError, match=r"n_factors must be at least 1 without observed_f"):
            IPCAModel(IPCAConfig(n_factors=0)).fit(batch)
        return
    given_factors = g if n_observed else None
    model, _ = fitted(batch, given_factors, n_factors=0, intercept=intercept)
    z, r, date = rows(batch)
    both = np.hstack([g, np.ones((T, int(intercept)))])
    slopes = np.linalg.lstsq(np.einsum("np,nm->npm", z, both[date]).reshape(len(z), -1), r)[0]
    slopes = slopes.reshape(L + 1, -1)
    np.testing.assert_allclose(model.gamma_observed, slopes[:, :n_observed], atol=1e-9)
    if intercept:
        np.testing.assert_allclose(model.alpha, slopes[:, n_observed], atol=1e-9)
    proof = model.certificate
    assert model.gamma.shape == (L + 1, 0)
    assert model.train_factor_returns.shape == (T, 0)
    assert max(proof.gamma_condition, proof.factor_condition) <= 1e-10
    state = model.extract(batch, observed_factors=given_factors)
    np.testing.assert_array_equal(state.factor_returns, both)


def test_observed_factors_alone_survive_a_file(tmp_path):
    batch, g = panel(observed=1)
    model, _ = fitted(batch, g, n_factors=0)
    loaded = IPCAModel.load(model.save(tmp_path / "model"))
    assert loaded.extract(batch, observed_factors=g) == model.extract(batch, observed_factors=g)


@given(seed=SEEDS, intercept=st.booleans(), n_observed=st.integers(0, 1), with_names=st.booleans())
def test_both_forms_have_the_same_fitted_values(seed, intercept, n_observed, with_names):
    batch, g = panel(seed, observed=n_observed)
    g = g if n_observed else None
    chosen = ("characteristic_2", "constant") if with_names else (3, 0)
    usual, _ = fitted(batch, g, intercept=intercept)
    block = usual.gamma[[3, 0]]
    if np.linalg.cond(block) > 1e3:
        return
    other, _ = fitted(batch, g, intercept=intercept, normalization="identity", identity_on=chosen)
    np.testing.assert_array_equal(other.gamma[[3, 0]], np.eye(2))
    np.testing.assert_allclose(
        fitted_returns(other, batch, g), fitted_returns(usual, batch, g), atol=1e-10
    )
    # The same span, and the same loadings beside it.
    np.testing.assert_allclose(other.gamma @ block, usual.gamma, atol=1e-10)
    np.testing.assert_array_equal(other.gamma_observed, usual.gamma_observed)
    np.testing.assert_allclose(other.gamma_observed.T @ other.gamma, 0.0, atol=1e-9)
    state = other.extract(batch, observed_factors=g)
    assert state.factor_returns[:, :2].tobytes() == other.train_factor_returns.tobytes()


def test_an_identity_on_dependent_loadings_is_rejected():
    batch, _ = panel()
    z = batch.characteristics.copy()
    z[..., 3] = 0.0  # no loading at all
    silent = replace(batch, characteristics=z)
    for chosen, message in [
        ((1, 4), r"identity_on must choose .* 'characteristic_3'\) have singular values"),
        (("size", 1), r"identity_on must name instruments, of .*; got 'size'"),
        ((1, 5), r"identity_on must be rows of Gamma below 5; got 5"),
        ((1, "characteristic_0"), r"identity_on must be different .* 'characteristic_0' twice"),
    ]:
        config = IPCAConfig(n_factors=2, normalization="identity", identity_on=chosen)
        with pytest.raises(ValueError, match=message):
            IPCAModel(config).fit(silent)


def test_names_of_moments_choose_the_identity():
    batch, _ = panel()
    moments = CharacteristicMoments.from_batch(replace(batch, feature_names=("a", "b", "c", "d")))
    by_name, _ = fitted(moments, normalization="identity", identity_on=("b", "d"))
    by_row, _ = fitted(batch, normalization="identity", identity_on=(2, 4))
    np.testing.assert_array_equal(by_name.gamma, by_row.gamma)


def test_tests_of_loadings_do_not_depend_on_the_form():
    batch, _ = panel()
    usual, _ = fitted(batch, intercept=True)
    other, _ = fitted(batch, intercept=True, normalization="identity", identity_on=(0, 1))
    for test in ("test_alpha", "test_characteristics"):
        one, two = (getattr(model, test)(n_draws=20) for model in (usual, other))
        if test == "test_characteristics":
            one, two = one["characteristic_1"], two["characteristic_1"]
        assert one.statistic == pytest.approx(two.statistic, rel=1e-8)
        np.testing.assert_allclose(one.draws, two.draws, rtol=1e-5)


def slow_middle(z, admitted):
    """One cell at a time."""
    out = z.copy()
    for i, k in np.argwhere(~np.isfinite(z)):
        known = [z[j, k] for j in range(len(z)) if admitted[j] and np.isfinite(z[j, k])]
        if admitted[i]:
            out[i, k] = np.median(known) if known else 0.0
    return out


@given(SEEDS, st.integers(0, 9), st.sampled_from([np.float32, np.float64]))
def test_a_gap_takes_the_median_of_its_date(seed, n, dtype):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, 3)).astype(dtype).round(1)
    z[rng.random(z.shape) < 0.3] = np.nan
    z[rng.random(z.shape) < 0.1] = np.inf
    z[:, 2] = np.where(rng.random(n) < 0.1, z[:, 2], np.nan)
    admitted = rng.random(n) < 0.8
    before = z.copy()
    got = fill_with_median(z, admitted)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, slow_middle(z, admitted), rtol=1e-6)
    np.testing.assert_array_equal(z, before)
    everyone = np.ones(n, dtype=bool)
    np.testing.assert_allclose(fill_with_median(z), slow_middle(z, everyone), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_filling_is_a_fit_of_the_filled_panel(dtype, monkeypatch):
    batch, _ = panel(missing=0.1, dtype=dtype)
    z = np.array(
        [slow_middle(z, m) for z, m in zip(batch.characteristics, batch.mask, strict=True)]
    )
    whole = replace(batch, characteristics=z)
    monkeypatch.setattr("ml4t.models.panel.imputation.BLOCK_CELLS", 5 * N * L)  # several blocks
    got, summary = fitted(batch, missing="median", dtype=dtype, tol=1e-6)
    want, _ = fitted(whole, dtype=dtype, tol=1e-6)
    np.testing.assert_array_equal(got.gamma, want.gamma)
    np.testing.assert_array_equal(got.train_factor_returns, want.train_factor_returns)
    assert got.extract(batch).asset_betas.tobytes() == want.extract(whole).asset_betas.tobytes()
    known_return = batch.mask & np.isfinite(batch.returns)
    assert summary.train_metrics["n_filled"] == np.isnan(batch.characteristics)[known_return].sum()
    moments = CharacteristicMoments.from_batch(batch, missing="median", dtype=dtype)
    from_moments, _ = fitted(moments, dtype=dtype, tol=1e-6)
    np.testing.assert_array_equal(from_moments.gamma, got.gamma)
    assert got.fit_measures(batch) == want.fit_measures(whole)
    assert BLOCK_CELLS > 5 * N * L


def test_filling_never_reads_returns_nor_what_is_masked():
    batch, _ = panel(missing=0.2)
    model, _ = fitted(batch, missing="median")
    silent = model.extract(replace(batch, returns=None))
    np.testing.assert_array_equal(model.extract(batch).asset_betas, silent.asset_betas)
    assert np.isfinite(silent.asset_betas[batch.mask]).all()
    assert np.isnan(silent.asset_betas[~batch.mask]).all()
    z = batch.characteristics.copy()
    z[~batch.mask] = 1e6
    again, _ = fitted(replace(batch, characteristics=z), missing="median")
    np.testing.assert_array_equal(again.gamma, model.gamma)


def test_skipping_is_the_default_and_counts_no_gaps():
    batch, _ = panel(missing=0.1)
    model, summary = fitted(batch)
    assert "n_filled" not in summary.train_metrics
    known = batch.mask & np.isfinite(batch.characteristics).all(axis=2)
    np.testing.assert_array_equal(np.isfinite(model.extract(batch).asset_betas).all(axis=2), known)


def test_a_scan_fills_as_the_panel_in_memory_does():
    batch, _ = panel(missing=0.2)
    t, i = np.nonzero(batch.mask)
    names = ["a", "b", "c", "d"]
    frame = pl.DataFrame(
        {"timestamp": t, "ret": batch.returns[t, i]}
        | {name: batch.characteristics[t, i, k] for k, name in enumerate(names)}
    )
    got = CharacteristicMoments.scan(frame, feature_cols=names, return_col="ret", missing="median")
    want = CharacteristicMoments.from_batch(
        replace(batch, feature_names=tuple(names)), missing="median"
    )
    np.testing.assert_array_equal(got.packed_gram, want.packed_gram)
    np.testing.assert_array_equal(got.cross, want.cross)
    with pytest.raises(ValueError, match=r"missing='median' needs rows in order of 'timestamp'"):
        CharacteristicMoments.scan(
            frame.reverse(), feature_cols=names, return_col="ret", missing="median"
        )
    with pytest.raises(ValueError, match=r"missing must be one of skip, median; got 'mean'"):
        CharacteristicMoments.from_batch(batch, missing="mean")


def crossing(seed=1):
    """Weak factors of similar strength: a sum of squares with more than one minimum."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((12, 9, 5))
    return CrossSectionBatch(z, returns=rng.standard_normal((12, 9)))


def test_several_starts_find_the_lowest_of_several_optima():
    batch = crossing()
    one = IPCAModel(IPCAConfig(n_factors=2))
    one.fit(batch)
    model = IPCAModel(IPCAConfig(n_factors=2, n_starts=20))
    metrics = model.fit(batch).train_metrics
    assert metrics["n_starts"] == 20
    assert metrics["n_distinct_optima"] >= 2
    assert model.certificate.objective <= one.certificate.objective + 1e-12
    again = IPCAModel(IPCAConfig(n_factors=2, n_starts=20))
    again.fit(batch)
    np.testing.assert_array_equal(again.gamma, model.gamma)


def test_where_the_optimum_is_one_several_starts_change_no_bit():
    batch, g = panel(observed=1)
    usual, summary = fitted(batch, g, intercept=True)
    several, metrics = fitted(batch, g, intercept=True, n_starts=5)
    assert several.gamma.tobytes() == usual.gamma.tobytes()
    assert metrics.train_metrics["n_distinct_optima"] == 1
    assert metrics.train_metrics["n_starts_failed"] == 0
    assert "n_starts" not in summary.train_metrics


def test_random_starts_are_drawn_in_the_metric_of_the_instruments():
    batch, _ = panel()
    config = IPCAConfig(n_factors=2, n_starts=2000)
    model = IPCAModel(config)
    model.fit(batch)
    fit = model._fitted("test")
    starts = np.array(random_starts(config, fit))
    second = np.einsum("spk,sqk->pq", starts, starts) / (2 * len(starts))
    np.testing.assert_allclose(second @ fit.instrument_second_moment, np.eye(L + 1), atol=0.1)


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("observed", [0, 1])
def test_weightings_agree_where_every_date_has_as_many_rows(intercept, observed):
    batch, g = panel(observed=observed)
    batch = replace(batch, returns=np.nan_to_num(batch.returns), mask=None)
    g = g if observed else None
    one, _ = fitted(batch, g, intercept=intercept)
    other, _ = fitted(batch, g, intercept=intercept, weighting="portfolio")
    np.testing.assert_allclose(other.gamma, one.gamma, atol=1e-9)
    np.testing.assert_allclose(other.gamma_observed, one.gamma_observed, atol=1e-9)


def test_the_fingerprint_of_a_fit_depends_on_its_observed_factors():
    batch, g = panel(1, observed=2)
    result = [fitted(batch, given)[1].run_record for given in (g, g.tolist(), g[:, ::-1], None)]
    same, again, turned, without = (record.input_sha256 for record in result)
    assert same == again
    assert len({same, turned, without}) == 3
    dimensions = result[0].input_dimensions
    assert (dimensions["input_1_values_0"], dimensions["input_1_values_1"]) == g.shape


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([["x"]] * T, "observed_factors must hold real numbers"),
        (np.full((T, 1), np.inf), "observed_factors must be finite on every date; got inf"),
        (np.zeros((T, 1, 1)), "observed_factors must have shape"),
    ],
)
def test_observed_factors_must_be_a_finite_panel_of_the_dates(bad, message):
    with pytest.raises(ValueError, match=message):
        fitted(panel(1)[0], bad)


def test_counts_beyond_reason_are_refused_by_name():
    for name in ("n_factors", "max_iter", "min_assets"):
        with pytest.raises(ValueError, match=f"{name} must be an integer"):
            IPCAConfig(**{name: 2**70})
    with pytest.raises(ValueError, match=f"n_factors must be between 1 and {L + 1}; got {2**16}"):
        IPCAModel(IPCAConfig(n_factors=2**16)).fit(panel(1)[0])


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**64 - 1])
def test_random_starts_of_any_seed_are_no_worse_than_one_start(seed):
    batch, _ = panel(1)
    one, _ = fitted(batch)
    several, summary = fitted(batch, n_starts=2, seed=seed)
    assert summary.train_metrics["n_starts"] == 2.0
    assert several.certificate.objective <= one.certificate.objective + 1e-12


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (np.ones((L + 1, 2)), "start must have 2 independent columns"),
        (np.zeros((L + 1, 2)), "start must have 2 independent columns"),
        (np.eye(L + 1)[:, 0], "start must be 2D; got shape"),
        (np.eye(L + 1)[:, :1], "start must have shape"),
        (np.ones((L, 2)), "start must have shape"),
        (np.full((L + 1, 2), np.nan), "start must be finite"),
        ("nowhere", "start must hold real numbers"),
    ],
)
def test_a_start_without_independent_columns_is_rejected(start, message):
    with pytest.raises(ValueError, match=message):
        IPCAModel(IPCAConfig(n_factors=2)).fit(panel(1)[0], start=start)
