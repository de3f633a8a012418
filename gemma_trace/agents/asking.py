"""The tool that asks traces and stores in SQL. Each query runs in a process of its own."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import msgspec

import gemma_trace
from gemma_trace.agents.answers import Found, by_columns
from gemma_trace.agents.desk import Desk
from gemma_trace.agents.parameters import Sql
from gemma_trace.agents.sql_child import LENGTH, AgentLimits, Order
from gemma_trace.errors import InputError
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import TEXT
from gemma_trace.wording import counted

LIMITS: Final = AgentLimits(timeout_s=30.0, memory_bytes=1_000_000_000)
MOST_ROWS: Final = 1_000
"""So many rows of a result can be paged through."""

_PATIENCE_S: Final = 600.0
"""So long reading and asking may take in all."""
_ADVICE: Final = "gemma-trace sql --schema lists tables and columns"
_OWN_ADVICE: Final = "sql without a query lists tables and columns"


def sql_tool(desk: Desk, asked: Sql) -> Found:
    """The result of a SELECT; without one, which columns the tables have."""
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.store.layout import is_store

    path = desk.roots.path(asked.path)
    shown = desk.roots.shown(path)
    of_store = path.is_dir() and is_store(path)
    files = [] if of_store else desk.files(asked.path)
    of_job = len(files) > 1 and is_job(files)
    if not asked.query.strip():
        return _tables(shown, files, of_store=of_store, of_job=of_job)
    order = Order(path if of_store else None, files, desk.rules, asked.query, LIMITS, MOST_ROWS, of_job, desk.is_cached)
    try:
        result = _asked(order)
    except InputError as error:
        raise InputError(str(error).replace(_ADVICE, _OWN_ADVICE)) from None
    rows = [(place, *row) for place, row in enumerate(result["rows"], 1)]
    cols = tuple(Col(name, unit=TEXT, value=itemgetter(place)) for place, name in enumerate(result["columns"], 1))
    notes = [f"Left out: {desk.roots.without_folders(line)}" for line in result["lost"]]
    if result["total"] > len(rows):
        notes.append(
            f"The result has {counted(result['total'], 'row')}, of which the first {len(rows):,} are here; add a LIMIT."
        )
    facts = {"rows_of_result": result["total"]}
    return Found([shown], Table("Result", cols, rows), _place, facts, notes=notes, all_columns=True)


def _place(table: Table[Any], row: Sequence[Any]) -> tuple[str, ...]:
    """A row of a result has nothing of its own that tells it from others but its place."""
    return (str(row[0]),)


def _tables(shown: str, files: Sequence[Path], *, of_store: bool, of_job: bool) -> Found:
    from gemma_trace.report.tables.sql import schema_report
    from gemma_trace.sql.schema import TRACE_TABLES
    from gemma_trace.sql.sources import STORE_TABLES, traces_tables

    several = traces_tables(is_job=of_job) if len(files) > 1 else TRACE_TABLES
    data = schema_report(STORE_TABLES if of_store else several, [shown], "Tables").data
    cols = tuple(col.at(9) if col.key == "definition" else col for col in data.cols)
    return Found([shown], Table("Tables", cols, data.rows), by_columns("table", "column"))


def _asked(order: Order) -> dict[str, Any]:
    """What the process found.

    Raises:
        InputError: what it says went wrong, or it was ended.
    """
    # This very package, wherever it is; and -P, so that no module in the current folder is taken for one of ours.
    paths = [str(Path(gemma_trace.__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-P", "-m", "gemma_trace.agents.sql_child"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        clock = threading.Timer(_PATIENCE_S, process.kill)
        clock.start()
        try:
            text = pickle.dumps(order)
            process.stdin.write(LENGTH.pack(len(text)) + text)
            process.stdin.flush()  # it stays open: the process ends when it is closed
            answer = process.stdout.read()
        except BrokenPipeError:
            answer = b""
        finally:
            clock.cancel()
            process.kill()
            with contextlib.suppress(BrokenPipeError):  # what it has not read
                process.stdin.close()
    if not answer:
        raise InputError("the query was stopped, because memory ran out or it took too long; ask for less")
    decoded_answer: dict[str, Any] = msgspec.json.decode(answer)
    if "error" in decoded_answer:
        raise InputError(str(decoded_answer["error"]))
    return decoded_answer
