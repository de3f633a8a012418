"""The stages of one trace."""

from __future__ import annotations

from dataclasses import asdict

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import NOISY_MARK, NOISY_NOTE, milliseconds, percent, significant, spread
from gemma_trace.stages import PREPROCESSING_PARTS, Stage

BAR_WIDTH = 20


def stages_report(found: StageBreakdown, run: RunSummary) -> Report:
    """Every stage of one trace, host and device. For people the mean a request; for machines a row a request.

    Args:
        found: the trace's requests, or one of them.
        run: the same trace summed up, for its timed pass.
    """
    requests, totals = len(found.requests), found.totals
    timed = (
        {name.removesuffix("_ms"): measure for name, measure in run.measures.items()} if run.timing == "timed" else {}
    )
    on_device = any(row.activities for row in found.rows)
    columns = (
        Column("stage", align="left"),
        Column("time ms"),
        Column("%", 1),
        Column("", 4, align="left"),
        *((Column("timed ms", 3),) if timed else ()),
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
    window = found.requests[0].label if requests == 1 else f"mean of {requests} requests"
    notes = ["time: the share of the wall clock that a stage answers for; preprocessing is without the parts below it."]
    if timed:
        notes.append("timed: medians without the profiler, up to the first token; of decode, one step.")
    if any(NOISY_MARK in cell for cells in rows for cell in cells):
        notes.append(NOISY_NOTE)
    if totals.ttft_ns is not None:
        notes.append(_ttft_note(totals.ttft_ns / requests, run))
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
        ),
        records=[asdict(row) for row in found.rows],
        totals=asdict(totals),
        health=run.health,
    )


def _ttft_note(profiled_ns: float, run: RunSummary) -> str:
    note = f"TTFT {milliseconds(profiled_ns)} ms under the profiler"
    timed = run.measures["ttft_ms"]
    if run.timing == "timed" and timed and run.inflation:
        note += f", {significant(timed.median)} ms without it (× {run.inflation:.2f})"
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
