"""Tables of what Holistic Trace Analysis found, one an analysis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from gemma_trace.analysis.hta.model import Analysis, Figure, HtaResult, Scope
from gemma_trace.report.model import Column, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT, microseconds, milliseconds, percent, significant

MOST_KERNELS: Final = 10


class Values:
    """The figures by what they are of."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._by_scope: dict[tuple[Analysis, Scope], dict[str, dict[str, float]]] = {}
        for figure in figures:
            by_of = self._by_scope.setdefault((figure.analysis, figure.scope), {})
            by_of.setdefault(figure.of, {})[figure.measure] = figure.hta

    def of(self, analysis: Analysis, scope: Scope) -> dict[str, dict[str, float]]:
        """What each is of → measure → value."""
        return self._by_scope.get((analysis, scope), {})


def tables(result: HtaResult, scopes: Sequence[Scope]) -> list[Section]:
    """A table an analysis, of these parts of the trace; those without a row are left out."""
    values = Values(result.figures)
    made = (
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
    return [table for table in made if table.rows]


def row_name(scope: Scope) -> str:
    """A part of the trace, as its rows are called; stages are indented."""
    return scope.label if scope.stage is None else f"  {scope.label}"


def number(value: float) -> str:
    """A count, or a number with the decimals that its size calls for."""
    return f"{value:,.0f}" if value == int(value) else significant(value)


def _by_scope(
    values: Values, analysis: Analysis, scopes: Sequence[Scope]
) -> Iterator[tuple[str, str, Mapping[str, float]]]:
    """Where, what of, and the values by their measure."""
    for scope in scopes:
        for of, found in values.of(analysis, scope).items():
            yield row_name(scope), of, found


def _temporal(values: Values, scopes: Sequence[Scope]) -> Section:
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


def _idle(values: Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("stream", align="left"),
        *(Column(name) for name in ("idle ms", "host wait ms", "kernel wait ms", "other ms")),
    )
    rows = tuple(
        (where, of, *(milliseconds(found[name]) for name in ("idle_ns", "host_wait_ns", "kernel_wait_ns", "other_ns")))
        for where, of, found in _by_scope(values, Analysis.IDLE, scopes)
    )
    notes = ("host wait: the launch came after the activity before had ended. kernel wait: other gaps under 30 µs.",)
    return Section("Idle time by stream", columns, rows, notes=notes)


def _kinds(values: Values, scopes: Sequence[Scope]) -> Section:
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
            counts = (number(found[""]["count"]), number(found[""]["names"]))
            rows.append((row_name(scope), *(milliseconds(length) for length in (*alone, both)), *counts))
    return Section("Kinds of kernels", columns, tuple(rows), notes=("Each kind's time in which it runs alone.",))


def _kernels(values: Values) -> Section:
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
            number(one["count"]),
            *(microseconds(one[f"{name}_ns"]) for name in ("mean", "min", "max")),
        )
        for of, one in kernels[:MOST_KERNELS]
    )
    more = len(kernels) - len(rows)
    return Section("Kernels", columns, rows, notes=(f"{more} more: --format json has all.",) if more else ())


def _launches(values: Values, scopes: Sequence[Scope]) -> Section:
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
            number(found["count"]),
            *(microseconds(found[name]) if name in found else ABSENT for name in lengths),
            number(found.get("shorter_than_call_count", 0)),
        )
        for where, _, found in _by_scope(values, Analysis.LAUNCHES, scopes)
    )
    notes = ("Medians. delay: from the end of the launching call to the activity's start; 0 where it started before.",)
    return Section("Launches", columns, rows, notes=notes)


def _queue(values: Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("stream", align="left"),
        *(Column(name) for name in ("mean", "median", "longest")),
        Column("changes", 1),
    )
    measures = ("length_mean", "length_median", "length_max", "changes_count")
    rows = tuple(
        (where, of, *(number(found[name]) for name in measures))
        for where, of, found in _by_scope(values, Analysis.QUEUE, scopes)
    )
    notes = ("Activities launched and not started, after each change; not weighted by how long it lasted.",)
    return Section("Queue length", columns, rows, notes=notes)


def _bandwidth(values: Values, scopes: Sequence[Scope]) -> Section:
    columns = (
        Column("where", align="left"),
        Column("copies", align="left"),
        *(Column(f"{name} GB/s") for name in ("mean", "median", "max")),
        Column("min GB/s", 1),
        Column("changes", 1),
    )
    measures = (*(f"bandwidth_{name}_gb_s" for name in ("mean", "median", "max", "min")), "changes_count")
    rows = tuple(
        (where, of, *(number(found[name]) for name in measures))
        for where, of, found in _by_scope(values, Analysis.BANDWIDTH, scopes)
    )
    return Section("Bandwidth of copies and fills", columns, rows)


def _overlap(values: Values, scopes: Sequence[Scope]) -> Section:
    columns = (Column("where", align="left"), Column("overlapped %"))
    rows = tuple(
        (where, number(found["overlapped_pct"])) for where, _, found in _by_scope(values, Analysis.OVERLAP, scopes)
    )
    notes = ("The share of communication's time in which computation runs too.",)
    return Section("Communication under computation", columns, rows, notes=notes)


def _sequences(values: Values) -> Section:
    columns = (
        Column("op", align="left", overflow="ellipsis"),
        Column("its kernels, in order", align="left", overflow="ellipsis"),
        Column("kernels", 1),
        Column("count"),
        Column("device ms"),
        Column("host ms", 1),
    )
    rows = []
    for pattern, found in values.of(Analysis.SEQUENCES, Scope()).items():
        op, *kernels = pattern.split("|")
        times = (milliseconds(found[name]) for name in ("device_ns", "host_ns"))
        rows.append((folded(op), " → ".join(map(folded, kernels)), str(len(kernels)), number(found["count"]), *times))
    notes = ("Of ops at the least depth at which the name occurs; --operator TEXT looks for others.",)
    return Section("Frequent kernel sequences", columns, tuple(rows), notes=notes)


def _critical_path(values: Values, result: HtaResult) -> Section:
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
        "HTA's graph is of ops, calls and activities: time beside them weighs nothing, and a wait for the device is"
        " in it only where the trace has cuda_sync spans. So its path may be shorter than the request; it is longer"
        " where the device works on after the request's end.",
    )
    return Section("Critical path", columns, tuple(rows), notes=notes)
