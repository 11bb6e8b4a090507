"""A stochastic discount factor on a small panel: fit, extract weights, map them to returns.

Usage: python examples/stochastic_discount_factor.py
"""

from __future__ import annotations

import numpy as np

from ml4t.models import (
    CrossSectionBatch,
    LinearStochasticDiscountFactorReturnMapper,
    StochasticDiscountFactorConfig,
    StochasticDiscountFactorModel,
)


def simulate(seed: int, n_dates: int, n_assets: int = 40) -> CrossSectionBatch:
    """Let expected returns rise with the first characteristic, more so in good states."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1.0, 1.0, (n_dates, n_assets, 3))
    state = np.sin(np.arange(n_dates) / 6.0)[:, None]
    r = 0.02 * (1.0 + state) * z[..., 0] + 0.05 * rng.standard_normal((n_dates, n_assets))
    return CrossSectionBatch(z, returns=r, context_features=state)


def main() -> None:
    """Train on 90 dates, choose by 30, look at 60 more."""
    train, validation, test = simulate(0, 90), simulate(1, 30), simulate(2, 60)
    config = StochasticDiscountFactorConfig(
        hidden_dim=16,
        n_epochs_unc=60,
        n_epochs_moment=20,
        n_epochs_cond=60,
        checkpoint_interval=20,
        default_checkpoint="best",
    )
    model = StochasticDiscountFactorModel(config)
    summary = model.fit(train, validation_batch=validation)
    print(f"checkpoints {model.available_checkpoints}")
    print(f"chosen by validation loss: {summary.best_epoch}")

    state = model.extract(test)
    portfolio = 1.0 - state.sdf_values
    print(f"Sharpe ratio out of sample {portfolio.mean() / portfolio.std():.2f} per period")

    mapper = LinearStochasticDiscountFactorReturnMapper()
    mapper.fit(model.extract(train), train)
    forecast = mapper.predict(state).expected_returns
    correlation = np.corrcoef(forecast.ravel(), test.returns.ravel())[0, 1]
    print(f"correlation of forecast and return {correlation:.2f}")


if __name__ == "__main__":
    main()
