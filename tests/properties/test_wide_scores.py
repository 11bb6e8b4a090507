"""Laws of weights whose scores spread over hundreds of orders of magnitude: exact, or refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml4t.models import (
    PortfolioSequenceBatch,
    PortfolioWeightsResult,
    WeightConstraintPostprocessor,
)
from ml4t.models.kernels import normalize_weights, walk_within_turnover

EXPOSURES = [(1.0, 1.0), (1.0, 0.0), (2.0, 0.3), (1.0, -1.0), (0.5, 0.4999999999999999)]


@st.composite
def wide_scores(draw, most=300):
    """Scores whose sizes are spread over a span of 1 to 1e300, ties and zeros among them."""
    span = draw(st.floats(0, most))
    lowest = draw(st.floats(-span, 0))
    places = draw(st.lists(st.floats(0, 1), min_size=2, max_size=25))
    signs = draw(st.lists(st.sampled_from([-1, 0, 1]), min_size=25, max_size=25))
    sizes = 10.0 ** np.clip(lowest + span * np.asarray(places), -300, 300)
    return np.asarray(signs[: len(places)]) * sizes


def weigh(scores, gross, net, **options):
    return normalize_weights(scores[None, None], gross=gross, net=net, **options)[0, 0]


def assert_exact(weights, gross, net, cap=np.inf):
    assert abs(np.abs(weights).sum() - gross) <= 1e-12 * gross
    assert abs(weights.sum() - net) <= 1e-12 * gross
    assert np.abs(weights).max() <= cap * (1 + 1e-12)


def assert_exact_or_refused(scores, gross, net, cap, **options):
    try:
        weights = weigh(scores, gross, net, cap=cap, **options)
    except ValueError as error:
        named = "cannot support" in str(error), "must be within ±1e100" in str(error)
        assert any(named)
        assert not named[1] or np.abs(scores).max() > 1e100
        return None
    assert_exact(weights, gross, net, np.inf if cap is None else cap)
    return weights


@settings(max_examples=100, deadline=None)
@given(wide_scores(), st.sampled_from(EXPOSURES), st.sampled_from([None, 0.1, 0.5, 3.0, 1e-3]))
def test_exposures_and_caps_are_exact_at_any_span(scores, exposure, cap):
    weights = assert_exact_or_refused(scores, *exposure, cap)
    if weights is not None and cap is not None:
        # The nearest book follows the order of the scores.
        assert (np.diff(weights[np.argsort(scores, kind="stable")]) >= -1e-12).all()


@settings(max_examples=50, deadline=None)
@given(wide_scores(), st.sampled_from(EXPOSURES), st.sampled_from([None, 0.3]))
def test_exposures_and_group_caps_are_exact_at_any_span(scores, exposure, cap):
    ids = np.arange(len(scores)) % 3
    gross, net = exposure
    most = 0.45 * gross
    weights = assert_exact_or_refused(scores, gross, net, cap, groups=(ids, most))
    for group in range(0 if weights is None else 3):
        part = weights[ids == group]
        sides = part.clip(0).sum(), (-part).clip(0).sum()
        assert max(sides) <= most * (1 + 1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=2, max_size=9),
    st.integers(1, 8),
    st.floats(7, 98),
    st.sampled_from(EXPOSURES),
)
def test_a_gap_of_many_caps_may_be_any_wider(scores, place, power, exposure):
    rising = np.sort(scores)
    place = min(place, len(rising) - 1)
    gap = np.where(np.arange(len(rising)) < place, 0.0, 1.0)
    try:
        want = weigh(rising + 8.0 * gap, *exposure, cap=0.5)
    except ValueError:
        return
    # A power of two, and steps that sums with it keep: no score is rounded.
    steps = np.round(rising * 2**10) / 2**10
    wide = weigh(steps + 8.0 * gap, *exposure, cap=0.5)
    far = 2.0 ** min(int(power / np.log10(2)), 40)
    assert np.allclose(weigh(steps + far * gap, *exposure, cap=0.5), wide, atol=1e-12)
    assert np.allclose(want, wide, atol=0.02)


def test_the_largest_score_takes_the_cap_and_the_others_the_rest():
    scores = np.array([1e98, 1.0, 2.0, 3.0])
    assert np.allclose(weigh(scores, 1.0, 1.0, cap=0.5), [0.5, 0.0, 0.0, 0.5], atol=1e-15)
    assert np.allclose(weigh(scores, 1.0, 1.0, cap=0.4), [0.4, 0.0, 0.2, 0.4], atol=1e-15)
    assert np.allclose(weigh(-scores, 1.0, -1.0, cap=0.4), [-0.4, 0.0, -0.2, -0.4], atol=1e-15)
    grouped = weigh(scores, 1.0, 1.0, cap=0.5, groups=([0, 0, 1, 1], 0.6))
    assert np.allclose(grouped, [0.5, 0.0, 0.0, 0.5], atol=1e-12)
    batch = PortfolioSequenceBatch(scores[None, None, :, None])
    processor = WeightConstraintPostprocessor(
        gross_exposure=1.0, net_exposure=1.0, max_abs_weight=0.5
    )
    book = processor.transform(batch, PortfolioWeightsResult(scores[None, None])).weights
    assert np.allclose(book, [0.5, 0.0, 0.0, 0.5], atol=1e-15)


@pytest.mark.parametrize("scale", [1e-320, 1e-300, 1e-160, 1e160, 1e300, 4e307])
def test_the_unit_of_scores_does_not_change_weights_without_a_cap(scale):
    scores = np.array([-4.0, -4.0, 4.0, 4.0, 0.0, 2.0])
    want = weigh(scores, 1.0, 0.2)
    got = weigh(scores * scale, 1.0, 0.2)
    assert np.allclose(got, want, rtol=1e-3 if scale < 1e-310 else 1e-13)
    assert_exact(got, 1.0, 0.2)


@pytest.mark.parametrize("gross", [1e-101, 1e101, 5e-324, 1e308])
def test_a_gross_exposure_that_vanishes_or_overflows_is_refused(gross):
    with pytest.raises(ValueError, match=r"gross_exposure must be 0 or between 1e-100 and 1e100"):
        weigh(np.array([1.0, 2.0]), gross, 0.0)


@pytest.mark.parametrize("wanted", [1.0000001e6, 1e98, 1.7e308])
def test_a_walk_refuses_wanted_weights_out_of_all_proportion(wanted):
    books = np.array([[[wanted, -wanted, 0.1]]])
    with pytest.raises(ValueError, match=r"weights must be within ±1e6 .* asset 0"):
        walk_within_turnover(books, limits=(1.0, 0.0, None), turnover_limit=0.5)
