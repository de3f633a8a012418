"""The floor of a stage: the least time that its device takes for the same ops, and how far the stage is from it.

It is a bound, so it counts less than the ops' own roofs do. Bytes that the op before may have left in the cache don't
count: parameters count in full, of what an op else reads, and of what it else writes, all beyond one cacheful, and in
each range of a stage one cacheful of parameters less, which may lie there from before. Convolutions whose windows
overlap, which Winograd's algorithm or an FFT can speed up, count by their bytes alone. An op without a formula or
without shapes counts nothing. Ops that run side by side share the roofs: where activities overlap, the floor is the
larger of the sums of both. Of several devices each has its own floor, and its own cache; they are summed up, as the
time is for which they are busy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

import numpy as np

from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
from gemma_trace.analysis.roofline.gemma3_floor import ModelWork, model_work
from gemma_trace.analysis.roofline.opcosts import FloatArray, op_costs
from gemma_trace.analysis.roofline.rows import Bound, roofs_of
from gemma_trace.analysis.timeline import StageTime
from gemma_trace.analysis.window_line import expanded
from gemma_trace.analysis.work_pieces import Work, device_work, host_work, requests_of_work
from gemma_trace.arguments import checked
from gemma_trace.peaks import Peaks
from gemma_trace.tabular import Rows
from gemma_trace.trace.events import Codes, IntArray
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace

LEAST_COVERED_PCT: Final = 50.0
"""Where ops with a cost cover less of what a device does for a stage, its work is counted from the model's config, if
that is known; on a host, whose time is not ops alone, where there is no matrix product among them."""

FloorSource = Literal["shapes", "config"]


@dataclass(frozen=True)
class StageFloor:
    """A stage of a request, and the least that its work takes.

    Attributes:
        on: where its work is: the floor is of that device, or of the host.
        flops: of all its ops; `matrix_flops` are those of matrix products, convolutions and attention.
        bytes: that its ops read and write at least, wherever they find them.
        floor_ns: the bound; None without peaks.
        floor_source: what the work was counted from: the `shapes` of the recorded ops, or the model's `config`.
        compute_ns, memory_ns: what those FLOPs and those bytes take that count for the floor, each alone.
        bound: which of the two is more.
        measured_ns: what the floor is held against: the stage's `device_busy_ns`, on a CPU its `time_ns`.
        distance: measured over floor; None without a floor.
        covered_pct: the share of the stage's work (of the device, or of the host) that ops with a cost take.
    """

    request: int
    stage: str
    on: Literal["device", "host"]
    flops: float
    matrix_flops: float
    bytes: float
    floor_ns: float | None
    floor_source: FloorSource
    compute_ns: float | None
    memory_ns: float | None
    bound: Bound | None
    measured_ns: int
    distance: float | None
    covered_pct: float


@dataclass(frozen=True)
class _Least:
    """The least time of some work, in ns: of its FLOPs, of its bytes, of both."""

    compute_ns: float
    memory_ns: float
    floor_ns: float


@checked
def stage_floors(trace: Trace, stages: StageBreakdown | None = None, peaks: Peaks | None = None) -> Rows[StageFloor]:
    """The floor of every stage of these requests whose work is known, in the order of the rows.

    Args:
        stages: whose rows; None is all requests of the trace.
        peaks: of the trace's device; None leaves the times out.
    """
    stages = breakdown(trace) if stages is None else stages
    counted = _CountedStages(trace, peaks)
    requests = {request.index: request for request in stages.requests}
    floors = []
    for row in stages.rows:
        floor = counted.floor(row)
        if counted.tells_too_little(row, floor):
            work = model_work(trace, requests[row.request], row.stage)
            floor = _by_config(row, work, counted, peaks) if work else floor
        if floor is not None:
            floors.append(floor)
    return Rows(floors)


class _CountedStages:
    """The costed ops of a trace, and all its work, by request and stage.

    Attributes:
        on: where the work is.
    """

    def __init__(self, trace: Trace, peaks: Peaks | None) -> None:
        costs, requests = op_costs(trace), trace.requests
        self.on = costs.on
        self._names, self._peaks, self._costs, self._roofs = trace.stage_names, peaks, costs, roofs_of(costs, peaks)
        spans = trace.spans
        ops = Work("host", spans.ts_ns[costs.op], spans.ends_ns(costs.op), costs.op, costs.op)
        asked = requests_of_work(trace, ops, requests)
        self._range = trace.innermost_range[costs.op].astype(np.int64)
        work = device_work(trace) if costs.on == "device" else host_work(trace)
        owner = costs.owner_of(trace, work)
        self._piece_ns, self._piece_covered = work.length_ns, owner >= 0
        self._piece_device = spans.device[work.span] if costs.on == "device" else np.zeros(len(work), np.int64)
        self._parts = _parts_by_device(owner, self._piece_device, work.length_ns, costs.work_ns)
        rows = len(self._names) + 1
        self._op, self._ops_of = asked.piece, Places(asked.request * rows + asked.stage)
        of_pieces = requests_of_work(trace, work, requests)
        self._piece, self._pieces_of = of_pieces.piece, Places(of_pieces.request * rows + of_pieces.stage)

    def measured_ns(self, row: StageTime) -> int:
        """What a stage's floor is held against."""
        return row.device_busy_ns if self.on == "device" else row.time_ns

    def pieces(self, row: StageTime) -> IntArray:
        """A stage's work, as places in the columns."""
        return self._piece[self._pieces_of.of(self._cell(row))]

    def devices(self, row: StageTime) -> int:
        """On how many devices a stage's work ran; the host is one."""
        return len(distinct(self._piece_device[self.pieces(row)]))

    def covered_pct(self, row: StageTime) -> float:
        """The share of a stage's work that ops with a cost take."""
        pieces = self.pieces(row)
        total = int(self._piece_ns[pieces].sum())
        return 100 * int(self._piece_ns[pieces[self._piece_covered[pieces]]].sum()) / total if total else 0.0

    def floor(self, row: StageTime) -> StageFloor | None:
        """A stage's floor by the shapes of its ops; None where none has a cost."""
        ops = self._ops(row)
        if not len(ops):
            return None
        flops, matrix_flops, moved = (
            float(self._costs.column(name)[ops].sum()) for name in ("flops", "matrix_flops", "bytes")
        )
        return _floor(row, self, (flops, matrix_flops, moved), self._least(row), "shapes")

    def tells_too_little(self, row: StageTime, floor: StageFloor | None) -> bool:
        """Whether the shapes of a stage's ops leave most of its work in the dark."""
        if self.on == "host":
            return floor is None or not floor.matrix_flops
        return row.activities > 0 and (floor is None or floor.covered_pct < LEAST_COVERED_PCT)

    def _ops(self, row: StageTime) -> IntArray:
        """A stage's costed ops, as places in their columns."""
        return self._op[self._ops_of.of(self._cell(row))]

    def _cell(self, row: StageTime) -> int:
        code = self._names.index(row.stage) if row.stage in self._names else len(self._names)
        return row.request * (len(self._names) + 1) + code

    def _least(self, row: StageTime) -> _Least | None:
        """The least time of a stage's ops, of each device its own, summed up as the busy time is."""
        if self._peaks is None:
            return None
        ops = np.sort(self._ops(row))
        _, parts = expanded(*(np.searchsorted(self._parts.op, ops, side) for side in ("left", "right")))
        op, device, share = self._parts.op[parts], self._parts.device[parts], self._parts.share[parts]
        compute, memory = self._roofs.least_compute_ns[op] * share, self._roofs.least_memory_ns[op] * share
        groups, place = np.unique(np.stack((device, self._range[op])), axis=1, return_inverse=True)
        place = place.reshape(-1)

        def by_range(values: FloatArray) -> FloatArray:
            sums: FloatArray = np.bincount(place, values).astype(np.float64)
            return sums

        cacheful = _cacheful_ns(self._peaks)
        computed, moved = by_range(compute), np.maximum(by_range(memory) - cacheful, 0)
        each = np.maximum(computed, by_range(np.maximum(compute, memory)) - cacheful)
        sums = float(computed.sum()), float(moved.sum())
        if self.on == "device" and row.device_sum_ns > row.device_busy_ns:
            _, on = np.unique(groups[0], return_inverse=True)
            return _Least(*sums, float(np.maximum(np.bincount(on, computed), np.bincount(on, moved)).sum()))
        return _Least(*sums, float(each.sum()))


class _Parts(NamedTuple):
    """What of each costed op ran on which device, by op; of most ops it is one part.

    Attributes:
        op: int64 [p], an index into the costed ops.
        device: int64 [p].
        share: float64 [p], of the op's work; those of an op add up to 1.
    """

    op: IntArray
    device: IntArray
    share: FloatArray


def _parts_by_device(owner: Codes, device: Codes, length_ns: IntArray, work_ns: IntArray) -> _Parts:
    """The ops' work by device.

    Args:
        owner: integer [n], the costed op of each piece of work; `NONE` for none.
        device: integer [n], of each piece.
        length_ns: int64 [n], of each piece.
        work_ns: int64 [k], the length of each op's pieces.
    """
    owned = owner >= 0
    pairs, place = np.unique(np.stack((owner[owned], device[owned])), axis=1, return_inverse=True)
    length = np.bincount(place.reshape(-1), length_ns[owned], pairs.shape[1])
    return _Parts(pairs[0], pairs[1], length / work_ns[pairs[0]])


def _cacheful_ns(peaks: Peaks) -> float:
    """The time that a cacheful of bytes takes from memory."""
    return peaks.cache_bytes / peaks.bytes_per_ns


def _by_config(row: StageTime, work: ModelWork, counted: _CountedStages, peaks: Peaks | None) -> StageFloor:
    """A stage's floor by the model's config."""
    least = None
    if peaks is not None:
        rate = peaks.flops_per_ns(work.dtype) or np.inf
        computed = sum(flops / rate for flops, _ in work.parts)
        nearer = sum(max(flops / rate, moved / peaks.bytes_per_ns) for flops, moved in work.parts)
        cached = work.forwards * _cacheful_ns(peaks) * counted.devices(row)  # each device has a cache
        moved_ns = max(0.0, work.bytes / peaks.bytes_per_ns - cached)
        least = _Least(computed, moved_ns, max(computed, nearer - cached))
    return _floor(row, counted, (work.flops, work.flops, work.bytes), least, "config")


def _floor(
    row: StageTime,
    counted: _CountedStages,
    work: tuple[float, float, float],
    least: _Least | None,
    source: FloorSource,
) -> StageFloor:
    """A stage's floor.

    Args:
        work: FLOPs, those of matrices, bytes.
    """
    flops, matrix_flops, moved = work
    measured = counted.measured_ns(row)
    plain = StageFloor(
        request=row.request,
        stage=row.stage,
        on=counted.on,
        flops=flops,
        matrix_flops=matrix_flops,
        bytes=moved,
        floor_ns=None,
        floor_source=source,
        compute_ns=None,
        memory_ns=None,
        bound=None,
        measured_ns=measured,
        distance=None,
        covered_pct=counted.covered_pct(row),
    )
    if least is None:
        return plain
    return replace(
        plain,
        floor_ns=least.floor_ns,
        compute_ns=least.compute_ns,
        memory_ns=least.memory_ns,
        bound="compute" if least.compute_ns >= least.memory_ns else "memory",
        distance=measured / least.floor_ns if least.floor_ns else None,
    )
