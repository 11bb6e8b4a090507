from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models.kernels import managed_portfolios
from oracles import managed as oracle
from strategies import panels, relaid


@given(panels(min_assets=0, min_chars=0, max_chars=6), st.data())
def test_agrees_with_least_squares(panel, data):
    got = managed_portfolios(data.draw(relaid(panel.characteristics)), panel.returns, panel.mask)
    want = oracle.managed_portfolios(panel.characteristics, panel.returns, panel.usable)
    # The condition number of the random cross-sections, at most 1e4 or so, times rounding.
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def wide_panel(n_assets=200, n_chars=5):
    rng = np.random.default_rng(1)
    return rng.standard_normal((3, n_assets, n_chars)), 0.1 * rng.standard_normal((3, n_assets))


def assert_as_lstsq(z, r, rtol):
    usable = np.ones(r.shape, dtype=bool)
    want = oracle.managed_portfolios(z, r, usable)
    np.testing.assert_allclose(managed_portfolios(z, r), want, rtol=rtol, atol=1e-13)


@pytest.mark.parametrize("kind", ["constant", "zero", "doubled", "sum", "few"])
def test_the_shortest_solution_of_a_singular_date(kind):
    z, r = wide_panel()
    if kind == "constant":
        z[..., 1] = 0.3
    elif kind == "zero":
        z[1, :, 0] = 0.0
    elif kind == "doubled":
        z[..., 4] = -2.0 * z[..., 0]
    elif kind == "sum":
        z[..., 3] = z[..., 0] + z[..., 1] + 1.0
    else:
        z, r = z[:, :4], r[:, :4]
    assert_as_lstsq(z, r, rtol=1e-10)


@pytest.mark.parametrize("closeness", [1e-2, 1e-4, 1e-6, 1e-8])
def test_nearly_tied_characteristics_keep_their_digits(closeness):
    z, r = wide_panel()
    z[..., 1] = z[..., 0] + closeness * z[..., 1]
    # As many digits as lstsq itself has: its condition number is about 1 / closeness.
    assert_as_lstsq(z, r, rtol=1e-13 / closeness**1.5)


def test_units_do_not_matter():
    z, r = wide_panel()
    z[..., 4] = z[..., 0]
    units = np.array([1e-9, 1e9, 1.0, 1e-3, 1e-9])
    want = managed_portfolios(z, r)
    got = managed_portfolios(z * units, r)
    fitted = np.einsum("til,tl->ti", z * units, got[:, :-1]) + got[:, -1:]
    expected = np.einsum("til,tl->ti", z, want[:, :-1]) + want[:, -1:]
    np.testing.assert_allclose(fitted, expected, rtol=1e-10, atol=1e-14)
    # Tied columns in the same unit share their coefficient.
    np.testing.assert_allclose(got[:, 0], got[:, 4], rtol=1e-10)


def test_a_date_without_rows_is_zero():
    z, r = wide_panel()
    r[1] = np.nan
    got = managed_portfolios(z, r)
    np.testing.assert_array_equal(got[1], np.zeros(6))
    assert np.abs(got[[0, 2]]).min() > 0.0


def test_single_precision_input_is_computed_in_double():
    z, r = (x.astype(np.float32) for x in wide_panel())
    np.testing.assert_array_equal(
        managed_portfolios(z, r), managed_portfolios(z.astype(float), r.astype(float))
    )


def test_the_error_names_the_wrong_shape():
    with pytest.raises(ValueError, match=r"returns must have shape \[3, 2\]; got \[3, 4\]"):
        managed_portfolios(np.ones((3, 2, 1)), np.ones((3, 4)))
