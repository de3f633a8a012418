"""What rules look at: a trace's requests, with what several rules ask of them worked out once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.advice.checking import AGAIN, compare_command
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.roofline.floor_sums import Floors, floors_of
from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.metadata import RunMetadata
from gemma_trace.peaks import Peaks
from gemma_trace.stages import Stage
from gemma_trace.trace.events import BoolArray, CodeArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.engine import Engine

_FRAME: Final = re.compile(r"\.py\(\d+\): ")
_LIBRARY: Final = re.compile(
    r"(^|/)(torch|torchvision|torchao|numpy|scipy|PIL|triton)/|(^|/)(contextlib|functools|typing|threading|enum|abc)\.py\("
)
"""Frames of what a program stands on, which nobody changes."""


@dataclass
class Case:
    """A trace and the requests that are looked at.

    Attributes:
        engine: replays them.
        peaks: the user's own peak rates of devices.
    """

    trace: Trace
    requests: Sequence[Request]
    engine: Engine
    peaks: Sequence[Peaks] = ()

    @property
    def metadata(self) -> RunMetadata | None:
        """What our capture says of itself; None in others' traces."""
        return self.trace.metadata

    @cached_property
    def on_device(self) -> bool:
        """Whether any activity of a device lies in the requests."""
        return any(len(self.engine.facts.activities_in(request)) for request in self.requests)

    @cached_property
    def kernels(self) -> BoolArray:
        """bool [n], the activities that compute; not copies and fills."""
        return self.trace.is_activity & ~self.of_families("memcpy HtoD", "memcpy DtoH", "memcpy DtoD", "memcpy PtoP")

    @cached_property
    def floors(self) -> Floors:
        """The least time that the stages' work takes."""
        return floors_of(self.trace, breakdown(self.trace, self.only), self.peaks)

    @cached_property
    def wall_ns(self) -> int:
        """The wall time of all requests."""
        return sum(request.wall_ns for request in self.requests)

    @cached_property
    def work_ns(self) -> IntArray:
        """int64 [n], the own time of each span within the requests; without what a thread waits for the device."""
        sums_ns = np.zeros(len(self.trace.spans), dtype=np.int64)
        for request in self.requests:
            graph = self.engine.replay(request).graph
            known = graph.span >= 0
            np.add.at(sums_ns, graph.span[known], graph.work_ns[known])
        return sums_ns

    @cached_property
    def stage(self) -> CodeArray:
        """int32 [n], the stage code that each span works for; one more than there are for unlinked activities."""
        return self.trace.working_stages()

    @cached_property
    def innermost_line(self) -> CodeArray:
        """int32 [n], for each span of the host the innermost frame around it of a program or its model, or `NONE`."""
        lines = np.array([is_line(name) for name in self.trace.spans.names], dtype=bool)
        return self.trace.innermost(lines[self.trace.spans.name] & self.trace.on_host)

    @cached_property
    def family(self) -> list[str]:
        """By the code of a name the family of an activity or op of that name; "" of all other names."""
        trace, spans = self.trace, self.trace.spans
        used = set(distinct(spans.name[trace.is_op | trace.is_activity]).tolist())
        return [family_of(name) if code in used else "" for code, name in enumerate(spans.names)]

    def named(self, pattern: str, among: BoolArray) -> BoolArray:
        """bool [n], the spans among some whose name a regular expression of ours is found in."""
        expression = re.compile(pattern)
        fits = np.array([expression.search(name) is not None for name in self.trace.spans.names], dtype=bool)
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

    def launching(self, activities: BoolArray) -> BoolArray:
        """bool [n], the calls that launched some activities."""
        launch = self.trace.launch[activities[self.trace.activities]]
        launches = np.zeros(len(self.trace.spans), dtype=bool)
        launches[launch[launch >= 0]] = True
        return launches

    def by_request(self, values: Mapping[int, float]) -> npt.NDArray[np.float64]:
        """float64 [n], of each span the value of the request that it or its launch lies in; 1 outside of all.

        Args:
            values: by the index of a request; those that aren't in it have 1.
        """
        trace, factor = self.trace, np.ones(len(self.trace.spans))
        asked = np.arange(len(factor))
        asked[trace.activities] = trace.launch
        at = trace.spans.ts_ns[np.maximum(asked, 0)]
        for request in self.requests:
            inside = (asked >= 0) & (at >= request.start_ns) & (at < request.end_ns)
            factor[inside] = values.get(request.index, 1.0)
        return factor

    @property
    def only(self) -> Request | None:
        """The request that alone is looked at; None where all are."""
        return self.requests[0] if len(self.requests) == 1 else None

    def outermost(self, wanted: BoolArray) -> IntArray:
        """int64, those of some spans that lie in no other of them on their thread, by start."""
        chosen = np.flatnonzero(wanted)
        kept = np.ones(len(chosen), dtype=bool)
        for _, rows in Places(self.trace.spans.track[chosen]):
            end = np.maximum.accumulate(self.trace.spans.ends_ns(chosen[rows]))
            kept[rows[1:]] = self.trace.spans.ts_ns[chosen[rows[1:]]] >= end[:-1]
        outer: IntArray = chosen[kept]
        return outer

    def in_stage(self, *stages: Stage | str) -> BoolArray:
        """bool [n], the spans of some stages, and the activities that they launched."""
        names = [str(stage) for stage in stages]
        codes = [code for code, name in enumerate(self.trace.stage_names) if name in names]
        is_in: BoolArray = np.isin(self.stage, codes)
        return is_in

    def stage_name(self, spans: BoolArray) -> str:
        """The stage in which most of the time of some spans lies; "" for none."""
        names = [*self.trace.stage_names, "unlinked"]
        sums = np.zeros(len(names), dtype=np.int64)
        np.add.at(sums, self.stage[spans], self.work_ns[spans])
        return names[int(sums.argmax())] if sums.any() else ""

    def where(self, spans: BoolArray) -> str:
        """The same, in words."""
        name = self.stage_name(spans)
        return name if name not in ("", Stage.UNATTRIBUTED) else "outside of all stages"

    def total_ns(self, spans: BoolArray) -> int:
        """The own time of some spans, over all requests."""
        return int(self.work_ns[spans].sum())

    def each_ms(self, spans: BoolArray) -> float:
        """The own time of some spans, the mean of a request in ms: of activities where there are some, else of all."""
        activities = spans & self.trace.is_activity
        return self.total_ns(activities if activities.any() else spans) / len(self.requests) / 1e6

    def share(self, spans: BoolArray, of: BoolArray) -> str:
        """`each_ms` of some spans and its share of that of others, as text."""
        part, whole = self.each_ms(spans), self.each_ms(of)
        return f"{part:,.3f} ms ({100 * part / whole:.0f}%)" if whole else f"{part:,.3f} ms"

    def count(self, spans: BoolArray) -> str:
        """How many of some spans a request has in the mean, as text."""
        inside = self.in_requests[spans]
        each = int(inside.sum()) / len(self.requests)
        return f"{each:,.0f}" if each >= 10 or each == int(each) else f"{each:,.1f}"

    @cached_property
    def in_requests(self) -> BoolArray:
        """bool [n], the spans that begin within a request."""
        start = self.trace.spans.ts_ns
        is_in = np.zeros(len(start), dtype=bool)
        for request in self.requests:
            first, last = np.searchsorted(start, (request.start_ns, request.end_ns))
            is_in[first:last] = True
        return is_in

    @property
    def larger_batch(self) -> str:
        """Four times as many prompts as a request has, as the value of an option."""
        batch = self.metadata.config.get("batch") if self.metadata else None
        return str(4 * batch if type(batch) is int and 0 < batch < 1 << 16 else 4)

    def check(self, option: str, after: str, before: str = "") -> str:
        """The command that shows what a capture option brings; of others' traces how to find out.

        Args:
            option: the option of a capture, as `compare --set` takes it.
            after: the value that is advised.
            before: the value that the capture had, where its own record doesn't say it.
        """
        command = compare_command(self.metadata.config, option, after, before) if self.metadata else ""
        return command or AGAIN


def is_line(name: str) -> bool:
    """Whether a frame is of a program or its model, and not of what these stand on.

    >>> is_line("model.py(12): forward"), is_line("torch/nn/functional.py(9): linear"), is_line("aten::mm")
    (True, False, False)
    """
    return _FRAME.search(name) is not None and _LIBRARY.search(name) is None
