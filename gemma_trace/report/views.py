"""What the analysis found → `Report`: which columns a person sees, and in what order they go when room is short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.kernels import KernelTable
from gemma_trace.analysis.study import COLUMNS, study_sections
from gemma_trace.analysis.summary import MEASURES, RunSummary
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import (
    ABSENT,
    NOISY_MARK,
    microseconds,
    milliseconds,
    percent,
    significant,
    spread,
)
from gemma_trace.stages import PREPROCESSING_PARTS, Stage
from gemma_trace.trace.health import Finding, Health

BAR_WIDTH = 20

_SUMMARY_COLUMNS = (
    ("ttft_ms", "TTFT ms", 0),
    ("image_processing_share_pct", "image proc. %", 3),
    ("image_processing_ms", "image proc. ms", 1),
    ("preprocessing_ms", "preproc. ms", 7),
    ("vision_tower_ms", "vision ms", 2),
    ("projector_ms", "projector ms", 8),
    ("prefill_ms", "prefill ms", 2),
    ("sampling_ms", "sampling ms", 9),
    ("unattributed_ms", "unattr. ms", 6),
    ("tpot_ms", "TPOT ms", 5),
)


def summary_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """The TTFT table: a row a run."""
    shown = [
        (key, header, priority) for key, header, priority in _SUMMARY_COLUMNS if any(r.measures[key] for r in runs)
    ]
    columns = (
        Column("run", align="left", overflow="fold"),
        *(Column(header, priority) for _, header, priority in shown),
        Column("profiled TTFT ms", 4),
        Column("× timed", 1),
        Column("n", 5),
    )
    rows = tuple(
        (
            run.run,
            *(spread(run.measures[key]) for key, _, _ in shown),
            spread(run.measures["profiled_ttft_ms"]),
            ABSENT if run.inflation is None else f"{run.inflation:.2f}",
            str(run.runs),
        )
        for run in runs
    )
    notes = ["Medians ± half the interquartile range of requests run without the profiler, but for the profiled TTFT."]
    if any(NOISY_MARK in cell for row in rows for cell in row):
        notes.append(f"{NOISY_MARK} noisy: the interquartile range is over 10% of the median.")
    if random := sorted({run.model for run in runs if run.weights == "random"}):
        notes.append(f"Random weights: {', '.join(random)}. Times depend on the shapes, not on the weights.")
    if profiled := [run.run for run in runs if run.timing == "profiled"]:
        notes.append(f"Under the profiler, for want of a timed pass: {', '.join(profiled)}.")
    return Report(
        command="summarize",
        source=source,
        sections=(Section("Time to first token", columns, rows, notes=tuple(notes)),),
        records=[_summary_record(run) for run in runs],
        totals={"runs": len(runs)},
        health=_merged([run.health for run in runs]),
    )


def study_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """The same runs in exactly the reference study's sections, columns and cells."""
    columns = (Column("Config", align="left"), *(Column(header, align="left") for header, _ in COLUMNS))
    return Report(
        command="summarize",
        source=source,
        sections=tuple(
            Section(section.title, columns, tuple((config, *cells) for config, cells in section.rows))
            for section in study_sections(runs)
        ),
        records=[_summary_record(run) for run in runs],
        totals={"runs": len(runs)},
        health=_merged([run.health for run in runs]),
    )


def _summary_record(run: RunSummary) -> dict[str, object]:
    identity = (
        "run",
        "model",
        "weights",
        "dtype",
        "device",
        "device_name",
        "image_backend",
        "timing",
        "runs",
    )
    record: dict[str, object] = {name: getattr(run, name) for name in identity}
    record |= {name: run.measures[name] for name in MEASURES}
    return record | {"profiler_inflation": run.inflation}


def _merged(healths: Sequence[Health]) -> Health:
    """The findings of several traces; one that several have is listed once, its counts added."""
    merged: dict[tuple[str, str], Finding] = {}
    for finding in (finding for health in healths for finding in health.findings):
        key = (finding.code, finding.message)
        count = finding.count + (merged[key].count if key in merged else 0)
        merged[key] = Finding(finding.code, finding.severity, count, finding.message, finding.advice)
    return Health(tuple(merged.values()))


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


def kernels_report(table: KernelTable, health: Health, source: Path, top: int) -> Report:
    """The drilldown's `top` rows; 0 is all."""
    shown = table.rows[:top] if top else table.rows
    columns = (
        Column("kernel" if table.on == "device" else "op", align="left", overflow="ellipsis"),
        Column("family", 3, align="left"),
        Column("sum ms"),
        Column("%", 1),
        Column("count", 2),
        Column("busy ms", 7),
        Column("min µs", 6),
        Column("median µs", 4),
        Column("max µs", 5),
    )
    rows = tuple(
        (
            row.name,
            row.family,
            milliseconds(row.sum_ns),
            f"{row.share_pct:.1f}",
            f"{row.count:,}",
            milliseconds(row.busy_ns),
            microseconds(row.min_ns),
            microseconds(row.median_ns),
            microseconds(row.max_ns),
        )
        for row in shown
    )
    what = "Device activities" if table.on == "device" else "Ops on the host by self time"
    where = f" of {table.stage}" if table.stage else ""
    notes = []
    if len(shown) < len(table.rows):
        notes.append(f"{len(table.rows) - len(shown)} more rows: --top 0 shows all.")
    whole = sum(row.sum_ns for row in table.rows)
    return Report(
        command="kernels",
        source=[str(source)],
        sections=(
            Section(
                f"{what}{where}, {source.name}",
                columns,
                rows,
                footer=(
                    "all",
                    "",
                    milliseconds(whole),
                    "100.0",
                    f"{sum(r.count for r in table.rows):,}",
                    *[""] * 4,
                ),
                notes=tuple(notes),
            ),
        ),
        records=[asdict(row) for row in shown],
        totals=asdict(table.totals) | {"on": table.on},
        health=health,
    )


def check_report(run: RunSummary, spans: int) -> Report:
    """The verdict on one trace, and a row a finding.

    Args:
        spans: how many the trace has.
    """
    columns = (
        Column("severity", align="left"),
        Column("finding", 1, align="left"),
        Column("count", 1),
        Column("what", align="left", overflow="fold"),
        Column("what to do", 2, align="left", overflow="fold"),
    )
    findings = run.health.findings
    title = f"{run.run}: {run.health.verdict}, {spans:,} spans"
    rows = tuple((f.severity.value, f.code, f"{f.count:,}", f.message, f.advice) for f in findings)
    return Report(
        command="check",
        source=[str(run.source)],
        sections=(Section(title, columns, rows, notes=() if rows else ("Nothing wrong was found.",)),),
        records=[asdict(finding) for finding in findings],
        totals={"verdict": run.health.verdict, "spans": spans},
        health=run.health,
    )


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
