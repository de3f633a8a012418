"""Which of some trace files are the ranks of one job."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path

from gemma_trace.errors import InputError
from gemma_trace.foreign import NONE
from gemma_trace.ranks.identity import identity_of
from gemma_trace.trace.folders import find_traces
from gemma_trace.trace.header import distributed_of, metadata_of
from gemma_trace.trace.reader import read_header


def jobs_among(files: Sequence[Path]) -> list[list[Path]]:
    """The files, those that are the ranks of a job together; each of the others by itself.

    Files are of a job where they lie in one folder, say that their job has the same number of ranks, more than one, and
    are of different ranks of it; of our own captures, where the run has the same name too. A file that can't be read is
    by itself.
    """
    jobs: dict[Hashable, list[Path]] = {}
    ranks: dict[Hashable, set[int]] = {}
    for file in files:
        key, rank = _job_of(file)
        if rank in ranks.get(key, ()):  # another capture of a rank that is there
            key = file
        jobs.setdefault(key, []).append(file)
        ranks.setdefault(key, set()).add(rank)
    return list(jobs.values())


def is_job(files: Sequence[Path]) -> bool:
    """Whether these files, several, are the ranks of one job and nothing else."""
    return len(files) > 1 and len(jobs_among(files)) == 1


def _job_of(file: Path) -> tuple[Hashable, int]:
    """What the files of a job have in common, and which rank of it a file is; the file itself where it is of none."""
    try:
        header = read_header(file)
        distributed = distributed_of(header)
        metadata = metadata_of(header, file)
    except InputError:
        return file, NONE
    identity = identity_of(distributed, file)
    if identity.world_size < 2 or identity.rank == NONE:
        return file, NONE
    return (file.parent, identity.world_size, metadata.run.name if metadata else ""), identity.rank


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
