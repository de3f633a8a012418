"""`gemma-trace index`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import ForceOption, FormatOption, OutputOption, RawOption, remark
from gemma_trace.cli.rules import RuleOption, RulesOption
from gemma_trace.errors import ConfigError, UnreadableError
from gemma_trace.remote import RemotePath, is_url, path_of
from gemma_trace.remote_errors import shown_url

if TYPE_CHECKING:
    from gemma_trace.store.indexing import IndexJob, Outcome
    from gemma_trace.store.result import IndexResult

_POLL_S: Final = 2.0
"""How long a file that is watched has to stay as it is before it counts as written to its end."""


def index(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Trace files, and folders, with everything below them; also as URLs.",
            metavar="PATH...",
            parser=path_of,
        ),
    ] = None,
    to: Annotated[
        str, typer.Option("--to", metavar="STORE", help="The store: a folder, or a URL such as s3://bucket/store.")
    ] = "",
    rule: RuleOption = None,
    rules: RulesOption = None,
    keep_names: Annotated[
        bool, typer.Option("--keep-names", help="Leave the names of runs, files, hosts, users and folders in.")
    ] = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try again the files that failed before.")] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Merge the store's small files afterwards. PATH may be left out then.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep adding traces that are written into the paths, until Ctrl-C.")
    ] = False,
    prune_raw_after: Annotated[
        str | None,
        typer.Option(
            "--prune-raw-after",
            metavar="AGE",
            help="List the raw traces that are in the store and older than this, e.g. 30d. Nothing is removed.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option("--jobs", "-j", metavar="N", min=1, help="Use N processes. The default is one per core."),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="ADDRESS",
            help="Let a Dask cluster do the work, e.g. tcp://host:8786. Its workers read the paths and write the "
            "store.",
        ),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Add traces to a store of small files, for sql and history.

    The store has Parquet files, which other programs read too. Each trace is read once. Its id is a hash of its
    content, so traces that the store already has are skipped, and an index that was stopped continues where it was. A
    trace that can't be read does not stop the others: it becomes a row of the table failures, and the exit code is 4.
    Several processes may add to one store at once. Stages defined with --rule apply to the traces that are new.

    Unless --keep-names is given, nothing in a store says who recorded a trace, or where.

    Example: gemma-trace index traces --to store --compact
    """
    from gemma_trace.cli.ages import age_s
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.tables.index import index_report
    from gemma_trace.store.compact import compact as compacted
    from gemma_trace.store.indexing import job_for
    from gemma_trace.store.result import IndexResult

    given = paths or []
    _refuse(given, to, compact=compact, watch=watch)
    known = read_rules(rule, rules)
    prune_after_s = None if prune_raw_after is None else age_s(prune_raw_after, "--prune-raw-after")
    result = IndexResult(shown_url(to), prune_after_s, has_rules=bool(known))
    job = job_for(to, keep_names=keep_names, retry=retry, rules=known)
    if given and not watch:
        _index(job, _traces(given, to), jobs, result, scheduler)
    elif watch:
        _watch(job, given, jobs, result, scheduler)
    if compact:
        result.compaction = compacted(to)
    emit(index_report(result, [str(path) for path in given]), form, output, force=force, raw=raw)
    if result.failed:
        raise typer.Exit(UnreadableError.exit_code)


def _refuse(paths: Sequence[Path], to: str, *, compact: bool, watch: bool) -> None:
    """Refuse what makes no sense.

    Raises:
        ConfigError: it doesn't.
    """
    if not to:
        raise ConfigError("no store; give --to STORE, a folder or a URL")
    if not is_url(to) and Path(to).exists() and not Path(to).is_dir():
        raise ConfigError(f"--to {to} is a file; give a folder")
    if not paths and (watch or not compact):
        raise ConfigError("no traces; give PATH, a file or a folder of traces")


def _traces(paths: Sequence[Path], to: str) -> list[Path]:
    from gemma_trace.store.store import without_own
    from gemma_trace.trace.folders import find_traces

    return without_own(find_traces(paths), to)


def _index(job: IndexJob, paths: Sequence[Path], jobs: int | None, result: IndexResult, scheduler: str | None) -> None:
    from gemma_trace.store.cluster import outcomes_on
    from gemma_trace.store.engine import outcomes

    with _progress(len(paths)) as advance:
        for outcome in outcomes_on(scheduler, job, paths) if scheduler else outcomes(job, paths, jobs):
            result.add(outcome)
            advance(outcome)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Outcome], None]]:
    """Show on a terminal how many traces are done, and how many of them failed."""
    if total < 2 or not sys.stderr.isatty() or asked().quiet:
        yield lambda outcome: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from gemma_trace.store.indexing import Status

    columns = (TextColumn("indexing"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        task, failed = bars.add_task("", total=total), 0

        def advance(outcome: Outcome) -> None:
            nonlocal failed
            failed += outcome.status is Status.FAILED
            bars.update(task, advance=1, description=f"{failed:,} failed" if failed else "")

        yield advance


def _watch(job: IndexJob, paths: Sequence[Path], jobs: int | None, result: IndexResult, scheduler: str | None) -> None:
    """Index what is there and what comes, each file once it stays as it is, until Ctrl-C."""
    from dataclasses import replace

    from gemma_trace.store.indexing import Status

    done: dict[Path, tuple[int, int]] = {}
    before: dict[Path, tuple[int, int]] = {}
    remark(f"gemma-trace: watching {len(paths)} paths; Ctrl-C ends it")
    try:
        while True:
            now = _states(paths, job.store)
            settled = [path for path, state in now.items() if before.get(path) == state != done.get(path)]
            if settled:
                first = len(result.shown)
                _index(job, settled, jobs, result, scheduler)
                done |= {path: now[path] for path in settled}
                new = [each.run_id for each in result.shown[first:] if each.status is Status.INDEXED]
                job = replace(job, known=job.known | set(new))
                remark(f"gemma-trace: {result.headline()}")
            before = now
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        return


def _states(paths: Sequence[Path], to: str) -> dict[Path, tuple[int, int]]:
    """The size and the time of the last change of the traces that are there."""
    states: dict[Path, tuple[int, int]] = {}
    for path in paths:
        try:
            anew = RemotePath(path.url) if isinstance(path, RemotePath) else path  # it remembers what it was told
            for trace in _traces([anew], to):
                state = trace.stat()
                states[trace] = (state.st_size, state.st_mtime_ns)
        except (OSError, UnreadableError):  # nothing is there yet, or something has just gone
            continue
    return states
