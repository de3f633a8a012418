"""What cost time: device activities or, where there are none, the host's ops by self time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gemma_trace.analysis.devices import label_of_device
from gemma_trace.analysis.sharing import Asked, clients_at_once, for_clients
from gemma_trace.analysis.timeline import UNLINKED, Request
from gemma_trace.errors import InputError
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE, Stage
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.near_names import no_such_stage
from gemma_trace.trace.open_spans import OpenSpans
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class Work:
    """Pieces of work of a trace, each an interval. All columns have the length n.

    Attributes:
        on: `device` (a piece is an activity) or `host` (a piece is a stretch of an op's or another span's self time).
        start_ns, end_ns: int64 [n].
        span: int64 [n], index of the activity, or of the innermost span on the host.
        caller: int64 [n], index of the host span it belongs to: the launching call, `NONE` if unlinked; or `span`.
    """

    on: Literal["device", "host"]
    start_ns: IntArray
    end_ns: IntArray
    span: IntArray
    caller: IntArray

    def __len__(self) -> int:
        return len(self.start_ns)

    @property
    def length_ns(self) -> IntArray:
        """int64 [n], the pieces' lengths."""
        return self.end_ns - self.start_ns

    def taken(self, chosen: BoolArray) -> Work:
        """Some of the pieces."""
        return Work(self.on, self.start_ns[chosen], self.end_ns[chosen], self.span[chosen], self.caller[chosen])


def device_work(trace: Trace) -> Work:
    """All device activities, by start."""
    spans, activities = trace.spans, trace.activities
    return Work("device", spans.ts_ns[activities], spans.ends_ns(activities), activities, trace.launch)


def host_work(trace: Trace) -> Work:
    """The host's time on all its threads, each stretch with its innermost span, cut where its thread's stage changes.

    Left out is what other threads than a request's spend waiting (see `waiting_ns`), and the threads that stand for
    requests of a server's clients, which work at nothing.
    """
    segments = trace.segments
    kept = ~_waits_elsewhere(trace) & ~trace.client_tracks[trace.spans.track[segments.owner]]
    owner = segments.owner[kept].astype(np.int64)
    start, end, place = _cut_at_stages(trace, segments.start_ns[kept], segments.end_ns[kept], owner)
    return Work("host", start, end, owner[place], owner[place])


def waiting_ns(trace: Trace) -> int:
    """How long threads other than the requests' wait, summed over threads."""
    segments = trace.segments
    waits = _waits_elsewhere(trace)
    return int((segments.end_ns - segments.start_ns)[waits].sum())


def _waits_elsewhere(trace: Trace) -> BoolArray:
    """bool, along `trace.segments`; what a stage waits for is that stage's time."""
    request_tracks = [request.track for request in trace.requests]
    track = trace.spans.track[trace.segments.owner]
    waits = np.flatnonzero(trace.waits & ~np.isin(track, request_tracks))
    outside = trace.stage_range_at(track[waits], trace.segments.start_ns[waits], after=True) == NONE
    elsewhere = np.zeros(len(track), dtype=bool)
    elsewhere[waits[outside]] = True
    return elsewhere


def _cut_at_stages(
    trace: Trace, start_ns: IntArray, end_ns: IntArray, owner: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Stretches cut at the stage ranges' edges on their threads: starts, ends, and the stretch that each is of."""
    spans, stages = trace.spans, trace.stage_segments
    tracks, of_stage = spans.track[owner], spans.track[stages.owner]
    edges_in: list[IntArray] = []
    stretches: list[IntArray] = []
    on_track = Places(tracks)
    for code, there in Places(of_stage):
        here = on_track.of(code)
        edges = distinct(np.concatenate((stages.start_ns[there], stages.end_ns[there])))
        order = here[np.argsort(start_ns[here], kind="stable")]
        place = np.searchsorted(start_ns[order], edges, side="left") - 1
        inside = (place >= 0) & (edges < end_ns[order[np.maximum(place, 0)]]) if len(order) else place >= 0
        edges_in.append(edges[inside])
        stretches.append(order[place[inside]])
    whole = np.arange(len(owner))
    if not any(map(len, edges_in)):
        return start_ns, end_ns, whole
    start = np.concatenate((start_ns, *edges_in))
    place = np.concatenate((whole, *stretches))
    order = np.lexsort((start, place))
    start, place = start[order], place[order]
    last = np.append(np.diff(place) != 0, True)
    end = np.where(last, end_ns[place], np.append(start[1:], 0))
    by_start = np.argsort(start, kind="stable")
    return start[by_start], end[by_start], place[by_start]


def stage_of_work(trace: Trace, work: Work) -> IntArray:
    """int64 [n], the stage code of each piece; the number of stages stands for `unlinked`.

    On a device that of the stage that asked for it; on the host that of the range open on its thread while it runs,
    and for gradients' ops outside of ranges that of the stage that asked for them.
    """
    if work.on == "device":
        return trace.activity_stage[np.searchsorted(trace.activities, work.span)].astype(np.int64)
    at_start = trace.stage_range_at(trace.spans.track[work.span], work.start_ns, after=True)
    asked = np.where(trace.innermost_range[work.caller] == NONE, trace.asking_range[work.caller], NONE)
    return trace.stage_of_ranges(np.where(at_start >= 0, at_start, asked))


def request_of_work(trace: Trace, work: Work, requests: Sequence[Request]) -> IntArray:
    """int64 [n], the index of the request in whose window a piece was asked for; `NONE` outside of all.

    A device activity was asked for when its launch was called (an unlinked one when it starts); host work when it ran.
    Of several requests that are open then it is the one that started last; of a server's clients the last of those that
    it was for, if it was for one: so that each piece counts once. `requests_of_work` has all of them.
    """
    columns = [(request.start_ns, request.end_ns, request.index) for request in requests]
    start, end, index = np.array(columns, dtype=np.int64).reshape(-1, 3).T
    everywhere = np.zeros(len(work), dtype=np.int64)
    asked_at = _asked_at(trace, work)
    place = OpenSpans(start, end, np.zeros(len(start), np.int64)).at(everywhere, asked_at, after=True)
    of_request: IntArray = np.append(index, NONE)[place]
    if clients_at_once(trace):
        shared = for_clients(trace, requests, _asked_on(trace, work), asked_at, stage_of_work(trace, work))
        of_request[shared.piece] = shared.request
    return of_request


def requests_of_work(trace: Trace, work: Work, requests: Sequence[Request]) -> Asked:
    """Which pieces of work were for which of these requests, and the stage that each is of for it.

    Where several of a server's clients are in the step of a piece, it is there once for each of them; what is for none
    of them in particular is of the request that was sent last. By piece, but for what is shared.
    """
    stage = stage_of_work(trace, work)
    if not clients_at_once(trace):
        request = request_of_work(trace, work, requests)
        piece = np.flatnonzero(request != NONE)
        return Asked(piece, request[piece], stage[piece])
    shared = for_clients(trace, trace.requests, _asked_on(trace, work), _asked_at(trace, work), stage)
    request = request_of_work(trace, work, trace.requests)
    rest = np.setdiff1d(np.flatnonzero(request != NONE), shared.piece)
    both = (shared, Asked(rest, request[rest], stage[rest]))
    asked = Asked(*(np.concatenate(columns) for columns in zip(*both, strict=True)))
    chosen = np.isin(asked.request, [each.index for each in requests])
    return Asked(*(column[chosen] for column in asked))


def select(
    trace: Trace, stage: str | None = None, request: int | Request | None = None, device: int | None = None
) -> Work:
    """The work of a stage, of a request, or of everything; on the host if the selection has no device activity.

    Args:
        stage: only what this stage launched or ran; `unlinked` is the activities without a launch. None is everything.
        request: only this request's, by index. None is the whole trace on a device, and on the host all requests.
        device: only what ran on the device of this index. None is all of them.

    Raises:
        InputError: no such stage or request in this trace, or nothing of it ran on that device.
    """
    codes = _stage_codes(trace, stage)
    requests = trace.chosen(request)
    of_one = request is not None
    pieces = _chosen(trace, device_work(trace), codes, requests if of_one else None, of_one=of_one)
    if len(pieces):
        return pieces if device is None else _on_device(trace, pieces, device)
    if device is not None:
        raise InputError(f"nothing that was selected ran on a device; leave out --device {device}")
    if stage is not None and not _has_ranges(trace, codes):
        raise no_such_stage(trace, stage, _present(trace))
    ours = REQUEST_CODE in trace.stage_range
    windows = requests if of_one or (ours and not len(trace.activities)) else None
    return _chosen(trace, host_work(trace), codes, windows, of_one=of_one)


def _asked_at(trace: Trace, work: Work) -> IntArray:
    if work.on == "host":
        return work.start_ns
    return np.where(work.caller >= 0, trace.spans.ts_ns[np.maximum(work.caller, 0)], work.start_ns)


def _asked_on(trace: Trace, work: Work) -> IntArray:
    """int64 [n], the thread that asked for each piece; of an unlinked one the device's."""
    return trace.spans.track[np.where(work.caller >= 0, work.caller, work.span)].astype(np.int64)


def _chosen(
    trace: Trace, work: Work, codes: list[int], windows: Sequence[Request] | None, *, of_one: bool = False
) -> Work:
    """The work of some stages, in some windows.

    Args:
        of_one: the windows are those of one request: what is shared with others is its own, too, in its own stage.
    """
    chosen: BoolArray = np.ones(len(work), dtype=bool)
    if of_one and clients_at_once(trace):
        asked = requests_of_work(trace, work, windows or ())
        chosen[:] = False
        chosen[asked.piece[np.isin(asked.stage, codes)]] = True
        return work.taken(chosen)
    if windows is not None:
        chosen &= request_of_work(trace, work, windows) != NONE
    if len(codes) <= len(trace.stage_names):  # fewer than all and unlinked
        chosen &= np.isin(stage_of_work(trace, work), codes)
    return work.taken(chosen)


def _on_device(trace: Trace, work: Work, device: int) -> Work:
    """The work that ran on a device."""
    ran_on = trace.spans.device[work.span]
    chosen: BoolArray = ran_on == device
    if not chosen.any():
        known = ", ".join(label_of_device(index) for index in distinct(ran_on).tolist())
        raise InputError(f"nothing that was selected ran on device {device}; it ran on {known}")
    return work.taken(chosen)


def _stage_codes(trace: Trace, stage: str | None) -> list[int]:
    if stage is None:
        return list(range(len(trace.stage_names) + 1))
    if stage == UNLINKED:
        return [len(trace.stage_names)]
    if stage == Stage.REQUEST or stage not in trace.stage_names:
        raise no_such_stage(trace, stage, _present(trace))
    return [trace.stage_names.index(stage)]


def _present(trace: Trace) -> list[str]:
    """The stages of which the trace has a range."""
    codes = distinct(trace.stage_range[trace.stage_range != NONE])
    return [trace.stage_names[code] for code in codes if code != REQUEST_CODE]


def _has_ranges(trace: Trace, codes: list[int]) -> bool:
    return bool(np.isin(trace.stage_range, codes).any()) or codes == [UNATTRIBUTED_CODE]
