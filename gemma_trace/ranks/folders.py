"""Which of some trace files are the ranks of one job."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

from gemma_trace.errors import InputError
from gemma_trace.foreign import NONE
from gemma_trace.ranks.identity import folder_of_job, identity_of
from gemma_trace.trace.folders import find_traces
from gemma_trace.trace.header import distributed_of, metadata_of
from gemma_trace.trace.reader import read_header


@dataclass(frozen=True)
class _Place:
    """Which job a file is of.

    Attributes:
        job: what the files of the job have in common; the file itself where it is of none.
        rank: which rank of the job it is; `NONE` where it is of none.
        is_readable: whether its header can be read.
    """

    job: Hashable
    rank: int
    is_readable: bool = True


def jobs_among(files: Sequence[Path]) -> list[list[Path]]:
    """The files, grouped: the ranks of one job together, every other file alone.

    Files are of a job where they lie in one folder, or in a folder per rank, and are of different ranks of a job of the
    same size, more than one; of our own captures, where the run has the same name too. A file whose header can't be
    read is by itself.
    """
    return _jobs(files, [_place_of(file) for file in files])


def is_job(files: Sequence[Path]) -> bool:
    """Whether these files are the ranks of one job, several, and else nothing but files that can't be read."""
    places = [_place_of(file) for file in files]
    readable = [place.is_readable for place in places]
    jobs = _jobs(list(compress(files, readable)), list(compress(places, readable)))
    return len(jobs) == 1 and len(jobs[0]) > 1


def _jobs(files: Sequence[Path], places: Sequence[_Place]) -> list[list[Path]]:
    jobs: dict[Hashable, list[Path]] = {}
    ranks: dict[Hashable, set[int]] = {}
    for file, place in zip(files, places, strict=True):
        # Another capture of a rank that is there is by itself.
        key = file if place.rank in ranks.get(place.job, ()) else place.job
        jobs.setdefault(key, []).append(file)
        ranks.setdefault(key, set()).add(place.rank)
    return list(jobs.values())


def _place_of(file: Path) -> _Place:
    try:
        header = read_header(file)
        distributed = distributed_of(header)
        metadata = metadata_of(header, file)
    except InputError:
        return _Place(file, NONE, is_readable=False)
    identity = identity_of(distributed, file)
    if identity.rank == NONE or identity.world_size == 1:
        return _Place(file, NONE)
    return _Place((folder_of_job(file), identity.world_size, metadata.run.name if metadata else ""), identity.rank)


class Runs:
    """The runs that paths name: traces, and jobs of several ranks, which stand under their first file."""

    def __init__(self) -> None:
        self._ranks: dict[Path, Sequence[Path]] = {}

    def named_by(self, path: Path) -> list[Path]:
        """The runs below a path.

        Raises:
            UnreadableError: there is none.
        """
        jobs = jobs_among(find_traces([path]))
        self._ranks |= {job[0]: job for job in jobs}
        return [job[0] for job in jobs]

    def files_of(self, run: Path) -> Sequence[Path]:
        """The files of a run: one per rank."""
        return self._ranks.get(run, (run,))
