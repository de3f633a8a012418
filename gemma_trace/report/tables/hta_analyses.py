"""What Holistic Trace Analysis found: a table per analysis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from gemma_trace.hta.answers import Analysis, Figure, HtaResult, Scope
from gemma_trace.report.short_names import folded
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import COUNT, GB_PER_S, MS, NAME, PCT, US, Unit, count_text

MOST_KERNELS: Final = 10


@dataclass(frozen=True)
class HtaRow:
    """What an analysis says of one thing.

    Attributes:
        where: the part of the trace.
        of: the stream, kernel or kind; "" of the part itself.
        values: by measure.
    """

    where: str
    of: str
    values: Mapping[str, float]


def _value(measure: str, row: HtaRow) -> float | None:
    return row.values.get(measure)


def _measure(measure: str, header: str, unit: Unit, priority: int = 0) -> Col:
    return Col(measure, header, unit, priority=priority, value=partial(_value, measure))


def _idle_pct(row: HtaRow) -> float | None:
    extent = row.values["extent_ns"]
    return 100 * row.values["idle_ns"] / extent if extent else None


_WHERE: Final = Col("where", "where")
_STREAM: Final = Col("of", "stream")
_NUMBER: Final = COUNT

_TEMPORAL: Final = (
    _WHERE,
    _measure("busy_ns", "busy", MS),
    _measure("compute_ns", "computing", MS),
    _measure("idle_ns", "idle", MS),
    Col("idle_pct", "idle", PCT, value=_idle_pct),
    _measure("extent_ns", "first to last", MS),
)
_IDLE: Final = (
    _WHERE,
    _STREAM,
    _measure("idle_ns", "idle", MS),
    _measure("host_wait_ns", "host wait", MS),
    _measure("kernel_wait_ns", "kernel wait", MS),
    _measure("other_ns", "other", MS),
)
_KIND_NAMES: Final = ("computation", "communication", "memory")
_KINDS: Final = (
    _WHERE,
    *(_measure(kind, kind, MS) for kind in (*_KIND_NAMES, "overlapping")),
    _measure("count", "activities", _NUMBER),
    _measure("names", "different names", _NUMBER, 1),
)
_KERNELS: Final = (
    Col("of", "kernel", NAME),
    _measure("sum_ns", "sum", MS),
    _measure("share_pct", "", PCT, 1),
    _measure("count", "count", _NUMBER),
    *(_measure(f"{name}_ns", name, US, 2) for name in ("mean", "min", "max")),
)
_LAUNCHES: Final = (
    _WHERE,
    _measure("count", "launches", _NUMBER),
    *(_measure(f"{name}_median_ns", name, US) for name in ("call", "activity", "delay")),
    _measure("delay_max_ns", "longest delay", US, 1),
    _measure("shorter_than_call_count", "shorter than its call", _NUMBER, 1),
)
_QUEUE: Final = (
    _WHERE,
    _STREAM,
    _measure("length_mean", "mean", _NUMBER),
    _measure("length_median", "median", _NUMBER),
    _measure("length_max", "longest", _NUMBER),
    _measure("changes_count", "changes", _NUMBER, 1),
)
_RATE: Final = replace(GB_PER_S, show=count_text)
_BANDWIDTH: Final = (
    _WHERE,
    Col("of", "copies"),
    *(_measure(f"bandwidth_{name}_gb_s", name, _RATE) for name in ("mean", "median", "max")),
    _measure("bandwidth_min_gb_s", "min", _RATE, 1),
    _measure("changes_count", "changes", _NUMBER, 1),
)
_OVERLAP: Final = (_WHERE, _measure("overlapped_pct", "overlapped", replace(PCT, show=count_text)))


def _op(row: HtaRow) -> str:
    return row.of.split("|")[0]


def _sequence(row: HtaRow) -> str:
    return " → ".join(map(folded, row.of.split("|")[1:]))


def _length(row: HtaRow) -> int:
    return row.of.count("|")


_SEQUENCES: Final = (
    Col("op", "op", NAME, value=_op),
    Col("sequence", "its kernels, in order", NAME, str, value=_sequence),
    Col("kernels", "kernels", COUNT, priority=1, value=_length),
    _measure("count", "count", _NUMBER),
    _measure("device_ns", "device", MS),
    _measure("host_ns", "host", MS, 1),
)
_PATH: Final = (
    Col("where", "request"),
    _measure("length_ns", "path", MS),
    _measure("share_pct", "% of wall", replace(PCT, suffix="")),
    *(
        _measure(f"{name}_ns", name.replace("_", " "), MS)
        for name in ("host", "compute", "communication", "between_kernels", "launching", "dependencies")
    ),
)


class HtaValues:
    """The figures by what they are of."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        self._by_scope: dict[tuple[Analysis, Scope], dict[str, dict[str, float]]] = {}
        for figure in figures:
            by_of = self._by_scope.setdefault((figure.analysis, figure.scope), {})
            by_of.setdefault(figure.of, {})[figure.measure] = figure.hta

    def of(self, analysis: Analysis, scope: Scope) -> dict[str, dict[str, float]]:
        """What each is of → measure → value."""
        return self._by_scope.get((analysis, scope), {})

    def rows(self, analysis: Analysis, scopes: Sequence[Scope]) -> list[HtaRow]:
        """A row per part of the trace, and what of it."""
        return [
            HtaRow(row_name(scope), of, figures) for scope in scopes for of, figures in self.of(analysis, scope).items()
        ]


def analysis_tables(result: HtaResult, scopes: Sequence[Scope]) -> list[Table[Any]]:
    """A table per analysis, of these parts of the trace; those without a row are left out."""
    values = HtaValues(result.figures)

    def table(title: str, cols: tuple[Col, ...], analysis: Analysis, *notes: str) -> Table[HtaRow]:
        return Table(title, cols, values.rows(analysis, scopes), notes=notes)

    made = (
        table(
            "Temporal breakdown",
            _TEMPORAL,
            Analysis.TEMPORAL,
            "Each row spans the time from its first to its last activity; idle: none of them runs.",
        ),
        table(
            "Idle time by stream",
            _IDLE,
            Analysis.IDLE,
            "host wait: the launch came after the previous activity had ended. kernel wait: other gaps below 30 µs.",
        ),
        Table("Kinds of kernels", _KINDS, _kinds(values, scopes), notes=("The time in which each kind runs alone.",)),
        _kernels(values),
        table(
            "Launches",
            _LAUNCHES,
            Analysis.LAUNCHES,
            "Medians. delay: from the end of the launching call to the activity's start; 0 where it started before.",
        ),
        table(
            "Queue length",
            _QUEUE,
            Analysis.QUEUE,
            "Activities that were launched and had not started, counted after each change; not weighted by how long "
            "that lasted.",
        ),
        table("Bandwidth of copies and fills", _BANDWIDTH, Analysis.BANDWIDTH),
        table(
            "Communication under computation",
            _OVERLAP,
            Analysis.OVERLAP,
            "The share of communication's time in which computation runs too.",
        ),
        Table(
            "Frequent kernel sequences",
            _SEQUENCES,
            values.rows(Analysis.SEQUENCES, [Scope()]),
            notes=("Of ops at the least depth at which the name occurs; --operator TEXT looks for others.",),
        ),
        _critical_path(values, result),
    )
    return [each for each in made if each.rows]


def row_name(scope: Scope) -> str:
    """A part of the trace, as its rows are called; stages are indented."""
    return scope.label if scope.stage is None else f"  {scope.label}"


def _kinds(values: HtaValues, scopes: Sequence[Scope]) -> list[HtaRow]:
    rows = []
    for scope in scopes:
        kinds = values.of(Analysis.KERNELS, scope)
        if kinds:
            times = {of: figures["time_ns"] for of, figures in kinds.items() if "time_ns" in figures}
            alone = {kind: times.get(kind, 0.0) for kind in _KIND_NAMES}
            both = sum(length for kind, length in times.items() if kind not in _KIND_NAMES)
            rows.append(HtaRow(row_name(scope), "", {**alone, "overlapping": both, **kinds[""]}))
    return rows


def _kernels(values: HtaValues) -> Table[HtaRow]:
    kernels = values.of(Analysis.KERNELS, Scope())
    whole = kernels.get("", {}).get("sum_ns", 0.0)
    rows = [
        HtaRow("", of, {**figures, **({"share_pct": 100 * figures["sum_ns"] / whole} if whole else {})})
        for of, figures in kernels.items()
        if of and "count" in figures
    ]
    return Table("Kernels", _KERNELS, rows).cut(MOST_KERNELS, "{} more: --format json has all.")


def _critical_path(values: HtaValues, result: HtaResult) -> Table[HtaRow]:
    rows = []
    for request, wall_ns in result.walls_ns.items():
        figures = values.of(Analysis.CRITICAL_PATH, Scope(request)).get("")
        if figures:
            share = {"share_pct": 100 * figures["length_ns"] / wall_ns} if wall_ns else {}
            rows.append(HtaRow(str(request), "", {**figures, **share}))
    note = (
        "HTA's graph consists of ops, calls and activities: other time has no weight, and a wait for the device is "
        "part of it only if the trace has cuda_sync spans. So the path may be shorter than the request; it is longer "
        "if the device works beyond the end of the request."
    )
    return Table("Critical path", _PATH, rows, notes=(note,))
