"""`gemma-trace sql`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption, say
from gemma_trace.cli.rules import RuleOption, RulesOption
from gemma_trace.errors import ConfigError, InputError, UnreadableError
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.report.formats import Format
    from gemma_trace.sql.limits import Limits
    from gemma_trace.sql.sources import Source
    from gemma_trace.stages import StageRule

_URL: Final = re.compile(r"\w+://")
_SIZES: Final = {"MB": 10**6, "GB": 10**9}
_SIZE: Final = re.compile(r"(\d{1,6}(?:\.\d{1,3})?) ?(MB|GB)", re.ASCII | re.IGNORECASE)


def sql(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            help=(
                "The SQL, or - to read it from stdin; then a trace, a folder of traces, or a store, also as a URL. The "
                "path may also come first."
            ),
            metavar="SQL PATH",
        ),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="Read the SQL from this file. Then PATH is the only argument."),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Show the tables of PATH; without PATH, those of all traces and stores.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", help="Stop the query after this time.")
    ] = 60.0,
    memory_limit: Annotated[
        str,
        typer.Option(
            "--memory-limit", metavar="SIZE", help="Stop the query if it requires more memory than this, e.g. 500MB."
        ),
    ] = "2GB",
    rule: RuleOption = None,
    rules: RulesOption = None,
    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Show N rows; 0 shows all. By default a table shows 100; CSV, JSON and Parquet have all.",
        ),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Query a trace, a folder of traces or a store with SQL.

    The tables of a trace are spans, activities, launches, ops, requests, stages, kernels, flows, memory, counters and
    metadata; the tables of several traces also have a column run, those of a job's ranks a column rank. The tables of a
    store are those that gemma-trace index makes. Times are whole nanoseconds.

    One SELECT runs in DuckDB, on these tables alone: it writes nothing, and opens no file and no network connection.

    Example: gemma-trace sql "SELECT stage, sum(dur_ns) FROM activities GROUP BY stage" trace.json.gz
    """
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.tables.sql import sql_report
    from gemma_trace.sql.engine import query, refuse_all_but_one_select

    given = given or []
    limits = _limits(timeout, memory_limit)
    if schema:
        if len(given) > 1 or file:
            raise ConfigError("--schema needs no SQL; give at most one PATH")
        _emit_schema(given, form, output, force=force, raw=raw)
        return
    if len(given) != (1 if file else 2):
        wanted = "PATH alone beside --file" if file else 'SQL and PATH: gemma-trace sql "SELECT …" PATH'
        raise ConfigError(f"give {wanted}")
    if not file and _is_path(given[0]) and not _is_path(given[1]):
        given = given[::-1]  # as in all other commands, the trace first
    text = _text(file, given)
    refuse_all_but_one_select(text)  # before a large trace is read
    source = open_source(path_of(given[-1]), read_rules(rule, rules), cached=not no_cache)
    emit(sql_report(query(source, text, limits, _give_up), [given[-1]], top), form, output, force=force, raw=raw)


def _is_path(text: str) -> bool:
    """Whether an argument is a path or a URL: it is there, or it is one word, which no query is."""
    if text != "-" and not re.search(r"\s", text):
        return True
    try:
        return bool(_URL.match(text)) or Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or no name
        return False


def open_source(path: Path, rules: Sequence[StageRule] = (), *, cached: bool = True) -> Source:
    """What has the tables of a path: a store, several traces, or a trace.

    Raises:
        InputError: it is none of those.
    """
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.sql.sources import FolderSource, StoreSource, TraceSource
    from gemma_trace.store.layout import is_store
    from gemma_trace.trace.folders import find_traces

    if path.is_dir() and is_store(path):
        return StoreSource(path)
    files = find_traces([path])
    if len(files) == 1:
        return TraceSource(open_trace(files[0], rules, cached=cached))
    return FolderSource(
        files,
        lambda file: open_trace(file, rules, cached=cached),
        is_job=is_job(files),
        on_unreadable=lambda error: say(f"gemma-trace: {error}"),
    )


def _emit_schema(given: Sequence[str], form: Format | None, output: Path | None, *, force: bool, raw: bool) -> None:
    from gemma_trace.cli.output import emit
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.report.tables.sql import schema_report
    from gemma_trace.sql.schema import TRACE_TABLES
    from gemma_trace.sql.sources import STORE_TABLES, traces_tables
    from gemma_trace.store.layout import is_store
    from gemma_trace.trace.folders import find_traces

    if not given:
        both = {f"trace: {name}": table for name, table in TRACE_TABLES.items()}
        both |= {f"store: {name}": table for name, table in STORE_TABLES.items()}
        report = schema_report(both, [], "A trace, and a store")
    elif (path := path_of(given[0])).is_dir() and is_store(path):
        report = schema_report(STORE_TABLES, given, "A store")
    else:
        files = find_traces([path])
        several = len(files) > 1
        tables = traces_tables(is_job=is_job(files)) if several else TRACE_TABLES
        report = schema_report(tables, given, "Several traces" if several else "A trace")
    emit(report, form, output, force=force, raw=raw)


def _text(file: Path | None, given: Sequence[str]) -> str:
    """The SQL: of the file, of stdin, or as it was given.

    Raises:
        UnreadableError: the file can't be read, or is no text.
    """
    try:
        if file:
            return file.read_text(encoding="utf-8")
        return sys.stdin.read() if given[0] == "-" else given[0]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8"
        raise UnreadableError(f"can't read the SQL in {file or 'stdin'}: {reason}; check --file") from None


def _limits(timeout_s: float, memory: str) -> Limits:
    """What a query may take.

    Raises:
        ConfigError: it makes no sense.
    """
    from gemma_trace.sql.limits import Limits

    match = _SIZE.fullmatch(memory.strip())
    size_bytes = int(float(match[1]) * _SIZES[match[2].upper()]) if match else 0
    if size_bytes < 10**7:
        raise ConfigError(f"--memory-limit {memory!r} is no size of 10MB or more; give e.g. 500MB or 2GB")
    return Limits(timeout_s, size_bytes)


def _give_up(reason: str) -> None:
    """End the program: a single function on a huge value can't be stopped in any other way."""
    say(f"gemma-trace: {reason}")
    os._exit(InputError.exit_code)
