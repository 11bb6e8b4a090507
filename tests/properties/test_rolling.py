"""A window of a rolling fit is the fit of the window."""

from __future__ import annotations

import numpy as np
import pytest

from ml4t.models.kernels import (
    get_num_threads,
    pca,
    rolling_pca,
    rolling_rp_pca,
    rp_pca,
    set_num_threads,
)

# The bound that the kernels promise, relative to the largest entry.
RTOL = 1e-9
PANELS = {"wide": (150, 200), "tall": (400, 40), "square": (120, 110)}
SPANS = {
    "rolling": lambda n: [(end - 60, end) for end in range(60, n + 1, 3)],
    "expanding": lambda n: [(0, end) for end in range(60, n + 1, 5)],
    "unordered": lambda n: [(n - 70, n), (0, 65), (30, 100), (0, n)],
}


def factor_panel(n_dates, n_assets, missing=0.0):
    rng = np.random.default_rng(3)
    factors = rng.standard_normal((n_dates, 3)) * [4.0, 2.0, 1.2] + [0.9, 0.6, 0.8]
    panel = factors @ rng.standard_normal((3, n_assets))
    panel += 0.3 * rng.standard_normal((n_dates, n_assets)) + 2.0
    panel[rng.random(panel.shape) < missing] = np.nan
    return panel


def assert_close(got, expected, name):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=RTOL * scale, err_msg=name)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize("spans", SPANS)
@pytest.mark.parametrize("shape", PANELS)
def test_pca(shape, spans, missing):
    panel = factor_panel(*PANELS[shape], missing=missing)
    windows = SPANS[spans](len(panel))
    found = rolling_pca(panel, 3, windows)
    for row, (start, stop) in enumerate(windows):
        single = pca(panel[start:stop], 3)
        for name in found.__slots__:
            assert_close(getattr(found, name)[row], getattr(single, name), name)


@pytest.mark.parametrize("missing", [0.0, 0.1])
@pytest.mark.parametrize(
    "choice",
    [
        {"gamma": 10.0},
        {"gamma": -1.0},
        {"gamma": -5.0},
        {"gamma": 3.0, "base_moment": "covariance", "orthogonalize_factors": True},
        {"gamma": 10.0, "scale_by_asset_volatility": True, "normalize_loadings": "variance"},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", PANELS)
def test_rp_pca(shape, choice, missing):
    panel = factor_panel(*PANELS[shape], missing=missing)
    windows = [(end - 60, end) for end in range(60, len(panel) + 1, 20)]
    found = rolling_rp_pca(panel, 3, windows, **choice)
    for row, (start, stop) in enumerate(windows):
        single = rp_pca(panel[start:stop], 3, **choice)
        shared = set(found.__slots__) & set(single.__slots__)
        assert len(shared) == 6
        for name in shared:
            assert_close(getattr(found, name)[row], getattr(single, name), name)
        assert_close(found.factor_means[row], single.factors.mean(axis=0), "means")
        covariance = np.cov(single.factors.T, ddof=0)
        assert_close(found.factor_covariances[row], covariance, "covariances")


def test_windows_of_noise_without_a_gap():
    panel = np.random.default_rng(8).standard_normal((200, 300))
    windows = [(end - 120, end) for end in range(120, 201, 8)]
    found = rolling_pca(panel, 4, windows)
    for row, (start, stop) in enumerate(windows):
        single = pca(panel[start:stop], 4)
        np.testing.assert_allclose(found.loadings[row], single.loadings, atol=1e-8)


def test_a_jump_of_the_market_between_windows_is_no_trap():
    # The carried vectors know nothing of what comes: a start that is exactly orthogonal to it.
    rng = np.random.default_rng(4)
    early = np.zeros((100, 150))
    late = np.zeros((100, 150))
    early[:, :75] = rng.standard_normal((100, 2)) @ rng.standard_normal((2, 75))
    late[:, 75:] = rng.standard_normal((100, 2)) @ rng.standard_normal((2, 75))
    panel = np.vstack([early, late]) + 1e-3 * rng.standard_normal((200, 150))
    windows = [(0, 100), (100, 200), (0, 100)]
    found = rolling_pca(panel, 2, windows)
    for row, (start, stop) in enumerate(windows):
        assert_close(found.loadings[row], pca(panel[start:stop], 2).loadings, "loadings")


def test_a_block_of_new_assets_that_knows_nothing_of_the_old_is_no_trap():
    # Exactly orthogonal returns: carried vectors have nothing in common with the late factors.
    rng = np.random.default_rng(4)
    panel = np.zeros((200, 160))
    panel[:120, :80] = rng.standard_normal((120, 2)) @ rng.standard_normal((2, 80))
    panel[120:, 80:] = 5 * rng.standard_normal((80, 2)) @ rng.standard_normal((2, 80))
    windows = [(start, start + 100) for start in range(0, 101, 4)]
    for kernel in (rolling_pca, rolling_rp_pca):
        found = kernel(panel, 2, windows)
        single = {rolling_pca: pca, rolling_rp_pca: rp_pca}[kernel]
        for row, (start, stop) in enumerate(windows):
            assert_close(found.loadings[row], single(panel[start:stop], 2).loadings, "loadings")


def test_slowly_moving_factors_are_followed_over_many_windows():
    rng = np.random.default_rng(6)
    turn = np.linspace(0.0, 3.0, 500)[:, None]
    first, second = rng.standard_normal((2, 120))
    strong = rng.standard_normal((500, 1)) * (np.cos(turn) * first + np.sin(turn) * second)
    panel = 3 * strong + rng.standard_normal((500, 120))
    panel += rng.standard_normal((500, 1)) * rng.standard_normal(120)
    windows = [(end - 120, end) for end in range(120, 501)]
    found = rolling_pca(panel, 2, windows)
    for row, (start, stop) in enumerate(windows):
        single = pca(panel[start:stop], 2)
        for name in found.__slots__:
            assert_close(getattr(found, name)[row], getattr(single, name), name)


@pytest.mark.parametrize("length", ["short", "long"])
@pytest.mark.parametrize("kernel", [rolling_pca, rolling_rp_pca])
def test_same_bits_for_any_number_of_threads(kernel, length):
    if length == "short":
        panel, windows = factor_panel(150, 200), [(end - 60, end) for end in range(60, 151)]
    else:
        panel, windows = long_panel(), LONG_SPANS["expanding"]
    before, results = get_num_threads(), []
    try:
        for n_threads in (1, 2, 5):
            set_num_threads(n_threads)
            results.append(kernel(panel, 3, windows))
    finally:
        set_num_threads(before)
    for other in results[1:]:
        for name in other.__slots__:
            np.testing.assert_array_equal(getattr(other, name), getattr(results[0], name))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_layout_and_type_do_not_matter(dtype):
    panel = factor_panel(100, 120).astype(dtype)
    windows = [(end - 60, end) for end in range(60, 101, 10)]
    plain = rolling_pca(panel, 3, windows)
    other = rolling_pca(np.asfortranarray(panel).astype(np.float64), 3, windows)
    np.testing.assert_array_equal(other.loadings, plain.loadings)


@pytest.mark.parametrize("later", ["other", "huge", "missing"])
@pytest.mark.parametrize("kernel", [rolling_pca, lambda *a: rolling_rp_pca(*a, gamma=10.0)])
def test_later_returns_change_no_bit_of_an_earlier_window(kernel, later):
    panel = factor_panel(130, 150)
    windows = [(0, end) for end in range(60, 131, 10)]
    seen = kernel(panel, 3, windows)
    changed = panel.copy()
    changed[100:] = {"other": -panel[100:], "huge": 1e6 * panel[100:], "missing": panel[100:]}[
        later
    ]
    if later == "missing":
        changed[100:, ::3] = np.nan
    blind = kernel(changed, 3, windows)
    for name in seen.__slots__:
        np.testing.assert_array_equal(getattr(blind, name)[:5], getattr(seen, name)[:5])


@pytest.mark.parametrize("span", [None, 80], ids=["expanding", "rolling"])
@pytest.mark.parametrize("shape", [(131, 150), (140, 128), (150, 90), (150, 31)], ids=str)
@pytest.mark.parametrize("kernel", [rolling_pca, lambda *a: rolling_rp_pca(*a, gamma=10.0)])
def test_windows_to_come_change_no_bit(kernel, shape, span):
    # A last tile of few dates, more dates than assets, more than a Gram matrix takes.
    panel = factor_panel(*shape)
    ends = range(115, len(panel) + 1, 1 if span is None else 6)
    windows = [(0 if span is None else end - span, end) for end in ends]
    whole = kernel(panel, 3, windows)
    for n in range(1, len(windows)):
        part = kernel(panel[: windows[n - 1][1]], 3, windows[:n])
        for name in whole.__slots__:
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:n])


@pytest.mark.parametrize("stride", [1, 21, 40, 41])
@pytest.mark.parametrize("kernel", [rolling_pca, rolling_rp_pca])
def test_windows_of_a_year_of_days_are_fits_of_their_own(kernel, stride):
    # Runs that end since their dates are twice a window's, or since the next window is far.
    panel = factor_panel(700, 300)
    windows = [(end - 250, end) for end in range(250, 701, stride)][:80]
    single = {rolling_pca: pca, rolling_rp_pca: rp_pca}[kernel]
    found = kernel(panel, 3, windows)
    for row, (start, stop) in list(enumerate(windows))[:: 1 + len(windows) // 12]:
        expected = single(panel[start:stop], 3)
        for name in set(found.__slots__) & set(expected.__slots__):
            assert_close(getattr(found, name)[row], getattr(expected, name), name)


def test_windows_beside_a_gap_in_the_data_are_fits_of_their_own():
    # The first window sees all, the next miss a date, the last are complete again.
    panel = factor_panel(160, 200)
    panel[65, ::4] = np.nan
    windows = [(end - 60, end) for end in range(60, 161, 4)]
    found = rolling_pca(panel, 3, windows)
    for row, (start, stop) in enumerate(windows):
        assert_close(found.loadings[row], pca(panel[start:stop], 3).loadings, "loadings")


def test_no_windows_give_no_fits():
    assert rolling_pca(factor_panel(20, 10), 2, []).loadings.shape[0] == 0


@pytest.mark.parametrize("window", [(5, 5), (8, 3), (0, 21)])
def test_refuses_a_window_outside_the_panel(window):
    with pytest.raises(ValueError, match="windows must be non-empty ranges of the 20 dates"):
        rolling_pca(factor_panel(20, 30), 2, [(0, 20), window])


def test_refuses_a_window_with_too_few_dates():
    with pytest.raises(ValueError, match="n_factors must be between 1 and 3"):
        rolling_pca(factor_panel(20, 30), 4, [(0, 20), (3, 6)])


def test_refuses_an_asset_that_a_window_does_not_see():
    panel = factor_panel(20, 30)
    panel[:10, 7] = np.nan
    with pytest.raises(ValueError, match="no finite entry for asset 7"):
        rolling_pca(panel, 2, [(0, 20), (0, 9)])


def long_panel(n_assets=450, n_dates=480):
    """Six factors of falling strength."""
    rng = np.random.default_rng(9)
    strength = np.array([4.0, 3.0, 2.4, 2.0, 1.6, 0.4])
    factors = rng.standard_normal((n_dates, 6)) * strength + 0.3
    return factors @ rng.standard_normal((6, n_assets)) + 3 * rng.standard_normal(
        (n_dates, n_assets)
    )


LONG_SPANS = {
    "expanding": [(0, end) for end in range(440, 481)],
    "by two dates": [(0, end) for end in range(440, 481, 2)],
    "rolling": [(end - 420, end) for end in range(430, 481)],
    "jumping": [(end - 420, end) for end in (430, 431, 432, 460, 461, 440, 440, 441, 443)],
}


@pytest.mark.parametrize("n_factors", [2, 5])
@pytest.mark.parametrize("spans", LONG_SPANS)
@pytest.mark.parametrize("kernel", [rolling_pca, rolling_rp_pca])
def test_long_windows_that_follow_closely(kernel, spans, n_factors):
    panel, windows = long_panel(), LONG_SPANS[spans]
    single = {rolling_pca: pca, rolling_rp_pca: rp_pca}[kernel]
    found = kernel(panel, n_factors, windows)
    for row, (start, stop) in enumerate(windows):
        expected = single(panel[start:stop], n_factors)
        for name in set(found.__slots__) & set(expected.__slots__):
            assert_close(getattr(found, name)[row], getattr(expected, name), name)


@pytest.mark.parametrize("later", ["other", "huge", "missing"])
@pytest.mark.parametrize("kernel", [rolling_pca, rolling_rp_pca])
def test_later_returns_change_no_bit_of_an_earlier_long_window(kernel, later):
    panel, windows = long_panel(), LONG_SPANS["expanding"]
    seen = kernel(panel, 5, windows)
    changed = panel.copy()
    changed[444:] *= {"other": -1.0, "huge": 1e6, "missing": 1.0}[later]
    if later == "missing":
        changed[444:, ::3] = np.nan
    blind = kernel(changed, 5, windows)
    for name in seen.__slots__:
        np.testing.assert_array_equal(getattr(blind, name)[:5], getattr(seen, name)[:5])


@pytest.mark.parametrize("kernel", [rolling_pca, rolling_rp_pca])
def test_a_factor_of_new_assets_alone_is_found_in_long_windows(kernel):
    # Exactly orthogonal to all before: only the new dates point to it.
    panel = np.hstack([long_panel(400), np.zeros((480, 60))])
    shock = np.random.default_rng(2).standard_normal((2, 60))
    panel[445:, 400:] = 12 * np.random.default_rng(5).standard_normal((35, 2)) @ shock
    windows = LONG_SPANS["expanding"]
    single = {rolling_pca: pca, rolling_rp_pca: rp_pca}[kernel]
    found = kernel(panel, 5, windows)
    for row, (start, stop) in enumerate(windows):
        assert_close(found.loadings[row], single(panel[start:stop], 5).loadings, "loadings")
