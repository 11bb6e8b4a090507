"""Summaries say what the fit says, in text and in HTML."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from ml4t.models import (
    CharacteristicMoments,
    CrossSectionBatch,
    IPCAConfig,
    IPCAModel,
    ModelSummary,
    PCAConfig,
    PCAModel,
    PersistentPanelBatch,
    RPPCAConfig,
    RPPCAModel,
)
from ml4t.models.kernels import ipca_fit_measures
from ml4t.models.latent_factors.ipca.report import characteristic_importance
from ml4t.models.latent_factors.statistics import (
    factor_statistics,
    panel_measures,
    statistics_table,
)
from ml4t.models.latent_factors.tables import STARS, Estimate, Table, written

T, N, L = 48, 12, 3
NAMES = ("size", "value", "momentum")


def cross_sections(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (T, N, L))
    f = np.array([0.03, 0.01]) + 0.05 * rng.standard_normal((T, 2))
    r = (1 + z[:, :, 0]) * f[:, :1] + z[:, :, 1] * f[:, 1:] + 0.01 * rng.standard_normal((T, N))
    return CrossSectionBatch(z, returns=r, feature_names=NAMES)


def panel(seed=0):
    return PersistentPanelBatch(cross_sections(seed).returns)


def ipca(**settings):
    return IPCAModel(IPCAConfig(n_factors=2, **settings))


MODELS = {
    "pca": (lambda: PCAModel(PCAConfig(n_factors=2)), panel),
    "rp_pca": (lambda: RPPCAModel(RPPCAConfig(n_factors=2, gamma=10.0)), panel),
    "ipca": (ipca, cross_sections),
    "ipca with alpha": (lambda: ipca(intercept=True), cross_sections),
}
models = pytest.mark.parametrize(("make", "data"), MODELS.values(), ids=MODELS)


class Cells(HTMLParser):
    """Well-formedness, and the text of all cells."""

    def __init__(self):
        super().__init__()
        self.open, self.cells = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1] in ("td", "th"):
            self.cells.append(data)


def cells_of(html):
    reader = Cells()
    reader.feed(html)
    assert not reader.open
    return reader.cells


@models
def test_text_and_html_say_the_same(make, data):
    model, batch = make(), data()
    model.fit(batch)
    result = model.summary(batch)
    assert isinstance(result, ModelSummary)
    assert "2 factors" in result.title
    text, html = str(result), result._repr_html_()
    assert html == result.as_html()
    words = text.split()
    for cell in cells_of(html):
        assert all(word in words for word in cell.split()), cell
    assert max(map(len, text.splitlines())) <= 100
    assert repr(result) == text


@models
def test_the_sample_is_that_of_the_record(make, data):
    model, batch = make(), data()
    summary = model.fit(batch)
    rows = dict(model.summary().table("Sample").rows)
    assert rows["Periods"] == (T,)
    assert rows["Stopping"] == (summary.run_record.stopping_reason,)
    assert summary.run_record.input_sha256.startswith(rows["Input SHA-256"][0])


@models
def test_factor_statistics_are_those_of_the_training_factors(make, data):
    model, batch = make(), data()
    model.fit(batch)
    factors = np.asarray(model.train_factor_returns)
    table = model.summary().table("Factors")
    assert [name for name, _ in table.rows] == ["f1", "f2", "tangency"]
    np.testing.assert_allclose(table.column("mean")[:2], factors.mean(axis=0))
    np.testing.assert_allclose(table.column("volatility")[:2], factors.std(axis=0))
    np.testing.assert_allclose(
        table.column("Sharpe")[:2], factors.mean(axis=0) / factors.std(axis=0)
    )
    expected = stats.ttest_1samp(factors, 0.0).statistic
    np.testing.assert_allclose(table.column("t")[:2], expected, rtol=1e-10)
    weights = np.linalg.solve(np.cov(factors.T), factors.mean(axis=0))
    best = factors @ weights
    assert table.column("Sharpe")[2] == pytest.approx(best.mean() / best.std(), rel=1e-9)


@models
def test_a_summary_needs_a_fit_and_survives_a_file(make, data, tmp_path):
    model, batch = make(), data()
    with pytest.raises(RuntimeError, match="fitted before summary"):
        model.summary()
    model.fit(batch)
    again = type(model).load(model.save(tmp_path / "m.ml4t"))
    assert again.summary(batch) == model.summary(batch)
    assert again.summary().tables[0] == model.summary().tables[0]


def test_statistics_leave_out_what_is_missing_or_does_not_vary():
    factors = np.array([[0.1, 1.0], [np.nan, 1.0], [0.3, 1.0], [0.2, 1.0]])
    result = factor_statistics(factors)
    np.testing.assert_allclose(result.mean, [0.2, 1.0])
    assert result.sharpe[0] == pytest.approx(0.2 / np.std([0.1, 0.3, 0.2]))
    assert np.isnan(result.sharpe[1])
    assert np.isnan(result.t[1])
    assert result.tangency_sharpe == pytest.approx(result.sharpe[0])


def test_a_model_without_latent_factors_has_an_empty_table_of_them():
    assert statistics_table(np.empty((T, 0)), ()).rows == ()


def test_measures_of_a_panel_are_their_definitions():
    rng = np.random.default_rng(0)
    r, beta, f = (rng.standard_normal(shape) for shape in ((9, 4), (4, 2), (9, 2)))
    premia = np.array([0.3, -0.1])
    r[2, 1], f[5] = np.nan, np.nan
    got = panel_measures(r, beta, f, premia)
    squares, left, missed, means, errors = 0.0, 0.0, 0.0, 0.0, 0.0
    for i in range(4):
        dates = [t for t in range(9) if t != 5 and np.isfinite(r[t, i])]
        residual = [r[t, i] - beta[i] @ f[t] for t in dates]
        squares += sum(r[t, i] ** 2 for t in dates)
        left += sum(e**2 for e in residual)
        missed += sum((r[t, i] - beta[i] @ premia) ** 2 for t in dates)
        means += np.mean([r[t, i] for t in dates]) ** 2
        errors += np.mean(residual) ** 2
    assert got.total == pytest.approx(1 - left / squares)
    assert got.predictive == pytest.approx(1 - missed / squares)
    assert got.cross_sectional == pytest.approx(1 - errors / means)


def test_pca_reports_the_variance_it_explains():
    model, batch = PCAModel(PCAConfig(n_factors=2)), panel()
    summary = model.fit(batch)
    table = model.summary().table("Explained variance")
    centered = batch.returns - batch.returns.mean(axis=0)
    values = np.linalg.svd(centered, compute_uv=False) ** 2
    np.testing.assert_allclose(table.column("share"), values[:2] / values.sum(), rtol=1e-10)
    total = summary.train_metrics["explained_variance_ratio"]
    assert table.column("sum")[-1] == pytest.approx(total)
    # Orthonormal loadings: what the factors do not have of the returns, the residuals have.
    f = np.asarray(model.train_factor_returns)
    r2 = (f**2).sum() / (batch.returns**2).sum()
    measured = model.summary(batch).table("R squared (uncentered)")
    assert dict(measured.rows)["total"][0] == pytest.approx(r2, rel=1e-10)


def test_no_more_variance_is_explained_than_there_is():
    for seed in range(10):
        returns = np.random.default_rng(seed).standard_normal((40, 8))
        summary = PCAModel(PCAConfig(n_factors=8)).fit(PersistentPanelBatch(returns))
        assert 1 - 1e-12 < summary.train_metrics["explained_variance_ratio"] <= 1


def test_rp_pca_reports_what_lettau_and_pelger_report():
    model, batch = RPPCAModel(RPPCAConfig(n_factors=2, gamma=10.0)), panel()
    model.fit(batch)
    design = np.column_stack([np.ones(T), model.train_factor_returns])
    coefficients = np.linalg.lstsq(design, batch.returns, rcond=None)[0]
    residual = batch.returns - design @ coefficients
    rows = dict(model.summary().table("Time-series regressions").rows)
    share = residual.var(axis=0).mean() / batch.returns.var(axis=0).mean()
    assert rows["idiosyncratic share"][0] == pytest.approx(share, rel=1e-9)
    assert rows["R squared (centered)"][0] == pytest.approx(1 - share, rel=1e-9)
    rms = np.sqrt((coefficients[0] ** 2).mean())
    assert rows["RMS alpha"][0] == pytest.approx(rms, rel=1e-9)


@pytest.mark.parametrize("intercept", [False, True])
def test_ipca_reports_gamma_its_certificate_and_its_fit(intercept):
    model, batch = ipca(intercept=intercept), cross_sections()
    g = 0.01 * np.random.default_rng(5).standard_normal((T, 1))
    model.fit(batch, observed_factors=g)
    result = model.summary()
    whole = model.summary(batch, observed_factors=g)
    assert whole.table("Gamma") == result.table("Gamma")
    columns = ("f1", "f2", "g1", "alpha")[: 3 + intercept]
    gamma = result.table("Gamma")
    assert gamma.columns == columns
    assert [name for name, _ in gamma.rows] == ["constant", *NAMES]
    loadings = [model.gamma, model.gamma_observed]
    loadings += [model.alpha[:, None]] if intercept else []
    got = [[cell.value for cell in cells] for _, cells in gamma.rows]
    np.testing.assert_array_equal(got, np.hstack(loadings))
    errors = model.standard_errors()
    known = [errors.gamma, errors.gamma_observed]
    known += [errors.alpha[:, None]] if intercept else []
    got = [[cell.error for cell in cells] for _, cells in gamma.rows]
    np.testing.assert_array_equal(got, np.hstack(known))
    assert result.notes == (STARS,)
    plain = model.summary(standard_errors=False)
    assert plain.notes == ()
    assert all(cell.error is None for _, cells in plain.table("Gamma").rows for cell in cells)
    certificate = dict(result.table("Convergence").rows)
    assert certificate["stopping"] == ("converged",)
    assert certificate["gamma_condition"] == (model.certificate.gamma_condition,)
    z = np.pad(batch.characteristics, ((0, 0), (0, 0), (1, 0)), constant_values=1.0)
    state = model.extract(batch, observed_factors=g)
    fitted = np.einsum("tnp,pk,tk->tn", z, np.hstack(loadings), state.factor_returns)
    r2 = 1 - ((batch.returns - fitted) ** 2).sum() / (batch.returns**2).sum()
    kept, measured = (dict(one.table("R squared (uncentered)").rows) for one in (result, whole))
    assert measured["total"][0] == pytest.approx(r2, rel=1e-9)
    measures = model.fit_measures(batch, observed_factors=g)
    levels_by_suffix = {"": measures} | (
        {", without alpha": measures.without_alpha} if intercept else {}
    )
    assert len(measured) == 3 * len(levels_by_suffix)
    for words, one in levels_by_suffix.items():
        for row in ("total", "predictive", "cross_sectional"):
            want = [
                getattr(level, row).against_zero for level in (one.assets, one.managed_portfolios)
            ]
            name = f"{row.replace('_', '-')}{words}"
            assert measured[name] == pytest.approx(want)
            # Moments alone do not know one asset from another.
            want[0] = None if row == "cross_sectional" else want[0]
            assert kept[name] == pytest.approx(want)


def test_names_of_instruments_come_from_the_moments():
    model, batch = ipca(), cross_sections()
    moments = CharacteristicMoments.from_batch(batch)
    model.fit(moments)
    rows = model.summary(moments).table("Gamma").rows
    assert [name for name, _ in rows] == ["constant", *NAMES]


def test_without_a_constant_there_is_no_row_for_one():
    model = ipca(constant=False)
    model.fit(cross_sections())
    rows = model.summary().table("Gamma").rows
    assert [name for name, _ in rows] == list(NAMES)


def test_a_summary_of_another_panel_has_its_fit_and_no_standard_errors(tmp_path):
    model, batch, other = ipca(), cross_sections(), cross_sections(1)
    model.fit(batch)
    again = IPCAModel.load(model.save(tmp_path / "m.ml4t"))
    result = again.summary(other)
    assert "batch must be the panel that the model was fitted on" in result.notes[0]
    measured = dict(result.table("R squared (uncentered)").rows)["total"][0]
    assert measured != dict(model.summary().table("R squared (uncentered)").rows)["total"][0]
    alone = again.summary()
    assert "batch must be given" in alone.notes[0]
    assert "R squared (uncentered)" not in [table.title for table in alone.tables]
    with pytest.raises(ValueError, match="batch must be given"):
        again.characteristic_importance()
    with pytest.raises(ValueError, match="requires returns"):
        model.summary(CrossSectionBatch(batch.characteristics))
    with pytest.raises(ValueError, match="feature dimension must be the fitted 3; got 2"):
        model.summary(CrossSectionBatch(batch.characteristics[..., :2], returns=batch.returns))
    with pytest.raises(ValueError, match="observed_factors must have the fitted number"):
        model.summary(batch, observed_factors=np.ones((T, 1)))
    with pytest.raises(RuntimeError, match="fitted before characteristic_importance"):
        ipca().characteristic_importance()


def test_dates_with_too_few_assets_do_not_count():
    batch = cross_sections()
    mask = np.ones((T, N), dtype=bool)
    mask[7, 1:] = False
    model = ipca()
    model.fit(CrossSectionBatch(batch.characteristics, returns=batch.returns, mask=mask))
    result = dict(model.summary().table("R squared (uncentered)").rows)
    ok = np.arange(T) != 7
    few = CrossSectionBatch(batch.characteristics[ok], returns=batch.returns[ok])
    want = dict(model.summary(few, standard_errors=False).table("R squared (uncentered)").rows)
    np.testing.assert_allclose(result["total"], want["total"], rtol=1e-10)


def test_stars_stand_where_the_normal_test_rejects():
    for value, stars in ((1.0, ""), (1.7, "*"), (-2.0, "**"), (2.6, "***")):
        assert Estimate(value, 1.0).stars == stars
    assert Estimate(9.0).stars == Estimate(9.0, 0.0).stars == Estimate(9.0, np.nan).stars == ""
    table = Table("t", ("a", "b"), (("row", (Estimate(2.6, 1.0), Estimate(0.5))),))
    assert list(table.lines()) == [("row", "2.6000***", "0.5000"), ("", "(1.0000)", "")]


def test_numbers_are_written_with_four_digits():
    values = {0.0: "0.0000", 0.12345: "0.1235", -1.2e-5: "-1.200e-05", 1e7: "1.000e+07", 3: "3"}
    for value, text in values.items():
        assert written(value) == text
    assert written(None) == ""
    assert written(True) == "True"
    assert written(float("nan")) == "nan"


def test_html_is_escaped():
    table = Table("<t>", (), (("a & b", ("<c>",)),))
    html = ModelSummary("<title>", (table,), ("<note>",)).as_html()
    assert "<title>" not in html
    assert cells_of(html) == ["a & b", "<c>"]
    with pytest.raises(ValueError, match="title must be among <t>; got 'other'"):
        ModelSummary("x", (table,)).table("other")


# Importance


def test_importance_is_the_r2_lost_without_a_row():
    model, batch = ipca(intercept=True), cross_sections()
    model.fit(batch)
    result = model.characteristic_importance()
    assert result == model.characteristic_importance(batch)
    assert result.names == ("constant", *NAMES)
    z = np.pad(batch.characteristics, ((0, 0), (0, 0), (1, 0)), constant_values=1.0)
    gamma = np.column_stack([model.gamma, model.alpha])
    factors = model.extract(batch).factor_returns

    def r2(without=None):
        kept = gamma.copy()
        if without is not None:
            kept[without] = 0.0
        fitted = np.einsum("tnp,pk,tk->tn", z, kept, factors)
        return 1 - ((batch.returns - fitted) ** 2).sum() / (batch.returns**2).sum()

    assert result.total_r2 == pytest.approx(r2(), rel=1e-9)
    want = [r2() - r2(row) for row in range(L + 1)]
    np.testing.assert_allclose(result.drop, want, rtol=1e-8, atol=1e-12)
    assert result.share.sum() == pytest.approx(1.0)
    # What moves nothing carries nothing, next to what does.
    assert abs(result.drop[3]) < 0.01 * result.drop[1]


def test_all_characteristics_zeroed_give_zero_importance():
    batch = cross_sections()
    model = ipca()
    model.fit(batch)
    empty = CrossSectionBatch(np.zeros_like(batch.characteristics), returns=batch.returns)
    result = model.characteristic_importance(empty)
    np.testing.assert_array_equal(result.drop[1:], 0.0)
    moments = CharacteristicMoments.from_batch(batch)
    nothing = np.zeros((L + 1, 2))
    factors = np.asarray(model.extract(batch).factor_returns)
    assert ipca_fit_measures(moments.moments, nothing, factors).total == pytest.approx(0.0)
    none = characteristic_importance(moments.moments, nothing, factors, model.instrument_names)
    np.testing.assert_array_equal(none.drop, 0.0)
    np.testing.assert_array_equal(none.share, 0.0)
