"""What a rule is: a function that looks at a case and says what it found, or what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from gemma_trace.advice.findings import Confidence
from gemma_trace.trace.events import BoolArray

if TYPE_CHECKING:
    from gemma_trace.advice.case import Case


@dataclass(frozen=True)
class Candidate:
    """What a rule found. The ceiling isn't its own business: it comes of the effect, by replay.

    Attributes:
        spans: bool [n], whose own time the change takes away: activities, and spans of the host.
        left: what is left of it, 0 to 1; of all, or float64 [n].
        aside: whether it is not taken away but put beside all else.
    """

    change: str
    where: str
    evidence: str
    spans: BoolArray
    confidence: Confidence
    check: str
    left: float | npt.NDArray[np.float64] = 0.0
    aside: bool = False


@dataclass(frozen=True)
class Lacking:
    """Why a rule can't look.

    Attributes:
        missing: what the trace lacks.
        record: what to record.
    """

    missing: str
    record: str


Look = Callable[["Case"], Iterator[Candidate | Lacking]]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Attributes:
        source: where it is from, e.g. the documentation that recommends the change.
        looks_for: what it looks for, with its thresholds.
        leaves: what would be left of that, at the least.
    """

    name: str
    source: str
    look: Look
    looks_for: str
    leaves: str
