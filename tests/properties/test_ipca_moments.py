"""IPCA from moments is IPCA from rows."""

from __future__ import annotations

import numpy as np
import pytest

from ml4t.models import CharacteristicMoments, CrossSectionBatch, IPCAConfig, IPCAModel


def panel(n_dates=40, n_assets=30, seed=0):
    """Two factors, ties, a date with fewer rows than characteristics, an empty date."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-0.5, 0.5, (n_dates, n_assets, 4)).round(2)
    gamma = np.linalg.qr(rng.standard_normal((5, 2)))[0]
    f = np.array([0.02, 0.01]) + np.array([0.06, 0.03]) * rng.standard_normal((n_dates, 2))
    r = np.einsum("tnl,lk,tk->tn", np.pad(z, ((0, 0), (0, 0), (1, 0)), constant_values=1), gamma, f)
    r += 0.02 * rng.standard_normal(r.shape)
    mask = rng.random(r.shape) < 0.9
    mask[3, 2:], mask[7] = False, False
    return CrossSectionBatch(z, returns=r, mask=mask, timestamps=range(n_dates))


def fitted(data, *, start=None, observed=None, **settings):
    model = IPCAModel(IPCAConfig(n_factors=2, tol=1e-10, **settings))
    summary = model.fit(data, observed_factors=observed, start=start)
    assert summary.converged
    return model


@pytest.mark.parametrize(
    "settings",
    [{}, {"constant": False}, {"intercept": True}, {"weighting": "portfolio"}, {"min_assets": 10}],
    ids=str,
)
def test_moments_give_the_bits_of_the_batch(settings):
    batch = panel()
    rows = fitted(batch, **settings)
    moments = fitted(CharacteristicMoments.from_batch(batch), **settings)
    np.testing.assert_array_equal(moments.gamma, rows.gamma)
    np.testing.assert_array_equal(moments.gamma_observed, rows.gamma_observed)
    np.testing.assert_array_equal(moments.train_factor_returns, rows.train_factor_returns)


def test_a_slice_of_moments_is_a_fit_of_the_slice():
    batch = panel()
    part = CrossSectionBatch(
        batch.characteristics[5:30], returns=batch.returns[5:30], mask=batch.mask[5:30]
    )
    moments = CharacteristicMoments.from_batch(batch)
    np.testing.assert_array_equal(fitted(moments.slice(5, 30)).gamma, fitted(part).gamma)


def test_the_rule_of_minimum_rows_holds_after_merging():
    batch = panel(n_dates=20)
    shards = [
        CharacteristicMoments.from_batch(
            CrossSectionBatch(
                batch.characteristics[:, rows],
                returns=batch.returns[:, rows],
                mask=batch.mask[:, rows],
                timestamps=batch.timestamps,
            )
        )
        for rows in (slice(0, 30, 2), slice(1, 30, 2))
    ]
    whole = fitted(batch, min_assets=20)
    merged = fitted(shards[0] + shards[1], min_assets=20)
    assert max(shard.n_assets.max() for shard in shards) < 20
    assert len(merged.train_factor_returns) == len(whole.train_factor_returns) == 18
    np.testing.assert_allclose(merged.gamma, whole.gamma, atol=1e-9)


def test_a_warm_start_changes_the_way_and_not_the_end():
    moments = CharacteristicMoments.from_batch(panel())
    cold = fitted(moments)
    before = fitted(moments.slice(0, 39))
    warm = fitted(moments, start=before.gamma)
    np.testing.assert_allclose(warm.gamma, cold.gamma, atol=1e-8)
    assert warm.certificate.n_als + warm.certificate.n_newton <= (
        cold.certificate.n_als + cold.certificate.n_newton
    )


def test_a_fit_from_moments_survives_a_round_trip_and_predicts(tmp_path):
    batch = panel()
    model = fitted(CharacteristicMoments.from_batch(batch))
    loaded = IPCAModel.load(model.save(tmp_path / "ipca"))
    assert loaded.extract(batch) == model.extract(batch)


def test_anything_else_is_refused():
    with pytest.raises(TypeError, match="batch must be"):
        IPCAModel(IPCAConfig(n_factors=1)).fit(np.ones((2, 2)))
