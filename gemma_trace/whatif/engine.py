"""`what_if`: what the requests of a trace would take if some of their work were shorter, gone or beside the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np

from gemma_trace.arguments import is_number, shown
from gemma_trace.errors import ConfigError
from gemma_trace.tabular import Tabular
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import Places
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.build import graph_of
from gemma_trace.whatif.facts import Facts
from gemma_trace.whatif.graph import Graph
from gemma_trace.whatif.replay import Replay, Replayed
from gemma_trace.whatif.selection import Pattern, Selector, pattern_of
from gemma_trace.wording import counted

Patterns = str | Sequence[str]

PARTS: Final = 1_000_000
"""Factors are so many parts of one."""
MOST: Final = 1000.0
"""The largest factor."""


@dataclass(frozen=True)
class Change:
    """What is different. Where several patterns select the same work, the last of them counts, and removal in any case.

    Attributes:
        remove: work that isn't there at all.
        scale: work that takes this many times what it took.
        overlap: work that takes what it took on a resource of its own, beside all else: only the request's end waits
            for it.
    """

    remove: tuple[Pattern, ...] = ()
    scale: tuple[tuple[Pattern, float], ...] = ()
    overlap: tuple[Pattern, ...] = ()

    @classmethod
    def of(cls, remove: Patterns = (), scale: Mapping[str, float] | None = None, overlap: Patterns = ()) -> Change:
        """A change, of patterns as text.

        Raises:
            ConfigError: a text is no pattern, or a factor is out of range.
        """
        scaled = tuple((pattern_of(text), _checked(text, factor)) for text, factor in (scale or {}).items())
        return cls(_patterns(remove), scaled, _patterns(overlap))


@dataclass(frozen=True)
class RequestWhatIf:
    """The answer for one request.

    Attributes:
        selected_ns: how long the selected work took, summed up over threads and streams.
        wall_ns, ttft_ns: as measured; the latter None where there is no first token.
        new_wall_ns, new_ttft_ns: as replayed.
    """

    request: int
    label: str
    selected_ns: int
    wall_ns: int
    new_wall_ns: int
    ttft_ns: int | None
    new_ttft_ns: int | None

    @property
    def saved_ns(self) -> int:
        """What the request would gain; below zero what it would lose."""
        return self.wall_ns - self.new_wall_ns

    @property
    def saved_pct(self) -> float:
        """What is saved, in percent of the wall time."""
        return 100 * self.saved_ns / self.wall_ns if self.wall_ns else 0.0

    @property
    def ttft_saved_ns(self) -> int | None:
        """What its first token would gain."""
        return None if self.ttft_ns is None or self.new_ttft_ns is None else self.ttft_ns - self.new_ttft_ns


@dataclass(frozen=True, repr=False)
class WhatIf(Tabular):
    """The requests as they were and as they would be."""

    change: Change
    requests: tuple[RequestWhatIf, ...]

    @property
    def saved_ns(self) -> float:
        """The mean gain of a request."""
        return sum(row.saved_ns for row in self.requests) / len(self.requests) if self.requests else 0.0

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"What if: {counted(len(self.requests), 'request')}, {self.saved_ns / 1e6:,.3f} ms saved each"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per request."""
        for row in self.requests:
            yield {
                "request": row.request,
                "selected_ns": row.selected_ns,
                "wall_ns": row.wall_ns,
                "new_wall_ns": row.new_wall_ns,
                "saved_ns": row.saved_ns,
                "saved_pct": row.saved_pct,
                "ttft_ns": row.ttft_ns,
                "new_ttft_ns": row.new_ttft_ns,
            }


@dataclass
class Engine:
    """Replays the requests of one trace under as many changes as are asked for; their graphs are made once."""

    trace: Trace
    requests: Sequence[Request]
    _replays: dict[int, Replay] = field(default_factory=dict)

    @cached_property
    def facts(self) -> Facts:
        """What all graphs are made of."""
        return Facts(self.trace)

    @cached_property
    def selector(self) -> Selector:
        """What patterns select."""
        return Selector(self.trace)

    def replay(self, request: Request) -> Replay:
        """The replay of a request."""
        if request.index not in self._replays:
            self._replays[request.index] = Replay(graph_of(self.facts, request))
        return self._replays[request.index]

    def what_if(self, change: Change) -> WhatIf:
        """What the requests would take.

        Raises:
            InputError: a pattern selects nothing in this trace.
        """
        return WhatIf(change, tuple(self._request(request, change) for request in self.requests))

    def _request(self, request: Request, change: Change) -> RequestWhatIf:
        replay = self.replay(request)
        graph, select = replay.graph, self.selector.pieces
        removed, aside = (
            _any([select(graph, pattern) for pattern in chosen], graph) for chosen in (change.remove, change.overlap)
        )
        parts = np.full(len(graph.work_ns), PARTS, dtype=np.int64)
        for pattern, factor in change.scale:
            parts[select(graph, pattern)] = round(factor * PARTS)
        new = self.replayed(replay, parts, removed, aside)
        selected = removed | aside | (parts != PARTS)
        was = replay.as_measured
        return RequestWhatIf(
            request.index,
            request.label,
            int(graph.work_ns[selected].sum()),
            was.wall_ns,
            new.wall_ns,
            was.ttft_ns,
            new.ttft_ns,
        )

    def replayed(self, replay: Replay, parts: IntArray, removed: BoolArray, aside: BoolArray) -> Replayed:
        """A request with its pieces changed.

        Args:
            parts: int64 [b], what of each piece's work is left, in `PARTS` of one.
            removed: bool [b], the pieces that aren't there.
            aside: bool [b], the pieces that run beside all others.
        """
        graph, gone = replay.graph, removed | aside
        scaled = _scaled(graph.work_ns, parts)
        new = replay.run(np.where(gone, 0, scaled), gone)
        beside = self._longest_ns(graph, np.where(aside & ~removed, scaled, 0)) if aside.any() else 0
        return Replayed(max(new.wall_ns, beside), new.ttft_ns)

    def _longest_ns(self, graph: Graph, work_ns: IntArray) -> int:
        """The work of the thread or stream that has most of it."""
        spans = self.trace.spans
        moved = np.flatnonzero(work_ns)
        device = graph.is_device[moved]
        span = graph.span[moved]
        columns = (
            np.where(device, -2 - spans.device[span].astype(np.int64), graph.cuts.line[moved]),
            np.where(device, spans.stream[span], 0),
        )
        _, code = np.unique(np.stack(columns), axis=1, return_inverse=True)
        return max((int(work_ns[moved[rows]].sum()) for _, rows in Places(code.reshape(-1))), default=0)


def what_if(trace: Trace, change: Change, request: int | Request | None = None) -> WhatIf:
    """What the requests of a trace would take after a change.

    Args:
        request: one of them alone, by its index or as it is; None is all.

    Raises:
        InputError: there is no such request, or a pattern selects nothing in this trace.
    """
    return Engine(trace, trace.chosen(request)).what_if(change)


def _patterns(given: Patterns) -> tuple[Pattern, ...]:
    return tuple(map(pattern_of, [given] if isinstance(given, str) else given))


def _checked(text: str, factor: float) -> float:
    if not (is_number(factor) and math.isfinite(factor) and 0 <= factor <= MOST):
        raise ConfigError(f"{text}={shown(factor)}: the factor must be from 0 to {MOST:,.0f}")
    return factor


def _any(masks: list[BoolArray], graph: Graph) -> BoolArray:
    none = np.zeros(len(graph.work_ns), dtype=bool)
    combined: BoolArray = np.logical_or.reduce([none, *masks])
    return combined


def _scaled(work_ns: IntArray, parts: IntArray) -> IntArray:
    """int64, ⌊work · parts / PARTS⌋, without a product that is too large."""
    whole, rest = np.divmod(work_ns, PARTS)
    scaled: IntArray = whole * parts + rest * parts // PARTS
    return scaled
