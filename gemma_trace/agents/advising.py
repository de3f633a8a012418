"""The tools that say what to change, and what a change could gain."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gemma_trace.agents.answers import Found, by_columns
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import Advise, WhatIf
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.report.table import Table

if TYPE_CHECKING:
    from gemma_trace.advice.findings import Advice
    from gemma_trace.health.findings import Health

MOST_ADVISED: Final = 50
"""Each of the traces is read and replayed for an answer."""


def advise_tool(desk: Desk, asked: Advise) -> Found:
    """What to change, the highest ceiling first."""
    from gemma_trace.report.tables.advice import ADVICE_FILE, abstention_table, advice_tables

    files = desk.files(asked.path)
    if len(files) > MOST_ADVISED:
        raise InputError(
            f"that folder has {len(files):,} traces, and advice covers {MOST_ADVISED} at most; give one of them, or a "
            "folder below it, as summarize shows them"
        )
    advice, health, unreadable = _advice(desk, files, asked.request)
    table: Table[Any] = advice_tables(advice)[0]
    notes = table.notes
    if asked.part == "abstentions":
        table, notes = abstention_table(advice), ()
    else:
        table = Table(table.title, (ADVICE_FILE[0], *table.cols), table.rows, conditions=table.conditions)
    facts = {
        "traces": len(files) - unreadable,
        **({"unreadable": unreadable} if unreadable else {}),
        "requests": advice.requests,
        "noise_ms": round(advice.noise_ns / 1e6, 3),
        "more_findings": advice.more,
        "abstentions": len(advice.abstentions),
    }
    return Found([asked.path], table, by_columns("rule", "where", "missing"), facts, health, notes)


def _advice(desk: Desk, files: Sequence[Path], request: int | None) -> tuple[Advice, Health, int]:
    """The advice on those of some traces that can be read, what is wrong with them, and how many can't be read.

    Raises:
        InputError: none can be read, or none has the request.
    """
    from gemma_trace.advice.advise import look
    from gemma_trace.advice.merge import advice_of
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.health.merge import merged, told_apart

    read, looked, healths, failures = [], [], [], []
    for file in files:
        try:
            trace = desk.read(file)
            looked.append(look(trace, request, label=trace.label))
        except InputError as error:
            failures.append(error)
            continue
        read.append(file)
        healths.append(run_health(trace))
    if not read:
        raise failures[-1]
    labels = told_apart([each.label for each in looked], read)
    advice = advice_of([each.called(label) for each, label in zip(looked, labels, strict=True)])
    return advice, merged(healths, labels), len(failures)


def what_if_tool(desk: Desk, asked: WhatIf) -> Found:
    """What the requests would take after a change."""
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.report.tables.what_if import WHAT_IF_FILE, what_if_report
    from gemma_trace.whatif.engine import Change, what_if

    if not (asked.scale or asked.remove or asked.overlap):
        raise ConfigError('nothing would change; give scale, e.g. {"family:attention": 0.5}, remove or overlap')
    change = Change.of(asked.remove, asked.scale, asked.overlap)
    trace = desk.trace(asked.path)
    answer = what_if(trace, change, asked.request)
    health = run_health(trace)
    (drawn,) = what_if_report(answer, "", health).tables
    table = Table(drawn.title, WHAT_IF_FILE, drawn.rows, conditions=drawn.conditions)
    facts = {"requests": len(answer.requests), "saved_ms_each": round(answer.saved_ns / 1e6, 3)}
    return Found([asked.path], table, by_columns("request"), facts, health, drawn.notes)
