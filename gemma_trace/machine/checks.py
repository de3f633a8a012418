"""What a look at this machine finds: one check with its status, and what mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check went."""

    OK = "ok"
    MISSING = "missing"
    """A capture needs it."""
    ABSENT = "absent"
    """Nothing needs it, but something more could be done with it."""


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        found: what is there, or what isn't.
        mend: the command or the step that mends it; "" where there is nothing to mend.
    """

    name: str
    status: CheckStatus
    found: str
    mend: str = ""
