"""The stages of one trace: rows a request, and their mean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import Any, Final

from gemma_trace.analysis.launched import lacking, launches
from gemma_trace.analysis.sharing import engine_ns
from gemma_trace.analysis.timeline import UNLINKED, Request, StageTime, partition_all, ttft_ns
from gemma_trace.arguments import checked
from gemma_trace.stages import STAGE_ORDER, Stage
from gemma_trace.tabular import Tabular, fields_of
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

_FIGURES: Final = attrgetter(*(field.name for field in fields(StageTime)[2:]))
"""All that is summed up of a row."""


@dataclass(frozen=True)
class StageTotals:
    """Sums over the requests of a breakdown.

    Attributes:
        requests: how many.
        wall_ns: of all of them; equals the sum of the rows' `time_ns`.
        ttft_ns: of all of them; None if one has no first token in the trace.
        shared_ns: what of it they spent in steps of a server's engine that were for other requests, too.
        engine_ns: how long the engine worked for them, each step counted once; None where they are of no server.
    """

    requests: int
    wall_ns: int
    ttft_ns: int | None
    shared_ns: int = 0
    engine_ns: int | None = None


@dataclass(frozen=True, repr=False)
class StageBreakdown(Tabular):
    """Where the wall time of a trace's requests went.

    Attributes:
        requests: the windows.
        ttfts_ns: by request; None where the trace doesn't tell.
        rows: by request, then by stage.
        without_device: the indices of the requests whose launches have no activities in the trace, or too few: where
            their time went is unknown.
        engine_ns: how long a server's engine worked for any of them; None where they are of no server, or some are
            left out.
    """

    requests: tuple[Request, ...]
    ttfts_ns: tuple[int | None, ...]
    rows: tuple[StageTime, ...]
    without_device: tuple[int, ...] = ()
    engine_ns: int | None = None

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

    def of_stage(self, stage: str) -> StageBreakdown:
        """The rows of one stage alone; the totals stay those of the requests."""
        return replace(self, rows=tuple(row for row in self.rows if row.stage == stage))

    @property
    def totals(self) -> StageTotals:
        """Sums over the requests."""
        known = [ttft for ttft in self.ttfts_ns if ttft is not None]
        return StageTotals(
            requests=len(self.requests),
            wall_ns=sum(request.wall_ns for request in self.requests),
            ttft_ns=sum(known) if len(known) == len(self.requests) else None,
            shared_ns=sum(row.shared_ns for row in self.rows),
            engine_ns=self.engine_ns,
        )

    def summed(self) -> list[StageTime]:
        """One row per stage, the sum over the requests, in the stages' order; its `request` is -1."""
        sums: dict[str, list[int]] = {}
        for row in self.rows:
            values = _FIGURES(row)
            known = sums.get(row.stage)
            sums[row.stage] = [*values] if known is None else [a + b for a, b in zip(known, values, strict=True)]
        last = (Stage.UNATTRIBUTED.value, UNLINKED)
        order = list(dict.fromkeys([*STAGE_ORDER, *(stage for stage in sums if stage not in last), *last]))
        return [StageTime(-1, stage, *sums[stage]) for stage in order if stage in sums]

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"Stages of {counted(len(self.requests), 'request')}, {self.totals.wall_ns / 1e6:,.3f} ms wall"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per request and stage."""
        yield from (dict(fields_of(row)) for row in self.rows)


@checked
def breakdown(trace: Trace, request: int | Request | None = None) -> StageBreakdown:
    """Break the requests of a trace down into stages.

    Args:
        request: only the request of this index; None is all.

    Raises:
        InputError: there is no such request.
    """
    requests = trace.chosen(request)
    without_device = tuple(requests[place].index for place in lacking(trace, launches(trace), requests))
    rows = partition_all(trace, requests)
    ttfts = tuple(ttft_ns(trace, window) for window in requests)
    return StageBreakdown(tuple(requests), ttfts, tuple(rows), without_device, engine_ns(trace, requests))
