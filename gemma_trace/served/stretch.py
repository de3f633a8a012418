"""A stretch of time in a stage, and a step of an engine, on the clock of all: ns since 1970."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gemma_trace.served.steps import StepCounts


class Stretch(NamedTuple):
    """Some time in a stage."""

    start_ns: int
    end_ns: int
    stage: str


@dataclass(frozen=True)
class ServedStep:
    """A step of the engine.

    Attributes:
        end_ns: with the sampling behind it.
        parts: the stages in it, disjoint, by start.
        request_ids: the requests in it, as the engine calls them; empty where that isn't told.
        reading_ids: those of them whose prompt it reads, or a part of it.
        engine: the number of the engine whose it is.
    """

    start_ns: int
    end_ns: int
    counts: StepCounts
    parts: tuple[Stretch, ...]
    request_ids: tuple[str, ...] = ()
    reading_ids: tuple[str, ...] = ()
    engine: int = 0

    @property
    def reads(self) -> bool:
        """Whether it read tokens of a prompt."""
        return self.counts.context_requests != 0

    @property
    def generates(self) -> bool:
        """Whether it gave a token to a request whose prompt it didn't read."""
        return self.counts.generation_requests != 0
