"""What Holistic Trace Analysis says of a trace, beside our own figures."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from gemma_trace.health.findings import Health
from gemma_trace.hta.answers import AGREEMENT_PCT, Analysis, Declined, Figure, HtaResult, Scope
from gemma_trace.report.number_text import microseconds, milliseconds
from gemma_trace.report.short_names import folded
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.tables.hta_analyses import analysis_tables, row_name
from gemma_trace.report.units import FIGURES, PCT, WORDS, count_text

MOST_DIFFERENCES: Final = 10
ALL: Final = "all"

DIFFER: Final = "a figure has a cause to differ"

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

_Row = Figure | Declined


def _analysis(row: _Row) -> str:
    return row.analysis.value if row.analysis else ALL


def _whole_number(value: float | None) -> float | None:
    """A whole number as one; others without what floats leave behind."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(float(value), 6)


def _given(name: str, row: _Row) -> Any:
    """What a figure or a refusal has of that name; the other kind hasn't it."""
    return getattr(row, name, None)


def _number(name: str, row: _Row) -> float | None:
    return _whole_number(_given(name, row))


def _difference_text(value: float) -> str:
    return f"{value:+,.2f}" if value else "0"


def _figure_text(figure: Figure, value: float | None) -> str | None:
    if value is None:
        return None
    if not figure.measure.endswith("_ns"):
        return count_text(value)
    return microseconds(value) if figure.analysis is Analysis.LAUNCHES else milliseconds(value)


def _hta_text(figure: Figure) -> str | None:
    return _figure_text(figure, figure.hta)


def _our_text(figure: Figure) -> str | None:
    return _figure_text(figure, figure.ours)


def _named(figure: Figure) -> str:
    if _is_named(figure):
        name = _NAMES[figure.analysis, figure.measure].format(of=figure.of)
    else:
        name = f"{figure.measure} of {folded(figure.of)[:40]}"
    return name if figure.scope == Scope() else f"{row_name(figure.scope)}: {name}"


HTA: Final = Col("hta", "HTA", FIGURES, definition="HTA's figure", value=partial(_number, "hta"))
OURS: Final = Col(
    "gemma_trace",
    "gemma-trace",
    FIGURES,
    definition="the figure of gemma-trace for the same activities; empty if gemma-trace does not measure it",
    value=partial(_number, "ours"),
)
DIFFERENCE: Final = Col(
    "difference_pct",
    "difference",
    PCT,
    _difference_text,
    definition="100 · (`hta` − `gemma_trace`) / `gemma_trace`; none where one is missing",
    value=partial(_given, "difference_pct"),
)
CAUSE: Final = Col(
    "cause",
    "why",
    WORDS,
    definition="why they differ by more than 0.1%; `unknown` would be a bug in one of the tools",
    when=DIFFER,
    value=partial(_given, "cause"),
)

HTA_FILE: Final = (
    Col(
        "analysis",
        definition=(
            "`temporal`, `idle`, `kernels`, `launches`, `queue`, `bandwidth`, `overlap`, `sequences`, "
            "`critical_path`; `all` where none ran"
        ),
        value=_analysis,
    ),
    Col("request", definition="the request; empty for the whole trace", value="scope.request"),
    Col("stage", definition="the stage of the request; empty for the whole request", value="scope.stage"),
    Col(
        "of",
        definition=(
            "the stream, kernel, kind of kernel or copy, or sequence that it is of; empty: of the stage, request or "
            "trace"
        ),
        value=partial(_given, "of"),
    ),
    Col("measure", definition="below", value=partial(_given, "measure")),
    *(HTA, OURS, DIFFERENCE, CAUSE),
    Col("declined", definition="why there is no figure", value=partial(_given, "reason")),
)
"""A row per figure, and per thing that HTA didn't do."""

_COMPARED: Final = (Col("figure", "figure", value=_named), HTA.of(_hta_text), OURS.of(_our_text), DIFFERENCE, CAUSE)


def hta_report(result: HtaResult, label: str, source: str, health: Health, median: int) -> Report:
    """The comparison, a table per analysis, and what was declined. For files a row per figure.

    Args:
        label: the run's name.
        source: the trace's file.
        median: the index of the median request.
    """
    compared = [figure for figure in result.figures if figure.ours is not None]
    return Report(
        command="hta",
        source=[source],
        tables=tuple(hta_tables(result, label, median)),
        data=Table("Figures", HTA_FILE, (*result.figures, *result.declined)),
        totals={
            "package": result.package or None,
            "as_is": result.as_is,
            "compared": len(compared),
            "agreeing": sum(figure.agrees for figure in compared),
            "declined": len(result.declined),
        },
        health=health,
    )


def hta_tables(result: HtaResult, label: str, median: int) -> list[Table[Any]]:
    """The tables for people, of which those without a row are left out.

    Args:
        median: the index of the median request.
    """
    comparison = _comparison(result, label, median)
    return [
        *([comparison] if comparison.rows else []),
        *analysis_tables(result, _shown(result, median)),
        *_declined(result, label),
    ]


def _staged(result: HtaResult) -> list[int]:
    """The requests whose stages HTA was asked of."""
    return sorted({scope.request for scope in result.scopes if scope.stage is not None and scope.request is not None})


def _shown(result: HtaResult, median: int) -> list[Scope]:
    """The whole, its requests, and of stages those of the median request, or of the one that was asked for."""
    requests = _staged(result)
    request = median if median in requests else (requests[0] if requests else None)
    return [scope for scope in result.scopes if scope.stage is None or scope.request == request]


def _comparison(result: HtaResult, label: str, median: int) -> Table[Figure]:
    compared = [figure for figure in result.figures if figure.ours is not None]
    whole = [figure for figure in compared if figure.scope == Scope() and _is_named(figure)]
    # Of kernels by name, and of stages and requests, only what differs is worth a line.
    rest = [figure for figure in compared if figure not in whole and not figure.agrees]
    shown = (*whole, *rest[:MOST_DIFFERENCES])
    agreeing = sum(figure.agrees for figure in compared)
    notes = [
        f"{result.package}. {agreeing:,} of {len(compared):,} figures that both tools have agree within "
        f"{AGREEMENT_PCT:g}%, including those of each kernel, stage and request."
    ]
    if len(rest) > MOST_DIFFERENCES:
        notes.append(f"{len(rest) - MOST_DIFFERENCES:,} more differ: --format json has all.")
    if len(_staged(result)) > 1:
        notes.append(f"Stages are those of request {median}, the median one; --request shows another.")
    return Table(
        f"HTA and gemma-trace, {label}",
        _COMPARED,
        shown,
        notes=(*notes, *result.remarks),
        conditions=holding({DIFFER: any(figure.cause for figure in shown)}),
    )


def _is_named(figure: Figure) -> bool:
    if (figure.analysis, figure.measure) not in _NAMES:
        return False
    return figure.analysis in (Analysis.IDLE, Analysis.QUEUE) or not figure.of


@dataclass(frozen=True)
class _Group:
    """What HTA didn't do for one reason."""

    analysis: str
    where: str
    reason: str


_DECLINED: Final = (Col("analysis", "analysis", WORDS), Col("where", "where", WORDS), Col("reason", "why not", WORDS))


def _declined(result: HtaResult, label: str) -> list[Table[_Group]]:
    """One line a reason, with all that it holds for."""
    grouped: dict[tuple[str, str], dict[str, None]] = {}
    for declined in result.declined:
        grouped.setdefault((_analysis(declined), declined.reason), {})[declined.scope.label] = None
    rows = [_Group(analysis, ", ".join(where), reason) for (analysis, reason), where in grouped.items()]
    return [Table(f"Not run by HTA, {label}", _DECLINED, rows)] if rows else []
