"""Which files of a folder are the ranks that were asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gemma_trace.errors import ConfigError, InputError
from gemma_trace.foreign import NONE
from gemma_trace.ranks.identity import identity_of
from gemma_trace.trace.header import MOST_RANKS, distributed_of
from gemma_trace.trace.reader import read_header

_MOST_NAMED: Final = 20


def parse_ranks(text: str) -> list[int]:
    """Ranks as they are given on the command line, in order and once each.

    Raises:
        ConfigError: it is no such list.

    >>> parse_ranks("5,0-2")
    [0, 1, 2, 5]
    """
    ranks: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.isascii() and end.isdigit() and len(end) <= 7 for end in ends) or int(ends[1]) >= MOST_RANKS:
            raise ConfigError(f"--ranks {text!r} is not a list of ranks; give numbers and ranges, such as 0,5 or 0-3")
        ranks.update(range(int(ends[0]), int(ends[1]) + 1))
    if not ranks:
        raise ConfigError(f"--ranks {text!r} names no rank; give the lower one of a range first")
    return sorted(ranks)


def rank_files(paths: Sequence[Path], wanted: Sequence[int]) -> dict[int, Path]:
    """The file of each of these ranks, by what the files' headers say, else by their names.

    Where two files are of one rank, it is the first of them. A file that can't be read costs nobody else.

    Raises:
        InputError: a rank has no file.
    """
    by_rank: dict[int, Path] = {}
    for path in paths:
        try:
            header = read_header(path)
        except InputError:  # who opens it says why; here only its name can tell
            header = {}
        rank = identity_of(distributed_of(header), path).rank
        if rank != NONE:
            by_rank.setdefault(rank, path)
    for rank in wanted:
        if rank not in by_rank:
            listed = ", ".join(map(str, sorted(by_rank)[:_MOST_NAMED])) + (", …" if len(by_rank) > _MOST_NAMED else "")
            raise InputError(
                f"rank {rank} not found: there are traces of " + (f"ranks {listed}" if by_rank else "no rank")
            )
    return {rank: by_rank[rank] for rank in wanted}
