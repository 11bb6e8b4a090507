"""IPCA on characteristics whose level dwarfs what they vary by, and on ones that do not vary."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel
from ml4t.models.kernels import panel_moments

LEVELS = [
    ("float64", np.float64, 1e3),
    ("float64", np.float64, 2e5),
    ("float64", np.float64, -1e6),
    ("float32", np.float64, 1e3),
    ("float32", np.float32, 1e3),
    ("float32", np.float32, -30.0),
]


def panel(seed=0, n_dates=60, n_assets=80):
    rng = np.random.default_rng(seed)
    z, f = rng.standard_normal((n_dates, n_assets, 2)), 0.05 * rng.standard_normal(n_dates)
    return z, z[..., 0] * f[:, None] + 0.03 * rng.standard_normal((n_dates, n_assets))


def moved(z, level):
    out = z.copy()
    out[..., 0] += level
    return out


def fitted(z, r, *, mask=None, observed=None, **settings):
    model = IPCAModel(IPCAConfig(n_factors=1, **settings))
    batch = CrossSectionBatch(z, returns=r, mask=mask)
    return model, batch, model.fit(batch, observed_factors=observed)


@pytest.mark.parametrize(("dtype", "kind", "level"), LEVELS)
def test_the_level_of_a_characteristic_does_not_change_what_is_explained(dtype, kind, level):
    z, r = panel()
    plain, same, _ = fitted(z, r)
    model, batch, summary = fitted(moved(z, level).astype(kind), r.astype(kind), dtype=dtype)
    want, got = plain.fit_measures(same).assets, model.fit_measures(batch).assets
    assert summary.converged
    assert summary.notes == ()
    assert model.certificate.n_unidentified == 0
    for one, other in [(want.total, got.total), (want.predictive, got.predictive)]:
        assert other.against_zero == pytest.approx(one.against_zero, abs=1e-4)
    assert got.cross_sectional.against_zero == pytest.approx(
        want.cross_sectional.against_zero, abs=1e-2
    )
    # Exposures up to scale: Gamma has unit length in the instruments as they are.
    betas = [m.extract(b).asset_betas[..., 0].ravel() for m, b in [(plain, same), (model, batch)]]
    assert abs(np.corrcoef(*betas)[0, 1]) > 1 - 1e-4


@pytest.mark.parametrize("options", ["mask", "observed", "intercept", "portfolio", "starts"])
def test_the_level_of_characteristics_changes_no_fit_of_any_settings(options):
    z, r = panel(1)
    rng = np.random.default_rng(2)
    given = {
        "mask": {"mask": rng.random(r.shape) < 0.7},
        "observed": {"observed": 0.04 * rng.standard_normal((len(r), 1))},
        "intercept": {"intercept": True},
        "portfolio": {"weighting": "portfolio"},
        "starts": {"n_starts": 3},
    }[options]
    result = []
    for level in (0.0, 2e5):
        model, batch, summary = fitted(moved(z, level), r, **given)
        assert summary.converged
        assert summary.notes == ()
        observed = given.get("observed")
        measures = model.fit_measures(batch, observed_factors=observed)
        result.append(measures.assets.total.against_zero)
    assert result[1] == pytest.approx(result[0], abs=1e-4)


def test_the_level_does_not_matter_to_moments_of_a_batch_or_a_scan():
    z, r = panel(3)
    want = fitted(z, r)[0].certificate.ssr
    batch = CrossSectionBatch(moved(z, 2e5), returns=r)
    rows = {name: moved(z, 2e5)[..., i].ravel() for i, name in enumerate("ab")}
    frame = pl.DataFrame({"date": np.repeat(np.arange(60), 80), "r": r.ravel(), **rows})
    scanned = CharacteristicMoments.scan(
        frame, feature_cols=["a", "b"], return_col="r", timestamp_col="date"
    )
    for moments in (CharacteristicMoments.from_batch(batch), scanned):
        model = IPCAModel(IPCAConfig(n_factors=1))
        assert model.fit(moments).notes == ()
        assert model.certificate.ssr == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("level", [0.0, 10.0, 300.0, 1e4])
def test_single_precision_keeps_what_a_characteristic_varies_by(level):
    z, r = (part.astype(np.float32) for part in panel(4))
    z = moved(z, np.float32(level))
    exact = z[..., 0].astype(np.float64)
    moments = panel_moments(z, r)
    gram = moments.full_gram
    variance = gram[:, 1, 1] - gram[:, 0, 1] ** 2 / gram[:, 0, 0]
    np.testing.assert_allclose(variance, exact.var(axis=1) * exact.shape[1], rtol=2e-5)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("of", ["a batch", "moments"])
def test_what_is_dropped_is_named(of, constant):
    z, r = panel(5, n_assets=3000)
    still = np.full((*r.shape, 1), 0.1)
    z = np.concatenate([moved(z, 0.5), still, z[..., 1:]], axis=2)
    if not constant:
        z = np.concatenate([z, 3 * still], axis=2)
    batch = CrossSectionBatch(z, returns=r)
    names = ["size", "value", "still", "again", "other"][: z.shape[2]]
    moments = CharacteristicMoments.from_batch(replace(batch, feature_names=tuple(names)))
    model = IPCAModel(IPCAConfig(n_factors=1, constant=constant))
    summary = model.fit(batch if of == "a batch" else moments)
    (note,) = summary.notes
    assert model.certificate.n_unidentified == 2
    expected = {"value", "again", "still"} | (set() if constant else {"other"})
    if of == "a batch":
        expected = {f"characteristic_{names.index(name)}" for name in expected}
    assert set(note.split(": ")[1].rstrip(".").split(", ")) == expected
    assert model.fit_measures(batch).assets.total.against_zero > 0.7


def test_a_level_beyond_all_digits_is_reported():
    z, r = panel(6)
    _, _, summary = fitted(moved(z, 1e12), r)
    assert "characteristic_0" in summary.notes[0]
    assert "characteristic_1" not in summary.notes[0]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_every_number_of_ipca_has_the_same_bits_in_every_layout(dtype):
    rng = np.random.default_rng(7)
    z = rng.standard_normal((30, 41, 5)).astype(dtype)
    r = (0.1 * rng.standard_normal((30, 41))).astype(dtype)
    mask = rng.random(r.shape) < 0.9

    def strided(a):
        wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), dtype=a.dtype)
        wide[..., ::2] = a
        return wide[..., ::2]

    def reversed_axes(a):
        return np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1]

    def dates_last(a):
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, 0, -1)), -1, 0)

    result = []
    for layout in (np.ascontiguousarray, np.asfortranarray, strided, reversed_axes, dates_last):
        batch = CrossSectionBatch(layout(z), returns=layout(r), mask=layout(mask))
        for missing in ("skip", "median"):
            model = IPCAModel(IPCAConfig(n_factors=2, dtype=np.dtype(dtype).name, missing=missing))
            model.fit(batch)
            state, measures = model.extract(batch), model.fit_measures(batch)
            parts = [model.gamma, state.asset_betas, state.factor_returns]
            levels = [measures.assets.total, measures.assets.cross_sectional]
            numbers = [(one.against_zero, one.against_mean) for one in levels]
            result.append([p.tobytes() for p in (*parts, np.array(numbers))])
    assert all(one == result[0] for one in result[::2])
    assert all(one == result[1] for one in result[1::2])
