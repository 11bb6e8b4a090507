"""A recurrent and an attentive policy, and the weights they had on the way.

Usage: python examples/portfolio_neural.py
"""

from __future__ import annotations

import numpy as np

from ml4t.models import (
    DeepPortfolioConfig,
    DeepPortfolioModel,
    LSTMPortfolioConfig,
    LSTMPortfolioModel,
    PortfolioSequenceBatch,
)

TRAINING = {"max_iters": 4, "eval_every": 2, "checkpoint_every": 2, "default_checkpoint": 2}


def simulate(seed: int) -> PortfolioSequenceBatch:
    """Eight windows of 24 dates; the first feature of an asset tells of its return."""
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((8, 24, 5, 3))
    returns = 0.005 * features[..., 0] + 0.02 * rng.standard_normal((8, 24, 5))
    return PortfolioSequenceBatch(features, returns=returns)


def main() -> None:
    """Fit both for four steps; predict by the step asked for, and by the default one."""
    training, validation = simulate(0), simulate(1)
    known = PortfolioSequenceBatch(simulate(2).features)  # no returns: they are not known yet
    for model in (
        LSTMPortfolioModel(LSTMPortfolioConfig(hidden_size=8, **TRAINING)),
        DeepPortfolioModel(DeepPortfolioConfig(d_model=8, **TRAINING)),
    ):
        model.fit(training, validation_batch=validation)
        weights, late = model.predict(known), model.predict(known, checkpoint=4)
        print(type(model).__name__, "checkpoints:", model.available_checkpoints)
        print("  gross exposure:", np.abs(weights.weights).sum(axis=2).mean().round(2))
        print("  moved since step 2:", not np.array_equal(late.weights, weights.weights))


if __name__ == "__main__":
    main()
