"""What the templates can't work out themselves: sentences, tiles, and the rows of charts that compare runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from gemma_trace.analysis.changes import Change
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.report.html.charts import Rect, Tick, axis, range_pct, stacked
from gemma_trace.report.html.environment import public_settings
from gemma_trace.report.html.model import Pair, RunView
from gemma_trace.report.html.tables import page_changes, page_runs, page_stages
from gemma_trace.report.number_text import milliseconds, percent, significant, spread
from gemma_trace.report.table import Table
from gemma_trace.report.tables.diff import stage_notes
from gemma_trace.report.tables.summary import timing_notes
from gemma_trace.report.verdicts import sentence
from gemma_trace.stages import Stage

REASONS: Final = 3
"""How many stages the headline names."""

_NO_STAGES: Final = (Stage.UNATTRIBUTED.value, UNLINKED)


@dataclass(frozen=True)
class Tile:
    """A figure beside the headline."""

    name: str
    value: str
    unit: str
    note: str


@dataclass(frozen=True)
class Reason:
    """A stage that matters, and why it takes its time."""

    stage: str
    share_pct: str
    verdict: str


@dataclass(frozen=True)
class AdviceLine:
    """A thing to change; `at_most` is its ceiling."""

    share_pct: str
    change: str
    at_most: str


@dataclass(frozen=True)
class RunTexts:
    """The sentences about a run.

    Attributes:
        source: what the headline is the median of.
        missing: what a reader may look for and the trace doesn't have, with the reason.
        advice: what to change, the highest ceiling first.
    """

    source: str
    tiles: tuple[Tile, ...]
    reasons: tuple[Reason, ...]
    missing: tuple[str, ...]
    advice: tuple[AdviceLine, ...] = ()


def run_of(view: RunView) -> RunTexts:
    """The sentences about a run."""
    wall_ns = view.waterfall.wall_ns
    costly = sorted(view.stages, key=lambda line: -line.row.time_ns)[:REASONS]
    reasons = tuple(
        Reason(line.row.stage, percent(line.row.time_ns, wall_ns), sentence(line.binding) if line.binding else "")
        for line in costly
        if 100 * line.row.time_ns >= wall_ns
    )
    return RunTexts(_source(view), tuple(_tiles(view)), reasons, tuple(_missing(view)), tuple(_advice(view)))


def _advice(view: RunView) -> Iterable[AdviceLine]:
    for finding in view.advice.findings[:REASONS] if view.advice else ():
        ceiling = finding.ceiling
        where = f"{finding.where} ({finding.place.short})" if finding.place.short else finding.where
        at_most = f"{where}: at most {milliseconds(ceiling.mean_ns)} ms per request. {finding.evidence}"
        yield AdviceLine(percent(sum(ceiling.values_ns), sum(ceiling.walls_ns)), finding.change, at_most)


def _source(view: RunView) -> str:
    head = view.headline
    measured = head.measured
    if head.name == "wall":
        what = head.labels[0] if measured.n == 1 else f"median of {measured.n} steps"
        return f"{what}, under the profiler"
    if measured.n == 1:
        return "one request, " + ("without the profiler" if head.timing == "timed" else "under the profiler")
    text = f"median of {measured.n} requests "
    text += "without the profiler" if head.timing == "timed" else "under the profiler, since there is no timed pass"
    if between := measured.median_interval:
        return f"{text}; its 95% interval is {significant(between[0])} to {significant(between[1])} ms"
    return f"{text}; too few for an interval"


def _tiles(view: RunView) -> Iterable[Tile]:
    measures = view.overview.measures
    for key, name, note in (
        ("image_processing_share_pct", "image processing", "of TTFT"),
        ("tpot_ms", "TPOT", "per token after the first"),
    ):
        if measured := measures[key]:
            yield Tile(name, significant(measured.median), measured.unit, note)
    if view.headline.inflation is not None:
        yield Tile("profiler", f"× {view.headline.inflation:.2f}", "", "what it makes of TTFT")
    waterfall = view.waterfall
    if held_up_ns := sum(line.profiler_ns for line in view.stages):
        share = percent(held_up_ns, waterfall.wall_ns)
        yield Tile("profiler's own overhead", share, "%", f"of {window_of(view)}")
    busy_ns = sum(line.row.device_ns for line in view.stages)
    if _has_device_work(view):
        yield Tile("device active", percent(busy_ns, waterfall.wall_ns), "%", f"of {window_of(view)}")
        yield Tile("device activities", f"{view.kernels.totals.activities:,}", "", f"of {work_of(view)}")
    elif view.headline.name == "TTFT":
        yield Tile("wall", milliseconds(waterfall.wall_ns), "ms", f"{window_of(view)}, profiled")


def _has_device_work(view: RunView) -> bool:
    """Whether activities ran on a device, be they of the stage that is shown or of another."""
    return view.kernels.on == "device" or any(line.row.activities for line in view.stages)


def _missing(view: RunView) -> Iterable[str]:
    if view.stage is not None:
        yield (
            f"The table of stages, the kinds of work, the kernels and the tree show the stage {view.stage} alone "
            "(--stage); the headline and the lanes show the whole request."
        )
    if not view.is_ours:
        yield (
            "gemma-trace did not record this trace, so it has no requests that ran without the profiler, and no "
            "record of the model and the machine. All times are under the profiler."
        )
    elif view.headline.timing == "profiled":
        yield "The capture had no timed pass (--runs 0), so all times are under the profiler."
    if view.headline.name == "wall":
        yield (
            "The trace does not show when the first token was there, so there is no TTFT; the headline is the "
            "wall time."
        )
    if not any(line.row.stage not in _NO_STAGES for line in view.stages):
        yield "No stage was found by a known name; name some with --rule NAME=REGEX."
    if not _has_device_work(view):
        yield (
            "Nothing ran on a device, so there is no device lane, and ops with their self time are shown in place "
            "of kernels."
        )
    if view.decode is None and view.stage is None:
        yield "There is no decode series: the trace has fewer than two decode steps."


def window_of(view: RunView) -> str:
    """What all but the headline is of, in words."""
    drawn = view.waterfall
    label = "the whole trace" if drawn.label == "whole trace" else drawn.label
    return label if drawn.requests == 1 else f"{label}, the median one"


def work_of(view: RunView) -> str:
    """What kinds of work, kernels and tree are of, in words."""
    return window_of(view) if view.stage is None else f"{view.stage} in {window_of(view)}"


def kernels_note(view: RunView) -> str:
    """What the table of kernels shows, and what it leaves out."""
    kernels = view.kernels
    totals = kernels.totals
    if kernels.on == "device":
        note = f"{totals.activities:,} device activities of {work_of(view)}: {milliseconds(totals.device_sum_ns)} ms "
        several = len(view.waterfall.lanes) > 2  # the host's and one of each device
        clock = "busy on each of several devices, added up" if several else "by the clock"
        note += f"in sum, {milliseconds(totals.device_busy_ns)} ms {clock}"
        if totals.unlinked:
            note += f"; {totals.unlinked:,} without their launch in the trace"
    else:
        note = f"Ops of {work_of(view)} by self time: {milliseconds(kernels.sum_ns)} ms in sum, over all threads"
    left = kernels.total_rows - len(kernels.lines)
    if left:
        rest_ns = kernels.sum_ns - sum(line.row.sum_ns for line in kernels.lines)
        note += f". Left out: the {left} smallest, {milliseconds(rest_ns)} ms; gemma-trace kernels --top 0 has them"
    return note + "."


@dataclass(frozen=True)
class OverviewLine:
    """A run among others: its bar.

    Attributes:
        quartiles: first quartile, median and third of the total, in percent of the chart's width; None of means.
    """

    view: RunView
    rects: tuple[Rect, ...]
    total: str
    quartiles: tuple[float, float, float] | None


@dataclass(frozen=True)
class Overview:
    """All runs of a page.

    Attributes:
        basis: what the bars are of: `ttft` where every run has one, else `wall`.
        table: the runs with their measures.
    """

    basis: Literal["ttft", "wall"]
    lines: tuple[OverviewLine, ...]
    ticks: tuple[Tick, ...]
    table: Table[RunView]


def overview_of(runs: Sequence[RunView]) -> Overview:
    """Runs side by side, on one scale."""
    basis: Literal["ttft", "wall"] = "ttft" if all(run.overview.measures["ttft_ms"] for run in runs) else "wall"
    lengths = [_longest_ms(run, basis) for run in runs]
    scale = max(lengths) * 1.02 or 1.0
    lines = []
    for run in runs:
        total = run.overview.measures["ttft_ms"] if basis == "ttft" else None
        parts = run.overview.parts_ms if basis == "ttft" else run.overview.wall_parts_ms
        lines.append(
            OverviewLine(
                run,
                stacked(parts, scale),
                spread(total) if total else significant(sum(length for _, length in parts)),
                range_pct(total, scale) if total else None,
            )
        )
    return Overview(basis, tuple(lines), axis(scale), page_runs(runs, list(_overview_notes(runs))))


def _longest_ms(run: RunView, basis: Literal["ttft", "wall"]) -> float:
    if basis == "wall":
        return sum(length for _, length in run.overview.wall_parts_ms)
    ttft = run.overview.measures["ttft_ms"]
    return max(ttft.q3 if ttft else 0.0, sum(length for _, length in run.overview.parts_ms))


def _overview_notes(runs: Sequence[RunView]) -> Iterable[str]:
    yield from timing_notes([(run.label, run.headline.timing, run.overview.runs) for run in runs])
    if random := [run.label for run in runs if run.weights == "random"]:
        yield f"Random weights: {', '.join(random)}. Times depend on the shapes, not on the values."


@dataclass(frozen=True)
class PairTexts:
    """A comparison as the page shows it.

    Attributes:
        head: the change of TTFT, or of the wall time.
        scale_ns: what the width of both waterfalls stands for.
    """

    head: Change | None
    stages: Table[Any]
    tables: tuple[Table[Change], ...]
    scale_ns: int


def pair_of(pair: Pair) -> PairTexts:
    """A comparison as the page shows it."""
    trace_diff = pair.diff
    heads = [change for change in trace_diff.stages if change.stage in ("ttft", "wall")]
    head = next((change for change in heads if change.before and change.after), heads[0] if heads else None)
    notes = stage_notes(replace(trace_diff, settings=public_settings(trace_diff.settings)))
    scale_ns = max(pair.before.waterfall.wall_ns, pair.after.waterfall.wall_ns)
    return PairTexts(head, page_stages(trace_diff, notes), tuple(page_changes(trace_diff)), scale_ns)
