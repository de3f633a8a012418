"""Time to first token: one row per run, and the reference study's tables of the same runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.study import COLUMNS, study_sections
from gemma_trace.analysis.summary import MEASURES, RunSummary
from gemma_trace.errors import InputError
from gemma_trace.health.findings import Health, listed
from gemma_trace.health.merge import merged, told_apart
from gemma_trace.report.number_text import significant
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.tables.energy import ENERGY_FILE, ENERGY_SHOWN, energy_notes
from gemma_trace.report.units import COUNT, MEASURE, MEASURE_MS, MEASURE_PCT, RATIO, TEXT, WORDS
from gemma_trace.store import columns
from gemma_trace.store.columns import text_column


@dataclass(frozen=True)
class RunLine:
    """A run under the label that tells it apart."""

    label: str
    run: RunSummary


@dataclass(frozen=True)
class StageRun:
    """One stage of a run, under the label that tells the run apart; the time is None where the run has none of it."""

    label: str
    run: RunSummary
    stage: str
    stage_ms: Distribution | None


def _measure(key: str, run: RunSummary) -> Distribution | None:
    return run.measures[key]


def median_alone(measured: Distribution) -> str:
    """A measure that may well be 0: a spread is no share of that."""
    return significant(measured.median)


_STAGE_UP_TO_FIRST_TOKEN: Final = (
    "the stage up to the first token, less the stages nested in it; on a GPU the device's stages are measured between "
    "CUDA events"
)
_AS_UNDER_DECODE: Final = "of the tokens after the first, as under Decode in `stages`"

TTFT: Final = Col(
    "ttft_ms",
    "TTFT",
    MEASURE_MS,
    definition="from having the messages to having the first token id on the host, without `image_load`",
)
IMAGE_SHARE: Final = Col(
    "image_processing_share_pct", "image proc.", MEASURE_PCT, definition="100 · `image_processing` / TTFT", priority=3
)
IMAGE_PROCESSING: Final = Col(
    "image_processing_ms", "image proc.", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=1
)
PREPROCESSING: Final = Col(
    "preprocessing_ms", "preproc.", MEASURE_MS, definition="the whole processor call, its parts included", priority=7
)
VISION_TOWER: Final = Col("vision_tower_ms", "vision", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=2)
AUDIO_TOWER: Final = Col("audio_tower_ms", "audio", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=2)
PROJECTOR: Final = Col("projector_ms", "projector", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=8)
DRAFT: Final = Col("draft_ms", "draft", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=8)
PREFILL: Final = Col("prefill_ms", "prefill", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=2)
SAMPLING: Final = Col("sampling_ms", "sampling", MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN, priority=9)
UNATTRIBUTED: Final = Col(
    "unattributed_ms",
    "unattr.",
    MEASURE_MS,
    definition="TTFT less all stages; empty where the clocks of host and device would mix",
    priority=6,
)
DECODE: Final = Col("decode_ms", "decode", MEASURE_MS, definition="mean of a decode step", priority=9)
TPOT: Final = Col(
    "tpot_ms", "TPOT", MEASURE_MS, definition="mean interval between the tokens after the first", priority=5
)
TOKENS_PER_SECOND: Final = Col(
    "tokens_per_second", "tokens per second", MEASURE, definition=_AS_UNDER_DECODE, priority=10
)
SLOPE: Final = Col(
    "decode_slope_us", "slope", replace(MEASURE, suffix="µs per token"), median_alone, _AS_UNDER_DECODE, priority=12
)
JITTER: Final = Col("decode_jitter_pct", "jitter", MEASURE_PCT, median_alone, _AS_UNDER_DECODE, priority=11)
PROFILED_TTFT: Final = Col(
    "profiled_ttft_ms",
    "profiled TTFT",
    MEASURE_MS,
    definition="TTFT of the profiled requests, as the trace shows it",
    priority=4,
)
INFLATION: Final = Col(
    "profiler_inflation",
    "× timed",
    RATIO,
    definition=("median over the profiled requests of their TTFT / the median timed TTFT with the same image"),
    priority=1,
    value="inflation",
)
RUN: Final = Col(
    "run", "run", WORDS, definition="the run's name; if gemma-trace did not record the trace, the name of its file"
)
RANKS: Final = Col(
    "ranks",
    "ranks",
    COUNT,
    definition="how many ranks of a job the run has; for each request, the rank that took longest counts",
    priority=4,
)
RUNS: Final = Col("runs", "n", COUNT, definition="how many requests the measures were taken over", priority=5)

_IDENTITY: Final = (
    text_column("model", "the model; like the five columns after it, empty if gemma-trace did not record the trace"),
    columns.WEIGHTS,
    columns.DTYPE,
    columns.DEVICE,
    columns.DEVICE_NAME,
    columns.IMAGE_BACKEND,
    columns.TIMING.with_note("; the measures are of the profiled requests only if none was timed"),
)

_TO_FIRST_TOKEN: Final = (
    *(TTFT, IMAGE_SHARE, IMAGE_PROCESSING, PREPROCESSING),
    *(VISION_TOWER, AUDIO_TOWER, PROJECTOR, DRAFT, PREFILL, SAMPLING),
)

_SHOWN: Final = (
    *_TO_FIRST_TOKEN,
    *(UNATTRIBUTED, TPOT, TOKENS_PER_SECOND, SLOPE, JITTER),
)
"""The measures that people see, where a run has them."""

_OTHERS: Final = tuple(
    Col(f"{stage}_ms", stage, MEASURE_MS, definition=_STAGE_UP_TO_FIRST_TOKEN)
    for stage in ("image_load", "chat_template", "tokenization", "transfer", "video_processing", "audio_processing")
)

_BY_KEY: Final = {col.key: col for col in (*_SHOWN, *_OTHERS, DECODE, PROFILED_TTFT)}
MEASURE_FILE: Final = tuple(_BY_KEY[key].of(partial(_measure, key)) for key in MEASURES)
"""The measures of a run."""

RUN_FILE: Final = (RUN, *map(Col.stored, _IDENTITY), RANKS, RUNS)
"""What a run is."""

STAGE: Final = Col("stage", definition="the stage that `--stage` names")
STAGE_MS: Final = Col(
    "stage_ms",
    "stage",
    MEASURE_MS,
    definition="the measure of that stage as defined below; if there is none, the share of the wall time of a "
    "profiled request that the stage accounts for",
)

SUMMARY_FILE: Final = (*RUN_FILE, *MEASURE_FILE, INFLATION, *ENERGY_FILE)
"""A row per run."""

PAGE_MEASURES: Final = (
    *_TO_FIRST_TOKEN,
    *(DECODE, UNATTRIBUTED, TPOT, PROFILED_TTFT),
)
"""The measures of the page's table of runs."""


def summary_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """The TTFT table: one row per run."""
    labels = told_apart([run.run for run in runs], [run.source for run in runs])
    lines = [RunLine(label, run) for label, run in zip(labels, runs, strict=True)]
    notes = [*timing_notes([(line.label, run.timing, run.runs) for line, run in zip(lines, runs, strict=True)])]
    notes += energy_notes(runs)
    return Report(
        command="summarize",
        source=source,
        tables=(Table("Time to first token", run_cols(runs, (*_SHOWN, PROFILED_TTFT)), lines, notes=tuple(notes)),),
        data=Table("Time to first token", SUMMARY_FILE, runs),
        totals={"runs": len(runs)},
        health=health_of(runs),
    )


def stage_summary_report(runs: Sequence[RunSummary], source: Sequence[str], stage: str) -> Report:
    """One stage of every run, beside TTFT: one row per run.

    Raises:
        InputError: no run has the stage.
    """
    labels = told_apart([run.run for run in runs], [run.source for run in runs])
    lines = [StageRun(label, run, stage, run.stage_ms(stage)) for label, run in zip(labels, runs, strict=True)]
    if not any(line.stage_ms for line in lines):
        known = dict.fromkeys(name for run in runs for request in run.requests for name in request.stages_ns)
        raise InputError(f"no run has a stage {stage!r}; they have {', '.join(known) or 'none'}")
    ttft = TTFT.of(partial(_measure, "ttft_ms")).within("run")
    shown = (RUN.of("label"), replace(STAGE_MS, header=stage), ttft, *(col.within("run") for col in (INFLATION, RUNS)))
    notes = timing_notes([(line.label, run.timing, run.runs) for line, run in zip(lines, runs, strict=True)])
    return Report(
        command="summarize",
        source=source,
        tables=(Table(f"The stage {stage}", shown, lines, notes=notes),),
        data=Table(f"The stage {stage}", (*(col.within("run") for col in RUN_FILE), STAGE, STAGE_MS, ttft), lines),
        totals={"runs": len(runs)},
        health=health_of(runs),
    )


def timing_notes(runs: Sequence[tuple[str, str, int]]) -> tuple[str, ...]:
    """What the measures of runs are of.

    Args:
        runs: of each the label, the timing, and over how many requests its measures were taken.
    """
    profiled = [label for label, timing, _ in runs if timing == "profiled"]
    is_one = all(requests == 1 for _, _, requests in runs)
    measures = "The figures are those of" if is_one else "Medians ± half the interquartile range over"
    if len(profiled) == len(runs):
        requests = "one profiled request per run" if is_one else "the profiled requests"
        return (f"{measures} {requests}; no run has a timed pass.",)
    requests = "one request per run that" if is_one else "the requests that"
    note = f"{measures} {requests} ran without the profiler; only the profiled TTFT is under it."
    without = f"These runs have no timed pass, so their figures are under the profiler: {listed(profiled)}."
    return (note, without) if profiled else (note,)


def run_cols(runs: Sequence[RunSummary], measures: Sequence[Col]) -> tuple[Col, ...]:
    """The columns of a table of `RunLine`s: those of the measures that a run has."""
    known = [col for col in measures if any(run.measures[col.key] for run in runs)]
    energy = ENERGY_SHOWN if any(run.energy for run in runs) else ()
    inflation = (INFLATION,) if any(run.inflation for run in runs) else ()
    several = (RANKS,) if any(run.ranks > 1 for run in runs) else ()
    return (
        RUN.of("label"),
        *(col.of(partial(_measure, col.key)).within("run") for col in known),
        *(col.within("run") for col in (*energy, *inflation, *several, RUNS)),
    )


def _study_cell(place: int, row: tuple[str, tuple[str, ...]]) -> str:
    return row[1][place]


def _config(row: tuple[str, tuple[str, ...]]) -> str:
    return row[0]


def study_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """The runs in exactly the tables, columns and cells of the reference study."""
    cols = (
        Col("config", "Config", TEXT, value=_config),
        *(Col(header, header, TEXT, value=partial(_study_cell, place)) for place, (header, _) in enumerate(COLUMNS)),
    )
    return Report(
        command="summarize",
        source=source,
        tables=tuple(Table(section.title, cols, section.rows) for section in study_sections(runs)),
        data=Table("Time to first token", SUMMARY_FILE, runs),
        totals={"runs": len(runs)},
        health=health_of(runs),
    )


def health_of(runs: Sequence[RunSummary]) -> Health:
    """What is wrong with these runs, each finding once."""
    return merged([run.health for run in runs], told_apart([run.run for run in runs], [run.source for run in runs]))
