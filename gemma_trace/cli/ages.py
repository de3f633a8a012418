"""Ages and dates as people give them to options."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Final

from gemma_trace.errors import ConfigError

_UNITS_S: Final = {"h": 3_600, "d": 86_400, "w": 7 * 86_400}
_AGE: Final = re.compile(r"(\d{1,6})([hdw])", re.ASCII)
_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


def age_s(text: str, option: str) -> int:
    """An age such as 30d in seconds.

    Args:
        option: what it was given with, for the message.

    Raises:
        ConfigError: it is none.

    >>> age_s("30d", "--prune-raw-after")
    2592000
    """
    match = _AGE.fullmatch(text)
    if not match:
        raise ConfigError(f"{option} {text!r} is not an age; give a number of hours, days or weeks, e.g. 30d")
    return int(match[1]) * _UNITS_S[match[2]]


def instant_ns(text: str, option: str) -> int:
    """A date, or the instant that is an age ago, in ns since 1970; a date without a time zone is one in UTC.

    Args:
        option: what it was given with, for the message.

    Raises:
        ConfigError: it is neither a date nor an age.

    >>> instant_ns("2026-11-01", "--since")
    1793491200000000000
    """
    if _AGE.fullmatch(text):
        return time.time_ns() - age_s(text, option) * 10**9
    try:
        instant = datetime.fromisoformat(text)
        since = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _START
    except (ValueError, OverflowError):
        message = f"{option} {text!r} is neither a date nor an age; give one like 2026-11-01, or 30d"
        raise ConfigError(message) from None
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
