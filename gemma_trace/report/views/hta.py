"""What Holistic Trace Analysis says of a trace, beside our own figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from gemma_trace.analysis.hta.model import AGREEMENT_PCT, Analysis, Declined, Figure, HtaResult, Scope
from gemma_trace.health.findings import Health
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, microseconds, milliseconds
from gemma_trace.report.views.hta_tables import number, row_name, tables

MOST_DIFFERENCES: Final = 10
ALL: Final = "all"

_NAMES: Final = {
    (Analysis.TEMPORAL, "busy_ns"): "device busy, ms",
    (Analysis.TEMPORAL, "compute_ns"): "computing, ms",
    (Analysis.TEMPORAL, "idle_ns"): "device idle, ms",
    (Analysis.TEMPORAL, "extent_ns"): "first to last activity, ms",
    (Analysis.IDLE, "idle_ns"): "idle on stream {of}, ms",
    (Analysis.KERNELS, "sum_ns"): "all activities summed, ms",
    (Analysis.KERNELS, "names"): "different names",
    (Analysis.KERNELS, "count"): "activities",
    (Analysis.LAUNCHES, "count"): "activities with their launch",
    (Analysis.LAUNCHES, "call_median_ns"): "median launching call, µs",
    (Analysis.LAUNCHES, "activity_median_ns"): "median activity, µs",
    (Analysis.LAUNCHES, "delay_median_ns"): "median delay of the start, µs",
    (Analysis.LAUNCHES, "delay_max_ns"): "longest delay of the start, µs",
    (Analysis.QUEUE, "length_max"): "longest queue on stream {of}",
    (Analysis.OVERLAP, "overlapped_pct"): "communication overlapped, %",
}
"""Figures of the whole trace that both have, in words."""

_Cells = tuple[str, ...]


def hta_report(result: HtaResult, label: str, source: str, health: Health) -> Report:
    """The comparison, a table an analysis, and what was declined. For machines a row a figure.

    Args:
        label: the run's name.
        source: the trace's file.
    """
    compared = [figure for figure in result.figures if figure.ours is not None]
    return Report(
        command="hta",
        source=[source],
        sections=tuple(hta_sections(result, label)),
        records=[*map(_record, result.figures), *map(_declined_record, result.declined)],
        totals={
            "package": result.package or None,
            "as_is": result.as_is,
            "compared": len(compared),
            "agreeing": sum(figure.agrees for figure in compared),
            "declined": len(result.declined),
        },
        health=health,
    )


def hta_sections(result: HtaResult, label: str) -> list[Section]:
    """The tables for people, of which those without a row are left out."""
    comparison = _comparison(result, label)
    return [*([comparison] if comparison.rows else []), *tables(result, _shown(result)), *_declined(result, label)]


def _shown(result: HtaResult) -> list[Scope]:
    """The whole, its requests, and of stages those of the median request."""
    stages = sorted({scope.request for scope in result.scopes if scope.stage is not None and scope.request is not None})
    median = _median_request(result, stages)
    return [scope for scope in result.scopes if scope.stage is None or scope.request == median]


def _median_request(result: HtaResult, requests: Sequence[int]) -> int | None:
    by_wall = sorted(requests, key=lambda request: (result.walls_ns.get(request, 0), request))
    return by_wall[(len(by_wall) - 1) // 2] if by_wall else None


def _comparison(result: HtaResult, label: str) -> Section:
    compared = [figure for figure in result.figures if figure.ours is not None]
    whole = [figure for figure in compared if figure.scope == Scope() and _is_named(figure)]
    # Of kernels by name, and of stages and requests, only what differs is worth a line.
    rest = [figure for figure in compared if figure not in whole and not figure.agrees]
    shown = (*whole, *rest[:MOST_DIFFERENCES])
    differ = any(figure.cause for figure in shown)
    columns = (
        Column("figure", align="left"),
        *(Column(name) for name in ("HTA", "gemma-trace", "difference %")),
        *((Column("why", align="left", overflow="fold"),) if differ else ()),
    )
    rows = [(_named(figure), *_both(figure), *((figure.cause,) if differ else ())) for figure in shown]
    agreeing = sum(figure.agrees for figure in compared)
    notes = [
        f"{result.package}. {agreeing:,} of {len(compared):,} figures that both have agree within {AGREEMENT_PCT:g}%,"
        " those of each kernel, stage and request among them."
    ]
    if len(rest) > MOST_DIFFERENCES:
        notes.append(f"{len(rest) - MOST_DIFFERENCES:,} more differ: --format json has all.")
    requests = {scope.request for scope in result.scopes if scope.stage is not None}
    if len(requests) > 1:
        median = _median_request(result, sorted(request for request in requests if request is not None))
        notes.append(f"Stages are those of request {median}, the median one; --request shows another.")
    return Section(f"HTA and gemma-trace, {label}", columns, tuple(rows), notes=(*notes, *result.remarks))


def _is_named(figure: Figure) -> bool:
    if (figure.analysis, figure.measure) not in _NAMES:
        return False
    return figure.analysis in (Analysis.IDLE, Analysis.QUEUE) or not figure.of


def _named(figure: Figure) -> str:
    if _is_named(figure):
        name = _NAMES[figure.analysis, figure.measure].format(of=figure.of)
    else:
        name = f"{figure.measure} of {folded(figure.of)[:40]}"
    return name if figure.scope == Scope() else f"{row_name(figure.scope)}: {name}"


def _both(figure: Figure) -> _Cells:
    def text(value: float) -> str:
        if not figure.measure.endswith("_ns"):
            return number(value)
        return microseconds(value) if figure.analysis is Analysis.LAUNCHES else milliseconds(value)

    difference = figure.difference_pct
    shown = ABSENT if difference is None else "0" if not difference else f"{difference:+,.2f}"
    return text(figure.hta), ABSENT if figure.ours is None else text(figure.ours), shown


def _declined(result: HtaResult, label: str) -> list[Section]:
    """One line a reason, with all that it holds for."""
    columns = (
        Column("analysis", align="left", overflow="fold"),
        Column("where", align="left", overflow="fold"),
        Column("why not", align="left", overflow="fold"),
    )
    grouped: dict[tuple[str, str], dict[str, None]] = {}
    for one in result.declined:
        grouped.setdefault((one.analysis or ALL, one.reason), {})[one.scope.label] = None
    rows = tuple((analysis, ", ".join(where), reason) for (analysis, reason), where in grouped.items())
    return [Section(f"Not run by HTA, {label}", columns, rows)] if rows else []


def _record(figure: Figure) -> dict[str, Any]:
    return _row(figure.analysis.value, figure.scope) | {
        "of": figure.of,
        "measure": figure.measure,
        "hta": _plain(figure.hta),
        "gemma_trace": None if figure.ours is None else _plain(figure.ours),
        "difference_pct": figure.difference_pct,
        "cause": figure.cause,
        "declined": None,
    }


def _declined_record(declined: Declined) -> dict[str, Any]:
    empty = {"of": None, "measure": None, "hta": None, "gemma_trace": None, "difference_pct": None, "cause": None}
    return _row(declined.analysis or ALL, declined.scope) | empty | {"declined": declined.reason}


def _row(analysis: str, scope: Scope) -> dict[str, Any]:
    return {"analysis": str(analysis), "request": scope.request, "stage": scope.stage}


def _plain(value: float) -> float:
    """A whole number as one; others without what floats leave behind."""
    return int(value) if value == int(value) else round(float(value), 6)
