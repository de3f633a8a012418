"""Decides on which track each span is drawn, so that the slices of a track nest and no viewer drops one.

Perfetto needs the slices of a track to nest; its versions 51 to 56 drop one that crosses another. So annotations get
tracks of their own beside their thread or stream, and a span that crosses another one on its track moves to the next
track below. Times don't change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.trace.events import ANNOTATION_CATEGORIES, BoolArray, CodeArray, IntArray
from gemma_trace.trace.links import SpanFinder
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

MOST_LANES: Final = 64
"""The most tracks that one track is split into. Spans that still cross on the last one are shortened and counted."""

_ANNOTATIONS: Final = ANNOTATION_CATEGORIES | {"gpu_user_annotation"}


@dataclass(frozen=True)
class Row:
    """One track of the drawing.

    Attributes:
        track: code of the original track.
        annotations: whether it holds the annotations of that track.
        lane: 0, or how many tracks it is below the one whose spans its own cross.
    """

    track: int
    annotations: bool
    lane: int


@dataclass(frozen=True)
class Layout:
    """The rows of a trace, and the row of each span.

    Attributes:
        rows: by original track, the annotations last.
        row: int32 [n], the row of each span.
        dur_ns: int64 [n], the length of each span, shortened where `MOST_LANES` were not enough.
        flow_row: int32 [f], the row of each flow event, which is the row of the span that it is bound to.
        moved: number of spans that cross another one and are on a lower track.
        cut_short: number of shortened spans.
    """

    rows: tuple[Row, ...]
    row: CodeArray
    dur_ns: IntArray
    flow_row: CodeArray
    moved: int
    cut_short: int


def lay_out(trace: Trace) -> Layout:
    """Find the row of every span."""
    spans = trace.spans
    annotation = spans.in_categories(_ANNOTATIONS)
    group = spans.track.astype(np.int64) * 2 + annotation
    lane, dur_ns = lanes_of(spans.ts_ns, spans.end_ns, group)
    keys, row = np.unique(group * MOST_LANES + lane, return_inverse=True)
    rows = tuple(Row(int(key) // MOST_LANES // 2, bool(key // MOST_LANES % 2), int(key % MOST_LANES)) for key in keys)
    return Layout(
        rows=rows,
        row=row.astype(np.int32),
        dur_ns=dur_ns,
        flow_row=_flow_rows(trace, rows, row, annotation),
        moved=int((lane > 0).sum()),
        cut_short=int((dur_ns < spans.dur_ns).sum()),
    )


def lanes_of(ts_ns: IntArray, end_ns: IntArray, group: IntArray) -> tuple[IntArray, IntArray]:
    """Distribute spans over lanes so that the spans of a lane nest or are disjoint.

    Args:
        ts_ns, end_ns: int64 [n], sorted by start, of equal starts the longer first.
        group: int64 [n], which spans share a track.

    Returns:
        int64 [n] each: the lane of each span in its group, and its length.
    """
    lane = np.zeros(len(ts_ns), dtype=np.int64)
    dur_ns = end_ns - ts_ns
    left = np.arange(len(ts_ns))
    for current in range(MOST_LANES):
        nesting = nest(ts_ns[left], end_ns[left], group[left])
        if not nesting.clipped:
            break
        if current == MOST_LANES - 1:
            dur_ns[left] = nesting.end_ns - ts_ns[left]
            break
        left = left[nesting.end_ns < end_ns[left]]
        lane[left] = current + 1
    return lane, dur_ns


def _flow_rows(trace: Trace, rows: tuple[Row, ...], row: IntArray, annotation: BoolArray) -> CodeArray:
    """The row of the span that each flow event is bound to; without such a span, the first row of its track."""
    flows, spans = trace.flows, trace.spans
    bound = SpanFinder(spans, np.flatnonzero(~annotation)).find(flows.track, flows.ts_ns)
    first = np.zeros(len(spans.tracks), dtype=np.int64)
    for place in range(len(rows) - 1, -1, -1):
        first[rows[place].track] = place
    return np.where(bound >= 0, row[bound], first[flows.track]).astype(np.int32)


def held_back(layout: Layout, ts_ns: IntArray, place: CodeArray) -> IntArray:
    """Groups of spans of one row that start at the same instant, where the file has an inner span before the outer one.

    Viewers process spans with equal starts in file order, and drop an outer span that comes second.

    Returns:
        int64 [n], the number of the group of each span, whose spans must be written outer first; -1 for all others.
    """
    order = np.lexsort((np.arange(len(ts_ns)), layout.row))
    together = (np.diff(layout.row[order]) == 0) & (np.diff(ts_ns[order]) == 0)
    run = np.cumsum(np.append(True, ~together)) if len(order) else np.zeros(0, dtype=np.int64)
    wrong = run[1:][together & (np.diff(place[order]) < 0)]
    group = np.full(len(ts_ns), -1, dtype=np.int64)
    group[order] = np.where(np.isin(run, wrong), run, -1)
    return group
