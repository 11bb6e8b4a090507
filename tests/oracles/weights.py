"""Slow obvious twins of the weight kernels."""

from __future__ import annotations

from itertools import product

import clarabel
import numpy as np
from scipy import sparse


def capped_simplex(scores, mass, cap):
    """Nearest point with sum `mass` and entries in [0, cap], by bisection on the threshold."""
    if mass == 0.0:
        return np.zeros_like(scores)
    low, high = scores.min() - cap - 1.0, scores.max() + 1.0
    for _ in range(80):
        middle = 0.5 * (low + high)
        if np.clip(scores - middle, 0.0, cap).sum() > mass:
            low = middle
        else:
            high = middle
    return np.clip(scores - high, 0.0, cap)


def nearest(scores, long, short, cap):
    """Try every number of longs; None when none is feasible."""
    order = np.argsort(scores, kind="stable")[::-1]
    best = None
    for n_long in range(len(scores) + 1):
        n_short = len(scores) - n_long
        if n_long * cap < long - 1e-12 or n_short * cap < short - 1e-12:
            continue
        weights = np.zeros(len(scores))
        up, down = order[:n_long], order[n_long:]
        if n_long:
            weights[up] = capped_simplex(scores[up], long, cap)
        if n_short:
            weights[down] = -capped_simplex(-scores[down], short, cap)
        distance = ((weights - scores) ** 2).sum()
        if best is None or distance <= best[0] + 1e-13:  # more longs win a tie
            best = distance, weights
    return best


def demeaned(scores, long, short):
    """Scale what is above and below the mean; scores must not be constant."""
    away = scores - scores.mean()
    up, down = np.maximum(away, 0.0), np.maximum(-away, 0.0)
    return long * up / up.sum() - short * down / down.sum()


def programme(wanted, sides, exposures, cap, *, held=None, budget=None, groups=None):
    """Nearest book with given sides (+1 or -1) by a quadratic programme; None if infeasible.

    Variables are z = sides * w >= 0 and u >= |w - held|.
    """
    n = len(wanted)
    held = np.zeros(n) if held is None else held
    eye, nil = sparse.eye(n), sparse.csc_matrix((n, n))
    rows = [np.r_[sides > 0, np.zeros(n)], np.r_[sides < 0, np.zeros(n)]]
    bounds = [*exposures]
    inequality = [
        sparse.hstack([-eye, nil]),
        sparse.hstack([eye, nil]),
        sparse.hstack([eye, -eye]),
        sparse.hstack([-eye, -eye]),
        sparse.csc_matrix(np.r_[np.zeros(n), np.ones(n)][None]),
    ]
    limits = [np.zeros(n), np.full(n, min(cap, 10.0)), sides * held, -sides * held]
    limits.append([1e3 if budget is None else budget])
    for group, side in product(np.unique(groups[0]) if groups else (), (1, -1)):
        member = (groups[0] == group) & (sides == side)
        inequality.append(sparse.csc_matrix(np.r_[member, np.zeros(n)].astype(float)[None]))
        limits.append([groups[1]])
    constraints = sparse.vstack([sparse.csc_matrix(np.array(rows, float)), *inequality]).tocsc()
    right = np.concatenate([bounds, *limits])
    quadratic = sparse.block_diag([eye, nil]).tocsc()
    linear = np.r_[-sides * wanted, np.zeros(n)]
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-11
    cones = [clarabel.ZeroConeT(2), clarabel.NonnegativeConeT(len(right) - 2)]
    solver = clarabel.DefaultSolver(quadratic, linear, constraints, right, cones, settings)
    found = solver.solve()
    if "Solved" not in str(found.status):
        return None
    weights = sides * np.array(found.x[:n])
    return ((weights - wanted) ** 2).sum(), weights


def nearest_of_all_sides(wanted, exposures, cap, *, held=None, budget=None):
    """Least distances of thousands of cases over all combinations of sides, in one solver call.

    `wanted` and `held` are (cases, n), `cap` and `budget` (cases,). Every case and combination that
    can hold the exposures is a programme; together they are one, without a common variable.
    Infinite where no combination can.
    """
    n_cases, n = wanted.shape
    free = held is None
    held = np.zeros((n_cases, n)) if free else held
    budget = np.full(n_cases, 10.0) if budget is None else budget
    case = np.repeat(np.arange(n_cases), 2**n)
    sides = np.tile(np.array(list(product((1.0, -1.0), repeat=n))), (n_cases, 1))
    long, short = sides > 0, sides < 0
    forward = np.maximum(sides * held[case], 0.0)
    needed = np.abs(held[case] - sides * forward).sum(axis=1)  # what is closed first
    room = np.ones(len(case), dtype=bool)
    for side, mass in ((long, exposures[0]), (short, exposures[1])):
        needed += np.abs(mass - (forward * side).sum(axis=1))
        room &= side.sum(axis=1) * cap[case] >= mass - 1e-12
    keep = room & (needed <= budget[case] - 1e-9)
    case, sides = case[keep], sides[keep]
    found = np.full(n_cases, np.inf)
    if len(case):
        limits = None if free else (held[case], budget[case])
        solved = _programmes(wanted[case], sides, exposures, cap[case], limits)
        np.minimum.at(found, case, solved)
    return found


def _programmes(wanted, sides, exposures, cap, limits):
    """Distances of many programmes as in `programme`, which are solved as one."""
    n_programmes, n = wanted.shape
    size = wanted.size
    eye, each = sparse.eye(size), sparse.eye(n_programmes)
    one_by_one = np.repeat(np.arange(n_programmes), n)

    def sums(weights):
        return sparse.csc_matrix((weights.ravel(), (one_by_one, np.arange(size))))

    equal = [sums((sides > 0).astype(float)), sums((sides < 0).astype(float))]
    right = [np.full(n_programmes, mass) for mass in exposures]
    most = [-eye, eye]
    right += [np.zeros(size), np.repeat(np.minimum(cap, 10.0), n)]
    columns = size
    if limits is not None:
        held, budget = limits
        nil = sparse.csc_matrix((size, size))
        equal = [sparse.hstack([one, sparse.csc_matrix((n_programmes, size))]) for one in equal]
        most = [sparse.hstack([one, nil]) for one in most]
        most += [sparse.hstack([eye, -eye]), sparse.hstack([-eye, -eye])]
        right += [(sides * held).ravel(), -(sides * held).ravel()]
        total = sparse.kron(each, np.ones((1, n)))
        most.append(sparse.hstack([sparse.csc_matrix((n_programmes, size)), total]))
        right.append(budget)
        columns = 2 * size
    quadratic = sparse.diags(np.r_[np.ones(size), np.zeros(columns - size)]).tocsc()
    linear = np.r_[-(sides * wanted).ravel(), np.zeros(columns - size)]
    constraints = sparse.vstack([*equal, *most]).tocsc()
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    n_rows = constraints.shape[0]
    cones = [
        clarabel.ZeroConeT(2 * n_programmes),
        clarabel.NonnegativeConeT(n_rows - 2 * n_programmes),
    ]
    found = clarabel.DefaultSolver(
        quadratic, linear, constraints, np.concatenate(right), cones, settings
    ).solve()
    assert "Solved" in str(found.status)
    weights = sides * np.array(found.x[:size]).reshape(wanted.shape)
    return ((weights - wanted) ** 2).sum(axis=1)
