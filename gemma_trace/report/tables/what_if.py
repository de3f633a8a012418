"""What the requests would take after a change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_trace.health.findings import Health
from gemma_trace.report.number_text import milliseconds
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.units import DELTA_PCT, LABEL, MS
from gemma_trace.store import columns
from gemma_trace.whatif.engine import RequestWhatIf, WhatIf

_FIRST_TOKENS: Final = "the first token of a request is known"

WHAT_IF_FILE: Final = (
    Col.stored(columns.REQUEST),
    Col("label", "request", LABEL, definition="the request"),
    Col(
        "selected_ns",
        "selected",
        MS,
        definition="how long the selected work took, Σ over threads and streams, without what a thread waits",
        priority=3,
    ),
    Col("wall_ns", "wall", MS, definition="the request's wall time as it was measured"),
    Col("new_wall_ns", "would be", MS, definition="the wall time of the graph replayed with the change"),
    Col("saved_ns", "saved", MS, definition="`wall_ns` - `new_wall_ns`"),
    Col("saved_pct", "saved", DELTA_PCT, definition="`saved_ns` / `wall_ns`"),
    Col(
        "ttft_ns",
        "TTFT",
        MS,
        definition="TTFT as it was measured; empty where there is no first token",
        priority=2,
        when=_FIRST_TOKENS,
    ),
    Col("new_ttft_ns", "would be", MS, definition="TTFT of the replay", priority=2, when=_FIRST_TOKENS),
)
"""A row per request."""

_COLS: Final = WHAT_IF_FILE[1:]

_NOTES: Final = (
    "The request's dependency graph (host order, launches, streams, synchronisation) replayed with the change. Time "
    "that the graph can't explain stays as it was measured.",
)


def what_if_report(what_if: WhatIf, source: str, health: Health) -> Report:
    """The requests as they were and as they would be."""
    conditions = holding({_FIRST_TOKENS: any(row.ttft_ns is not None for row in what_if.requests)})
    title = f"What if {said(what_if)}"
    table = Table(title, _COLS, what_if.requests, notes=(_mean(what_if.requests), *_NOTES), conditions=conditions)
    totals = {"requests": len(what_if.requests), "mean_saved_ns": what_if.saved_ns}
    return Report("what-if", [source], (table,), Table(title, WHAT_IF_FILE, what_if.requests), totals, health)


def said(what_if: WhatIf) -> str:
    """The change, in words."""
    change = what_if.change
    parts = [f"{pattern} took {factor:g} × its time" for pattern, factor in change.scale]
    parts += [f"{pattern} were not there" for pattern in change.remove]
    parts += [f"{pattern} ran beside all else" for pattern in change.overlap]
    return ", ".join(parts) or "nothing changed"


def _mean(rows: Sequence[RequestWhatIf]) -> str:
    saved, wall = sum(row.saved_ns for row in rows), sum(row.wall_ns for row in rows)
    share = 100 * saved / wall if wall else 0.0
    of = "1 request" if len(rows) == 1 else f"{len(rows)} requests"
    return f"Mean of {of}: {milliseconds(saved / len(rows))} ms saved, {share:.1f}% of the wall time."
