"""The stages of one trace: rows a request, and their mean."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from gemma_trace.analysis.launched import lacking, launches
from gemma_trace.analysis.timeline import UNLINKED, Request, StageTime, chosen_requests, partition, ttft_ns
from gemma_trace.stages import Stage
from gemma_trace.trace.trace import Trace


@dataclass(frozen=True)
class StageTotals:
    """Sums over the requests of a breakdown.

    Attributes:
        requests: how many.
        wall_ns: of all of them; equals the sum of the rows' `time_ns`.
        ttft_ns: of all of them; None if one has no first token in the trace.
    """

    requests: int
    wall_ns: int
    ttft_ns: int | None


@dataclass(frozen=True)
class StageBreakdown:
    """Where the wall time of a trace's requests went.

    Attributes:
        requests: the windows.
        ttfts_ns: by request; None where the trace doesn't tell.
        rows: by request, then by stage.
        without_device: the indices of the requests whose launches have no activities in the trace, or too few: where
            their time went is unknown.
    """

    requests: tuple[Request, ...]
    ttfts_ns: tuple[int | None, ...]
    rows: tuple[StageTime, ...]
    without_device: tuple[int, ...] = ()

    def complete(self) -> StageBreakdown:
        """Those of the requests whose device activities are there; all, where none has them. Means are over these."""
        left = [place for place, request in enumerate(self.requests) if request.index not in self.without_device]
        if not left or len(left) == len(self.requests):
            return self
        return StageBreakdown(
            tuple(self.requests[place] for place in left),
            tuple(self.ttfts_ns[place] for place in left),
            tuple(row for row in self.rows if row.request not in self.without_device),
        )

    @property
    def totals(self) -> StageTotals:
        """Sums over the requests."""
        known = [ttft for ttft in self.ttfts_ns if ttft is not None]
        return StageTotals(
            requests=len(self.requests),
            wall_ns=sum(request.wall_ns for request in self.requests),
            ttft_ns=sum(known) if len(known) == len(self.requests) else None,
        )

    def summed(self) -> list[StageTime]:
        """A row a stage, each the sum over the requests, in the stages' order; its `request` is -1."""
        sums: dict[str, StageTime] = {}
        for row in self.rows:
            sums[row.stage] = _add(sums[row.stage], row) if row.stage in sums else _add(row, None)
        last = (Stage.UNATTRIBUTED.value, UNLINKED)
        known = [stage.value for stage in Stage if stage is not Stage.UNATTRIBUTED]
        order = list(dict.fromkeys([*known, *(stage for stage in sums if stage not in last), *last]))
        return sorted(sums.values(), key=lambda row: order.index(row.stage))


def breakdown(trace: Trace, request: int | None = None) -> StageBreakdown:
    """Break the requests of a trace down into stages.

    Args:
        request: only the request of this index; None is all.

    Raises:
        InputError: there is no such request.
    """
    requests = chosen_requests(trace, request)
    without_device = tuple(requests[place].index for place in lacking(trace, launches(trace), requests))
    rows: list[StageTime] = []
    for window in requests:
        rows += partition(trace, window)
    ttfts = tuple(ttft_ns(trace, window) for window in requests)
    return StageBreakdown(tuple(requests), ttfts, tuple(rows), without_device)


def _add(row: StageTime, other: StageTime | None) -> StageTime:
    values = asdict(row)
    for name, value in asdict(other).items() if other else ():
        if isinstance(value, int):
            values[name] += value
    return StageTime(**values | {"request": -1})
