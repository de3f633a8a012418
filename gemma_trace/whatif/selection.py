"""Which work a pattern such as `family:attention` selects."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.analysis.taxonomy import FAMILIES
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.analysis.work_groups import families
from gemma_trace.analysis.work_pieces import Work, device_work
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.near_names import nearest
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.graph import Graph

_SHOWN: Final = 60


class By(StrEnum):
    """What a pattern is held against."""

    FAMILY = "family"
    """The family of an activity; where nothing ran on a device, of the op that the host's time is of."""
    KERNEL = "kernel"
    """The name of an activity."""
    STAGE = "stage"
    """The stage that the host's time belongs to (the innermost), or that launched an activity."""
    OP = "op"
    """An op's name: all that the host does in it, and the activities that are launched in it."""
    SPAN = "span"
    """The name of any span of the host, e.g. a Python frame: as for an op."""


@dataclass(frozen=True)
class Pattern:
    """A pattern. `text` is a name, in which `*` stands for any text and `?` for any character; case doesn't matter."""

    by: By
    text: str

    def __str__(self) -> str:
        return f"{self.by.value}:{self.text}"

    def matches(self, names: Iterable[str]) -> list[bool]:
        """Which names it is the whole of."""
        # A bracket is a bracket here, since many names have some.
        form = re.compile(fnmatch.translate(self.text.lower().replace("[", "[[]")))
        return [form.match(name.lower()) is not None for name in names]


def pattern_of(text: str) -> Pattern:
    """`family:attention` as a pattern.

    >>> pattern_of("kernel:*align1*")
    Pattern(by=<By.KERNEL: 'kernel'>, text='*align1*')

    Raises:
        ConfigError: it begins with none of the kinds, or nothing follows.
    """
    kind, _, name = text.partition(":")
    if kind not in list(By) or not name:
        known = ", ".join(f"{by.value}:" for by in By)
        raise ConfigError(f"{text!r} selects nothing; begin it with one of {known} and go on with a name")
    return Pattern(By(kind), name)


class Selector:
    """Finds what patterns select in the graphs of one trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._found: dict[Pattern, BoolArray] = {}

    def pieces(self, graph: Graph, pattern: Pattern) -> BoolArray:
        """bool [b], which pieces of a graph a pattern selects.

        Raises:
            InputError: nothing in the whole trace is called so.
        """
        if pattern.by is By.STAGE:
            return self._of_stage(graph, pattern)
        spans = self._spans(pattern)
        return spans[graph.span] & (graph.span >= 0)

    def _spans(self, pattern: Pattern) -> BoolArray:
        """bool [n], the spans whose own time a pattern selects: activities, and spans of the host."""
        if pattern not in self._found:
            self._found[pattern] = {
                By.FAMILY: self._of_family,
                By.KERNEL: self._of_kernel,
                By.OP: self._of_op,
                By.SPAN: self._of_span,
            }[pattern.by](pattern)
        return self._found[pattern]

    def _of_kernel(self, pattern: Pattern) -> BoolArray:
        return self._named(pattern, self._trace.is_activity)

    def _of_op(self, pattern: Pattern) -> BoolArray:
        return self.within(self._named(pattern, self._trace.is_op))

    def _of_span(self, pattern: Pattern) -> BoolArray:
        return self.within(self._named(pattern, self._trace.on_host))

    def _named(self, pattern: Pattern, among: BoolArray) -> BoolArray:
        spans = self._trace.spans
        used = distinct(spans.name[among]).tolist()
        names = [spans.names[code] for code in used]
        fits = np.zeros(len(spans.names), dtype=bool)
        fits[used] = pattern.matches(names)
        if not fits.any():
            raise self._nothing(pattern, names)
        is_chosen: BoolArray = fits[spans.name] & among
        return is_chosen

    def within(self, wanted: BoolArray) -> BoolArray:
        """bool [n], the spans of the host that lie in a wanted one, and the activities that were launched there."""
        inside = self._trace.innermost(wanted) >= 0
        return self.with_activities(inside)

    def with_activities(self, host: BoolArray) -> BoolArray:
        """bool [n], some spans of the host, and the activities that they launched."""
        launch = self._trace.launch
        is_chosen = host.copy()
        is_chosen[self._trace.activities] = (launch >= 0) & host[launch]
        return is_chosen

    def _of_family(self, pattern: Pattern) -> BoolArray:
        trace = self._trace
        is_chosen = np.zeros(len(trace.spans), dtype=bool)
        if len(trace.activities):
            code, names = families(trace, device_work(trace))
            where = trace.activities
        else:
            where = trace.host[trace.innermost_op[trace.host] == trace.host]
            spans = trace.spans
            code, names = families(trace, Work("host", spans.ts_ns[where], spans.ends_ns(where), where, where))
        fits = np.array(pattern.matches(names), dtype=bool)
        chosen = fits[code] if len(code) else np.zeros(0, dtype=bool)
        if not chosen.any():
            present = [names[each] for each in distinct(code).tolist()]
            raise self._nothing(pattern, present if any(pattern.matches(FAMILIES)) else [*present, *FAMILIES])
        is_chosen[where] = chosen
        return is_chosen

    @cached_property
    def _stage(self) -> IntArray:
        """int64 [n + 1], the stage code that each span works for, and at the end that of no span."""
        return np.append(self._trace.working_stages(), self._trace.stage_at(np.array([NONE])))

    def _of_stage(self, graph: Graph, pattern: Pattern) -> BoolArray:
        trace, cuts = self._trace, graph.cuts
        names = [*trace.stage_names, UNLINKED]
        stage = self._stage[graph.span]
        on_thread = cuts.line == 0
        at = cuts.at_ns[on_thread] + graph.request.start_ns
        track = np.full(len(at), graph.request.track, dtype=np.int64)
        stage[on_thread] = trace.stage_of_ranges(trace.stage_range_at(track, at, after=True))
        fits = np.array(pattern.matches(names), dtype=bool)
        if not fits[distinct(np.concatenate((self._stage, stage)))].any():
            raise self._nothing(pattern, [names[code] for code in distinct(self._stage).tolist()])
        is_chosen: BoolArray = fits[stage]
        return is_chosen

    def _nothing(self, pattern: Pattern, names: list[str]) -> InputError:
        near = [name if len(name) <= _SHOWN else f"{name[:_SHOWN]}*" for name in nearest(pattern.text, names)]
        rest = f"; the nearest are {', '.join(map(repr, near))}" if near else ""
        return InputError(f"{self._trace.path} has no {pattern.by.value} {pattern.text!r}{rest}")
