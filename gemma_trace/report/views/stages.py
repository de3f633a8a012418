"""The stages of one trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.reasons import Kind, StageReason
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import NOISY_MARK, NOISY_NOTE, milliseconds, percent, significant, spread
from gemma_trace.report.verdicts import doubt, verdict
from gemma_trace.report.views.roofline import Floors
from gemma_trace.stages import PREPROCESSING_PARTS, Stage

BAR_WIDTH = 20


WORTH_A_VERDICT = 0.01
"""A stage below this share of the wall time gets no line."""

FEWEST_PARTS_PCT = 1.0

MOST_LABELS = 10
"""So many requests are named in a note."""


def stages_report(
    found: StageBreakdown,
    run: RunSummary,
    reasons: Sequence[StageReason],
    floors: Floors | None = None,
    *,
    split: bool = False,
) -> Report:
    """Every stage of one trace, host and device. For people the mean a request; for machines a row a request.

    Requests whose device activities are missing are left out of means, and named.

    Args:
        found: the trace's requests, or one of them.
        run: the same trace summed up, for its timed pass.
        reasons: why its stages take their time, of the same requests.
        floors: the least that they could take; None leaves it out.
        split: show the parts as well, not the verdicts alone.
    """
    everything, found = found, found.complete()
    doubtful = doubt(everything, run.health)
    requests, totals = len(found.requests), found.totals
    timed = (
        {name.removesuffix("_ms"): measure for name, measure in run.measures.items()} if run.timing == "timed" else {}
    )
    on_device = any(row.activities for row in found.rows)
    columns = (
        Column("stage", align="left"),
        Column("time ms"),
        Column("%", 1),
        Column("", 1, align="left", holds="bar"),
        *(floors.columns() if floors else ()),
        *((Column("timed ms", 3, holds="measure"),) if timed else ()),
        Column("host ms", 5),
        *((Column("device ms", 2), Column("exposed host ms", 3)) if on_device else ()),
        *((Column("device busy ms", 4), Column("device sum ms", 7)) if on_device else ()),
        *((Column("activities", 6), Column("launches", 8)) if on_device else ()),
    )
    rows = []
    for row in found.summed():
        share = row.time_ns / totals.wall_ns if totals.wall_ns else 0.0
        device = (row.device_ns, row.exposed_host_ns, row.device_busy_ns, row.device_sum_ns)
        rows.append(
            (
                _indented(row.stage),
                milliseconds(row.time_ns / requests),
                percent(row.time_ns, totals.wall_ns),
                bar(share),
                *(floors.cells(row.stage) if floors else ()),
                *((spread(timed.get(row.stage) if row.stage != Stage.PREPROCESSING else None),) if timed else ()),
                milliseconds(row.host_ns / requests),
                *((milliseconds(value / requests) for value in device) if on_device else ()),
                *(
                    (significant_count(count / requests) for count in (row.activities, row.launches))
                    if on_device
                    else ()
                ),
            )
        )
    blank = ("",) * (len(columns) - 3)
    whole = len(everything.requests)
    window = f"mean of {requests} requests" if requests == whole else f"mean of {requests} of {whole} requests"
    window = found.requests[0].label if whole == 1 else window
    notes = ["time: the share of the wall clock that a stage answers for; preprocessing is without the parts below it."]
    if requests < whole:
        notes.append(_left_out_note(everything))
    if doubtful:
        notes.append(f"Don't trust the split of time: {doubtful}.")
    if timed:
        notes.append("timed: medians without the profiler, up to the first token; of decode, one step.")
    if any(NOISY_MARK in cell for cells in rows for cell in cells):
        notes.append(NOISY_NOTE)
    if totals.ttft_ns is not None:
        notes.append(_ttft_note(totals.ttft_ns / requests, run))
    notes += floors.notes() if floors else ()
    return Report(
        command="stages",
        source=[str(run.source)],
        sections=(
            Section(
                f"Stages of {run.run}, {window}",
                columns,
                tuple(rows),
                footer=("wall", milliseconds(totals.wall_ns / requests), "100.0", *blank),
                notes=tuple(notes),
            ),
            _verdict_section(reasons, totals.wall_ns, doubtful),
            *((_split_section(reasons),) if split else ()),
        ),
        records=[asdict(row) for row in everything.rows],
        totals=asdict(everything.totals)
        | {"without_device": list(everything.without_device)}
        | {"reasons": [_reason_record(reason, doubtful) for reason in reasons]}
        | (floors.totals() if floors else {}),
        health=run.health,
    )


def _verdict_section(reasons: Sequence[StageReason], wall_ns: int, doubtful: str) -> Section:
    """A line a stage that matters, the costliest first."""
    shown = sorted(reasons, key=lambda reason: -reason.time_ns)
    rows = tuple(
        (reason.stage, percent(reason.time_ns, wall_ns), verdict(reason, doubtful))
        for reason in shown
        if reason.time_ns >= WORTH_A_VERDICT * wall_ns
    )
    columns = (Column("stage", align="left"), Column("%"), Column("why", align="left", overflow="fold"))
    return Section("Why", columns, rows)


def _split_section(reasons: Sequence[StageReason]) -> Section:
    """The parts of every stage's time; those under 1% of it are one row."""
    rows: list[tuple[str, ...]] = []
    for reason in reasons:
        large = [part for part in reason.parts if 100 * part.time_ns >= FEWEST_PARTS_PCT * reason.time_ns]
        small = reason.parts[len(large) :]
        cells = [(part.kind.value, part.name, part.time_ns) for part in large]
        if small:
            cells.append(("", f"({len(small)} more)", sum(part.time_ns for part in small)))
        for place, (kind, name, time_ns) in enumerate(cells):
            mean = milliseconds(time_ns / reason.requests)
            rows.append((reason.stage if not place else "", kind, name, mean, percent(time_ns, reason.time_ns)))
    columns = (
        Column("stage", align="left"),
        Column("kind", align="left"),
        Column("what", align="left", overflow="ellipsis"),
        Column("time ms"),
        Column("%"),
    )
    notes = (
        "device: what the device computes. transfer: copies, and calls that copy while the device is idle.",
        "launch: the device waits for the host to launch. sync: the host waits in a call though the device is idle.",
        "host: the host's own work. profiler: the profiler holds the host up.",
    )
    return Section("Split of time", columns, tuple(rows), notes=notes)


def _reason_record(reason: StageReason, doubtful: str) -> dict[str, Any]:
    return {
        "stage": reason.stage,
        "time_ns": reason.time_ns,
        **{f"{kind.value}_ns": reason.by_kind_ns(kind) for kind in Kind},
        "activities": reason.activities,
        "launches": reason.launches,
        "median_activity_ns": reason.median_activity_ns,
        "verdict": verdict(reason, doubtful),
        "cold_ns": reason.cold_ns,
        "longest": asdict(reason.longest) if reason.longest else None,
        "parts": [asdict(part) for part in reason.parts],
    }


def _left_out_note(found: StageBreakdown) -> str:
    """Which requests are in no mean."""
    labels = [request.label for request in found.requests if request.index in found.without_device]
    more = len(labels) - MOST_LABELS
    named = ", ".join(labels[:MOST_LABELS]) + (f" and {more} more" if more > 0 else "")
    return f"Left out, since their launches have no device activity in the trace: {named}."


def _ttft_note(profiled_ns: float, run: RunSummary) -> str:
    note = f"TTFT {milliseconds(profiled_ns)} ms under the profiler"
    timed = run.measures["ttft_ms"]
    if run.timing == "timed" and timed and run.inflation:
        note += f", {significant(timed.median)} ms without it (× {run.inflation:.2f}, image for image)"
    return note + "; image_load is outside it."


def bar(share: float) -> str:
    """A share of one as a bar of up to `BAR_WIDTH` cells, to an eighth of a cell.

    >>> bar(0.5)
    '██████████'
    """
    eighths = round(max(0.0, min(1.0, share)) * BAR_WIDTH * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def significant_count(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{value:,.0f}" if value == int(value) else significant(value)


def _indented(stage: str) -> str:
    return f"  {stage}" if stage in {part.value for part in PREPROCESSING_PARTS} else stage
