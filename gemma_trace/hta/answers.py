"""What is asked of Holistic Trace Analysis, and what it answers. Plain types, which the command line may import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from gemma_trace.trace.events import BoolArray

AGREEMENT_PCT: Final = 0.1
"""Two figures agree that are no further apart than this."""

MICROSECOND_NS: Final = 1000


class Parts(StrEnum):
    """What HTA runs on beside the whole trace."""

    TRACE = "trace"
    REQUEST = "request"
    STAGE = "stage"


class Analysis(StrEnum):
    """An analysis of HTA's, in the order in which they run: the dearest last."""

    TEMPORAL = "temporal"
    IDLE = "idle"
    KERNELS = "kernels"
    LAUNCHES = "launches"
    QUEUE = "queue"
    BANDWIDTH = "bandwidth"
    OVERLAP = "overlap"
    SEQUENCES = "sequences"
    CRITICAL_PATH = "critical_path"


OF_A_CUT: Final = (
    Analysis.TEMPORAL,
    Analysis.IDLE,
    Analysis.KERNELS,
    Analysis.LAUNCHES,
    Analysis.QUEUE,
    Analysis.BANDWIDTH,
    Analysis.OVERLAP,
)
"""What also runs on the part of a trace that one stage or one request launched."""


@dataclass(frozen=True)
class Scope:
    """A part of a trace: the whole, one request, or one stage of a request."""

    request: int | None = None
    stage: str | None = None

    @property
    def label(self) -> str:
        """The name of the part, for people.

        >>> Scope().label, Scope(1).label, Scope(1, "prefill").label
        ('whole trace', 'request 1', 'prefill')
        """
        if self.stage is not None:
            return self.stage
        return "whole trace" if self.request is None else f"request {self.request}"


@dataclass(frozen=True)
class Call:
    """One analysis to run on a file.

    Attributes:
        scope: what its figures are of.
        options: of HTA's function, by its own names.
    """

    analysis: Analysis
    scope: Scope
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A file for HTA, and what to run on it.

    Attributes:
        unit_ns: what HTA takes for a µs in this file, in ns.
        streams: HTA's stream numbers → the stream's name; a number that isn't there is its own name.
        chosen: bool [m], which device activities of the trace are in the file.
    """

    file: Path
    unit_ns: int
    calls: tuple[Call, ...]
    streams: Mapping[int, str]
    chosen: BoolArray


@dataclass(frozen=True)
class Answer:
    """HTA's answer to a call: a table as columns, or why there is none."""

    task: Task
    call: Call
    frames: Mapping[str, Mapping[str, list[Any]]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure of HTA's, and our own of the same thing.

    Attributes:
        of: the stream, kernel, kind or sequence it is of; empty where it is of the scope.
        measure: its name, with the unit.
        ours: None where we don't measure it.
        cause: why the two differ, where they do.
    """

    analysis: Analysis
    scope: Scope
    of: str
    measure: str
    hta: float
    ours: float | None = None
    cause: str = ""

    @property
    def difference_pct(self) -> float | None:
        """HTA's less ours, in percent of ours; None where one is missing, or ours alone is 0."""
        if self.ours is None or (self.ours == 0 and self.hta != 0):
            return None
        return 100 * (self.hta - self.ours) / self.ours if self.ours else 0.0

    @property
    def agrees(self) -> bool:
        """Whether both measure it, and come to the same."""
        return self.difference_pct is not None and abs(self.difference_pct) <= AGREEMENT_PCT


@dataclass(frozen=True)
class Declined:
    """What HTA didn't do, and why.

    Attributes:
        analysis: None is all of them.
    """

    analysis: Analysis | None
    scope: Scope
    reason: str


@dataclass(frozen=True)
class HtaResult:
    """What HTA has to say of a trace.

    Attributes:
        package: the distribution that brings `hta`, and its version; empty where it never ran.
        as_is: whether HTA was given the trace's own file.
        scopes: what HTA was asked of, in order.
        walls_ns: the requests' wall times, by index.
        remarks: lines on how it was done.
    """

    package: str
    as_is: bool
    scopes: tuple[Scope, ...]
    walls_ns: Mapping[int, int]
    figures: tuple[Figure, ...]
    declined: tuple[Declined, ...]
    remarks: tuple[str, ...] = ()
