"""Which dates train, which are predicted."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fold:
    """Positions of dates, as Python slices them.

    Attributes
    ----------
    train_start, train_stop : int
        Dates that the estimation sees.
    predict_start, predict_stop : int
        Dates predicted with it; `predict_start - train_stop` is the gap.
    """

    train_start: int
    train_stop: int
    predict_start: int
    predict_stop: int

    def moved(self, by: int) -> Fold:
        """Count dates from another origin."""
        return Fold(
            self.train_start + by,
            self.train_stop + by,
            self.predict_start + by,
            self.predict_stop + by,
        )


def schedule(
    n_dates: int, *, min_periods: int, window: int | None, refit_every: int, gap: int
) -> tuple[Fold, ...]:
    """Lay out the folds.

    Parameters
    ----------
    n_dates : int
    min_periods : int
        Dates in the first estimation.
    window : int or None
        Dates in an estimation at most; None expands.
    refit_every : int
        Dates that share an estimation.
    gap : int
        Dates left out between estimation and prediction.

    Raises
    ------
    ValueError
        When no date is left to predict.
    """
    first = min_periods + gap
    if n_dates <= first:
        raise ValueError(
            f"min_periods + gap must be below the number of dates, {n_dates}; got "
            f"{min_periods} + {gap}"
        )
    folds = []
    for start in range(first, n_dates, refit_every):
        stop = start - gap
        begin = 0 if window is None else max(0, stop - window)
        folds.append(Fold(begin, stop, start, min(start + refit_every, n_dates)))
    return tuple(folds)
