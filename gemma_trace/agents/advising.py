"""The tools that say what to change, and what a change could gain."""

from __future__ import annotations

from typing import Any

from gemma_trace.agents.answers import Found, by_columns
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import Advise, WhatIf
from gemma_trace.errors import ConfigError
from gemma_trace.report.table import Table


def advise_tool(desk: Desk, asked: Advise) -> Found:
    """What to change, the highest ceiling first."""
    from gemma_trace.advice.advise import advise
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.report.tables.advice import ADVICE_FILE, abstention_table, advice_tables

    trace = desk.trace(asked.path)
    found = advise(trace, asked.request)
    table: Table[Any] = advice_tables(found)[0]
    notes = table.notes
    if asked.part == "abstentions":
        table, notes = abstention_table(found), ()
    else:
        table = Table(table.title, (ADVICE_FILE[0], *table.cols), table.rows, conditions=table.conditions)
    facts = {
        "requests": found.requests,
        "noise_ms": round(found.noise_ns / 1e6, 3),
        "more_findings": found.more,
        "abstentions": len(found.abstentions),
    }
    return Found([asked.path], table, by_columns("rule", "where", "missing"), facts, run_health(trace), notes)


def what_if_tool(desk: Desk, asked: WhatIf) -> Found:
    """What the requests would take after a change."""
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.report.tables.what_if import WHAT_IF_FILE, what_if_report
    from gemma_trace.whatif.engine import Change, what_if

    if not (asked.scale or asked.remove or asked.overlap):
        raise ConfigError('nothing is changed; give scale, e.g. {"family:attention": 0.5}, remove or overlap')
    change = Change.of(asked.remove, asked.scale, asked.overlap)
    trace = desk.trace(asked.path)
    found = what_if(trace, change, asked.request)
    health = run_health(trace)
    (drawn,) = what_if_report(found, "", health).tables
    table = Table(drawn.title, WHAT_IF_FILE, drawn.rows, conditions=drawn.conditions)
    facts = {"requests": len(found.requests), "saved_ms_each": round(found.saved_ns / 1e6, 3)}
    return Found([asked.path], table, by_columns("request"), facts, health, drawn.notes)
