"""Several fits as one: all succeed, or every part keeps its earlier fit."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ml4t.models.lifecycle.estimator import Fittable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def restored_on_failure(*parts: object) -> Iterator[None]:
    """Restore the attributes of the parts if the body raises or is interrupted; records stay.

    Works on any object that replaces its attributes when it is fitted, as all of this package do.
    Parts without attributes of their own stay as they are.
    """
    parts = tuple(part for part in parts if hasattr(part, "__dict__"))
    before = [dict(vars(part)) for part in parts]
    try:
        yield
    except BaseException:
        for part, earlier in zip(parts, before, strict=True):
            _restore(part, earlier)
        raise


def _restore(part: object, earlier: dict[str, Any]) -> None:
    now = vars(part)
    if isinstance(part, Fittable):
        state = replace(earlier["_state"], last_record=part.last_fit_record)
        earlier = {**earlier, "_state": state}
    # In one step: an interrupt never sees an object without its attributes.
    now.update(earlier)
    for name in now.keys() - earlier.keys():
        del now[name]
