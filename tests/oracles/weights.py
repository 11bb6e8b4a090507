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


def nearest_of_all_sides(wanted, exposures, cap, **constraints):
    """Quadratic programmes over all combinations of sides."""
    found = [
        programme(wanted, np.array(sides), exposures, cap, **constraints)
        for sides in product((1.0, -1.0), repeat=len(wanted))
    ]
    return min((one for one in found if one is not None), key=lambda one: one[0], default=None)
