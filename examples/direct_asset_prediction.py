"""A supervised autoencoder with a validation batch, minibatches and two targets.

Usage: python examples/direct_asset_prediction.py
"""

from __future__ import annotations

import numpy as np

from ml4t.models import CrossSectionBatch, SAEConfig, SAEModel


def simulate(seed: int, n_dates: int, n_assets: int = 60) -> CrossSectionBatch:
    """Draw returns that depend on a product of characteristics, where a line sees nothing."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n_dates, n_assets, 5))
    r = 0.03 * z[..., 0] * z[..., 1] + 0.02 * rng.standard_normal((n_dates, n_assets))
    return CrossSectionBatch(z, returns=r, timestamps=tuple(range(n_dates)))


def labels(batch: CrossSectionBatch) -> np.ndarray:
    """Two labels per cell, (T, N, 2): the return is positive, and is above its date's median."""
    r = batch.returns
    return np.stack([r > 0, r > np.median(r, axis=1, keepdims=True)], axis=2).astype(float)


def main() -> None:
    """Classify the sign of returns; weigh large moves more."""
    train, validation, test = simulate(0, 40), simulate(1, 15), simulate(2, 15)
    config = SAEConfig(
        task_type="classification",
        bottleneck_dim=16,
        aux_hidden_dim=16,
        main_hidden_units=(32, 32, 16, 16),
        n_epochs=30,
        batch_size=256,
        lr=3e-3,
        default_checkpoint="best",
    )
    model = SAEModel(config)
    summary = model.fit(
        train,
        validation_batch=validation,
        sample_weights=np.abs(train.returns),
        targets=labels(train),
        validation_targets=labels(validation),
    )
    print(f"best epoch {summary.best_epoch}, loss {summary.val_metrics['best_val_loss']:.3f}")
    probability = model.predict(test).signal_values
    right = ((probability > 0.5) == (test.returns > 0)).mean()
    print(f"signs predicted out of sample: {right:.0%}")


if __name__ == "__main__":
    main()
