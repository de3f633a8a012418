"""`gemma-trace report` of a job: which files are its ranks, and which of them are read again to be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.errors import ConfigError

if TYPE_CHECKING:
    from gemma_trace.ranks.job import Job
    from gemma_trace.ranks.reading import ReadFile
    from gemma_trace.ranks.summary import RankSummary
    from gemma_trace.report.html.job_page import JobPage
    from gemma_trace.report.html.job_timeline import RankLanes
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.trace import Trace


def rank_numbers(text: str) -> tuple[int, ...]:
    """The ranks that an option names.

    Raises:
        ConfigError: it isn't numbers with commas between.

    >>> rank_numbers("5, 0")
    (5, 0)
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(f"--ranks {text}: give the numbers of ranks with commas between, e.g. --ranks 0,5")
    return tuple(map(int, parts))


RanksOption = Annotated[
    str | None,
    typer.Option(
        "--ranks",
        metavar="N,N",
        help="For a job, draw these ranks over time. By default these are the ranks that are late, the first, and "
        "the one that waits most.",
    ),
]


def job_page(
    files: Sequence[Path], rules: Sequence[StageRule], *, cached: bool, asked: Sequence[int] = ()
) -> JobPage | None:
    """The page of the job that these files are the ranks of; None where they are no ranks of one job.

    Args:
        asked: the ranks that are drawn over time; empty leaves the choice to the page.

    Raises:
        InputError: there is no trace of a rank that was asked for.
    """
    from gemma_trace.parallel import map_files
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.ranks.reading import read_files

    if not is_job(files):
        return None
    return _page_of(files, read_files(files, rules, map_files), rules, cached=cached, asked=asked)


def merged_page(trace: Trace, rules: Sequence[StageRule], *, cached: bool, asked: Sequence[int] = ()) -> JobPage | None:
    """The page of the job whose ranks were merged into a trace; None where it is of one rank.

    Raises:
        InputError: as `job_page` does.
    """
    from gemma_trace.ranks.reading import ReadFile
    from gemma_trace.ranks.split import split
    from gemma_trace.ranks.summary import summarize_rank

    parts, lost = split(trace)
    if len(parts) < 2:
        return None
    read = ReadFile(trace.path.name, tuple(map(summarize_rank, parts)), lost)
    return _page_of([trace.path], [read], rules, cached=cached, asked=asked)


def _page_of(
    files: Sequence[Path], read: Sequence[ReadFile], rules: Sequence[StageRule], *, cached: bool, asked: Sequence[int]
) -> JobPage | None:
    from gemma_trace.parallel import map_files
    from gemma_trace.ranks.job import Job
    from gemma_trace.ranks.membership import members_of
    from gemma_trace.report.html.job_page import JobPage
    from gemma_trace.report.html.job_timeline import chosen_ranks, chosen_request, timeline_of

    members = members_of(read)
    if len(members.ranks) < 2 or members.strangers or members.duplicates or members.numbered:
        return None
    job = Job(members)
    request, why = chosen_request(job)
    wanted = _files_of(job, files, read, chosen_ranks(job, asked))
    drawn = map_files(partial(draw_file, wanted=wanted, rules=tuple(rules), cached=cached, request=request), [*wanted])
    lanes = sorted((each for of_file in drawn for each in of_file), key=lambda each: each.rank)
    return JobPage(job, timeline_of(job, lanes, request, why))


def _files_of(
    job: Job, files: Sequence[Path], read: Sequence[ReadFile], numbers: Sequence[int]
) -> dict[Path, tuple[int, ...]]:
    """By file the chosen ranks that are in it."""
    wanted: dict[Path, tuple[int, ...]] = {}
    for rank in job.ranks:
        if rank.rank in numbers:
            path = next(path for path, file in zip(files, read, strict=True) if _has(file, rank))
            wanted[path] = (*wanted.get(path, ()), rank.rank)
    return wanted


def _has(file: ReadFile, rank: RankSummary) -> bool:
    return any(each is rank for each in file.ranks)


def draw_file(
    path: Path, *, wanted: Mapping[Path, Sequence[int]], rules: Sequence[StageRule], cached: bool, request: str
) -> list[RankLanes]:
    """What the chosen ranks of a file did in a request; a rank that hasn't it is left out.

    Args:
        wanted: by file the global ranks.
        request: its label.
    """
    from gemma_trace.report.html.job_timeline import lanes_of
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    trace = load(path, rules, cache=TraceCache() if cached else None, jobs=1)
    drawn = (lanes_of(part, rank, request) for rank, part in _parts(trace, wanted[path]))
    return [lanes for lanes in drawn if lanes is not None]


def _parts(trace: Trace, numbers: Sequence[int]) -> Iterator[tuple[int, Trace]]:
    """The traces of these ranks: of a trace that isn't merged itself."""
    from gemma_trace.ranks.split import split

    parts, _ = split(trace)
    if len(parts) == 1:
        yield numbers[0], trace
        return
    for part in parts:
        if part.distributed and part.distributed.rank in numbers:
            yield part.distributed.rank, part
