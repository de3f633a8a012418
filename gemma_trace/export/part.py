"""A trace's part of a file for viewers: its events and arrows, its stages and counters, the names of its tracks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gemma_trace.export.added_events import AddedEvents
from gemma_trace.export.ids import ViewerIds
from gemma_trace.export.layout import lay_out
from gemma_trace.export.links import LinkNumbers
from gemma_trace.export.rewriter import Rewriter
from gemma_trace.export.viewer_file import ViewerFile
from gemma_trace.printable import path_text
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.reader import stream_events
from gemma_trace.trace.trace import Trace

DISPLACED: Final = "displaced"
"""Why a span is left out: it is at time zero, or decades away from all others."""


@dataclass(frozen=True)
class ExportRecord:
    """What was done to a trace's times and tracks; embedded in the export as its top-level `gemma_trace_export`.

    Attributes:
        source: the trace's file name.
        shift_ns: what was taken off every time, so that the first event is at 0.
        moved_spans: spans that crossed another and are on a track of their own below it.
        cut_spans: spans that were cut short: for want of further tracks, or because their recorded length can't be.
    """

    source: str
    shift_ns: int
    moved_spans: int
    cut_spans: int


@dataclass(frozen=True)
class ExportResult:
    """What was written of a trace.

    Attributes:
        written: the trace's events, by their `ph`; a `B` and its `E` are one `X`.
        added: events of ours: stages, counters, names.
        left_out: events that no viewer can show, by why.
    """

    record: ExportRecord
    written: dict[str, int]
    added: int
    left_out: dict[str, int]


class TracePart:
    """Writes a trace's part: first what is added, then its events, and at last the names of its tracks.

    Args:
        shift_ns: what is taken off every time.
        sort_index: where the first of its processes stands among the file's.
    """

    def __init__(
        self, trace: Trace, ids: ViewerIds, shift_ns: int, sort_index: int, file: ViewerFile, links: LinkNumbers
    ) -> None:
        layout = lay_out(trace)
        cut = layout.cut_short + len(trace.implausible.overlong)
        self.record = ExportRecord(path_text(trace.path.name), shift_ns, layout.moved, cut)
        self._trace, self._ids, self._file, self._sort_index = trace, ids, file, sort_index
        self._rewriter = Rewriter(trace, layout, ids, file.events, file.arrows, shift_ns, file.scrub.distinct, links)
        self._added = AddedEvents(trace, ids, shift_ns, sort_index)
        self._of_trace: Counter[str] = Counter()

    def write_events(self, on_bytes: Callable[[int], None] | None) -> None:
        """Write what is added, and the trace's events.

        Args:
            on_bytes: hears how many bytes of the trace's file were read, each time some are.

        Raises:
            InputError: the trace's file is gone, or it has grown since it was read.
        """
        rewriter = self._rewriter
        self._file.add_first_of(self._added.first())
        for events in self._added.events():  # first: a viewer that looks for a request's slice finds ours
            rewriter.write(events)
        ours = rewriter.counts.copy()
        stream_events(self._trace.path, rewriter, on_bytes)
        rewriter.finish()
        self._of_trace = rewriter.counts - ours

    def write_names(self) -> ExportResult:
        """Write the names of the tracks, and say what was written."""
        self._rewriter.write(list(self._ids.metadata(self._sort_index + 1, _device_pids(self._trace))))
        done = self._of_trace
        left_out = {reason: count for reason, count in done.items() if len(reason) > 1}
        if self._trace.implausible.displaced:
            left_out[DISPLACED] = self._trace.implausible.displaced
        written = {phase: count for phase, count in done.items() if len(phase) == 1}
        return ExportResult(self.record, written, 1 + self._rewriter.counts.total() - done.total(), left_out)


def _device_pids(trace: Trace) -> set[str]:
    """The processes in which device activities are drawn and nothing of the host."""
    spans = trace.spans

    def pids(chosen: IntArray) -> set[str]:
        return {spans.tracks[code].pid for code in set(spans.track[chosen].tolist())}

    return pids(trace.activities) - pids(trace.host)
