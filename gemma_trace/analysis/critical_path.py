"""The critical path of a request: which chain of host work, launches, activities and waits made it as long as it is.

Walked backwards from the request's end. On the host the path goes back to the last call that waited for the device,
and there onto the activity that it waited for. On the device it goes from an activity to what that had to wait for: the
activity before it on its stream, if that one ended after the activity's launch began; else the launch, and so to the
host again. So at every instant of the request exactly one thing is on the path, and its steps add up to the wall time.

A trace says neither which stream an event made another wait for, nor which lock a thread waited on. So of activities
on several streams: one that starts more than `EXPLAINED_NS` after both its launch's return and its stream's last
activity is taken to have waited for the activity of another stream that ended last before it. Work on other threads
counts from where the outermost span there begins; before that the path is the request's own thread's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from gemma_trace.analysis.dependencies import EXPLAINED_NS, activity_before, outermost_starts, waits_for_device
from gemma_trace.analysis.intervals import intersect
from gemma_trace.analysis.pieces import answering_stretches
from gemma_trace.analysis.stretches import Stretches, stage_stretches
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.analysis.window_line import WindowLine, lines
from gemma_trace.arguments import checked
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.tabular import Tabular
from gemma_trace.trace.events import NONE, BoolArray, CodeArray, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace


class PathKind(StrEnum):
    """What the path goes through."""

    HOST = "host"
    """The host works: Python, ops, calls that wait for nothing."""
    LAUNCH = "launch"
    """From the start of a launching call to the start of its activity, on a device that has nothing else to do."""
    DEVICE = "device"
    """A device activity."""
    GAP = "gap"
    """The device runs none though one waits: between two of a stream, or for a reason that isn't recorded."""
    SYNC = "sync"
    """What a waiting call takes to return once what it waited for has ended."""


_KIND_CODES: Final = {kind: code for code, kind in enumerate(PathKind)}


@dataclass(frozen=True, repr=False)
class CriticalPath(Tabular):
    """A request's path. All columns have the length p; each step begins where the one before ends.

    Attributes:
        start_ns, end_ns: int64, on the trace's clock; they fill the request, none is empty.
        kind: int32, codes into `list(PathKind)`.
        stage: int32, codes into `stages`: of an activity, its launch and the gap before it the stage that launched it;
            of all else the innermost one open on the thread.
        span: int64, index of the activity, of the launching or of the waiting call; `NONE` for host work.
        stages: the names that a row of `stages` can have.
    """

    request: Request
    start_ns: IntArray
    end_ns: IntArray
    kind: CodeArray
    stage: CodeArray
    span: IntArray
    stages: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def length_ns(self) -> int:
        """The path's length; equals the request's wall time."""
        return int((self.end_ns - self.start_ns).sum())

    def by_stage_ns(self, until_ns: int | None = None) -> dict[str, dict[PathKind, int]]:
        """How much of each stage lies on the path, by kind; what isn't there is left out.

        Args:
            until_ns: only what of the path lies before this instant of the trace's clock.
        """
        kinds = list(PathKind)
        end = self.end_ns if until_ns is None else np.minimum(self.end_ns, until_ns)
        sums = np.zeros((len(self.stages), len(kinds)), dtype=np.int64)
        np.add.at(sums, (self.stage, self.kind), np.maximum(end - self.start_ns, 0))
        return {
            self.stages[stage]: {kinds[kind]: int(sums[stage, kind]) for kind in np.flatnonzero(sums[stage])}
            for stage in np.flatnonzero(sums.any(axis=1))
        }

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"Critical path of {self.request.label}, {self.length_ns / 1e6:,.3f} ms"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per step, in order."""
        kinds = list(PathKind)
        columns = (self.start_ns, self.end_ns, self.kind, self.stage, self.span)
        for start, end, kind, stage, span in zip(*(column.tolist() for column in columns), strict=True):
            yield {
                "kind": kinds[kind].value,
                "stage": self.stages[stage],
                "start_ns": start,
                "end_ns": end,
                "time_ns": end - start,
                "span": span,
            }


@checked
def critical_path(trace: Trace, request: int | Request) -> CriticalPath:
    """Walk a request's critical path.

    >>> path = critical_path(trace, trace.requests[0])      # doctest: +SKIP
    >>> path.length_ns == path.request.wall_ns      # doctest: +SKIP
    True
    """
    return critical_paths(trace, trace.chosen(request))[0]


def critical_paths(trace: Trace, requests: Sequence[Request]) -> list[CriticalPath]:
    """Walk the critical paths of many requests."""
    walker, rows = _Walker(trace), rows_in_order(trace)
    place = np.zeros(len(rows) + 1, dtype=np.int32)  # the request has a code but no row
    for index, (code, _) in enumerate(rows):
        place[code] = index
    names = tuple(name for _, name in rows)
    launched_by = trace.working_stages()
    paths: list[CriticalPath] = []
    for line in lines(trace, requests):
        here = requests[len(paths) : len(paths) + len(line)]
        steps = _joined([walker.walk(request) for request in here])
        cut = _cut_by_stage(trace, line, steps)
        kind, span = steps.kind[cut.step], steps.span[cut.step]
        stage = place[np.where(_is_of_device(kind), launched_by[span], cut.stage)]
        window = steps.window[cut.step]
        start, end = line.clock_ns(cut.start, window), line.clock_ns(cut.end, window)
        edges = pairwise(np.searchsorted(window, np.arange(len(line) + 1)).tolist())
        paths += [
            CriticalPath(request, start[a:b], end[a:b], kind[a:b], stage[a:b], span[a:b], names)
            for request, (a, b) in zip(here, edges, strict=True)
        ]
    return paths


class _Step(NamedTuple):
    """A stretch of the path; of one on the host `track` is its thread."""

    kind: PathKind
    start_ns: int
    end_ns: int
    span: int
    track: int


class _Steps(NamedTuple):
    """The steps of several requests as columns, on the trace's clock; `window` is the place of each one's request."""

    window: IntArray
    start_ns: IntArray
    end_ns: IntArray
    kind: CodeArray
    span: IntArray
    track: IntArray


def _joined(paths: Sequence[IntArray]) -> _Steps:
    """Steps of several requests, each as `_Walker.walk` gives them."""
    window = np.repeat(np.arange(len(paths)), [len(path) for path in paths])
    kind, start, end, span, track = np.concatenate(paths).T
    return _Steps(window, start, end, kind.astype(np.int32), span, track)


class _Walker:
    """Walks paths; what each activity and each call may have waited for is found beforehand, on columns.

    The walk itself takes one step per activity on the path, one after another.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        spans, activities = trace.spans, trace.activities
        self._start, self._end = spans.ts_ns[activities], spans.ends_ns(activities)
        self._before = activity_before(trace)
        self._waits = waits_for_device(trace)
        self._roots = outermost_starts(trace)

    def walk(self, request: Request) -> IntArray:
        """The steps, the last one first, none empty. The first may begin before the request does.

        Returns:
            int64 [steps, 5], the fields of `_Step`, its kind as a code into `list(PathKind)`.
        """
        steps: list[_Step] = []
        now, track, activity = request.end_ns, request.track, NONE
        while now > request.start_ns:
            if activity == NONE:
                back, track, activity = self._on_host(request, now, track)
            else:
                back, track, activity = self._on_device(request, now, activity)
            for step in back:
                if step.start_ns < step.end_ns:
                    steps.append(step)
                now = min(now, step.start_ns)
        rows = [(_KIND_CODES[step.kind], *step[1:]) for step in steps if step.end_ns > request.start_ns]
        return np.array(rows, dtype=np.int64).reshape(-1, 5)

    def _on_host(self, request: Request, now: int, track: int) -> tuple[list[_Step], int, int]:
        """Back on a thread to where it waited, and onto what it waited for; or to where it begins."""
        home = request.track
        begins = request.start_ns if track == home else self._root_start(request, now, track)
        waits = self._waits.get(track)
        place = int(np.searchsorted(waits.ended_ns, now)) - 1 if waits else -1
        if waits is None or place < 0 or waits.ended_ns[place] <= begins:
            return [_Step(PathKind.HOST, begins, now, NONE, track)], home, NONE
        ended, activity, call = (int(column[place]) for column in waits)
        returned = min(int(self._trace.spans.ts_ns[call] + self._trace.spans.dur_ns[call]), now)
        waited = _Step(PathKind.SYNC, ended, returned, call, track)
        return [_Step(PathKind.HOST, returned, now, NONE, track), waited], track, activity

    def _on_device(self, request: Request, now: int, activity: int) -> tuple[list[_Step], int, int]:
        """Back over an activity and onto what it waited for."""
        span, launch = int(self._trace.activities[activity]), int(self._trace.launch[activity])
        before, start = int(self._before[activity]), min(int(self._start[activity]), now)
        ran = _Step(PathKind.DEVICE, start, now, span, NONE)
        if before != NONE:
            ended = min(int(self._end[before]), start)
            return [ran, _Step(PathKind.GAP, ended, start, span, NONE)], NONE, before
        if launch == NONE:
            return [ran], request.track, NONE
        called = min(int(self._trace.spans.ts_ns[launch]), start)
        arrived = min(int(self._trace.spans.ts_ns[launch] + self._trace.spans.dur_ns[launch]) + EXPLAINED_NS, start)
        late, launched = (
            _Step(PathKind.GAP, arrived, start, span, NONE),
            _Step(PathKind.LAUNCH, called, arrived, launch, NONE),
        )
        return [ran, late, launched], int(self._trace.spans.track[launch]), NONE

    def _root_start(self, request: Request, now: int, track: int) -> int:
        """Where the outermost span that is open on a thread at an instant began."""
        roots = self._roots.get(track)
        place = int(np.searchsorted(roots, now)) - 1 if roots is not None else -1
        return int(roots[place]) if roots is not None and place >= 0 else request.start_ns


class _Cut(NamedTuple):
    """Steps cut where the stage on their thread changes, by start on the line; the step, and that stage's code."""

    start: IntArray
    end: IntArray
    step: IntArray
    stage: IntArray


def _is_of_device(kind: CodeArray) -> BoolArray:
    """bool, which steps belong to the stage that launched an activity."""
    kinds = list(PathKind)
    of_device = [kinds.index(path_kind) for path_kind in (PathKind.DEVICE, PathKind.GAP, PathKind.LAUNCH)]
    answer: BoolArray = np.isin(kind, of_device)
    return answer


def _cut_by_stage(trace: Trace, line: WindowLine, steps: _Steps) -> _Cut:
    """Cut the steps on the host where their thread's stage changes; those of the device stay whole."""
    start, end = line.clipped(steps.window, steps.start_ns, steps.end_ns)
    of_device = _is_of_device(steps.kind)
    whole = np.flatnonzero(of_device)
    parts = [_Cut(start[whole], end[whole], whole, np.full(len(whole), UNATTRIBUTED_CODE))]

    def cut(chosen: IntArray, stretches: Stretches) -> None:
        first, last, step, stretch = intersect((start[chosen], end[chosen]), (stretches.start_ns, stretches.end_ns))
        parts.append(_Cut(first, last, chosen[step], stretches.row[stretch]))

    is_own_thread = ~of_device & (steps.track == line.track[steps.window])
    cut(np.flatnonzero(is_own_thread), answering_stretches(trace, line))
    elsewhere = np.flatnonzero(~of_device & ~is_own_thread)
    for track, rows in Places(steps.track[elsewhere]):
        chosen = elsewhere[rows]
        windows = line.taken(distinct(steps.window[chosen]))
        cut(chosen, stage_stretches(trace, windows.looking_at(track)))
    joined = _Cut(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    order = np.argsort(joined.start, kind="stable")
    return _Cut(*(column[order] for column in joined))
