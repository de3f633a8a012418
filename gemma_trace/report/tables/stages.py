"""The stages of one trace, host and device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Final

from gemma_trace.analysis.bindings import Doubt, binding, doubt_of
from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.reasons import StageReason
from gemma_trace.analysis.roofline.floor_sums import Floors
from gemma_trace.analysis.stage_lines import StageLine, stage_lines
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.number_text import milliseconds, significant
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.tables.floors import DISTANCE, FLOOR, HAS_FLOOR, floor_notes, floor_totals
from gemma_trace.report.tables.reasons import WHY, reasons_data, split_table, why_table
from gemma_trace.report.units import BAR, COUNT, MEASURE_MS, MS, PCT, STAGE
from gemma_trace.report.verdicts import DOUBTS
from gemma_trace.stages import SERVED_STAGES, Stage
from gemma_trace.store import columns

MOST_LABELS: Final = 10
"""So many requests are named in a note."""

ON_DEVICE: Final = "activities ran on a device"
TIMED: Final = "there is a timed pass"
HAS_SHARED: Final = "requests share steps of a server's engine"

NAME: Final = Col.stored(columns.STAGE, "stage", STAGE)
HOST: Final = Col.stored(columns.HOST_NS, "host", MS, priority=5, is_sum=True)
DEVICE_SUM: Final = Col.stored(columns.DEVICE_SUM_NS, "device sum", MS, priority=7, when=ON_DEVICE, is_sum=True)
DEVICE_BUSY: Final = Col.stored(columns.DEVICE_BUSY_NS, "device busy", MS, priority=4, when=ON_DEVICE, is_sum=True)
TIME: Final = Col.stored(columns.TIME_NS, "time", MS, is_sum=True)
DEVICE: Final = Col.stored(columns.DEVICE_NS, "device", MS, priority=2, when=ON_DEVICE, is_sum=True)
EXPOSED_HOST: Final = Col.stored(columns.EXPOSED_HOST_NS, "exposed host", MS, priority=3, when=ON_DEVICE, is_sum=True)
ACTIVITIES: Final = Col.stored(columns.ACTIVITIES, "activities", COUNT, priority=6, when=ON_DEVICE, is_sum=True)
LAUNCHES: Final = Col.stored(columns.LAUNCHES, "launches", COUNT, priority=8, when=ON_DEVICE, is_sum=True)
SHARED: Final = Col.stored(columns.SHARED_NS, "shared", MS, priority=2, when=HAS_SHARED, is_sum=True)

STAGE_FILE: Final = (
    Col.stored(columns.REQUEST),
    NAME,
    HOST,
    DEVICE_BUSY,
    DEVICE_SUM,
    TIME,
    DEVICE,
    EXPOSED_HOST,
    ACTIVITIES,
    LAUNCHES,
    SHARED,
)
"""A row per stage of each request."""


SHARE: Final = Col("share_pct", "", PCT, priority=1)
SHARE_BAR: Final = Col("share", "", BAR, priority=1)
TIMED_MS: Final = Col("timed", "timed", MEASURE_MS, priority=3, when=TIMED)

STAGE_COLS: Final = (
    NAME.within("row"),
    TIME.within("row"),
    SHARE,
    SHARE_BAR,
    FLOOR.of("floor.mean_floor_ns"),
    DISTANCE.within("floor"),
    SHARED.within("row"),
    TIMED_MS,
    *(col.within("row") for col in (HOST, DEVICE, EXPOSED_HOST, DEVICE_BUSY, DEVICE_SUM, ACTIVITIES, LAUNCHES)),
)
"""A row per stage, the mean over the requests."""

PAGE_COLS: Final = (
    *(NAME.within("row"), TIME.within("row"), SHARE, SHARE_BAR, SHARED.within("row"), TIMED_MS),
    *(col.within("row") for col in (HOST, DEVICE, EXPOSED_HOST, ACTIVITIES)),
    WHY,
)
"""A row per stage of one request, as the page shows them."""

_TIME_NOTE: Final = "time: the part of the wall time that a stage accounts for"
_NESTED_NOTE: Final = "; preprocessing does not include the stages below it"
_NO_STAGES_NOTE: Final = (
    "No span of this trace is known as a stage. --rule NAME=REGEX defines stages by the names of spans, which "
    "gemma-trace tree shows."
)
_TIMED_NOTE: Final = "timed: medians without the profiler, up to the first token; for decode, of one step."


def stages_report(
    breakdown: StageBreakdown,
    run: RunSummary,
    reasons: Sequence[StageReason],
    floors: Floors | None = None,
    *,
    split: bool = False,
) -> Report:
    """Every stage of one trace, host and device. For people the mean over the requests; for files a row per request.

    Requests whose device activities are missing are left out of means, and named.

    Args:
        breakdown: the trace's requests, or one of them.
        run: the same trace summed up, for its timed pass.
        reasons: why its stages take their time, of the same requests.
        floors: the least that they could take; None leaves it out.
        split: show the parts as well, not the verdicts alone.
    """
    doubt = doubt_of(breakdown, run.health)
    measured = breakdown.complete()
    wall_ns = measured.totals.wall_ns
    bindings = [binding(reason, doubt) for reason in reasons]
    lines = stage_lines(measured.summed(), wall_ns, run, bindings, floors.by_stage if floors else {})
    title = f"Stages of {run.run}, {_window(breakdown, measured)}"
    stages = replace(
        lines_table(title, STAGE_COLS, lines, wall_ns, len(measured.requests), run, floors),
        notes=tuple(_notes(breakdown, measured, run, doubt, floors)),
    )
    return Report(
        command="stages",
        source=[str(run.source)],
        tables=(stages, why_table(lines, wall_ns), *((split_table(reasons),) if split else ())),
        data=Table("Stages", STAGE_FILE, breakdown.rows),
        totals=asdict(breakdown.totals)
        | {"without_device": list(breakdown.without_device), "reasons": reasons_data(bindings)}
        | (floor_totals(floors) if floors else {}),
        health=run.health,
    )


def lines_table(
    title: str,
    cols: tuple[Col, ...],
    lines: Sequence[StageLine],
    wall_ns: int,
    requests: int,
    run: RunSummary,
    floors: Floors | None = None,
) -> Table[StageLine]:
    """Stages of one request, or of several summed up, with their wall time under them.

    Args:
        requests: of how many the lines are.
    """
    conditions = {
        ON_DEVICE: any(line.row.activities for line in lines),
        TIMED: run.timing == "timed",
        HAS_SHARED: any(line.row.shared_ns for line in lines),
        HAS_FLOOR: floors is not None and floors.are_known,
    }
    totals = {NAME.key: "wall", TIME.key: wall_ns, SHARE.key: 100.0}
    totals |= {SHARED.key: sum(line.row.shared_ns for line in lines)}
    return Table(title, cols, lines, totals, conditions=holding(conditions), per=requests)


def _window(breakdown: StageBreakdown, measured: StageBreakdown) -> str:
    count, every = len(measured.requests), len(breakdown.requests)
    if every == 1:
        return measured.requests[0].label
    return f"mean of {count} requests" if count == every else f"mean of {count} of {every} requests"


def _notes(
    breakdown: StageBreakdown, measured: StageBreakdown, run: RunSummary, doubt: Doubt, floors: Floors | None
) -> list[str]:
    stages = {row.stage for row in measured.rows}
    notes = [f"{_TIME_NOTE}{_NESTED_NOTE if Stage.PREPROCESSING in stages else ''}."]
    if all(set(request.stages_ns) <= {Stage.UNATTRIBUTED} for request in run.requests):
        notes.append(_NO_STAGES_NOTE)
    if len(measured.requests) < len(breakdown.requests):
        notes.append(_left_out_note(breakdown))
    if doubt:
        notes.append(f"The split of the time can't be trusted: {DOUBTS[doubt]}.")
    if run.timing == "timed":
        notes.append(_TIMED_NOTE)
    ttft_ns = measured.totals.ttft_ns
    if ttft_ns is not None:
        is_served = not stages.isdisjoint(SERVED_STAGES)
        notes.append(_ttft_note(ttft_ns / len(measured.requests), run, is_served=is_served))
    return [*notes, *_shared_notes(measured), *(floor_notes(floors) if floors else ())]


def _shared_notes(measured: StageBreakdown) -> list[str]:
    """That requests were in the engine together, and what that comes to when each step counts once."""
    totals = measured.totals
    if not totals.shared_ns:
        return []
    note = "shared: steps of the engine that were for other requests, too, in full in the time of each."
    if totals.requests > 1 and totals.engine_ns is not None:
        note += f" Counted once, the engine worked {milliseconds(totals.engine_ns)} ms for all of them."
    return [note]


def _left_out_note(breakdown: StageBreakdown) -> str:
    """Which requests are in no mean."""
    labels = [request.label for request in breakdown.requests if request.index in breakdown.without_device]
    more = len(labels) - MOST_LABELS
    named = ", ".join(labels[:MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
    return f"Left out because their launches have no device activity in the trace: {named}."


def _ttft_note(profiled_ns: float, run: RunSummary, *, is_served: bool) -> str:
    note = f"TTFT {milliseconds(profiled_ns)} ms under the profiler"
    timed = run.measures["ttft_ms"]
    if run.timing == "timed" and timed and run.inflation:
        note += f", {significant(timed.median)} ms without it (× {run.inflation:.2f}, image for image)"
    return note + ("; it is the client's, with image_load." if is_served else "; image_load is outside it.")
