"""Slow twins of the forecasters: one factor at a time, one period at a time."""

from __future__ import annotations

import math
from itertools import pairwise


def mean(x):
    finite = [v for v in x if math.isfinite(v)]
    return math.fsum(finite) / len(finite)


def ewma(x, half_life):
    alpha = 1.0 - 0.5 ** (1.0 / half_life)
    level = None
    for v in x:
        if not math.isfinite(v):
            continue
        level = v if level is None else alpha * v + (1.0 - alpha) * level
    return level


def ar1(x, shrinkage=0.0, max_root=0.99):
    """Intercept and slope by the textbook sums."""
    pairs = [(a, b) for a, b in pairwise(x) if math.isfinite(a) and math.isfinite(b)]
    centre = mean(x)
    intercept, slope = centre, 0.0
    if len(pairs) >= 2:
        n = len(pairs)
        mx, my = math.fsum(a for a, _ in pairs) / n, math.fsum(b for _, b in pairs) / n
        sxx = math.fsum((a - mx) ** 2 for a, _ in pairs)
        if sxx > 0:
            slope = math.fsum((a - mx) * (b - my) for a, b in pairs) / sxx
            intercept = my - slope * mx
    if abs(slope) > max_root and abs(slope - 1) > 1e-9:
        slope = math.copysign(max_root, slope)
        intercept = centre - slope * centre
    return (1 - shrinkage) * intercept + shrinkage * centre, (1 - shrinkage) * slope


def ar1_path(intercept, slope, last, n_periods, realised=None):
    path, level = [], last
    for period in range(n_periods):
        level = intercept + slope * level
        path.append(level)
        if realised is not None and math.isfinite(realised[period]):
            level = realised[period]
    return path
