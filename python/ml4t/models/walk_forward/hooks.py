"""Hooks by which an estimator takes part in a walk, and what stands for one that is absent.

Any estimator walks. One of another package needs none of these attributes and methods:

| hook                        | meaning                                    | without it         |
|-----------------------------|--------------------------------------------|--------------------|
| `walk_data(batch)`          | what all its estimations are cut from      | the batch          |
| `fit_windows(batch, spans)` | fits of all windows together               | one fit for each   |
| `continued_from(previous)`  | arguments of `fit` for a warm start        | none               |
| `usable_assets(batch)`      | columns that a window can be fitted on     | all                |
| `reference_loadings(batch)` | loadings by which factors are matched      | exposures          |
| `sees_each_date_alone`      | an output depends on no other date         | False              |
| `is_causal`                 | it depends on no later date: one pass      | False              |
| `needs_spawn`               | library that hangs in forked processes     | None               |
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from ml4t.models.types import LatentFactorState

if TYPE_CHECKING:
    from numpy.typing import NDArray


def training_data(estimator: Any, batch: Any) -> Any:
    """Give what the estimations of a walk are cut from."""
    hook = getattr(estimator, "walk_data", None)
    return batch if hook is None else hook(batch)


def continued(estimator: Any, previous: Any) -> dict[str, Any]:
    """Give the arguments of a fit that starts from the `previous` one (or None)."""
    hook = getattr(estimator, "continued_from", None)
    return {} if hook is None or previous is None else dict(hook(previous))


def reference_loadings(estimator: Any, batch: Any) -> NDArray[Any] | None:
    """Give loadings (rows, K) by which factors are matched; None for a model without factors.

    Parameters
    ----------
    estimator : fitted estimator
    batch : batch
        One date without returns.
    """
    hook = getattr(estimator, "reference_loadings", None)
    if hook is not None:
        loadings: NDArray[Any] | None = hook(batch)
        return loadings
    if not hasattr(getattr(estimator, "config", None), "n_factors"):
        return None
    state = estimator.extract(batch)
    return state.asset_betas[0] if isinstance(state, LatentFactorState) else None


def usable_assets(estimator: Any, batch: Any) -> NDArray[Any] | None:
    """Give the columns that a window can be fitted on; None for all."""
    hook = getattr(estimator, "usable_assets", None)
    return None if hook is None else hook(batch)


def sees_each_date_alone(estimator: Any) -> bool:
    """Whether the output of a date depends on no other date."""
    return bool(getattr(estimator, "sees_each_date_alone", False))


def is_causal(estimator: Any) -> bool:
    """Whether an output depends on no later date.

    A subclass in another package must say so itself: it may override what the promise rests on.
    """
    kind = type(estimator)
    own = kind.__module__.startswith("ml4t.models.")
    return bool(getattr(kind, "is_causal", False) if own else vars(kind).get("is_causal", False))


def require_observed(estimator: Any) -> None:
    """Reject observed factors for an estimator whose fit has no argument for them."""
    if "observed_factors" not in inspect.signature(estimator.fit).parameters:
        raise ValueError(
            f"observed_factors must be None: {type(estimator).__name__}.fit() does not accept "
            "them; that of IPCAModel does"
        )
