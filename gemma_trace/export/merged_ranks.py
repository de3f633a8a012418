"""Some ranks of a job → one trace for viewers: a group of processes per rank, all on one clock, nothing lost.

Each rank is written as if it were alone (see `viewer.py`), with ids that no other rank has. Memory is the columns of
these ranks together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_trace.export.ids import ViewerIds
from gemma_trace.export.links import LinkNumbers
from gemma_trace.export.part import ExportRecord, ExportResult, TracePart
from gemma_trace.export.viewer import kept_members
from gemma_trace.export.viewer_file import viewer_file
from gemma_trace.trace.header import BASE_KEY
from gemma_trace.trace.trace import Trace

_PROCESSES: Final = 1 << 16
"""Places for a rank's processes before those of the next."""

Watch = Callable[[Path], AbstractContextManager[Callable[[int], None] | None]]
"""Opens, for the time in which a file is read, what hears how many bytes were."""


@dataclass(frozen=True)
class RankRecord:
    """What was done to one rank.

    Attributes:
        rank: its global rank.
        offset_ns: what its clock was corrected by, beyond the bases of the times.
        trace: what was done to its trace; of its `shift_ns` the offset is a part.
    """

    rank: int
    offset_ns: int
    trace: ExportRecord


@dataclass(frozen=True)
class MergedRecord:
    """What was done; embedded in the export as its top-level `gemma_trace_export`.

    Attributes:
        start_ns: ns since 1970 (of old traces that don't say so, on their own clock), the export's time 0.
    """

    start_ns: int
    ranks: tuple[RankRecord, ...]


def export_ranks(
    traces: Mapping[int, Trace],
    output: Path,
    offsets_ns: Mapping[int, int] | None = None,
    watch: Watch = lambda path: nullcontext(None),
    *,
    keep_paths: bool = False,
) -> dict[int, ExportResult]:
    """Write one trace of several ranks. Every time is relative to the first event of all, to the nanosecond.

    Args:
        traces: by rank, in the order in which they are drawn.
        output: gzip if it ends in .gz.
        offsets_ns: what is to be added to each rank's absolute times; 0 for the ranks that it hasn't.
        keep_paths: leave the folders of files in names, but for the home folder.

    Returns:
        By rank, what was written.

    Raises:
        OutputError: the file can't be written.
        InputError: a trace's file is gone, or it has grown since it was read.
    """
    offsets_ns = offsets_ns or {}
    added_ns = {rank: trace.base_ns + offsets_ns.get(rank, 0) for rank, trace in traces.items()}
    start_ns = min((trace.read_report.first_ns or 0) + added_ns[rank] for rank, trace in traces.items())
    with viewer_file(output, keep_paths=keep_paths) as file:
        parts: dict[int, TracePart] = {}
        every = ViewerIds()
        for place, (rank, trace) in enumerate(traces.items()):
            ids, shift_ns = every.beside(f"rank {rank}"), start_ns - added_ns[rank]
            parts[rank] = TracePart(trace, ids, shift_ns, place * _PROCESSES, file, LinkNumbers(rank))
        records = tuple(RankRecord(rank, offsets_ns.get(rank, 0), part.record) for rank, part in parts.items())
        members = [*kept_members(next(iter(traces.values())))]
        if any(trace.base_ns for trace in traces.values()):
            members.append((BASE_KEY, b"%d" % start_ns))
        file.begin(MergedRecord(start_ns, records), members)
        for rank, part in parts.items():
            with watch(traces[rank].path) as on_bytes:
                part.write_events(on_bytes)
        file.add_arrows()
        results = {rank: part.write_names() for rank, part in parts.items()}
        file.end()
    return results
