"""What a program or a notebook uses: a trace whose methods are the analyses, thin over their functions.

It stands on top of everything; nothing in the package imports it but the package itself, on first use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gemma_trace.arguments import checked
from gemma_trace.errors import OutputError
from gemma_trace.remote import path_of
from gemma_trace.tabular import Tabular
from gemma_trace.trace import trace as tracing
from gemma_trace.trace.requests import Request
from gemma_trace.wording import counted

if TYPE_CHECKING:
    import pandas as pd

    from gemma_trace.advice.findings import Advice
    from gemma_trace.analysis.breakdown import StageBreakdown
    from gemma_trace.analysis.changes import TraceDiff
    from gemma_trace.analysis.critical_path import CriticalPath
    from gemma_trace.analysis.kernels import KernelTable
    from gemma_trace.analysis.summary import RunSummary
    from gemma_trace.analysis.tree import TreeNode
    from gemma_trace.health.findings import Health
    from gemma_trace.peaks import Peaks
    from gemma_trace.ranks.job import Job
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.whatif.engine import WhatIf


class Trace(tracing.Trace):
    """A trace, with the analyses as methods. Everything else is as in `gemma_trace.trace.trace.Trace`.

    >>> trace = gemma_trace.load("traces/demo")      # doctest: +SKIP
    >>> trace.stages().to_frame()      # doctest: +SKIP
    """

    def stages(self, request: int | Request | None = None) -> StageBreakdown:
        """Where the wall time of the requests went, stage by stage; of one request, or of all for None.

        Raises:
            InputError: there is no such request.
        """
        from gemma_trace.analysis.breakdown import breakdown

        return breakdown(self, request)

    def kernels(
        self,
        stage: str | None = None,
        request: int | Request | None = None,
        *,
        by: str = "kernel",
        sort: str = "sum",
        device: int | None = None,
    ) -> KernelTable:
        """What costs the trace, or one of its stages, its time; see `kernel_table`.

        Args:
            by: what a row is: `kernel`, `op`, `module`, `layer`, `family` or `shape`.

        Raises:
            InputError: no such stage or request in this trace, or nothing of it ran on that device.
            ConfigError: `by` or `sort` is none of those.
        """
        from gemma_trace.analysis.kernels import kernel_table

        return kernel_table(self, stage, request, by, sort, device)

    def tree(self, request: int | Request | None = None, *, each_layer: bool = False) -> TreeNode:
        """Request, stage, layer or module, op and kernel as one tree, with the time of each; see `call_tree`.

        Raises:
            InputError: there is no such request.
        """
        from gemma_trace.analysis.tree import call_tree

        return call_tree(self, request, each_layer=each_layer)

    def critical_path(self, request: int | Request = 0) -> CriticalPath:
        """Which chain of host work, launches, activities and waits made a request as long as it is.

        Raises:
            InputError: there is no such request.
        """
        from gemma_trace.analysis.critical_path import critical_path

        return critical_path(self, request)

    @checked
    def what_if(
        self,
        *,
        remove: str | Sequence[str] = (),
        scale: Mapping[str, float] | None = None,
        overlap: str | Sequence[str] = (),
        request: int | Request | None = None,
    ) -> WhatIf:
        """What the requests would take if some of their work were gone, shorter, or beside the rest; see `Change`.

        Args:
            remove, overlap: patterns: `family:`, `kernel:`, `stage:`, `op:` or `span:` and a name, in which `*` stands
                for any text.
            scale: by pattern, how many times what it took the work takes.

        Raises:
            ConfigError: a pattern or a factor is none.
            InputError: there is no such request, or a pattern selects nothing.

        >>> trace.what_if(scale={"family:attention": 0.5}).saved_ns      # doctest: +SKIP
        """
        from gemma_trace.whatif.engine import Change, what_if

        return what_if(self, Change.of(remove, scale, overlap), request)

    def advise(self, request: int | Request | None = None) -> Advice:
        """What to change, the most that each change can bring first, and how to check it.

        Raises:
            InputError: there is no such request.
        """
        from gemma_trace.advice.advise import advise

        return advise(self, request)

    def summary(self) -> RunSummary:
        """TTFT and its parts, each with its spread over the requests."""
        from gemma_trace.analysis.summary import summarize

        return summarize(self)

    def check(self) -> Health:
        """What is missing, damaged or odd, and what to do about it."""
        return self.summary().health

    @checked
    def sql(self, query: str, *, timeout_s: float = 60.0, memory_limit_bytes: float = 2_000_000_000) -> pd.DataFrame:
        """The result of a SELECT on the tables that `gemma-trace sql --schema` lists; times are int64 ns.

        Args:
            timeout_s, memory_limit_bytes: what the query may take.

        Raises:
            InputError: the query is no single SELECT, or fails, or takes more than that.
            MissingExtraError: DuckDB, of gemma-trace[scale], isn't installed.

        >>> trace.sql("SELECT stage, sum(dur_ns) AS sum_ns FROM activities GROUP BY stage")      # doctest: +SKIP
        """
        from gemma_trace.sql.frames import sql_frame
        from gemma_trace.sql.limits import Limits
        from gemma_trace.sql.sources import TraceSource

        return sql_frame(TraceSource(self), query, Limits(timeout_s, memory_limit_bytes))

    @checked
    def report(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the HTML page of this trace.

        Args:
            force: overwrite the file.

        Raises:
            OutputError: the file exists and `force` isn't set, or it can't be written.
        """
        from gemma_trace.report.html.build import view_of
        from gemma_trace.report.html.model import PageContent, detail_for
        from gemma_trace.report.html.page import render_page
        from gemma_trace.trace.files import output_file

        path = Path(path)
        if not force and os.path.lexists(path):
            raise OutputError(f"{path} exists already; give --force to overwrite it")
        view = view_of(self, detail_for(1))
        page = render_page(PageContent(view.label, (view,)))
        with output_file(path, "check the path") as file:
            file.write(page)
        return path

    def __repr__(self) -> str:
        wall_ms = sum(request.wall_ns for request in self.requests) / 1e6
        devices = len(set(self.spans.device[self.activities].tolist()))
        activities = counted(len(self.activities), "activity", "activities")
        parts = (
            counted(len(self.spans), "span"),
            counted(len(self.requests), "request"),
            f"{wall_ms:,.1f} ms wall",
            f"{counted(devices, 'device')} with {activities}" if devices else "no device",
            f"check: {self.check().verdict}",
        )
        return f"<Trace {self.label}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(repr(self)[1:-1])}</p>"


@checked
def load(
    source: str | Path,
    rules: Sequence[StageRule] = (),
    on_bytes: Callable[[int], None] | None = None,
    cache: TraceCache | None = None,
    jobs: int | None = None,
    *,
    detailed: bool = True,
) -> Trace:
    """Read a trace: a file, a folder that holds just one, or a URL.

    Args:
        source: a path, or a URL of fsspec's such as s3://bucket/run.json; nothing else is asked of the network.
        rules: which spans are ranges of which stage, on top of those that are known; see `stage_rule`.
        on_bytes: hears how many bytes of the file were read, each time some are.
        cache: where a large trace's columns are kept for the next time; None keeps and finds nothing.
        jobs: how many processes may read a large file; None as GEMMA_TRACE_JOBS says, else one per core. The trace is
            the same.
        detailed: whether the details are read too: the strides of inputs, the values of those that are no tensors, and
            what allocators said. They are up to a fifth of the work. Without them the file is read again where
            `Trace.details` is asked for, as rooflines and DataFrames do.

    Raises:
        UnreadableError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace, or holds no span.
        InputError: the folder holds several traces; `load_all` reads them.
        ConfigError: a rule can't be held against the trace's names within its time.
    """
    from gemma_trace.trace.cache import read
    from gemma_trace.trace.folders import one_trace

    path = one_trace(path_of(source))
    file = read(path, on_bytes, cache, jobs, detailed=detailed)
    return Trace(file, path, rules, partial(read, path, None, cache, jobs))


@checked
def load_all(folder: str | Path, rules: Sequence[StageRule] = ()) -> list[Trace]:
    """Read all traces below a folder, by path.

    Raises:
        UnreadableError: there is none, or one of them can't be read.
    """
    from gemma_trace.trace.folders import find_traces
    from gemma_trace.trace.reader import read_trace

    return [Trace(read_trace(path), path, rules) for path in find_traces([path_of(folder)])]


@checked
def advise_all(folder: str | Path, rules: Sequence[StageRule] = (), peaks: Sequence[Peaks] = ()) -> Advice:
    """What to change in all traces below a folder, the highest mean ceiling first; they are read one after another.

    Args:
        peaks: the user's own peak rates of devices.

    Raises:
        UnreadableError: there is none, or one of them can't be read.

    >>> gemma_trace.advise_all("traces").to_frame()      # doctest: +SKIP
    """
    from gemma_trace.advice.advise import look
    from gemma_trace.advice.merge import advice_of
    from gemma_trace.health.merge import told_apart
    from gemma_trace.trace.folders import find_traces

    files = find_traces([path_of(folder)])
    looked = [look(trace, None, peaks, trace.label) for trace in (tracing.load(file, rules) for file in files)]
    labels = told_apart([each.label for each in looked], files)
    return advice_of([each.called(label) for each, label in zip(looked, labels, strict=True)])


@checked
def load_ranks(source: str | Path | Sequence[str | Path], rules: Sequence[StageRule] = ()) -> Job:
    """Read the traces of a job's ranks, one process per core: of a folder, or of some files.

    Raises:
        UnreadableError: there is none, or none can be read.

    >>> job = gemma_trace.load_ranks("traces/job8")      # doctest: +SKIP
    >>> job.stragglers, job.to_frame()      # doctest: +SKIP
    """
    from gemma_trace.parallel import map_files
    from gemma_trace.ranks.job import load_job
    from gemma_trace.trace.folders import find_traces

    paths = [source] if isinstance(source, str | Path) else source
    return load_job(find_traces([path_of(path) for path in paths]), rules, map_files)


@dataclass(frozen=True, repr=False)
class FolderDiff(Tabular):
    """Two folders of traces compared.

    Attributes:
        pairs: run by run; of folders of repeats the one comparison of all.
        unmatched: runs that are on one side only, and files that were left out, a line each.
    """

    pairs: tuple[TraceDiff, ...]
    unmatched: tuple[str, ...]

    def headline(self) -> str:
        """What the result is, in a line."""
        left_out = f", {len(self.unmatched):,} left out" if self.unmatched else ""
        return f"{counted(len(self.pairs), 'comparison')}{left_out}"

    def records(self) -> Iterator[dict[str, Any]]:
        """The rows of every comparison, and of which it is."""
        for pair in self.pairs:
            yield from ({"comparison": pair.label, **record} for record in pair.records())


@checked
def diff_folders(
    before: str | Path, after: str | Path, rules: Sequence[StageRule] = (), *, repeats: bool = False
) -> FolderDiff:
    """Compare two folders of traces, run by run or, of repeats of one configuration, as a whole. Ranks are one run.

    Args:
        repeats: all traces of a side are of one configuration, whatever their names are.

    Raises:
        InputError: a side has no trace, or two of one name, or the sides have no run in common.
    """
    from gemma_trace.analysis.diff import diff_sides
    from gemma_trace.analysis.pairing import pair_runs
    from gemma_trace.analysis.ranks_as_one import side_of_ranks
    from gemma_trace.analysis.sides import Side, side_of
    from gemma_trace.ranks.folders import Runs

    runs = Runs()

    def side(run: Path) -> Side:
        return side_of_ranks([side_of(tracing.load(file, rules)) for file in runs.files_of(run)])

    files = (runs.named_by(path_of(before)), runs.named_by(path_of(after)))
    pairings, unmatched = pair_runs(files, (str(before), str(after)), repeats=repeats)
    pairs = []
    for pairing in pairings:
        sides = [list(map(side, paths)) for paths in (pairing.befores, pairing.afters)]
        pairs.append(diff_sides(*sides, paired=pairing.is_paired, names=pairing.names))
    lost = [line for pairing in pairings for line in pairing.lost]
    return FolderDiff(tuple(pairs), (*unmatched, *lost))


def profile(*args: Any, **options: Any) -> Any:
    """`gemma_trace.capture.session.profile`: capture requests and write their trace.

    Raises:
        MissingExtraError: a package of gemma-trace[capture] isn't installed.
    """
    from gemma_trace.capture import require_capture_extra

    require_capture_extra()
    from gemma_trace.capture.session import profile

    return profile(*args, **options)


def annotate(*args: Any, **options: Any) -> Any:
    """`gemma_trace.capture.annotate.annotate`: the stage ranges around a model, while a block runs.

    Raises:
        MissingExtraError: a package of gemma-trace[capture] isn't installed.
    """
    from gemma_trace.capture import require_capture_extra

    require_capture_extra()
    from gemma_trace.capture.annotate import annotate

    return annotate(*args, **options)
