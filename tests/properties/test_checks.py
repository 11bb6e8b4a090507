"""The words of every refusal: name, rule, what was got."""

from __future__ import annotations

import fractions

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml4t.models import checks


@given(st.integers(-(2**40), 2**40), st.sampled_from([int, np.int64]))
def test_integers_pass_as_ints(value, kind):
    got = checks.require_int("n", kind(value))
    assert got == value
    assert type(got) is int


@given(st.integers(-5, 5), st.integers(-5, 5))
def test_the_lower_bound_of_an_integer_is_allowed(value, bound):
    if value >= bound:
        assert checks.require_int("n", value, at_least=bound) == value
    else:
        with pytest.raises(ValueError, match=rf"^n must be an integer >= {bound}; got {value}$"):
            checks.require_int("n", value, at_least=bound)


def test_no_count_is_beyond_what_a_machine_counts():
    assert checks.require_int("n", 2**63 - 1, at_least=0) == 2**63 - 1
    assert checks.require_int("n", 2**70) == 2**70
    with pytest.raises(ValueError, match=r"^n must be an integer >= 0 and < 2\*\*63; got"):
        checks.require_int("n", 2**63, at_least=0)


@pytest.mark.parametrize("value", [True, np.True_, 1.0, None, [1], np.array([1, 2])])
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(ValueError, match=r"^n must be an integer; got"):
        checks.require_int("n", value)


@pytest.mark.parametrize("require", [checks.require_int, checks.require_real, checks.require_bool])
@pytest.mark.parametrize("value", ["1", b"1", np.str_("1")])
def test_text_is_a_type_error(require, value):
    with pytest.raises(TypeError, match=r"^n must be"):
        require("n", value)


@given(st.sampled_from([0.0, 1.0]) | st.floats(-2, 3))
def test_bounds_of_reals_say_what_is_open_and_what_is_closed(value):
    def passes(**bounds):
        try:
            return checks.require_real("x", value, **bounds) == value
        except ValueError:
            return False

    assert passes(above=0, below=1) == (0 < value < 1)
    assert passes(at_least=0, at_most=1) == (0 <= value <= 1)


def test_the_rule_of_a_real_is_spelt_out():
    message = r"^x must be a finite number >= 0 and < 1; got 1.5$"
    with pytest.raises(ValueError, match=message):
        checks.require_real("x", 1.5, at_least=0, below=1)


@pytest.mark.parametrize("value", [1, np.float32(1), np.int8(1), fractions.Fraction(1)])
def test_real_numbers_pass_as_floats(value):
    got = checks.require_real("x", value)
    assert got == 1.0
    assert type(got) is float


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), 10**400, True, None, 1j, np.ones(2)]
)
def test_what_is_no_finite_number_is_refused(value):
    with pytest.raises(ValueError, match=r"^x must be a finite number; got"):
        checks.require_real("x", value)


def test_bools_are_bools_alone():
    assert checks.require_bool("flag", np.True_) is True
    with pytest.raises(ValueError, match=r"^flag must be True or False; got 1$"):
        checks.require_bool("flag", 1)


@pytest.mark.parametrize("value", ["c", None, np.ones(2)])
def test_words_are_of_the_list(value):
    assert checks.require_one_of("kind", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match=r"^kind must be one of a, b; got"):
        checks.require_one_of("kind", value, ("a", "b"))


def test_shapes_say_expected_and_got():
    checks.require_shape("x", (2, 3), (2, 3))
    with pytest.raises(ValueError, match=r"^x must have shape \(2, 3\); got \(3, 2\)$"):
        checks.require_shape("x", (2, 3), (3, 2))
    with pytest.raises(
        ValueError, match=r"^x must have shape \(T,\): expected \(2,\), got \(3,\)$"
    ):
        checks.require_shape("x", (2,), (3,), axes="(T,)")


def test_types_say_wanted_and_got():
    assert checks.require_type("x", 1, int, str) == 1
    with pytest.raises(TypeError, match=r"^x must be a int or str; got float$"):
        checks.require_type("x", 1.0, int, str)
