"""Times in a trace's JSON are decimal microseconds; inside they are integer nanoseconds. Both ways, exactly.

A float64 holds epoch microseconds to 250 ns only, so nothing here goes through a float.
"""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(rb"(-?)(\d{1,30})(?:\.(\d{1,3}))?")

_UNUSUAL: Final = re.compile(rb"[\s\"]*+[+-]?[.0-9]")

MAX_TIME_NS: Final = 2**62
"""Times and lengths below this fit 64 bits, and so does their sum. It is the year 2116."""

MAX_DIGITS: Final = 300
"""No clock writes a number longer than this, nor one with more digits before the point."""


def decimal_us_to_ns(text: bytes) -> int:
    """Decimal microseconds, as a JSON number or the text in a JSON string, to integer nanoseconds.

    Digits beyond the nanosecond are rounded half to even.

    >>> decimal_us_to_ns(b"1600000000000000.001")
    1600000000000000001
    >>> decimal_us_to_ns(b"1.5e3")
    1500000

    Raises:
        ValueError: it is no finite number.
    """
    plain = _PLAIN.fullmatch(text)
    if plain:
        sign, whole, fraction = plain.groups(b"")
        ns = int(whole) * 1000 + int(fraction.ljust(3, b"0"))
        return -ns if sign else ns
    return _unusual_us_to_ns(text)


def time_ns(value: bytes) -> int | None:
    """The nanoseconds of an event's `ts` or `dur`, as the JSON text of its value.

    Returns:
        None where there is no value, it is no number, or 64 bits don't hold its sum with another.

    >>> time_ns(b'"12.5"'), time_ns(b"null")
    (12500, None)
    """
    try:
        ns = decimal_us_to_ns(value.strip(b'" ') if value.startswith(b'"') else value)
    except ValueError:
        return None
    return ns if abs(ns) < MAX_TIME_NS else None


def _unusual_us_to_ns(text: bytes) -> int:
    """Exponents, more than three decimals, quotes."""
    from decimal import ROUND_HALF_EVEN, Decimal, DecimalException, localcontext

    try:
        if len(text) > MAX_DIGITS or not _UNUSUAL.match(text):
            raise ValueError("too long, or no number")
        with localcontext(prec=len(text) + 8):  # so that nothing is rounded before the end
            number = Decimal(text.decode("ascii").strip().strip('"'))
            if not number.is_finite() or number.adjusted() > MAX_DIGITS:
                raise ValueError("too large")
            return int((number * 1000).to_integral_value(rounding=ROUND_HALF_EVEN))
    except (DecimalException, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{text[:40]!r} is no number of microseconds") from error


def ns_to_decimal_us(ns: int) -> bytes:
    """Integer nanoseconds to decimal microseconds with three digits, as Kineto writes them.

    >>> ns_to_decimal_us(-1_002_003)
    b'-1002.003'
    """
    sign = b"-" if ns < 0 else b""
    return sign + b"%d.%03d" % divmod(abs(ns), 1000)
