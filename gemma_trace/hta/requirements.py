"""Why HTA can't do an analysis on a trace: found before it is asked, or read off what it raises. One line each."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Final

import numpy as np

from gemma_trace.hta.answers import Analysis
from gemma_trace.stages import REQUEST_CODE
from gemma_trace.trace.events import LAUNCH_CATEGORIES, NONE, BoolArray
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

SHORTEST: Final = 3
"""The fewest kernels that make a sequence."""

MOST_OPERATORS: Final = 3
"""How many ops HTA is asked for the sequences of, until it finds some."""

FAILED: Final = "HTA failed: "
"""How a reason begins that only HTA knows."""

_COPIES: Final = frozenset({"gpu_memcpy", "gpu_memset", "memcpy", "memset"})
_COMMUNICATION: Final = re.compile(r"nccl.*Kernel")
"""How HTA tells communication: by the beginning of a kernel's name."""

_TOLD: Final = (
    (r"JSONDecodeError", "the file is not valid JSON; without --as-is HTA gets a copy that is"),
    (r"UnicodeDecodeError", "the file is not valid UTF-8; without --as-is HTA gets a copy that is"),
    (r"EOFError|BadGzipFile|zlib", "the compressed file is damaged; without --as-is HTA gets a copy that isn't"),
    (r"MemoryError", "it ran out of memory"),
    (r"no answer within|process|can't be imported|not run|nothing to tell", ""),
)
"""What HTA raises → what it means; an empty text is a line that says enough."""


class Requirements:
    """What HTA needs of a trace."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def reason(self, analysis: Analysis, chosen: BoolArray) -> str:
        """Why an analysis can't be done on these activities; empty where it can be tried.

        Args:
            chosen: bool [m], which activities of the trace.
        """
        if not chosen.any():
            return "it launched no device activity"
        linked = chosen & (self._trace.launch >= 0)
        needs_launches = (Analysis.LAUNCHES, Analysis.QUEUE, Analysis.SEQUENCES, Analysis.CRITICAL_PATH)
        if analysis in needs_launches and not linked.any():
            return "no launch of its device activities is in the trace"
        if analysis is Analysis.BANDWIDTH and not (chosen & self._is_sized_copy).any():
            return "it has no copy or fill whose size is recorded"
        if analysis is Analysis.OVERLAP and not (chosen & self._communicates).any():
            return "it has no communication kernel (HTA knows NCCL's)"
        if analysis is Analysis.SEQUENCES and not self.operators:
            return f"no op launches {SHORTEST} activities or more"
        return ""

    def explained(self, error: str, *, as_is: bool) -> str:
        """What a person is told of what HTA raised on this trace."""
        launch = self._trace.launch
        calls = launch[launch >= 0]
        if "Graph is not valid" in error or "no path through" in error:
            if len(np.unique(calls)) < len(calls):
                return (
                    "HTA's graph of events can't hold a call that launches several activities, as the replay of "
                    "a graph does"
                )
            return "HTA finds a cycle in its own graph of events, or times that contradict each other"
        reason = reason_of(error)
        return f"{reason}; without --as-is it gets a copy" if as_is and reason.startswith(FAILED) else reason

    def unreadable(self) -> str:
        """Why HTA can't read the trace's own file; empty where it can try."""
        name = self._trace.path.name
        return "" if name.endswith((".gz", ".json")) else "HTA reads only files whose names end in .json or .gz"

    def annotation(self) -> str:
        """What the requests' annotations have in their names in the trace's own file; empty is the whole trace."""
        ours = np.flatnonzero(self._trace.stage_range == REQUEST_CODE)
        if len(ours):
            return str(self._trace.spans.names[self._trace.spans.name[ours[0]]])
        return "ProfilerStep" if any(name.startswith("ProfilerStep") for name in self._trace.spans.names) else ""

    @cached_property
    def operators(self) -> list[str]:
        """The ops whose launches of `SHORTEST` activities or more have most of the device's time, the first first.

        Only calls at the op's least depth count: HTA looks at no others.
        """
        trace, spans = self._trace, self._trace.spans
        is_call = spans.in_categories(LAUNCH_CATEGORIES)
        rows = trace.host[(trace.is_op | trace.is_annotation | is_call)[trace.host]]
        nesting = nest(spans.ts_ns[rows], spans.ends_ns(rows), spans.track[rows])
        linked = np.flatnonzero(np.isin(trace.launch, rows))
        at = np.searchsorted(rows, trace.launch[linked])
        length = spans.dur_ns[trace.activities[linked]]
        count = np.zeros(len(rows), dtype=np.int64)
        total = np.zeros(len(rows), dtype=np.int64)
        while len(at):  # a level of nesting a turn
            np.add.at(count, at, 1)
            np.add.at(total, at, length)
            outer = nesting.parent[at]
            at, length = outer[outer != NONE], length[outer != NONE]
        least = np.full(len(spans.names), np.iinfo(np.int64).max)
        np.minimum.at(least, spans.name[rows], nesting.depth)
        rich = (count >= SHORTEST) & trace.is_op[rows] & (nesting.depth == least[spans.name[rows]])
        sums = np.zeros(len(spans.names), dtype=np.int64)
        np.add.at(sums, spans.name[rows[rich]], total[rich])
        order = np.argsort(-sums, kind="stable")[:MOST_OPERATORS]
        return [spans.names[code] for code in order.tolist() if sums[code]]

    @cached_property
    def _is_sized_copy(self) -> BoolArray:
        spans, rows = self._trace.spans, self._trace.activities
        is_copy: BoolArray = spans.in_categories(_COPIES)[rows] & (spans.bytes[rows] > 0) & (spans.dur_ns[rows] > 0)
        return is_copy

    @cached_property
    def _communicates(self) -> BoolArray:
        spans = self._trace.spans
        named = np.array([bool(_COMMUNICATION.match(name)) for name in spans.names], dtype=bool)
        return named[spans.name[self._trace.activities]]


def reason_of(error: str) -> str:
    """What a person is told of what HTA raised, which is one line already.

    >>> reason_of("JSONDecodeError: Expecting value: line 1")
    'the file is not valid JSON; without --as-is HTA gets a copy that is'
    >>> reason_of("KeyError: 'ts'")
    "HTA failed: KeyError: 'ts'"
    """
    for pattern, meaning in _TOLD:
        if re.match(pattern, error) or (not meaning and re.search(pattern, error)):
            return meaning or f"HTA: {error}"
    return f"{FAILED}{error}"
