"""A trace → its rows in the tables of a store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gemma_trace.analysis.allocations import memory_use
from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
from gemma_trace.analysis.decode import decode_statistics
from gemma_trace.analysis.memory_lines import allocator_name
from gemma_trace.analysis.summary import RequestMeasures, RunSummary, profiled_requests, summarize
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.foreign import NONE
from gemma_trace.ranks.collectives import collectives_of
from gemma_trace.ranks.kinds import COMMS
from gemma_trace.store.kernels import stage_kernels
from gemma_trace.store.private import Texts
from gemma_trace.store.runs import run_row
from gemma_trace.store.schema import RUNS
from gemma_trace.tabular import fields_of
from gemma_trace.trace.reader import TraceFile
from gemma_trace.trace.trace import Trace

Rows = list[dict[str, Any]]


def rows_of(run_id: str, trace: Trace, file: TraceFile, *, keep_names: bool) -> dict[str, Rows]:
    """The rows of a trace by table, each by its columns; of `runs` one.

    Args:
        file: what the trace was made of.
        keep_names: leave the names of runs, hosts, users and folders in.
    """
    texts = Texts(trace.path, file, keep_names=keep_names)
    stages = breakdown(trace)
    run = summarize(trace, stages)
    by_table: dict[str, Iterator[dict[str, Any]]] = {
        "stages": (dict(fields_of(row)) | {"stage": texts.symbol(row.stage)} for row in stages.rows),
        "kernels": _kernels(trace, texts),
        "collectives": _collectives(trace, texts),
        "findings": _findings(run, texts),
        "decode": _decode(trace, stages),
        "memory": _memory(trace, texts),
        "samples": _samples(trace, stages, run, texts),
    }
    rows = {table: [{"run_id": run_id} | row for row in by_table[table]] for table in by_table}
    return rows | {RUNS.name: [run_row(run_id, trace, file.header, stages, run, texts, file.content.size_bytes)]}


def _kernels(trace: Trace, texts: Texts) -> Iterator[dict[str, Any]]:
    for row in stage_kernels(trace):
        yield dict(fields_of(row)) | {"stage": texts.symbol(row.stage), "kernel": texts.symbol(row.kernel)}


def _collectives(trace: Trace, texts: Texts) -> Iterator[dict[str, Any]]:
    """The collectives of the trace, summed up by kind, group size, type and stage."""
    collectives = collectives_of(trace)
    stage_names = (*trace.stage_names, UNLINKED)
    sizes = np.array([group.size for group in collectives.groups], dtype=np.int64)
    if not len(collectives):
        return
    keys = np.stack([collectives.kind, sizes[collectives.group], collectives.dtype, collectives.stage]).astype(np.int64)
    lines, line = np.unique(keys, axis=1, return_inverse=True)
    exposed_ns = collectives.exposed_ns
    for place, (kind, size, dtype, stage) in enumerate(lines.T.tolist()):
        rows = np.flatnonzero(line == place)
        dur_ns, size_bytes = collectives.dur_ns[rows], collectives.size_bytes[rows]
        yield {
            "kind": COMMS[kind].value,
            "group_size": None if size == NONE else size,
            "dtype": texts.told(collectives.dtypes[dtype]),
            "stage": texts.symbol(stage_names[stage]),
            "side": "device" if collectives.on_device else "host",
            "count": len(rows),
            "sum_ns": int(dur_ns.sum()),
            "min_ns": int(dur_ns.min()),
            "max_ns": int(dur_ns.max()),
            "exposed_ns": int(exposed_ns[rows].sum()),
            "size_bytes": None if (size_bytes == NONE).any() else int(size_bytes.sum()),
        }


def _findings(run: RunSummary, texts: Texts) -> Iterator[dict[str, Any]]:
    for finding in run.health.findings:
        yield {
            "code": finding.code,
            "severity": finding.severity.value,
            "count": finding.count,
            "message": texts.message(finding.message),
        }


def _decode(trace: Trace, stages: StageBreakdown) -> Iterator[dict[str, Any]]:
    statistics = decode_statistics(trace, stages.requests)
    if statistics is None:
        return
    for place, series in enumerate(statistics.series):
        yield {
            "series": place,
            "source": statistics.source,
            "batch": statistics.batch,
            "intervals": len(series.intervals_ns),
            "sum_ns": sum(series.intervals_ns),
            "tpot_ns": series.tpot_ns,
            "slope_ns": None if series.slope_ns is None else round(series.slope_ns),
            "jitter_pct": series.jitter_pct,
        }


def _memory(trace: Trace, texts: Texts) -> Iterator[dict[str, Any]]:
    use = memory_use(trace)
    if use is None:
        return
    for device in use.devices:
        yield {
            "allocator": allocator_name(device.device),
            "peak_bytes": device.peak_bytes,
            "reserved_bytes": device.peak_reserved_bytes,
            "resident_bytes": device.resident_bytes,
        }
    for row in use.stages:
        yield {
            "allocator": allocator_name(row.device),
            "request": row.request,
            "stage": texts.symbol(row.stage),
            "peak_bytes": row.peak_bytes,
            "start_bytes": row.start_bytes,
            "allocated_bytes": row.allocated_bytes,
            "freed_bytes": row.freed_bytes,
            "activations_bytes": row.activations_bytes,
        }


def _samples(trace: Trace, stages: StageBreakdown, run: RunSummary, texts: Texts) -> Iterator[dict[str, Any]]:
    """The measures of the timed pass, and of those profiled requests that lack nothing."""
    if trace.metadata and trace.metadata.timed_requests:
        for request, (sample, measured) in enumerate(zip(trace.metadata.timed_requests, run.requests, strict=True)):
            yield from _sample("timed", request, sample.wall_ns, measured, texts)
    complete = stages.complete()
    for window, measured in zip(complete.requests, profiled_requests(complete), strict=True):
        yield from _sample("profiled", window.index, window.wall_ns, measured, texts)


def _sample(
    timing: str, request: int, wall_ns: int, measured: RequestMeasures, texts: Texts
) -> Iterator[dict[str, Any]]:
    values = {
        **measured.stages_ns,
        "wall": wall_ns,
        "ttft": measured.ttft_ns,
        "tpot": measured.tpot_ns,
        "unattributed": measured.unattributed_ns,
        "preprocessing_call": measured.preprocessing_ns,
    }
    for measure, value_ns in values.items():
        if value_ns is not None:
            yield {"timing": timing, "request": request, "measure": texts.symbol(measure), "value_ns": value_ns}
