"""No kernel panics: whatever its input, it gives a result or one of four named errors."""

from __future__ import annotations

import numpy as np
import pytest

from ml4t.models import kernels
from ml4t.models.kernels import Moments

REFUSALS = (ValueError, TypeError, MemoryError, RuntimeError)
# The last line of defence against a panic raises as well: here it counts as one.
PANIC = "which no input should bring about"
ROUNDS, SEED = 200, 20_260_115

ODD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1e308, -1.7e308, 5e-324, 1e-160, 1e98, 1e154]
RULES = ["normal", "ties", "zeros", "odd", "holes", "huge", "tiny"]


class Draw:
    """Degenerate arguments: sizes 0 to 8, values that break arithmetic, at times a wrong size."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def chance(self, share):
        return self.rng.random() < share

    def one(self, choices):
        return choices[int(self.rng.integers(len(choices)))]

    def size(self):
        return int(self.rng.integers(0, 9))

    def sizes(self, n):
        return tuple(self.size() for _ in range(n))

    def wrong(self, shape):
        """Give the shape, or one that does not line up."""
        shape = list(shape)
        if shape and self.chance(0.04):
            shape[int(self.rng.integers(len(shape)))] = self.size()
        return tuple(shape)

    def floats(self, *shape):
        shape = self.wrong(shape)
        values = self.rng.standard_normal(shape)
        rule = self.one(RULES)
        if rule == "ties":
            values = np.round(values)
        elif rule == "zeros":
            values = np.zeros(shape)
        elif rule == "odd":
            values = np.asarray(self.rng.choice(ODD, shape))
        elif rule == "holes":
            values = np.where(self.rng.random(shape) < 0.4, np.nan, values)
        elif rule in ("huge", "tiny"):
            values = values * {"huge": 1e150, "tiny": 1e-300}[rule]
        with np.errstate(over="ignore"):
            values = values.astype(self.one([np.float64, np.float64, np.float32]))
        return values[..., ::-1] if self.chance(0.2) else values

    def mask(self, *shape):
        if self.chance(0.3):
            return None
        return self.rng.choice(np.array([0, 1, 2, 255], np.uint8), self.wrong(shape)).view(bool)

    def number(self, *choices):
        return float(self.one([*choices, *ODD]) if self.chance(0.1) else self.one(choices))

    def windows(self, n_dates):
        ends = np.sort(self.rng.integers(0, n_dates + 2, (self.size(), 2)), axis=1)
        return [(int(a), int(b)) for a, b in ends]

    def moments(self):
        """Give the moments of a panel, or arrays that are none."""
        t, n, chars = self.sizes(3)
        if self.chance(0.7):
            z, r = self.rng.standard_normal((t, n, chars)), self.rng.standard_normal((t, n))
            if self.chance(0.3):
                z, r = self.floats(t, n, chars), self.floats(t, n)
            if z.shape[:2] == r.shape:
                return kernels.panel_moments(z, r, constant=self.chance(0.7))
        width = chars * (chars + 1) // 2
        arrays = (self.floats(t, width), self.floats(t, chars), self.floats(t))
        counts = self.rng.integers(0, 9, self.wrong((t,)), dtype=np.uint32)
        return Moments(counts, *(np.asarray(array, dtype=np.float64) for array in arrays))

    def observed(self, n_dates):
        return None if self.chance(0.5) else self.floats(n_dates, self.size() // 3)

    def settings(self):
        return {
            "max_iter": self.one([1, 20]),
            "factor_ridge": abs(self.number(0.0, 1e-6)),
            "gamma_ridge": abs(self.number(0.0, 1e-6)),
            "weighting": self.one(["panel", "portfolio"]),
            "min_assets": self.one([1, 2]),
            "rank_tolerance": self.one([0.0, 1e-11]),
        }

    def limits(self):
        gross = self.number(0.0, 1.0, 2.0)
        near_gross = gross * (1.0 - 2.0**-53) if np.isfinite(gross) else gross
        cap = self.one([None, self.number(0.1, 0.5, 5e-20, 1e-300)])
        return gross, self.number(0.0, 0.3, gross, -gross, near_gross), cap

    def groups(self, n_assets):
        if self.chance(0.6):
            return None
        ids = self.rng.integers(-2, 3, self.wrong((n_assets,)))
        return ids, self.number(0.2, 0.5, 1.0)


def rp_settings(draw):
    return {
        "gamma": draw.number(-1.0, 0.0, 10.0, -5.0),
        "base_moment": draw.one(["second_moment", "covariance"]),
        "scale_by_asset_volatility": draw.chance(0.5),
        "normalize_loadings": draw.one(["unit_length", "variance"]),
        "orthogonalize_factors": draw.chance(0.5),
    }


def normalize_weights(draw):
    shape = draw.sizes(3)
    gross, net, cap = draw.limits()
    options = {"gross": gross, "net": net, "cap": cap, "groups": draw.groups(shape[2])}
    return kernels.normalize_weights(draw.floats(*shape), draw.mask(*shape), **options)


def walk_within_turnover(draw):
    windows, dates, assets = draw.sizes(3)
    shape = (windows, dates, draw.one([assets, assets, assets, 12]))
    previous = draw.one([None, draw.floats(windows, shape[2])])
    options = {"limits": draw.limits(), "turnover_limit": draw.number(0.0, 0.1, 1.0)}
    options["groups"] = draw.groups(shape[2])
    wanted, mask = draw.floats(*shape), draw.mask(*shape)
    return kernels.walk_within_turnover(wanted, mask, previous, **options)


def with_panel(kernel):
    def call(draw):
        t, n, chars = draw.sizes(3)
        return kernel(draw.floats(t, n, chars), draw.floats(t, n), draw.mask(t, n))

    return call


def row_moments(draw):
    n, chars, dates = draw.sizes(3)
    offsets = np.sort(draw.rng.integers(0, n + 1, dates))
    if dates and draw.chance(0.8):
        offsets[0], offsets[-1] = 0, n
    return kernels.row_moments(draw.floats(n, chars), draw.floats(n), offsets)


def correlation(draw):
    t, n = draw.sizes(2)
    a, b, mask = draw.floats(t, n), draw.floats(t, n), draw.mask(t, n)
    return kernels.cross_sectional_correlation(a, b, mask, rank=draw.chance(0.5))


def ipca(draw):
    moments = draw.moments()
    t, p = moments.cross.shape
    k, observed = draw.size() // 2, draw.observed(t)
    m = 0 if observed is None else observed.shape[1]
    start = draw.one([None, draw.floats(p, k + m)])
    options = draw.settings()
    return kernels.ipca(moments, k, observed=observed, start=start, **options)


def ipca_factors(draw):
    moments = draw.moments()
    t, p = moments.cross.shape
    k, m = draw.size() // 2, draw.size() // 3
    return kernels.ipca_factors(
        moments,
        draw.floats(p, k),
        gamma_observed=draw.floats(p, m),
        observed=draw.floats(t, m),
        ridge=abs(draw.number(0.0, 1e-6)),
        instrument_second_moment=draw.one([None, draw.floats(p, p)]),
    )


def fit_measures(draw):
    moments, q = draw.moments(), draw.size()
    t, p = moments.cross.shape
    return kernels.ipca_fit_measures(moments, draw.floats(p, q), draw.floats(t, q))


def loadings_of(draw):
    """Give moments, loadings that are orthonormal or not, and observed factors."""
    moments = draw.moments()
    t, p = moments.cross.shape
    observed = draw.observed(t)
    k = draw.size() // 2
    gamma = draw.floats(p, k + (0 if observed is None else observed.shape[1]))
    if draw.chance(0.7) and np.isfinite(gamma).all():
        gamma = np.linalg.qr(gamma.astype(np.float64))[0]
    return moments, gamma, observed


def bootstrap(draw):
    moments, gamma, observed = loadings_of(draw)
    first, n = draw.sizes(2)
    return kernels.ipca_bootstrap(
        moments,
        gamma,
        draw.one([draw.floats(*gamma.shape), np.ones(gamma.shape), np.eye(*gamma.shape)]),
        observed=observed,
        draws=range(first, first + n),
        t_variance=abs(draw.number(1.0, 0.5)),
        **draw.settings(),
    )


def influence(draw):
    moments, gamma, observed = loadings_of(draw)
    return kernels.ipca_influence(moments, gamma, observed=observed, **draw.settings())


def bootstrap_noise(draw):
    first, n, t = draw.sizes(3)
    variance = abs(draw.number(1.0, 0.5))
    return kernels.ipca_bootstrap_noise(t, draws=range(first, first + n), t_variance=variance)


def rolling(kernel, options):
    def call(draw):
        t, n = draw.sizes(2)
        return kernel(draw.floats(t, n), draw.size(), draw.windows(t), **options(draw))

    return call


def set_threads(draw):
    before = kernels.get_num_threads()
    try:
        kernels.set_num_threads(draw.one([0, 1, 2, 5000]))
    finally:
        kernels.set_num_threads(before)


def gaps(draw):
    return {"missing": draw.one(["mean", "em"])}


def project_pca(draw):
    t, n, k = draw.sizes(3)
    arrays = draw.floats(t, n), draw.floats(n), draw.floats(n, k)
    return kernels.project_pca(*arrays, **gaps(draw))


def project_rp_pca(draw):
    t, n, k = draw.sizes(3)
    return kernels.project_rp_pca(draw.floats(t, n), draw.floats(n, k))


CASES = {
    "average_ranks": lambda d: kernels.average_ranks(
        d.floats(*d.sizes(d.one([1, 2, 3, 3]))), scaled=d.chance(0.5)
    ),
    "content_digest": lambda d: kernels.content_digest(
        d.one([d.floats(*d.sizes(2)), np.arange(8) > d.size()])
    ),
    "cross_sectional_correlation": correlation,
    "get_num_threads": lambda d: kernels.get_num_threads(),
    "ipca": ipca,
    "ipca_bootstrap": bootstrap,
    "ipca_bootstrap_noise": bootstrap_noise,
    "ipca_factors": ipca_factors,
    "ipca_fit_measures": fit_measures,
    "ipca_influence": influence,
    "managed_portfolios": with_panel(kernels.managed_portfolios),
    "normalize_weights": normalize_weights,
    "panel_moments": with_panel(kernels.panel_moments),
    "pca": lambda d: kernels.pca(d.floats(*d.sizes(2)), d.size(), **gaps(d)),
    "project_pca": project_pca,
    "project_rp_pca": project_rp_pca,
    "rolling_pca": rolling(kernels.rolling_pca, gaps),
    "rolling_rp_pca": rolling(kernels.rolling_rp_pca, rp_settings),
    "row_moments": row_moments,
    "rp_pca": lambda d: kernels.rp_pca(d.floats(*d.sizes(2)), d.size(), **rp_settings(d)),
    "set_num_threads": set_threads,
    "walk_within_turnover": walk_within_turnover,
}


def test_every_kernel_is_tried():
    names = [
        name for name in kernels.__all__ if not isinstance(getattr(kernels, name), (type, str))
    ]
    assert sorted(names) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_no_kernel_panics(name):
    texts = [outcome(CASES[name], Draw([SEED, seed])) for seed in range(ROUNDS)]
    panics = {seed: text for seed, text in enumerate(texts) if PANIC in text}
    assert not panics
    # Most inputs are degenerate; some must get through, or nothing is tried.
    assert texts.count("") > ROUNDS / 60


def outcome(call, draw):
    """Give the text of a refusal, or none."""
    try:
        call(draw)
    except REFUSALS as error:
        return str(error)
    return ""


HUGE = 1.7e308
NO_INSTRUMENT = kernels.panel_moments(np.zeros((3, 4, 0)), np.ones((3, 4)), constant=False)
ONE = kernels.panel_moments(np.ones((3, 4, 1)), np.ones((3, 4)), constant=True)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda: kernels.ipca(NO_INSTRUMENT, 0, observed=np.ones((3, 1))),
            "the number of instruments must be at least 1; got 0",
        ),
        (
            lambda: kernels.ipca_fit_measures(NO_INSTRUMENT, np.zeros((0, 1)), np.ones((3, 1))),
            "the number of instruments must be at least 1; got 0",
        ),
        (
            lambda: kernels.project_rp_pca(np.full((2, 3), np.nan), np.zeros((3, 0))),
            "columns of factor_weights must be at least 1; got 0",
        ),
        (
            lambda: kernels.project_pca(
                np.array([[np.nan, 1.0]]), np.zeros(2), np.zeros((2, 0)), missing="em"
            ),
            "columns of loadings must be at least 1; got 0",
        ),
        (
            lambda: kernels.ipca_factors(
                Moments(ONE.n_assets, ONE.gram[:, :2], ONE.cross, ONE.return_squares),
                np.ones((2, 1)),
            ),
            r"gram must have shape \[3, 3\]; got \[3, 2\]",
        ),
        (
            lambda: kernels.normalize_weights(
                np.arange(3000.0)[None, None], gross=1.0, net=1.0 - 2.0**-52, cap=5e-20
            ),
            "3000 available assets cannot support",
        ),
        (
            lambda: kernels.walk_within_turnover(
                np.array([[[-HUGE, 0.0]]]),
                previous=np.array([[HUGE, 0.0]]),
                limits=(1.0, 0.0, None),
                turnover_limit=1.0,
            ),
            "previous_weights must be within",
        ),
        (
            lambda: kernels.walk_within_turnover(
                np.array([[[-HUGE, HUGE]]]), limits=(1.0, 0.0, None), turnover_limit=1.0
            ),
            "weights must be within ±1e6 under a cap or a turnover limit",
        ),
    ],
    ids=[
        "ipca of no instrument",
        "measures of no instrument",
        "projection on no factor",
        "projection on no loadings",
        "a Gram matrix of another shape",
        "more assets needed than can be counted",
        "a previous book that overflows",
        "a wanted book that overflows",
    ],
)
def test_what_made_a_kernel_panic_is_refused_by_name(call, words):
    with pytest.raises(ValueError, match=words):
        call()
