"""The TTFT table of many runs."""

from __future__ import annotations

from collections.abc import Sequence

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.study import COLUMNS, study_sections
from gemma_trace.analysis.summary import MEASURES, RunSummary
from gemma_trace.health.findings import Health, listed
from gemma_trace.health.merge import merged, told_apart
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.numbers import ABSENT, NOISY_MARK, NOISY_NOTE, significant, spread

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
    ("tokens_per_second", "tokens a second", 10),
    ("decode_slope_us", "slope µs a token", 12),
    ("decode_jitter_pct", "jitter %", 11),
)

_NEAR_ZERO = ("decode_slope_us", "decode_jitter_pct")


def summary_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """The TTFT table: one row per run."""
    shown = [
        (key, header, priority) for key, header, priority in _SUMMARY_COLUMNS if any(r.measures[key] for r in runs)
    ]
    columns = (
        Column("run", align="left", overflow="fold"),
        *(Column(header, priority, holds="measure") for _, header, priority in shown),
        Column("profiled TTFT ms", 4, holds="measure"),
        Column("× timed", 1),
        Column("n", 5),
    )
    labels = told_apart([run.run for run in runs], [run.source for run in runs])
    rows = tuple(
        (
            label,
            *(_cell(key, run.measures[key]) for key, _, _ in shown),
            spread(run.measures["profiled_ttft_ms"]),
            ABSENT if run.inflation is None else f"{run.inflation:.2f}",
            str(run.runs),
        )
        for label, run in zip(labels, runs, strict=True)
    )
    notes = ["Medians ± half the interquartile range of requests run without the profiler, but for the profiled TTFT."]
    if any(NOISY_MARK in cell for row in rows for cell in row):
        notes.append(NOISY_NOTE)
    if profiled := [label for label, run in zip(labels, runs, strict=True) if run.timing == "profiled"]:
        notes.append(f"Under the profiler, for want of a timed pass: {listed(profiled)}.")
    return Report(
        command="summarize",
        source=source,
        sections=(Section("Time to first token", columns, rows, notes=tuple(notes)),),
        records=[_summary_record(run) for run in runs],
        totals={"runs": len(runs)},
        health=_health(runs),
    )


def _cell(key: str, measured: Distribution | None) -> str:
    """A measure with its spread; of what may well be 0, the median alone: a spread is no share of that."""
    return significant(measured.median) if measured and key in _NEAR_ZERO else spread(measured)


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
        health=_health(runs),
    )


def _health(runs: Sequence[RunSummary]) -> Health:
    return merged([run.health for run in runs], told_apart([run.run for run in runs], [run.source for run in runs]))


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
