"""What Holistic Trace Analysis says of a trace, beside our own figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from gemma_trace.analysis.hta.model import AGREEMENT_PCT, Analysis, Declined, Figure, HtaResult, Scope
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, microseconds, milliseconds, percent, significant
from gemma_trace.trace.health import Health

MOST_KERNELS: Final = 10
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


class _Values:
    """The figures by what they are of."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._by_scope: dict[tuple[Analysis, Scope], dict[str, dict[str, float]]] = {}
        for figure in figures:
            by_of = self._by_scope.setdefault((figure.analysis, figure.scope), {})
            by_of.setdefault(figure.of, {})[figure.measure] = figure.hta

    def of(self, analysis: Analysis, scope: Scope) -> dict[str, dict[str, float]]:
        """What each is of → measure → value."""
        return self._by_scope.get((analysis, scope), {})


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
    values, scopes = _Values(result.figures), _shown(result)
    tables = (
        _comparison(result, label),
        _temporal(values, scopes),
        _idle(values, scopes),
        _kinds(values, scopes),
        _kernels(values),
        _launches(values, scopes),
        _queue(values, scopes),
        _bandwidth(values, scopes),
        _overlap(values, scopes),
        _sequences(values),
        _critical_path(values, result),
    )
    return [*(table for table in tables if table.rows), *_declined(result)]


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
    shown = (*whole, *rest[:MOST_KERNELS])
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
    if len(rest) > MOST_KERNELS:
        notes.append(f"{len(rest) - MOST_KERNELS:,} more differ: --format json has all.")
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
    return name if figure.scope == Scope() else f"{_where(figure.scope)}: {name}"


def _both(figure: Figure) -> _Cells:
    def text(value: float) -> str:
        if not figure.measure.endswith("_ns"):
            return _number(value)
        return microseconds(value) if figure.analysis is Analysis.LAUNCHES else milliseconds(value)

    difference = figure.difference_pct
    shown = ABSENT if difference is None else "0" if not difference else f"{difference:+,.2f}"
    return text(figure.hta), ABSENT if figure.ours is None else text(figure.ours), shown


def _where(scope: Scope) -> str:
    return scope.label if scope.stage is None else f"  {scope.label}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else significant(value)


def _by_scope(values: _Values, analysis: Analysis, scopes: Sequence[Scope]) -> Iterator[tuple[str, str, Any]]:
    """Where, what of, and the values by their measure."""
    for scope in scopes:
        for of, found in values.of(analysis, scope).items():
            yield _where(scope), of, found


def _temporal(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        *(Column(name) for name in ("busy ms", "computing ms", "idle ms", "idle %", "first to last ms")),
    )
    rows = tuple(
        (
            where,
            milliseconds(found["busy_ns"]),
            milliseconds(found["compute_ns"]),
            milliseconds(found["idle_ns"]),
            percent(found["idle_ns"], found["extent_ns"]),
            milliseconds(found["extent_ns"]),
        )
        for where, _, found in _by_scope(values, Analysis.TEMPORAL, scopes)
    )
    notes = ("From the first to the last activity of each row; idle: none of that row's runs.",)
    return Section("Temporal breakdown", columns, rows, notes=notes)


def _idle(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("stream", align="left"),
        *(Column(name) for name in ("idle ms", "host wait ms", "kernel wait ms", "other ms")),
    )
    rows = tuple(
        (where, of, *(milliseconds(found[name]) for name in ("idle_ns", "host_wait_ns", "kernel_wait_ns", "other_ns")))
        for where, of, found in _by_scope(values, Analysis.IDLE, scopes)
    )
    notes = (
        "host wait: the launch came after the activity before had ended. kernel wait: gaps under 30 µs but those.",
    )
    return Section("Idle time by stream", columns, rows, notes=notes)


def _kinds(values: _Values, scopes: Sequence[Scope]) -> Section:
    kinds = ("computation", "communication", "memory")
    columns = (
        Column("where", align="left"),
        *(Column(f"{name} ms") for name in (*kinds, "overlapping")),
        Column("activities"),
        Column("different names", 1),
    )
    rows = []
    for scope in scopes:
        found = values.of(Analysis.KERNELS, scope)
        if found:
            times = {of: one["time_ns"] for of, one in found.items() if "time_ns" in one}
            alone = [times.get(kind, 0.0) for kind in kinds]
            both = sum(length for kind, length in times.items() if kind not in kinds)
            counts = (_number(found[""]["count"]), _number(found[""]["names"]))
            rows.append((_where(scope), *(milliseconds(length) for length in (*alone, both)), *counts))
    return Section("Kinds of kernels", columns, tuple(rows), notes=("Each kind's time in which it runs alone.",))


def _kernels(values: _Values) -> Section:
    columns = (
        Column("kernel", align="left", overflow="ellipsis"),
        Column("sum ms"),
        Column("%", 1),
        Column("count"),
        *(Column(f"{name} µs", 2) for name in ("mean", "min", "max")),
    )
    found = values.of(Analysis.KERNELS, Scope())
    whole = found.get("", {}).get("sum_ns", 0.0)
    kernels = [(of, one) for of, one in found.items() if of and "count" in one]
    rows = tuple(
        (
            folded(of),
            milliseconds(one["sum_ns"]),
            percent(one["sum_ns"], whole),
            _number(one["count"]),
            *(microseconds(one[f"{name}_ns"]) for name in ("mean", "min", "max")),
        )
        for of, one in kernels[:MOST_KERNELS]
    )
    more = len(kernels) - len(rows)
    return Section("Kernels", columns, rows, notes=(f"{more} more: --format json has all.",) if more else ())


def _launches(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("launches"),
        *(Column(f"{name} µs") for name in ("call", "activity", "delay")),
        Column("longest delay µs", 1),
        Column("shorter than its call", 1),
    )
    lengths = ("call_median_ns", "activity_median_ns", "delay_median_ns", "delay_max_ns")
    rows = tuple(
        (
            where,
            _number(found["count"]),
            *(microseconds(found[name]) if name in found else ABSENT for name in lengths),
            _number(found.get("shorter_than_call_count", 0)),
        )
        for where, _, found in _by_scope(values, Analysis.LAUNCHES, scopes)
    )
    notes = ("Medians. delay: from the end of the launching call to the activity's start; 0 where it started before.",)
    return Section("Launches", columns, rows, notes=notes)


def _queue(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("stream", align="left"),
        *(Column(name) for name in ("mean", "median", "longest")),
        Column("changes", 1),
    )
    measures = ("length_mean", "length_median", "length_max", "changes_count")
    rows = tuple(
        (where, of, *(_number(found[name]) for name in measures))
        for where, of, found in _by_scope(values, Analysis.QUEUE, scopes)
    )
    notes = ("Activities launched and not started, after each change; not weighted by how long it lasted.",)
    return Section("Queue length", columns, rows, notes=notes)


def _bandwidth(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("copies", align="left"),
        *(Column(f"{name} GB/s") for name in ("mean", "median", "max")),
        Column("min GB/s", 1),
        Column("changes", 1),
    )
    measures = (*(f"bandwidth_{name}_gb_s" for name in ("mean", "median", "max", "min")), "changes_count")
    rows = tuple(
        (where, of, *(_number(found[name]) for name in measures))
        for where, of, found in _by_scope(values, Analysis.BANDWIDTH, scopes)
    )
    return Section("Bandwidth of copies and fills", columns, rows)


def _overlap(values: _Values, scopes: Sequence[Scope]) -> Section:
    columns = (Column("where", align="left"), Column("overlapped %"))
    rows = tuple(
        (where, _number(found["overlapped_pct"])) for where, _, found in _by_scope(values, Analysis.OVERLAP, scopes)
    )
    notes = ("The share of communication's time in which computation runs too.",)
    return Section("Communication under computation", columns, rows, notes=notes)


def _sequences(values: _Values) -> Section:
    columns = (
        Column("op", align="left", overflow="ellipsis"),
        Column("kernels", align="left", overflow="fold"),
        Column("count"),
        Column("device ms"),
        Column("host ms", 1),
    )
    rows = []
    for pattern, found in values.of(Analysis.SEQUENCES, Scope()).items():
        op, *kernels = pattern.split("|")
        times = (milliseconds(found[name]) for name in ("device_ns", "host_ns"))
        rows.append((folded(op), " → ".join(map(folded, kernels)), _number(found["count"]), *times))
    return Section("Frequent kernel sequences", columns, tuple(rows))


def _critical_path(values: _Values, result: HtaResult) -> Section:
    parts = ("host", "compute", "communication", "between_kernels", "launching", "dependencies")
    columns = (
        Column("request", align="left"),
        Column("path ms"),
        Column("% of wall"),
        *(Column(f"{name.replace('_', ' ')} ms") for name in parts),
    )
    rows = []
    for request, wall_ns in result.walls_ns.items():
        found = values.of(Analysis.CRITICAL_PATH, Scope(request)).get("")
        if found:
            lengths = (milliseconds(found[f"{name}_ns"]) for name in parts)
            path = found["length_ns"]
            rows.append((str(request), milliseconds(path), percent(path, wall_ns), *lengths))
    notes = (
        "HTA's graph is of ops, calls and activities: time beside them weighs nothing, and a wait for the device is",
        "in it only where the trace has cuda_sync spans. So its path may be shorter than the request.",
    )
    return Section("Critical path", columns, tuple(rows), notes=notes)


def _declined(result: HtaResult) -> list[Section]:
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
    return [Section("Not run", columns, rows)] if rows else []


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
    """A whole number as one."""
    return int(value) if value == int(value) else float(value)
