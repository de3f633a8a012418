"""Trace files → one summary per rank: read in parallel, one at a time per process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gemma_trace.errors import InputError
from gemma_trace.ranks.split import split
from gemma_trace.ranks.summary import RankSummary, summarize_rank
from gemma_trace.stages import StageRule
from gemma_trace.trace.trace import load


@dataclass(frozen=True)
class ReadFile:
    """What a file gave.

    Attributes:
        file: its name.
        ranks: one summary per rank in it.
        lost_activities: device activities of a merged file that belong to none of its ranks.
        error: why it can't be read; "" where it can.
    """

    file: str
    ranks: tuple[RankSummary, ...] = ()
    lost_activities: int = 0
    error: str = ""


MapFiles = Callable[[Callable[[Path], ReadFile], Sequence[Path]], list[ReadFile]]
"""Applies a function to each of the files, in their order."""


def read_file(path: Path, rules: Sequence[StageRule] = ()) -> ReadFile:
    """The ranks of one file; a file that can't be read costs itself alone."""
    try:
        traces, lost = split(load(path, rules, jobs=1, detailed=False))
        return ReadFile(path.name, tuple(summarize_rank(trace) for trace in traces), lost)
    except InputError as error:
        return ReadFile(path.name, error=str(error).replace(str(path), path.name))


def read_files(paths: Sequence[Path], rules: Sequence[StageRule], map_files: MapFiles) -> list[ReadFile]:
    """The ranks of many files."""
    files = map_files(partial(read_file, rules=tuple(rules)), paths)
    return [replace(file, ranks=tuple(file.ranks)) for file in files]
