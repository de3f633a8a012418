"""Requests one by one, and the parts of TTFT over their sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from gemma_trace.analysis.size_curve import SizedRun, SizePoint, ms_per_megapixel, size_curve
from gemma_trace.analysis.summary import RequestMeasures, RunSummary
from gemma_trace.errors import InputError
from gemma_trace.health.merge import told_apart
from gemma_trace.report.number_text import significant
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.tables.summary import PREPROCESSING, TTFT, health_of
from gemma_trace.report.units import COUNT, LABEL, MEASURE_MS, MS, WORDS, Unit, megabytes
from gemma_trace.stages import Stage
from gemma_trace.store import columns

MEGAPIXELS: Final = Unit("MP", megabytes)
"""Values in pixels; 10⁶ of them are a megapixel."""


@dataclass(frozen=True)
class RequestRow:
    """A request under the label of its run."""

    run: str
    request: RequestMeasures
    timing: str


def _stage_ns(stage: Stage, row: RequestRow) -> int | None:
    return row.request.stages_ns.get(stage.value)


def _pixels(row: RequestRow) -> int | None:
    return sum(row.request.image_pixels) if row.request.prompt_tokens is not None else None


def _images(row: RequestRow) -> int | None:
    return len(row.request.image_pixels) if row.request.prompt_tokens is not None else None


def _step_tokens(row: RequestRow) -> list[int]:
    return list(row.request.step_tokens)


def _step_guesses(row: RequestRow) -> list[int]:
    return list(row.request.step_guesses)


def _of_stage(stage: Stage, header: str, priority: int) -> Col:
    definition = "the stage up to the first token, less the stages nested in it, as in the table of runs"
    return Col(
        f"{stage.value}_ns", header, MS, definition=definition, priority=priority, value=partial(_stage_ns, stage)
    )


_IMAGES: Final = Col("images", "images", COUNT, definition="how many images a prompt has", priority=8, value=_images)
_PIXELS: Final = Col(
    "image_pixels",
    "images",
    MEGAPIXELS,
    definition="the pixels of a prompt's images, all together, as they were decoded",
    priority=3,
    value=_pixels,
)
_PROMPT_TOKENS: Final = Col(
    "prompt_tokens",
    "prompt tokens",
    COUNT,
    definition="tokens of a prompt, those of its images included",
    priority=3,
    value="request.prompt_tokens",
)

RUN_LABEL: Final = Col("run", "run", WORDS, definition="the run's name", is_grouped=True)

REQUEST_ROW_FILE: Final = (
    RUN_LABEL,
    Col("request", "request", LABEL, definition="its id in the file of requests, or its image", value="request.name"),
    Col.stored(columns.TIMING),
    _IMAGES,
    _PIXELS,
    _PROMPT_TOKENS,
    Col("new_tokens", "new tokens", COUNT, definition="tokens that were generated", priority=6, value="request.tokens"),
    Col("ttft_ns", TTFT.header, MS, definition=TTFT.definition, value="request.ttft_ns"),
    _of_stage(Stage.IMAGE_LOAD, "image load", 9),
    Col(
        "preprocessing_ns",
        PREPROCESSING.header,
        MS,
        definition=PREPROCESSING.definition,
        priority=4,
        value="request.preprocessing_ns",
    ),
    _of_stage(Stage.IMAGE_PROCESSING, "image proc.", 1),
    _of_stage(Stage.VISION_TOWER, "vision", 2),
    _of_stage(Stage.PROJECTOR, "projector", 10),
    _of_stage(Stage.PREFILL, "prefill", 2),
    Col(
        "tpot_ns",
        "TPOT",
        MS,
        definition="mean interval between the tokens after the first",
        priority=5,
        value="request.tpot_ns",
    ),
    Col(
        "steps",
        "steps",
        COUNT,
        definition="how many steps of assisted decoding its tokens took, the prefill included",
        priority=7,
        value="request.steps",
    ),
    Col(
        "guessed_tokens",
        "guessed",
        COUNT,
        definition="tokens that were guessed, by the assistant or the look-up in the prompt",
        priority=7,
        value="request.guessed_tokens",
    ),
    Col(
        "accepted_tokens",
        "accepted",
        COUNT,
        definition="how many of the guessed tokens were the model's own, and so came for nothing",
        priority=7,
        value="request.accepted_tokens",
    ),
    Col(
        "step_tokens",
        definition="how many tokens each step of assisted decoding brought, the prefill first",
        value=_step_tokens,
    ),
    Col(
        "step_guesses",
        definition="how many tokens had been guessed before each of those steps",
        value=_step_guesses,
    ),
)
"""A row per request."""


def _measure(key: str, header: str, definition: str, priority: int = 0) -> Col:
    return Col(key, header, MEASURE_MS, definition=definition, priority=priority)


SIZE_FILE: Final = (
    Col(
        "series",
        "runs",
        WORDS,
        definition="what tells the runs of these requests from the others",
        is_grouped=True,
    ),
    _IMAGES.of("images"),
    _PIXELS.of("image_pixels"),
    _PROMPT_TOKENS.of("prompt_tokens"),
    Col("requests", "n", COUNT, definition="how many requests have this size", priority=7),
    _measure("ttft_ms", TTFT.header, TTFT.definition),
    _measure("image_load_ms", "image load", "reading and decoding the images, which TTFT leaves out", 5),
    _measure("preprocessing_ms", PREPROCESSING.header, PREPROCESSING.definition, 1),
    _measure("image_processing_ms", "image proc.", "the image processor's part of `preprocessing_ms`", 4),
    _measure("encoder_ms", "encoder", "`vision_tower` and `projector`", 1),
    _measure("prefill_ms", "prefill", "the stage `prefill`", 2),
)
"""A row per size of request."""


def requests_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """One row per request."""
    labels = told_apart([run.run for run in runs], [run.source for run in runs])
    rows = [
        RequestRow(label, request, run.timing)
        for label, run in zip(labels, runs, strict=True)
        for request in run.requests
    ]
    several = len(runs) > 1
    cols = tuple(col for col in REQUEST_ROW_FILE if col.header and _says_something(col, rows, several=several))
    notes = ["Requests that ran without the profiler, in the order in which they were sent."]
    if any(run.timing == "profiled" for run in runs):
        notes.append("For runs without a timed pass, these are the profiled requests.")
    return Report(
        command="summarize",
        source=source,
        tables=(Table("Requests", cols, rows, notes=tuple(notes)),),
        data=Table("Requests", REQUEST_ROW_FILE, rows),
        totals={"runs": len(runs), "requests": len(rows)},
        health=health_of(runs),
    )


def sizes_report(runs: Sequence[RunSummary], source: Sequence[str]) -> Report:
    """One row per size of request.

    Raises:
        InputError: the runs' requests aren't of different sizes.
    """
    points = size_curve([SizedRun(run.settings, run.requests) for run in runs])
    if not points:
        raise InputError(
            "a curve requires requests of three sizes, the largest at least twice the smallest; capture more, e.g. "
            "with "
            "--image-size 640x480 --image-size 1280x960 --image-size 2560x1920"
        )
    table = size_table(points)
    data = Table(table.title, SIZE_FILE, points)
    return Report("summarize", source, (table,), data, {"runs": len(runs)}, health_of(runs))


def size_table(points: Sequence[SizePoint]) -> Table[SizePoint]:
    """The curve as a table."""
    several = len({point.series for point in points}) > 1
    cols = tuple(col for col in SIZE_FILE if col.key != "series" or several)
    notes = ("Medians ± half the interquartile range over all requests of a size.", *_slopes(points))
    return Table("Time by size of request", cols, points, notes=notes)


def by_series(points: Sequence[SizePoint]) -> dict[str, list[SizePoint]]:
    """The points of each series."""
    curves: dict[str, list[SizePoint]] = {}
    for point in points:
        curves.setdefault(point.series, []).append(point)
    return curves


def _slopes(points: Sequence[SizePoint]) -> Iterator[str]:
    curves = by_series(points)
    for series, curve in curves.items():
        if (slope := ms_per_megapixel(curve)) is not None:
            where = f"{series}: p" if len(curves) > 1 else "P"
            yield (
                f"{where}reprocessing grows by {significant(slope)} ms per megapixel (least squares over the medians)."
            )


def _says_something(col: Col, rows: Sequence[RequestRow], *, several: bool) -> bool:
    return several if col.key == "run" else any(col.raw(row) not in (None, "") for row in rows)
