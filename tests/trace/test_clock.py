from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gemma_trace.trace.clock import decimal_us_to_ns, ns_to_decimal_us

INT64 = st.integers(min_value=-(2**63), max_value=2**63 - 1)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"0", 0),
        (b"7", 7_000),
        (b"0.001", 1),
        (b"1.5", 1_500),
        (b"1.50", 1_500),
        (b"1.500", 1_500),
        (b"-2.25", -2_250),
        (b"-0.001", -1),
        (b"1600000000000000.001", 1_600_000_000_000_000_001),
        (b"1600000000000000.999", 1_600_000_000_000_000_999),
        (b"9223372036854775.807", 2**63 - 1),
        (b"-9223372036854775.808", -(2**63)),
        (b"123456789012345678901234567890.123", 123_456_789_012_345_678_901_234_567_890_123),
    ],
)
def test_decimals_are_exact_at_any_magnitude(text: bytes, ns: int) -> None:
    assert decimal_us_to_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1e3", 1_000_000),
        (b"1.5E+3", 1_500_000),
        (b"1.6e15", 1_600_000_000_000_000_000),
        (b"1.600000000000000001e15", 1_600_000_000_000_000_001),
        (b"25e-3", 25),
        (b"-25E-3", -25),
    ],
)
def test_scientific_notation_is_exact(text: bytes, ns: int) -> None:
    assert decimal_us_to_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "ns"), [(b'"1.5"', 1_500), (b" 1.5 ", 1_500), (b'"1.5e1"', 15_000), (b"+2", 2_000), (b".5", 500)]
)
def test_times_written_as_text_are_read(text: bytes, ns: int) -> None:
    assert decimal_us_to_ns(text) == ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"0.0005", 0),
        (b"0.0015", 2),
        (b"0.0025", 2),
        (b"0.0035", 4),
        (b"-0.0005", 0),
        (b"-0.0015", -2),
        (b"0.0004999", 0),
        (b"0.0005001", 1),
        (b"0.9995", 1_000),
        (b"5e-4", 0),
        (b"15e-4", 2),
        (b"1600000000000000.0015", 1_600_000_000_000_000_002),
    ],
)
def test_digits_beyond_the_nanosecond_are_rounded_half_to_even(text: bytes, ns: int) -> None:
    assert decimal_us_to_ns(text) == ns


@pytest.mark.parametrize(
    "text",
    [b"", b" ", b"-", b".", b"x", b"1,5", b"0x10", b"1 2", b"nan", b"NaN", b"sNaN", b"inf", b"-Infinity", b"\xff"],
)
def test_what_is_no_finite_number_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"number|NaN|integer"):
        decimal_us_to_ns(text)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, b"0.000"),
        (1, b"0.001"),
        (-1, b"-0.001"),
        (999, b"0.999"),
        (1_000, b"1.000"),
        (-1_500, b"-1.500"),
        (1_600_000_000_000_000_001, b"1600000000000000.001"),
        (-(2**63), b"-9223372036854775.808"),
    ],
)
def test_nanoseconds_are_written_with_three_digits(ns: int, text: bytes) -> None:
    assert ns_to_decimal_us(ns) == text


@given(INT64)
def test_every_int64_survives_the_way_to_decimals_and_back(ns: int) -> None:
    assert decimal_us_to_ns(ns_to_decimal_us(ns)) == ns


@given(INT64)
def test_every_int64_survives_scientific_notation(ns: int) -> None:
    assert decimal_us_to_ns(b"%de-3" % ns) == ns


@given(st.integers(-(10**24), 10**24), st.integers(0, 12))
def test_rounding_agrees_with_exact_fractions(digits: int, places: int) -> None:
    # round() of a Fraction rounds half to even.
    assert decimal_us_to_ns(b"%de-%d" % (digits, places)) == round(Fraction(digits, 10**places) * 1000)


@pytest.mark.parametrize("number", [b"1e999999", b"1e9999999", b"-1e999999"])
def test_a_number_beyond_decimals_range_is_a_value_error(number: bytes) -> None:
    with pytest.raises(ValueError, match="number"):
        decimal_us_to_ns(number)


def test_rounding_looks_at_all_digits() -> None:
    # Decimal's context rounds the product to 28 digits first, to a tie that isn't one.
    assert decimal_us_to_ns(b"0.00250000000000000000000000000001") == 3
    assert decimal_us_to_ns(b"1600000000000000.00050000000000001") == 1_600_000_000_000_000_001
