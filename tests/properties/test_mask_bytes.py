"""Laws of masks: a bool is true for every byte but 0, and no byte changes a bit of a result."""

from __future__ import annotations

import numpy as np
import pytest

from ml4t.models import CrossSectionBatch, PortfolioSequenceBatch, kernels
from ml4t.models.lifecycle.fingerprint import fingerprint
from ml4t.models.portfolio.postprocessors import (
    apply_turnover_limit,
    normalize_cross_sectional_weights,
)

RNG = np.random.default_rng(7)
MASK = RNG.random((4, 30)) < 0.6
ODD_BYTES = [2, 255]
Z, R = RNG.standard_normal((4, 30, 3)), RNG.standard_normal((4, 30))
GROUPS = (np.arange(30) % 5, 0.4)


def with_byte(mask, byte):
    """Give the same truth values, a true one being `byte` in memory."""
    return np.where(mask, np.uint8(byte), np.uint8(0)).view(bool)


def weigh(mask, **limits):
    return kernels.normalize_weights(R[None], mask[None], **limits)


def walk(mask):
    wanted = weigh(mask, gross=1.0, net=0.0)
    return kernels.walk_within_turnover(
        wanted, mask[None], limits=(1.0, 0.0, None), turnover_limit=0.5
    )


ENTRANCES = {
    "panel_moments": lambda m: kernels.panel_moments(Z, R, m),
    "managed_portfolios": lambda m: kernels.managed_portfolios(Z, R, m),
    "pearson": lambda m: kernels.cross_sectional_correlation(R, Z[:, :, 0], m),
    "spearman": lambda m: kernels.cross_sectional_correlation(R, Z[:, :, 0], m, rank=True),
    "demeaned": lambda m: weigh(m, gross=1.0, net=0.0),
    "capped": lambda m: weigh(m, gross=1.0, net=0.2, cap=0.2),
    "grouped": lambda m: weigh(m, gross=1.0, net=0.2, cap=0.2, groups=GROUPS),
    "turnover": walk,
    "content_digest": kernels.content_digest,
    "constraints": lambda m: normalize_cross_sectional_weights(
        R[None], mask=m[None], gross_exposure=1.0, net_exposure=0.0, max_abs_weight=None
    ),
    "turnover_limit": lambda m: apply_turnover_limit(
        R[None], mask=m[None], previous_weights=None, turnover_limit=0.5
    ),
    "fingerprint": lambda m: fingerprint([CrossSectionBatch(Z, mask=m)]),
    "fingerprint of windows": lambda m: fingerprint(
        [PortfolioSequenceBatch(Z[None], mask=m[None], adjacency_mask=np.repeat(m[:1], 30, axis=0))]
    ),
}


def bits(value):
    if hasattr(value, "gram"):
        return b"".join(bits(getattr(value, name)) for name in ("n_assets", "gram", "cross"))
    return value.tobytes() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("byte", ODD_BYTES)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_every_true_byte_gives_the_same_bits(entrance, byte):
    call = ENTRANCES[entrance]
    assert bits(call(with_byte(MASK, byte))) == bits(call(MASK))
    # Of any strides.
    wide = with_byte(np.repeat(MASK, 2, axis=1), byte)[:, ::2]
    assert bits(call(wide)) == bits(call(MASK))


@pytest.mark.parametrize("byte", ODD_BYTES)
def test_a_batch_holds_masks_of_nothing_but_zero_and_one(byte):
    panel = CrossSectionBatch(Z, mask=with_byte(MASK, byte))
    windows = PortfolioSequenceBatch(
        Z[None], mask=with_byte(MASK[None], byte), adjacency_mask=with_byte(np.eye(30), byte)
    )
    for got, want in (
        (panel.mask, MASK),
        (windows.mask, MASK[None]),
        (windows.adjacency_mask, np.eye(30) == 1),
    ):
        assert got.tobytes() == want.tobytes()
        assert (got.sum(), (~got).sum()) == (want.sum(), (~want).sum())


def test_a_mask_of_zero_and_one_is_not_copied():
    batch = CrossSectionBatch(Z, mask=MASK)
    assert np.shares_memory(batch.mask, MASK)


@pytest.mark.parametrize("byte", ODD_BYTES)
def test_class_labels_and_features_of_odd_bools_are_zero_and_one(byte):
    odd = with_byte(MASK, byte)
    batch = CrossSectionBatch(odd[:, :, None], returns=odd)
    assert np.array_equal(batch.returns, MASK.astype(float))
    assert np.array_equal(batch.characteristics[:, :, 0], MASK.astype(float))
