"""What rules look at: a trace's requests, with what several rules ask of them worked out once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.metadata import RunMetadata
from gemma_trace.stages import Stage
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.engine import Engine


@dataclass
class Case:
    """A trace and the requests that are looked at.

    Attributes:
        engine: replays them.
    """

    trace: Trace
    requests: Sequence[Request]
    engine: Engine

    @property
    def metadata(self) -> RunMetadata | None:
        """What our capture says of itself; None in others' traces."""
        return self.trace.metadata

    @cached_property
    def on_device(self) -> bool:
        """Whether any activity of a device lies in the requests."""
        return any(len(self.engine.facts.activities_in(request)) for request in self.requests)

    @cached_property
    def wall_ns(self) -> int:
        """The wall time of all requests."""
        return sum(request.wall_ns for request in self.requests)

    @cached_property
    def work_ns(self) -> IntArray:
        """int64 [n], the own time of each span within the requests; without what a thread waits for the device."""
        found = np.zeros(len(self.trace.spans), dtype=np.int64)
        for request in self.requests:
            graph = self.engine.replay(request).graph
            known = graph.span >= 0
            np.add.at(found, graph.span[known], graph.work_ns[known])
        return found

    @cached_property
    def stage(self) -> IntArray:
        """int64 [n], the stage code of each span; of an activity its launch's; one more than there are for unlinked."""
        trace = self.trace
        asked = np.arange(len(trace.spans))
        asked[trace.activities] = trace.launch
        return np.where(asked == NONE, len(trace.stage_names), trace.stage_at(asked))

    @cached_property
    def family(self) -> list[str]:
        """By the code of a name the family of an activity or op of that name."""
        return [family_of(name) for name in self.trace.spans.names]

    def named(self, pattern: str, among: BoolArray) -> BoolArray:
        """bool [n], the spans among some whose name a regular expression of ours is found in."""
        found = re.compile(pattern)
        fits = np.array([found.search(name) is not None for name in self.trace.spans.names], dtype=bool)
        spans: BoolArray = fits[self.trace.spans.name] & among
        return spans

    def of_families(self, *families: str) -> BoolArray:
        """bool [n], the spans whose name is of one of these families."""
        fits = np.array([family in families for family in self.family], dtype=bool)
        spans: BoolArray = fits[self.trace.spans.name]
        return spans

    def within(self, wanted: BoolArray) -> BoolArray:
        """bool [n], the spans of the host that lie in a wanted one, and the activities that were launched there."""
        return self.engine.selector.within(wanted)

    def with_activities(self, host: BoolArray) -> BoolArray:
        """bool [n], some spans of the host, and the activities that they launched."""
        return self.engine.selector.with_activities(host)

    def in_stage(self, *stages: Stage | str) -> BoolArray:
        """bool [n], the spans of some stages, and the activities that they launched."""
        names = [str(stage) for stage in stages]
        codes = [code for code, name in enumerate(self.trace.stage_names) if name in names]
        found: BoolArray = np.isin(self.stage, codes)
        return found

    def stage_name(self, spans: BoolArray) -> str:
        """The stage in which most of the time of some spans lies; "" for none."""
        names = [*self.trace.stage_names, "unlinked"]
        sums = np.zeros(len(names), dtype=np.int64)
        np.add.at(sums, self.stage[spans], self.work_ns[spans])
        return names[int(sums.argmax())] if sums.any() else ""

    def total_ns(self, spans: BoolArray) -> int:
        """The own time of some spans, over all requests."""
        return int(self.work_ns[spans].sum())

    def each_ms(self, spans: BoolArray) -> float:
        """The same as the mean of a request, in ms."""
        return self.total_ns(spans) / len(self.requests) / 1e6
