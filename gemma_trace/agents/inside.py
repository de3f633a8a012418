"""The tools that look into one trace: its stages, its kernels and ops, its tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gemma_trace.agents.answers import Found, by_columns
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import Kernels, Stages, Tree
from gemma_trace.report.table import Table
from gemma_trace.report.tables.reasons import WHY

if TYPE_CHECKING:
    from pathlib import Path

    from gemma_trace.analysis.reasons import StageReason
    from gemma_trace.analysis.tree import TreeNode
    from gemma_trace.analysis.tree_lines import TreeLine


def stages_tool(desk: Desk, asked: Stages) -> Found:
    """Where the time went, with what binds each stage; of the folder of a job over its ranks."""
    files = desk.files(asked.path)
    if len(files) > 1:
        return _stages_of_job(desk, files, asked)
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.reasons import stage_reasons
    from gemma_trace.analysis.roofline.floor_sums import floors_of
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.report.tables.reasons import split_table
    from gemma_trace.report.tables.stages import stages_report
    from gemma_trace.trace.near_names import no_such_stage

    trace = desk.read(files[0])
    everything = breakdown(trace)
    shown = everything if asked.request is None else breakdown(trace, asked.request)
    whole = shown.complete()
    reasons: list[StageReason] = stage_reasons(trace, asked.request)
    if asked.stage:
        if asked.stage not in (present := dict.fromkeys(row.stage for row in shown.rows)):
            raise no_such_stage(trace, asked.stage, present)
        shown = shown.of_stage(asked.stage)
        reasons = [reason for reason in reasons if reason.stage == asked.stage]
    run = summarize(trace, everything)
    report = stages_report(shown, run, reasons, floors_of(trace, shown.complete()))
    table: Table[Any] = report.tables[0]
    notes = table.notes
    if asked.part == "reasons":
        table = split_table(reasons)
        notes = table.notes
    elif asked.part == "critical_path":
        table = _critical_path(trace, whole.requests, asked.stage)
        notes = table.notes
    else:
        table = Table(table.title, (*table.cols, WHY), table.rows, conditions=table.conditions, per=table.per)
    slowest = max(whole.summed(), key=lambda row: row.time_ns, default=None)
    count = len(whole.requests)
    facts = {
        "requests": count,
        "wall_ms": round(whole.totals.wall_ns / count / 1e6, 3),
        "ttft_ms": None if whole.totals.ttft_ns is None else round(whole.totals.ttft_ns / count / 1e6, 3),
        "timing": "under the profiler, the mean over the requests",
        "slowest_stage": slowest.stage if slowest else None,
    }
    return Found([asked.path], table, by_columns("stage", "kind", "name"), facts, run.health, notes)


def _critical_path(trace: Any, requests: Sequence[Any], stage: str) -> Table[Any]:
    from dataclasses import replace

    from gemma_trace.analysis.critical_path import critical_paths
    from gemma_trace.analysis.timeline import first_token_ns
    from gemma_trace.report.tables.critical_path import critical_path_table

    first = [first_token_ns(trace, request) for request in requests]
    table = critical_path_table(critical_paths(trace, requests), first)
    return replace(table, rows=[row for row in table.rows if row.stage == stage]) if stage else table


def _stages_of_job(desk: Desk, files: Sequence[Path], asked: Stages) -> Found:
    """The stages over the ranks.

    Raises:
        InputError: the files are no job's.
    """
    from gemma_trace.errors import ConfigError, InputError
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.ranks.job import load_job
    from gemma_trace.report.tables.ranks import rank_stages_report

    if not is_job(files):
        raise InputError(f"that folder has {len(files)} traces in it; give one of them, as summarize shows them")
    if asked.part != "stages":
        raise ConfigError(f"of the ranks of a job there is no {asked.part}; give the trace of one rank")
    job = load_job(files, desk.rules, lambda work, paths: [work(path) for path in paths])
    report = rank_stages_report(
        job if asked.request is None else job.of_request(asked.request), [asked.path], asked.stage or None
    )
    (table,) = report.tables
    facts = {"ranks": len(job.numbers), "world_size": job.members.world_size}
    return Found([asked.path], table, by_columns("stage"), facts, report.health, table.notes)


def kernels_tool(desk: Desk, asked: Kernels) -> Found:
    """Which kernels or ops take the time of a trace or a stage."""
    from gemma_trace.analysis.kernels import kernel_table
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.report.tables.kernels import kernels_table

    trace = desk.trace(asked.path)
    kernels = kernel_table(trace, asked.stage or None, asked.request, asked.by, asked.sort, asked.device)
    table = kernels_table(kernels, trace, 0)
    facts = {
        "rows_are": "activities of a device" if kernels.on == "device" else "ops of the host, by self time",
        "sum_ms": round(sum(row.sum_ns for row in kernels.rows) / 1e6, 3),
        "requests": len(trace.requests) if asked.request is None else 1,
    }
    notes = ("Times and counts are sums over the requests.", *table.notes)
    return Found([asked.path], table, by_columns("name"), facts, run_health(trace), notes)


@dataclass(frozen=True)
class Branch:
    """A line of a tree.

    Attributes:
        path: the kinds and names of the nodes down to it.
    """

    line: TreeLine
    path: tuple[str, ...]


def _path_of(table: Table[Any], branch: Branch) -> tuple[str, ...]:
    return branch.path


def tree_tool(desk: Desk, asked: Tree) -> Found:
    """The time as a tree of stages, layers, ops and kernels."""
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.analysis.tree import NodeKind, call_tree, prune
    from gemma_trace.report.table import Col
    from gemma_trace.report.tables.tree import NODE, tree_report
    from gemma_trace.report.units import COUNT, NAME
    from gemma_trace.trace.near_names import no_such_stage

    trace = desk.trace(asked.path)
    whole = call_tree(trace, asked.request)
    tops = whole.find(NodeKind.STAGE, asked.stage) if asked.stage else list(whole.children)
    if not tops:
        names = dict.fromkeys(node.name for _, node in whole.walk() if node.kind is NodeKind.STAGE)
        raise no_such_stage(trace, asked.stage, names)
    pruned: list[TreeNode] = [prune(top, asked.depth, asked.min_pct) for top in tops]
    requests = sum(root.count for root in whole.children[:1])
    health = run_health(trace)
    report = tree_report(pruned, whole, requests, "", health)
    drawn = report.tables[0]
    name = Col("name", unit=NAME, value=NODE.value)
    cols = tuple((name if col.key == NODE.key else col).within("line") for col in drawn.cols)
    table = Table(
        drawn.title,
        (Col("depth", unit=COUNT, value="line.depth"), *cols),
        list(_branches(drawn.rows)),
        conditions=drawn.conditions,
        per=drawn.per,
    )
    facts = {"requests": requests, "host_ms": round(whole.host_ns / max(requests, 1) / 1e6, 3)}
    return Found([asked.path], table, _path_of, facts, health, drawn.notes)


def _branches(lines: Sequence[TreeLine]) -> Iterator[Branch]:
    """The lines, parents first, each with the way down to it."""
    way: list[str] = []
    for line in lines:
        del way[2 * line.depth :]
        way += [line.node.kind.value, line.node.name]
        yield Branch(line, tuple(way))
