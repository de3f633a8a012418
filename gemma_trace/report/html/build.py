"""A trace → what the page shows of it.

Below the headline everything is of one request, the median one, so that all that is shown adds up: the lanes, the
stages, the families, the kernels and the tree have the same wall time and the same work in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gemma_trace.advice.advise import advise
from gemma_trace.analysis.allocations import memory_use
from gemma_trace.analysis.bindings import binding, doubt_of
from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
from gemma_trace.analysis.critical_path import critical_path
from gemma_trace.analysis.decode import decode_statistics
from gemma_trace.analysis.devices import device_use, devices_of
from gemma_trace.analysis.kernels import KernelTable, kernel_table
from gemma_trace.analysis.median_request import median_request
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.roofline.floor_sums import request_floors
from gemma_trace.analysis.size_curve import SizedRun
from gemma_trace.analysis.stage_lines import StageLine, stage_lines
from gemma_trace.analysis.stage_splits import family_lines, kernel_lines
from gemma_trace.analysis.statistics import Distribution, distribution_ms
from gemma_trace.analysis.summary import RunSummary, summarize
from gemma_trace.analysis.timeline import Request, first_token_ns
from gemma_trace.analysis.tree import NodeKind, TreeNode, call_tree, prune
from gemma_trace.analysis.work_pieces import Work, select
from gemma_trace.peaks import Peaks
from gemma_trace.printable import path_text
from gemma_trace.report.html.environment import facts_of
from gemma_trace.report.html.model import FULL, DecodeSeries, Headline, Kernels, OverviewRow, PageDetail, RunView
from gemma_trace.report.html.tables import page_kernels
from gemma_trace.report.html.text import public_label
from gemma_trace.report.html.waterfall import draw_waterfall
from gemma_trace.report.table import Table
from gemma_trace.report.tables.critical_path import critical_path_table
from gemma_trace.report.tables.decode import decode_table
from gemma_trace.report.tables.devices import device_table
from gemma_trace.report.tables.memory import memory_tables
from gemma_trace.report.tables.roofline import stage_rooflines
from gemma_trace.report.tables.stages import PAGE_COLS, lines_table
from gemma_trace.stages import Stage, place_of_stage
from gemma_trace.trace.near_names import no_such_stage
from gemma_trace.trace.trace import Trace

MOST_STEPS = 120
"""More tokens than this are shown several at a time."""

_NOT_IN_TTFT = frozenset({Stage.REQUEST.value, Stage.IMAGE_LOAD.value, Stage.DECODE.value, Stage.UNATTRIBUTED.value})


def view_of(
    trace: Trace, detail: PageDetail = FULL, user_peaks: Sequence[Peaks] = (), stage: str | None = None
) -> RunView:
    """Everything that the page shows of a trace.

    Args:
        user_peaks: the user's own peak rates.
        stage: the only one whose time, kinds of work, kernels and tree are shown; None is all.

    Raises:
        InputError: the trace has no such stage.
    """
    everything = breakdown(trace)
    run = summarize(trace, everything)
    complete = everything.complete()
    request = median_request(complete)
    present = dict.fromkeys(row.stage for row in complete.rows)
    if stage is not None and stage not in present:
        raise no_such_stage(trace, stage, present)
    table = kernel_table(trace, stage, request.index)
    work = select(trace, stage, request.index)
    metadata = trace.metadata
    lines = _stage_lines(trace, run, complete, request)
    shown = [line for line in lines if stage in (None, line.row.stage)]
    waterfall = draw_waterfall(trace, request, len(complete.requests), detail.cells)
    return RunView(
        label=public_label(trace.label),
        file=public_label(path_text(trace.path.name)),
        identity=_identity(run),
        weights=run.weights,
        created_utc=metadata.created_utc if metadata else "",
        headline=_headline(trace, run, complete),
        overview=_overview(run, complete),
        waterfall=waterfall,
        stages=lines,
        stage_table=lines_table("Stages of the median request", PAGE_COLS, shown, request.wall_ns, 1, run),
        families=family_lines(trace, work),
        kernels=_kernels(trace, work, table, detail.kernels, has_several_devices=len(waterfall.lanes) > 2),
        tables=_tables(trace, request, user_peaks) if stage is None else (),
        tree=_tree(trace, request, detail, stage),
        decode=_decode(trace) if stage in (None, Stage.DECODE) else None,
        health=run.health,
        facts=facts_of(trace, run),
        sized=SizedRun(run.settings, run.requests),
        stage=stage,
        advice=advise(trace, peaks=user_peaks) if stage is None else None,
    )


def _tree(trace: Trace, request: Request, detail: PageDetail, stage: str | None) -> TreeNode | None:
    """The pruned tree of a request, or of one stage of it; None where there is no room for it, or no such node."""
    if not detail.tree_depth:
        return None
    whole = call_tree(trace, request.index)
    if stage is not None:
        whole = replace(whole, children=tuple(whole.find(NodeKind.STAGE, stage)))
    return prune(whole, detail.tree_depth, detail.tree_min_pct) if whole.children else None


def _tables(trace: Trace, request: Request, user_peaks: Sequence[Peaks]) -> tuple[Table[Any], ...]:
    """What else the command line has tables of: several devices, the roofline, the critical path, memory."""
    tables: list[Table[Any]] = []
    if len(devices_of(trace)) > 1:
        tables.append(device_table(device_use(trace, [request]), 1, request.wall_ns))
    if len(trace.activities) or user_peaks:  # a host has no roof that is known
        rooflines = stage_rooflines(request_floors(trace, request.index, user_peaks))
        tables += [rooflines] if rooflines.rows else []
    if len(trace.activities):  # without a device the path is what the host did
        tables.append(critical_path_table([critical_path(trace, request)], [first_token_ns(trace, request)]))
    memory = memory_use(trace, [request])
    return (*tables, *(memory_tables(memory, trace.devices) if memory else ()))


def _identity(run: RunSummary) -> tuple[str, ...]:
    if not run.model:
        return ()
    device = f"{run.device} ({run.device_name})" if run.device_name else run.device
    weights = run.weights and f"{run.weights} weights"  # a server doesn't tell
    processor = run.image_backend and f"{run.image_backend} image processor"
    return tuple(part for part in (run.model, weights, run.dtype, device, processor) if part)


def _headline(trace: Trace, run: RunSummary, breakdown: StageBreakdown) -> Headline:
    ttft = run.measures["ttft_ms"]
    timed = trace.metadata.timed_requests if trace.metadata else ()
    if ttft and run.timing == "timed":
        labels = tuple(f"request {place}, {sample.image}" for place, sample in enumerate(timed))
        return Headline("TTFT", ttft, "timed", labels, run.inflation)
    names = [request.label for request in breakdown.requests]
    if ttft:
        known = [name for name, value in zip(names, breakdown.ttfts_ns, strict=True) if value is not None]
        return Headline("TTFT", ttft, "profiled", tuple(known), None)
    walls = Distribution(tuple(request.wall_ns / 1e6 for request in breakdown.requests), "ms")
    return Headline("wall", walls, "profiled", tuple(names), None)


def _overview(run: RunSummary, breakdown: StageBreakdown) -> OverviewRow:
    parts: list[tuple[str, float]] = []
    if run.measures["ttft_ms"]:
        names = dict.fromkeys(stage for request in run.requests for stage in request.stages_ns)
        for stage in sorted((name for name in names if name not in _NOT_IN_TTFT), key=place_of_stage):
            sample = distribution_ms([r.stages_ns[stage] for r in run.requests if stage in r.stages_ns])
            parts += [(stage, sample.median)] if sample else []
        if rest := run.measures["unattributed_ms"]:
            parts.append((Stage.UNATTRIBUTED.value, rest.median))
    walls = [(row.stage, row.time_ns / len(breakdown.requests) / 1e6) for row in breakdown.summed() if row.time_ns]
    return OverviewRow(tuple(parts), tuple(walls), run.measures, run.runs)


def _stage_lines(trace: Trace, run: RunSummary, breakdown: StageBreakdown, request: Request) -> tuple[StageLine, ...]:
    doubt = doubt_of(breakdown, run.health)
    bindings = [binding(reason, doubt) for reason in stage_reasons(trace, request.index)]
    rows = [row for row in breakdown.rows if row.request == request.index]
    return stage_lines(rows, request.wall_ns, run, bindings)


def _kernels(trace: Trace, work: Work, table: KernelTable, most: int, *, has_several_devices: bool) -> Kernels:
    lines = kernel_lines(trace, work, table, most)
    return Kernels(
        on=table.on,
        lines=lines,
        total_rows=len(table.rows),
        sum_ns=sum(row.sum_ns for row in table.rows),
        totals=table.totals,
        table=page_kernels(table, lines, has_several_devices=has_several_devices),
    )


def _decode(trace: Trace) -> DecodeSeries | None:
    statistics = decode_statistics(trace)
    if statistics is None:
        return None
    return DecodeSeries(
        statistics.source, len(statistics.requests), statistics.token_by_token(MOST_STEPS), decode_table(statistics)
    )


def labelled_apart(views: Sequence[RunView]) -> list[RunView]:
    """These runs; runs of one name (the ranks of one program) have the file's name in their label."""
    labels = [view.label for view in views]
    return [
        replace(view, label=f"{view.label}, {view.file}") if labels.count(view.label) > 1 else view for view in views
    ]
