from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml4t.models import kernels
from ml4t.models.kernels import normalize_weights, walk_within_turnover
from oracles import weights as oracle

# Sums of at most a few hundred weights of size one.
EXACT = 1e-10
EXPOSURES = [(1.0, 0.0), (1.0, 0.5), (1.0, 1.0), (2.0, -2.0), (1.5, -0.3)]


def row(scores, mask=None, *, gross=1.0, net=0.0, cap=None, groups=None):
    mask = None if mask is None else np.asarray(mask)[None, None]
    scores = np.asarray(scores, dtype=float)[None, None]
    return normalize_weights(scores, mask, gross=gross, net=net, cap=cap, groups=groups)[0, 0]


def masses(gross, net):
    return 0.5 * (gross + net), 0.5 * (gross - net)


def random_scores(rng, n):
    scores = rng.standard_normal(n) * 10.0 ** rng.integers(-4, 3) + rng.choice([0.0, 1.0, -30.0])
    return np.round(scores, 1) if rng.random() < 0.3 else scores


def assert_obeys(weights, gross, net, cap):
    assert abs(np.abs(weights).sum() - gross) < EXACT
    assert abs(weights.sum() - net) < EXACT
    assert np.abs(weights).max() <= cap + EXACT


@pytest.mark.parametrize("exposure", EXPOSURES)
def test_capped_weights_are_the_nearest_of_thousands_of_random_cases(exposure):
    rng, (long, short) = np.random.default_rng(0), masses(*exposure)
    refused = 0
    for _ in range(500):
        scores = random_scores(rng, int(rng.integers(1, 12)))
        cap = rng.choice([0.1, 0.25, 0.3, 0.5, 0.9, 3.0])
        best = oracle.nearest(scores, long, short, cap)
        if best is None:
            refused += 1
            with pytest.raises(ValueError, match="available assets cannot support"):
                row(scores, gross=exposure[0], net=exposure[1], cap=cap)
            continue
        got = row(scores, gross=exposure[0], net=exposure[1], cap=cap)
        assert_obeys(got, *exposure, cap)
        distance = ((got - scores) ** 2).sum()
        assert distance <= best[0] + 1e-9 * (1.0 + best[0])
    assert refused < 350


def test_capped_weights_agree_with_a_convex_solver_on_thousands_of_cases():
    rng, n_cases = np.random.default_rng(1), 2_000
    for n, caps in ((4, [0.25, 0.4]), (5, [0.25, 0.3])):
        scores = rng.standard_normal((n_cases, n)) * rng.choice([0.05, 0.3, 1.0], (n_cases, 1))
        cap = rng.choice(caps, n_cases)
        best = oracle.nearest_of_all_sides(scores, (0.5, 0.5), cap)
        for one, limit, distance in zip(scores, cap, best, strict=True):
            got = row(one, cap=limit)
            assert_obeys(got, 1.0, 0.0, limit)
            assert ((got - one) ** 2).sum() == pytest.approx(distance, abs=1e-7)


def test_uncapped_weights_are_scaled_demeaned_scores():
    rng = np.random.default_rng(2)
    for _ in range(500):
        scores = random_scores(rng, int(rng.integers(2, 40)))
        if np.ptp(scores) == 0.0:
            scores[0] += 1.0
        gross, net = EXPOSURES[rng.integers(len(EXPOSURES))]
        got = row(scores, gross=gross, net=net)
        assert_obeys(got, gross, net, np.inf)
        np.testing.assert_allclose(got, oracle.demeaned(scores, *masses(gross, net)), atol=1e-9)


@given(
    hnp.arrays(np.float64, st.integers(4, 30), elements=st.floats(-1e9, 1e9, width=64)),
    st.sampled_from(EXPOSURES),
    st.sampled_from([None, 0.6]),
)
def test_constraints_hold_whatever_the_scores(scores, exposure, cap):
    gross, net = exposure
    if cap is not None:
        cap *= gross
    got = row(scores, gross=gross, net=net, cap=cap)
    assert_obeys(got, gross, net, np.inf if cap is None else cap)
    again = row(got, gross=gross, net=net, cap=cap or 2.0 * gross)
    np.testing.assert_allclose(again, got, atol=EXACT)  # idempotent


@given(hnp.arrays(np.float64, 7, elements=st.floats(-5, 5)), st.randoms(use_true_random=False))
def test_asset_order_is_a_label(scores, random):
    scores = scores + np.arange(7) * 1e-3  # no ties
    order = list(range(7))
    random.shuffle(order)
    for cap in (None, 0.4):
        np.testing.assert_allclose(
            row(scores[order], cap=cap), row(scores, cap=cap)[order], atol=1e-9
        )


def test_ties_follow_the_documented_rules():
    np.testing.assert_allclose(row(np.ones(5)), [-1 / 6] * 3 + [0.25] * 2)  # round(2.5) is even
    np.testing.assert_allclose(row(np.ones(5), net=0.5), [-0.25] + [0.1875] * 4)
    np.testing.assert_allclose(row(np.ones(4), net=1.0), [0.25] * 4)
    np.testing.assert_allclose(row(np.ones(4), net=-1.0), [-0.25] * 4)
    np.testing.assert_allclose(row(np.ones(3), cap=0.5), [-0.5, 0.25, 0.25])  # more longs
    np.testing.assert_allclose(row([2.0, 1, 1, 1, 0], cap=0.4), [0.4, -0.1, 0.05, 0.05, -0.4])


def test_masked_cells_are_never_read():
    rng = np.random.default_rng(3)
    scores, mask = rng.standard_normal((2, 3, 9)), rng.random((2, 3, 9)) > 0.3
    mask[0, 1] = False
    for cap in (None, 0.5):
        plain = normalize_weights(scores, mask, gross=1.0, net=0.0, cap=cap)
        poisoned = np.where(mask, scores, rng.choice([np.nan, np.inf, 1e300], scores.shape))
        got = normalize_weights(poisoned, mask, gross=1.0, net=0.0, cap=cap)
        np.testing.assert_array_equal(got, plain)
        assert not got[~mask].any()
        assert not got[0, 1].any()


def test_bits_do_not_depend_on_threads_or_layout():
    rng = np.random.default_rng(4)
    scores, mask = rng.standard_normal((3, 20, 50)), rng.random((3, 20, 50)) > 0.2
    before = kernels.get_num_threads()
    found = []
    try:
        for n_threads in (1, 3):
            kernels.set_num_threads(n_threads)
            for s in (scores, np.asfortranarray(scores)):
                capped = normalize_weights(s, mask, gross=1.0, net=0.0, cap=0.05)
                free = normalize_weights(s, np.asfortranarray(mask), gross=1.0, net=0.0)
                limits = (1.0, 0.0, 0.05)
                walked = walk_within_turnover(capped, mask, limits=limits, turnover_limit=0.3)
                found.append((capped, free, walked))
    finally:
        kernels.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("scores", "settings_", "words"),
    [
        (
            [1.0, 2.0],
            {"gross": 0.5, "net": 1.0},
            "infeasible portfolio constraints: gross_exposure",
        ),
        ([1.0, 2.0], {"cap": 0.0}, "infeasible portfolio constraints: max_abs_weight"),
        ([1.0], {}, "available assets cannot support"),
        ([1.0, 2.0], {"cap": 0.2}, "available assets cannot support .*window 0, date 0"),
        ([1.0, np.nan], {}, "finite .* window 0, date 0, asset 1"),
        ([1.0, np.inf], {"cap": 1.0}, "finite .* window 0, date 0, asset 1"),
        ([1.0, 1e200], {"cap": 1.0}, "asset 1"),
        ([1.0, 2.0], {"groups": ([0, 0], 0.0)}, "max_group_weight must be positive"),
        ([1.0, 2.0], {"groups": ([0, 0, 1], 0.5)}, "group_ids must have shape"),
        ([1.0, 2.0], {"groups": ([0, 0], 0.3)}, "groups of at most 0.3 cannot support"),
    ],
)
def test_says_why_there_is_no_book(scores, settings_, words):
    with pytest.raises(ValueError, match=words):
        row(scores, **settings_)


def test_extreme_units_change_nothing():
    scores = np.array([3.0, -1.0, 0.5, 2.0])
    for unit in (1e-320, 1e-305, 1e305):
        np.testing.assert_allclose(row(scores * unit), row(scores), rtol=1e-3)


def test_group_caps_hold_and_a_long_only_book_is_the_nearest():
    rng = np.random.default_rng(5)
    for _ in range(1_000):
        scores, groups = rng.standard_normal(6) * 0.3, (np.array([5, 5, 5, 9, 9, -1]), 0.45)
        best = oracle.programme(scores, np.ones(6), (1.0, 0.0), 0.4, groups=groups)
        got = row(scores, net=1.0, cap=0.4, groups=groups)
        assert_obeys(got, 1.0, 1.0, 0.4)
        assert all(got[groups[0] == g].sum() <= groups[1] + EXACT for g in groups[0])
        assert ((got - scores) ** 2).sum() == pytest.approx(best[0], abs=1e-8)
    for _ in range(1_000):
        got = row(rng.standard_normal(6), cap=0.4, groups=groups)
        assert_obeys(got, 1.0, 0.0, 0.4)
        for g in groups[0]:
            assert np.maximum(got[groups[0] == g], 0.0).sum() <= groups[1] + EXACT
            assert np.maximum(-got[groups[0] == g], 0.0).sum() <= groups[1] + EXACT


def test_group_caps_of_a_two_sided_book_give_the_nearest_of_all_sides():
    rng, ids = np.random.default_rng(10), np.array([5, 5, 5, 9, 9])
    for _ in range(60):
        scores, cap = rng.standard_normal(5) * rng.choice([0.05, 0.3]), rng.choice([0.3, 0.4])
        best = min(
            one[0]
            for sides in product((1.0, -1.0), repeat=5)
            if (one := solver(scores, np.array(sides), cap, ids)) is not None
        )
        got = row(scores, cap=cap, groups=(ids, 0.45))
        assert_obeys(got, 1.0, 0.0, cap)
        assert ((got - scores) ** 2).sum() == pytest.approx(best, abs=1e-7)


def solver(scores, sides, cap, ids):
    for side in (1.0, -1.0):
        members = [((ids == g) & (sides == side)).sum() for g in np.unique(ids)]
        if sum(min(0.45, cap * n) for n in members) < 0.5 - 1e-9:
            return None
    return oracle.programme(scores, sides, (0.5, 0.5), cap, groups=(ids, 0.45))


def one_step(wanted, held, limits, budget):
    return walk_within_turnover(
        wanted[None, None], previous=held[None], limits=limits, turnover_limit=budget
    )[0, 0]


def test_a_walk_that_was_walked_stays():
    rng = np.random.default_rng(7)
    wanted = normalize_weights(rng.standard_normal((2, 8, 30)), gross=1.0, net=0.1, cap=0.1)
    settings_ = {"limits": (1.0, 0.1, 0.1), "turnover_limit": 0.3}
    once = walk_within_turnover(wanted, **settings_)
    np.testing.assert_allclose(walk_within_turnover(once, **settings_), once, atol=EXACT)


@pytest.mark.parametrize("n", [12, 40])
def test_exposures_hold_whenever_a_book_within_the_budget_has_them(n):
    # The caps leave the short side hardly room: the smallest long positions have to flip.
    rng = np.random.default_rng(8)
    for _ in range(50):
        limits, n_short = (1.0, -0.2, 1.25 / n), int(rng.integers(1, n // 4))
        held = rng.random(n) / n
        held[:n_short] *= -1.0
        wanted = row(rng.standard_normal(n), net=-0.2, cap=limits[2])
        missing = max(int(np.ceil(0.6 / limits[2] - 1e-9)) - n_short, 0)
        closed = np.sort(held[n_short:])[:missing].sum()
        long, short = held[n_short:].sum() - closed, -held[:n_short].sum()
        needed = closed + abs(0.4 - long) + abs(0.6 - short)
        got = one_step(wanted, held, limits, needed + 1e-9)
        assert_obeys(got, 1.0, -0.2, limits[2])
        assert np.abs(got - held).sum() <= needed + 2e-9
        less = one_step(wanted, held, limits, 0.9 * needed)
        assert np.abs(less - held).sum() <= 0.9 * needed + EXACT
        assert np.abs(less).sum() <= 1.0 + EXACT
        assert abs(np.abs(less).sum() - 1.0) + abs(less.sum() + 0.2) > 1e-3 * needed


@pytest.mark.parametrize("n", [8, 100, 1000])
@pytest.mark.parametrize(("net", "cap"), [(0.0, None), (0.3, 0.4)])
def test_the_exposures_are_missed_by_what_the_budget_lacks_and_no_more(n, net, cap):
    rng, limit, limits = np.random.default_rng(9), 0.25, (1.0, net, cap)
    mask = rng.random((2, 10, n)) > 0.15
    scores = rng.standard_normal(mask.shape) ** 3
    wanted = normalize_weights(scores, mask, gross=1.0, net=net, cap=cap)
    held = normalize_weights(rng.standard_normal((2, 1, n)), gross=1.0, net=net, cap=cap)[:, 0]
    got = walk_within_turnover(wanted, mask, held, limits=limits, turnover_limit=limit)
    before = np.where(mask, np.concatenate([held[:, None], got[:, :-1]], axis=1), 0.0)

    def short_of(books):
        both = [np.maximum(sign * books, 0.0).sum(axis=2) for sign in (1.0, -1.0)]
        return sum(np.abs(one - mass) for one, mass in zip(both, masses(1.0, net), strict=True))

    np.testing.assert_allclose(
        short_of(got), np.maximum(short_of(before) - limit, 0.0), rtol=0, atol=EXACT
    )
    assert np.abs(got - before).sum(axis=2).max() <= limit + EXACT
    assert np.abs(got).max() <= (cap or 1.0) + EXACT
    assert not got[~mask].any()


@pytest.mark.parametrize(("n", "net"), [(3, 0.0), (4, 0.4), (5, 0.0)])
def test_the_book_within_the_budget_is_the_nearest_of_thousands_of_cases(n, net):
    rng, n_cases = np.random.default_rng(n), 1_000
    cap, budget = rng.choice([0.6, 2.0], n_cases), rng.choice([0.11, 0.31, 0.62, 1.03], n_cases)
    wanted, held = (
        np.array([row(rng.standard_normal(n), net=net, cap=one) for one in cap]) for _ in range(2)
    )
    held *= np.where(rng.random(n_cases) < 0.3, rng.random(n_cases), 1.0)[:, None]
    best = oracle.nearest_of_all_sides(wanted, masses(1.0, net), cap, held=held, budget=budget)
    for k in range(n_cases):
        got = one_step(wanted[k], held[k], (1.0, net, cap[k]), budget[k])
        assert np.abs(got - held[k]).sum() <= budget[k] + EXACT
        assert np.abs(got).max() <= cap[k] + EXACT
        if np.isfinite(best[k]):
            assert_obeys(got, 1.0, net, cap[k])
            assert ((got - wanted[k]) ** 2).sum() == pytest.approx(best[k], abs=1e-7)
    assert np.isfinite(best).sum() > 700


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.02, 0.1, 0.5]))
def test_a_book_with_the_exposures_keeps_them_within_the_budget(seed, budget):
    rng = np.random.default_rng(seed)
    wanted = normalize_weights(rng.standard_normal((1, 6, 25)), gross=1.0, net=0.2, cap=0.15)
    held = row(rng.standard_normal(25), net=0.2, cap=0.15)
    got = walk_within_turnover(
        wanted, previous=held[None], limits=(1.0, 0.2, 0.15), turnover_limit=budget
    )[0]
    before = np.vstack([held[None], got[:-1]])
    assert np.abs(got - before).sum(axis=1).max() <= budget + EXACT
    for date in range(6):
        assert_obeys(got[date], 1.0, 0.2, 0.15)
        moved = ((got[date] - wanted[0, date]) ** 2).sum()
        assert moved <= ((before[date] - wanted[0, date]) ** 2).sum() + EXACT


def test_a_flat_book_fills_up_over_several_dates():
    wanted = np.repeat(row(np.array([3.0, 1.0, -1.0, -2.0]))[None, None], 5, axis=1)
    got = walk_within_turnover(wanted, limits=(1.0, 0.0, None), turnover_limit=0.3)[0]
    np.testing.assert_allclose(np.abs(got).sum(axis=1), [0.3, 0.6, 0.9, 1.0, 1.0], atol=EXACT)
    np.testing.assert_allclose(got.sum(axis=1), 0.0, atol=EXACT)
    np.testing.assert_allclose(got[-1], wanted[0, 0], atol=EXACT)


def test_a_forced_exit_is_no_turnover_and_leaves_room():
    wanted = np.array([[[0.0, 0.5, -0.5]]])
    mask = np.array([[[False, True, True]]])
    held = np.array([[0.5, 0.0, -0.5]])
    got = walk_within_turnover(wanted, mask, held, limits=(1.0, 0.0, None), turnover_limit=0.2)[
        0, 0
    ]
    np.testing.assert_allclose(got, [0.0, 0.2, -0.5], atol=EXACT)


def test_no_budget_holds_the_book():
    wanted, held = row([1.0, 2.0, 4.0])[None, None], np.array([[0.5, -0.5, 0.0]])
    got = walk_within_turnover(wanted, None, held, limits=(1.0, 0.0, None), turnover_limit=0.0)
    np.testing.assert_allclose(got[0], held, atol=EXACT)


@pytest.mark.parametrize("limit", [-0.1, np.nan, np.inf])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(ValueError, match="turnover_limit must be finite and not negative"):
        walk_within_turnover(np.zeros((1, 1, 2)), limits=(1.0, 0.0, None), turnover_limit=limit)


def test_a_previous_book_above_the_cap_must_be_within_reach_of_it():
    wanted, held = row([1.0, 2.0, 4.0], cap=0.5)[None, None], np.array([[0.9, -0.5, -0.4]])
    with pytest.raises(ValueError, match="previous book lies above max_abs_weight"):
        walk_within_turnover(wanted, None, held, limits=(1.0, 0.0, 0.5), turnover_limit=0.1)
    with pytest.raises(ValueError, match="previous_weights must be finite"):
        walk_within_turnover(
            wanted, None, held * np.nan, limits=(1.0, 0.0, 0.5), turnover_limit=0.1
        )
