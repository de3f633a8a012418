"""What is kept of a rank's trace when it has been read: a few columns, of at most `MOST_BYTES`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.intervals import union_ns
from gemma_trace.analysis.timeline import UNLINKED, StageTime
from gemma_trace.foreign import NONE
from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Finding, Severity
from gemma_trace.ranks.collectives import Collectives, collectives_of, communication_activities, first_of
from gemma_trace.ranks.identity import RankIdentity, identity_of
from gemma_trace.trace.events import CodeArray, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.requests import Request
from gemma_trace.trace.trace import Trace

MOST_BYTES: Final = 200_000
"""A summary takes no more memory: of longer traces it has the first requests and collectives, and counts the rest."""

MOST_CELLS: Final = 2_000
"""It has no more cells of a stage in a request: a quarter of its memory."""


@dataclass(frozen=True)
class StageCells:
    """What each stage took of each request on one rank. All columns have the length c.

    Attributes:
        request: int32, the place of the request in the summary.
        stage: int16, codes into `RankSummary.stage_names`.
        time_ns: int64, the share of the request's wall time that the stage answers for.
        device_ns: int64, the part in which the device works.
        exposed_host_ns: int64, the part in which it is idle.
    """

    request: CodeArray
    stage: npt.NDArray[np.int16]
    time_ns: IntArray
    device_ns: IntArray
    exposed_host_ns: IntArray


@dataclass(frozen=True)
class RankSummary:
    """One rank of a job, reduced to what the comparison needs.

    Attributes:
        identity: which rank it is.
        label: what the trace is called.
        file: the name of its file.
        device: the index of its device; `NONE` where it has none, or several.
        device_name: the device's marketing name; "" where the trace doesn't tell.
        base_ns: what is to be added to its times for ns since 1970.
        stage_names: what stage codes stand for; the code behind the last is `unlinked`.
        request_labels: what the requests or steps are called.
        request_start_ns, request_end_ns: int64 [q], on the trace's clock.
        ttft_ns: int64 [q], `NONE` where a request has no first token.
        cells: what the stages took.
        collectives: what it did with others.
        compute_ns: how long its devices computed, communication aside: the length of the union.
        collective_ns: Σ duration of all collectives.
        left_out_requests, left_out_collectives: those that the summary has no place for.
        findings: what `check` says of the trace, its warnings and errors.
    """

    identity: RankIdentity
    label: str
    file: str
    device: int
    device_name: str
    base_ns: int
    stage_names: tuple[str, ...]
    request_labels: tuple[str, ...]
    request_start_ns: IntArray
    request_end_ns: IntArray
    ttft_ns: IntArray
    cells: StageCells
    collectives: Collectives
    compute_ns: int
    collective_ns: int
    left_out_requests: int
    left_out_collectives: int
    findings: tuple[Finding, ...]

    @property
    def rank(self) -> int:
        """Its global rank."""
        return self.identity.rank

    @property
    def nbytes(self) -> int:
        """What its columns take, in bytes."""
        return sum(_column_bytes(part) for part in (self, self.cells, self.collectives))


def _column_bytes(columns: Any) -> int:
    values = (getattr(columns, field.name) for field in fields(columns))
    return sum(value.nbytes for value in values if isinstance(value, np.ndarray))


def summarize_rank(trace: Trace) -> RankSummary:
    """Take of a rank's trace what the answers about its job need."""
    requests = trace.requests
    stages = breakdown(trace)
    kept = _requests_that_fit(stages.rows, requests)
    collectives = collectives_of(trace)
    devices = distinct(trace.spans.device[trace.activities]).tolist()
    device = devices[0] if len(devices) == 1 else NONE
    computing = np.setdiff1d(trace.activities, communication_activities(trace))
    spans = trace.spans
    summary = RankSummary(
        identity=identity_of(trace.distributed, trace.path),
        label=trace.label,
        file=trace.path.name,
        device=device,
        device_name=trace.devices.get(device, ""),
        base_ns=trace.base_ns,
        stage_names=trace.stage_names,
        request_labels=tuple(request.label for request in requests[:kept]),
        request_start_ns=np.array([request.start_ns for request in requests[:kept]], dtype=np.int64),
        request_end_ns=np.array([request.end_ns for request in requests[:kept]], dtype=np.int64),
        ttft_ns=np.array([NONE if ttft is None else ttft for ttft in stages.ttfts_ns[:kept]], dtype=np.int64),
        cells=_cells(trace, stages.rows, kept),
        collectives=collectives,
        compute_ns=union_ns(spans.ts_ns[computing], spans.ends_ns(computing)),
        collective_ns=int(collectives.dur_ns.sum()),
        left_out_requests=len(requests) - kept,
        left_out_collectives=0,
        findings=tuple(finding for finding in examine(trace).findings if finding.severity is not Severity.INFO),
    )
    return _fitted(summary)


def _requests_that_fit(rows: Sequence[StageTime], requests: Sequence[Request]) -> int:
    """How many of the first requests have no more than `MOST_CELLS` stages together; one at least."""
    places = {request.index: place for place, request in enumerate(requests)}
    cells = np.bincount([places[row.request] for row in rows], minlength=len(requests))
    return max(1, int(np.searchsorted(np.cumsum(cells), MOST_CELLS, side="right")))


def _cells(trace: Trace, rows: Sequence[StageTime], kept: int) -> StageCells:
    places = {request.index: place for place, request in enumerate(trace.requests[:kept])}
    codes = {name: code for code, name in enumerate((*trace.stage_names, UNLINKED))}
    columns = [
        (places[row.request], codes[row.stage], row.time_ns, row.device_ns, row.exposed_host_ns)
        for row in rows
        if row.request in places
    ]
    request, stage, *times = np.array(columns, dtype=np.int64).reshape(-1, 5).T
    return StageCells(request.astype(np.int32), stage.astype(np.int16), *times)


def _fitted(summary: RankSummary) -> RankSummary:
    """The summary with as many of its first collectives as it has a place for."""
    collectives = summary.collectives
    each, part = _column_bytes(first_of(collectives, 1)), 3 * np.dtype(np.int64).itemsize
    parts = np.bincount(collectives.part, minlength=len(collectives))
    free = MOST_BYTES - (summary.nbytes - _column_bytes(collectives))
    kept = int(np.searchsorted(np.cumsum(each + part * parts), free, side="right"))
    if kept >= len(collectives):
        return summary
    return replace(summary, collectives=first_of(collectives, kept), left_out_collectives=len(collectives) - kept)
