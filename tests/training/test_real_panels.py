"""The neural families on real panels: ragged dates, gaps, assets that come and go.

The panels lie in the folder that ML4T_TEST_DATA names: 88 US stocks over 234 weeks with 15
characteristics, and about 1,350 over 81 weeks with 24, of which the fundamentals are missing for 14
to 32 percent of the rows and hold outliers as reported.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ml4t.models import (
    BetaLambdaMapper,
    CAEConfig,
    CAEModel,
    CharacteristicMoments,
    ExpandingMeanFactorForecaster,
    IPCAConfig,
    IPCAModel,
    LatentFactorForecastPipeline,
    LinearStochasticDiscountFactorReturnMapper,
    SAEConfig,
    SAEModel,
    StochasticDiscountFactorBetaNetworkHead,
    StochasticDiscountFactorConfig,
    StochasticDiscountFactorModel,
    cross_section_batch_from_long_frame,
)

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif("ML4T_TEST_DATA" not in os.environ, reason="ML4T_TEST_DATA is not set"),
]
PANELS = {
    "stocknet": "stocknet88_weekly_chars.parquet",
    "pystock": "pystock_top1000_weekly_chars.parquet",
}
KEYS = {"timestamp_col": "week", "entity_col": "ticker"}


@pytest.fixture(scope="module", params=PANELS)
def panel(request):
    """Training, validation and test dates, characteristics raw or as ranks; gaps stay gaps."""
    frame = pl.read_parquet(Path(os.environ["ML4T_TEST_DATA"], PANELS[request.param]))
    names = [c for c in frame.columns if c not in (*KEYS.values(), "ret_next")]
    frame = frame.with_columns(
        (
            2 * pl.col(c).rank("average").over("week") / (pl.col(c).count().over("week") + 1) - 1
        ).alias(c)
        for c in names
    )
    batch = cross_section_batch_from_long_frame(
        frame, feature_cols=names, return_col="ret_next", **KEYS
    )
    n = batch.n_periods
    assert not batch.mask.all()
    return [batch[part] for part in (slice(0, n - 40), slice(n - 40, n - 20), slice(n - 20, n))]


def known(batch):
    """Cells that a prediction can speak of."""
    return batch.mask & np.isfinite(batch.characteristics).all(axis=-1)


def test_conditional_autoencoder(panel):
    train, validation, test = panel
    pipeline = LatentFactorForecastPipeline(
        CAEModel(CAEConfig(n_factors=2, hidden_units=(8,), n_epochs=4, n_ensemble=2, lr=0.01)),
        ExpandingMeanFactorForecaster(),
        BetaLambdaMapper(),
    )
    pipeline.fit(train, validation_batch=validation)
    result = pipeline.predict(replace(test, returns=None))
    expected = result.asset_forecast.expected_returns
    np.testing.assert_array_equal(np.isfinite(expected), known(test))
    realised = pipeline.model.extract(test).factor_returns
    assert np.isfinite(realised).all()
    assert result.state.factor_returns is None


def test_stochastic_discount_factor(panel):
    train, validation, test = panel
    config = StochasticDiscountFactorConfig(
        hidden_dim=8,
        n_instruments=2,
        n_epochs_unc=8,
        n_epochs_moment=4,
        n_epochs_cond=8,
        beta_hidden_dim=8,
        beta_n_epochs=4,
    )
    model = StochasticDiscountFactorModel(config)
    model.fit(train, validation_batch=validation)
    blind = model.extract(replace(test, returns=None))
    np.testing.assert_array_equal(np.isfinite(blind.asset_weights), known(test))
    state = model.extract(train)
    assert np.isfinite(state.sdf_values).all()
    mapper = LinearStochasticDiscountFactorReturnMapper()
    mapper.fit(state, train)
    expected = mapper.predict(blind).expected_returns
    np.testing.assert_array_equal(np.isfinite(expected), known(test))
    head = StochasticDiscountFactorBetaNetworkHead(config)
    head.fit(state, train)
    betas = head.predict(replace(test, returns=None)).signal_values
    np.testing.assert_array_equal(np.isfinite(betas), known(test))


@pytest.mark.parametrize("batch_size", [None, 4_096])
def test_supervised_autoencoder(panel, batch_size):
    train, validation, test = panel
    config = SAEConfig(
        bottleneck_dim=8,
        aux_hidden_dim=8,
        main_hidden_units=(16, 8, 8, 8),
        n_epochs=3,
        batch_size=batch_size,
    )
    model = SAEModel(config)
    summary = model.fit(train, validation_batch=validation)
    assert np.isfinite(summary.val_metrics["best_val_loss"])
    signal = model.predict(replace(test, returns=None)).signal_values
    np.testing.assert_array_equal(np.isfinite(signal), known(test))


def test_instrumented_principal_components_from_batch_and_from_moments(panel):
    train, _, test = panel
    model = IPCAModel(IPCAConfig(n_factors=2))
    assert model.fit(train).converged
    again = IPCAModel(IPCAConfig(n_factors=2))
    again.fit(CharacteristicMoments.from_batch(train))
    np.testing.assert_array_equal(again.gamma, model.gamma)
    betas = model.extract(test).asset_betas
    np.testing.assert_array_equal(np.isfinite(betas).all(axis=-1), known(test))
