"""Labels of checkpoints: phase and epoch, or an integer of 0.1.x."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import TYPE_CHECKING

from ml4t.models.training.neural import choose_checkpoint

if TYPE_CHECKING:
    from ml4t.models.configs import StochasticDiscountFactorConfig

Label = tuple[str, int]

UNCONDITIONAL, MOMENT, CONDITIONAL = "unconditional", "moment", "conditional"
BEST_LOSS, BEST_SHARPE = 0, -1

VAL_BEST_LOSS_UNCONDITIONAL = -1
VAL_BEST_SHARPE_UNCONDITIONAL = -2
VAL_BEST_LOSS_CONDITIONAL = -3
VAL_BEST_SHARPE_CONDITIONAL = -4

_LEGACY_BEST: dict[int, Label] = {
    VAL_BEST_LOSS_UNCONDITIONAL: (UNCONDITIONAL, BEST_LOSS),
    VAL_BEST_SHARPE_UNCONDITIONAL: (UNCONDITIONAL, BEST_SHARPE),
    VAL_BEST_LOSS_CONDITIONAL: (CONDITIONAL, BEST_LOSS),
    VAL_BEST_SHARPE_CONDITIONAL: (CONDITIONAL, BEST_SHARPE),
}


def in_order(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Sort labels: the unconditional phase first, then by epoch."""
    return tuple(sorted(labels, key=lambda label: (label[0] != UNCONDITIONAL, label[1])))


def last_trained(available: tuple[Label, ...]) -> Label:
    """Return the last label of an epoch; labels of a best epoch do not count."""
    trained = [label for label in available if label[1] > 0]
    return (trained or list(available))[-1]


def resolve(
    checkpoint: Label | int | None,
    available: tuple[Label, ...],
    config: StochasticDiscountFactorConfig,
) -> Label:
    """Choose the checkpoint of a request.

    Parameters
    ----------
    checkpoint : (phase, epoch), int or None
        An int is a legacy label: unconditional epochs first, conditional ones after them, and -1
        to -4 for the best by validation.
    available : tuple of labels
    config : StochasticDiscountFactorConfig

    Raises
    ------
    ValueError
        When it is not available.
    """
    requested = _read(checkpoint, config)
    if checkpoint is not None and requested not in available:
        raise ValueError(
            f"checkpoint={checkpoint!r} is not in available_checkpoints {tuple(available)}"
        )
    configured = config.default_checkpoint
    best = (CONDITIONAL, BEST_LOSS)
    return choose_checkpoint(
        requested,
        "best" if configured == "best" else _read(configured, config),
        available,
        best=best if best in available else None,
        fallback=last_trained(available),
    )


def default(available: tuple[Label, ...], config: StochasticDiscountFactorConfig) -> Label:
    """Label of a request without a checkpoint, among the available ones."""
    try:
        return resolve(None, available, config)
    except ValueError:
        return last_trained(available)


def _read(label: Label | int | str | None, config: StochasticDiscountFactorConfig) -> Label | None:
    """Read a label in any of its forms; None where it is of none."""
    if isinstance(label, tuple):
        return label
    if isinstance(label, bool) or not isinstance(label, Integral):
        return None
    return config.legacy_label(int(label)) if label > 0 else _LEGACY_BEST.get(int(label))
