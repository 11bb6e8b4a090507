"""An interrupt ends every kernel and every long loop soon, and leaves each object as it was."""

from __future__ import annotations

import pickle
import sys
from functools import partial

import numpy as np
import pytest

import ml4t.models as m
import tiny

RNG = np.random.default_rng(0)
PANEL = m.CrossSectionBatch(RNG.standard_normal((6, 8, 2)), returns=RNG.standard_normal((6, 8)))
LATER = m.CrossSectionBatch(RNG.standard_normal((6, 8, 2)), returns=RNG.standard_normal((6, 8)))
WIDE = m.PersistentPanelBatch(RNG.standard_normal((20, 4)))
LATER_WIDE = m.PersistentPanelBatch(RNG.standard_normal((20, 4)))


def raise_at(event: int):
    """Raise at the `event`-th line that runs in the package; count lines where there are fewer."""
    seen = 0

    def trace(frame, what, _):
        nonlocal seen
        if "ml4t/models" not in frame.f_code.co_filename:
            return None
        if what == "line":
            seen += 1
            if seen == event:
                raise KeyboardInterrupt
        return trace

    return trace, lambda: seen


def run_until(event: int, work) -> tuple[bool, int]:
    """Whether `work` was interrupted at that line, and how many lines it ran."""
    trace, lines = raise_at(event)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True, lines()
    finally:
        sys.settrace(before)
    return False, lines()


def fresh_mean():
    return tiny.fitted()


def fresh_ipca():
    model = m.IPCAModel(m.IPCAConfig(n_factors=1))
    model.fit(PANEL)
    return model


def fresh_pipeline():
    pipeline = m.LatentFactorForecastPipeline(
        m.PCAModel(m.PCAConfig(n_factors=1)),
        m.ExpandingMeanFactorForecaster(m.ExpandingMeanForecasterConfig()),
        m.BetaLambdaMapper(),
    )
    pipeline.fit(WIDE)
    return pipeline


def parts(thing):
    return [thing.model, thing.forecaster] if hasattr(thing, "forecaster") else [thing]


def states(thing):
    """What each part uses: the identity of its fit, its record and its sample."""
    results = [part._state.result for part in parts(thing)]
    return [(id(one.fit), id(one.record), id(one.sample)) for one in results]


@pytest.mark.parametrize(
    ("fresh", "refit"),
    [
        (fresh_mean, lambda thing: thing.fit(tiny.panel(1))),
        (fresh_ipca, lambda thing: thing.fit(LATER)),
        (fresh_pipeline, lambda thing: thing.fit(LATER_WIDE)),
        (fresh_ipca, lambda thing: thing.set_params(config__n_factors=2)),
    ],
    ids=["model", "ipca", "pipeline", "set_params"],
)
def test_an_interrupt_at_any_line_of_a_refit_leaves_the_earlier_state_whole(fresh, refit):
    thing = fresh()
    earlier, keep = states(thing), [part._state for part in parts(thing)]
    _, n_lines = run_until(0, lambda: refit(fresh()))
    assert n_lines > 3
    n_new = 0
    for line in range(1, n_lines + 1, max(1, n_lines // 300)):
        interrupted, _ = run_until(line, partial(refit, thing))
        if not interrupted:
            continue
        results = [part._state.result for part in parts(thing)]
        if None in results or states(thing) != earlier:
            # Only after the one assignment: everything is new, nothing is mixed.
            n_new += 1
            assert None in results or all(
                new not in old
                for now, old in zip(states(thing), earlier, strict=True)
                for new in now[:2]
            )
            thing = fresh()
            earlier, keep = states(thing), [part._state for part in parts(thing)]
    assert n_new <= 3
    del keep


def test_a_copy_of_ipca_has_no_sample_and_the_model_itself_has():
    model = fresh_ipca()
    copied = pickle.loads(pickle.dumps(model))
    assert model._state.result.sample is not None
    assert copied._state.result.sample is None
    np.testing.assert_array_equal(copied.gamma, model.gamma)
