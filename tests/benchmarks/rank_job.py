"""Writes the traces of a job of many ranks, as torch.profiler does on CUDA, with faults planted in them.

Deterministic from a seed. Every time comes out of a discrete model (`rank_schedule`), and so it is known to the ns.

    python -m tests.benchmarks.rank_job FOLDER --ranks 64 --slow-rank 5:prefill:200000 --clock host=1:1500000:20
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Final

from isal import igzip

from tests.benchmarks.rank_events import rank_json
from tests.benchmarks.rank_plan import (
    ClockOffset,
    CutFile,
    Fault,
    Job,
    LateLaunch,
    LostRank,
    SlowLink,
    SlowRank,
)
from tests.benchmarks.rank_schedule import Schedule, simulate

_TIME_MS: Final = 1_752_829_952_104
"""When the job ended, as its files' names say."""


def write_job(folder: Path, job: Job, processes: int = 1) -> list[Path]:
    """Write the trace of each rank that left one, and return their paths by rank."""
    folder.mkdir(parents=True, exist_ok=True)
    lost = {fault.rank for fault in job.of_kind(LostRank)}
    ranks = [rank for rank in range(job.ranks) if rank not in lost]
    schedule = simulate(job)
    parts = (schedule.of(rank) for rank in ranks)
    if processes == 1:
        return [_write_rank(folder, job, part, rank) for part, rank in zip(parts, ranks, strict=True)]
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(_write_rank, repeat(folder), repeat(job), parts, ranks))


def sized(job: Job, megabytes: float) -> Job:
    """The same job with as many kernels as give each rank a trace of about this many 10^6 bytes, inflated."""
    few, many = (replace(job, steps=1, kernels=kernels) for kernels in (10, 30))
    fixed, small, large = (_json_bytes(each) for each in (replace(few, steps=0), few, many))
    a_kernel = (large - small) / 20
    a_step = small - fixed - 10 * a_kernel
    kernels = ((megabytes * 1e6 - fixed) / job.steps - a_step) / a_kernel
    return replace(job, kernels=max(1, round(kernels)))


def _json_bytes(job: Job) -> int:
    return sum(map(len, rank_json(job, simulate(job).of(0), 0)))


def _write_rank(folder: Path, job: Job, schedule: Schedule, rank: int) -> Path:
    path = folder / job.names.format(rank=rank, time=_TIME_MS + rank)
    with path.open("wb") as raw:
        if path.suffix == ".gz":
            with igzip.IGzipFile("", "wb", 1, raw, mtime=0) as file:  # type: ignore[no-untyped-call]
                for part in rank_json(job, schedule, rank):
                    file.write(part)  # type: ignore[no-untyped-call]
        else:
            raw.writelines(rank_json(job, schedule, rank))
    for fault in job.of_kind(CutFile):
        if fault.rank == rank:
            os.truncate(path, int(path.stat().st_size * fault.share))
    return path


def _steps(text: str) -> tuple[int, ...] | None:
    return tuple(map(int, text.split(","))) if text else None


def _slow_rank(text: str) -> SlowRank:
    rank, stage, delay, steps = [*text.split(":"), ""][:4]
    return SlowRank(int(rank), stage, int(delay), _steps(steps))


def _late_launch(text: str) -> LateLaunch:
    rank, stage, delay, steps = [*text.split(":"), ""][:4]
    return LateLaunch(int(rank), stage, int(delay), _steps(steps))


def _slow_link(text: str) -> SlowLink:
    ranks, factor = text.split(":")
    return SlowLink(tuple(map(int, ranks.split(","))), float(factor))


def _clock(text: str) -> ClockOffset:
    whose, offset, drift = [*text.split(":"), "0"][:3]
    kind, number = whose.split("=")
    host, rank = (int(number), None) if kind == "host" else (None, int(number))
    return ClockOffset(int(offset), float(drift), host, rank)


def _lost_rank(text: str) -> LostRank:
    return LostRank(int(text))


def _cut_file(text: str) -> CutFile:
    rank, share = text.split(":")
    return CutFile(int(rank), float(share))


_FAULTS: Final = {
    "--slow-rank": (_slow_rank, "RANK:STAGE:NS[:STEP,STEP]", "kernels that are longer by so much in sum"),
    "--late-launch": (_late_launch, "RANK:STAGE:NS[:STEP,STEP]", "a host that sleeps before it launches"),
    "--slow-link": (_slow_link, "RANK,RANK:FACTOR", "transfers that are so much longer in groups with these ranks"),
    "--clock": (_clock, "host=N:NS[:PPM]", "a clock that is ahead and gains; or rank=N"),
    "--lost-rank": (_lost_rank, "RANK", "a rank that leaves no trace"),
    "--cut-file": (_cut_file, "RANK:SHARE", "a file that ends after this share of its bytes"),
}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write the traces of a job of many ranks.")
    default = Job()
    parser.add_argument("folder", type=Path)
    for name in ("ranks", "steps", "kernels", "group-size", "seed", "base-step-ns"):
        parser.add_argument(f"--{name}", type=int, default=getattr(default, name.replace("-", "_")))
    for name in ("jitter-pct", "alltoall-skew", "gigabytes-per-second"):
        parser.add_argument(f"--{name}", type=float, default=getattr(default, name.replace("-", "_")))
    for name in ("overlap", "steps-only"):
        parser.add_argument(f"--{name}", action="store_true")
    for name in ("sequence-numbers", "distributed-info"):
        parser.add_argument(f"--no-{name}", dest=name.replace("-", "_"), action="store_false")
    parser.add_argument("--names", default=default.names, help="with the fields {rank} and {time}")
    parser.add_argument("--events-mb", type=float, help="size of each trace, inflated; instead of --kernels")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    for name, (kind, shape, text) in _FAULTS.items():
        parser.add_argument(name, dest="faults", action="append", type=kind, metavar=shape, default=[], help=text)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the job that the command line asks for, and say what was written as a line of JSON."""
    options = vars(_options(arguments))
    folder, megabytes, processes = options.pop("folder"), options.pop("events_mb"), options.pop("processes")
    faults: list[Fault] = options.pop("faults")
    job = Job(**options, faults=tuple(faults))
    if megabytes:
        job = sized(job, megabytes)
    paths = write_job(folder, job, processes)
    size = sum(path.stat().st_size for path in paths)
    print(json.dumps({"files": len(paths), "bytes": size, "kernels": job.kernels}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
