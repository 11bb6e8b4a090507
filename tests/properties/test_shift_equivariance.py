"""Premia move with their factors, and not with the origin of what predicts them."""

from __future__ import annotations

import numpy as np
import pytest

import ml4t.models as m

RNG = np.random.default_rng(0)
STATES = RNG.standard_normal((120, 3))
FACTORS = RNG.standard_normal((120, 2)) * np.where(np.arange(120) < 60, 1.0, 3.0)[:, None]
FACTORS[:, 0] += 0.5 * STATES[:, 0]

MAKERS = {
    "mean": m.ExpandingMeanFactorForecaster,
    "ewma": m.EWMABaseFactorForecaster,
    "ar": m.AR1FactorForecaster,
    "var": m.VAR1FactorForecaster,
    "combined": m.CombinedFactorForecaster,
    "kernel": m.StateConditionalMapper,
    "line": lambda: m.StateConditionalMapper(m.StateConditionalMapperConfig(method="linear")),
    "regimes": m.RegimeSwitchingMapper,
} | {
    method: lambda method=method: m.MacroFactorForecaster(m.MacroForecasterConfig(method=method))
    for method in ("ols", "ridge", "three-pass")
}


def premia(make, factor_shift, state_shift):
    betas, learner = np.ones((120, 4, 2)), make()
    learner.fit(
        m.LatentFactorState(
            betas,
            factor_returns=FACTORS + factor_shift,
            context_features=STATES + state_shift,
        )
    )
    coming = m.LatentFactorState(betas[:5], context_features=STATES[:5] + 0.1 + state_shift)
    give = learner.premia if hasattr(learner, "premia") else learner.predict
    return give(coming).factor_premia - factor_shift


@pytest.mark.parametrize("shifts", [(1e9, 0.0), (-1e9, 0.0), (0.0, 1e9)])
@pytest.mark.parametrize("name", MAKERS)
def test_a_mean_a_billion_times_the_deviation_changes_nothing_but_rounding(name, shifts):
    want = premia(MAKERS[name], 0.0, 0.0)
    np.testing.assert_allclose(premia(MAKERS[name], *shifts), want, rtol=0, atol=1e-5)
