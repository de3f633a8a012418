"""The collectives of a job, one line per kind, group, type and size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gemma_trace.foreign import NONE
from gemma_trace.ranks.calls import Calls
from gemma_trace.ranks.kinds import COMMS, Comm, bus_factor
from gemma_trace.ranks.matching import joined
from gemma_trace.ranks.waits import Waits
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.places import Places, distinct


@dataclass(frozen=True)
class CollectiveLine:
    """Collectives of one kind, group, type and size.

    Attributes:
        kind: what they do.
        group: the process group's name; "" where the trace doesn't tell.
        description: what the group is for.
        group_size: how many ranks it has; `NONE` where the trace doesn't tell.
        dtype: of the elements; "" where the trace doesn't tell.
        size_bytes: of one, as nccl-tests counts it, the largest over the ranks; `NONE` where the trace doesn't tell.
        count: how many collectives; several ranks' parts in one are one.
        calls: how many parts they have on all ranks.
        unmatched: how many parts of this kind have no part of another rank beside them.
        latency_ns: the median over the collectives of the shortest duration over the ranks.
        latency_sum_ns: Σ of the same.
        wait_ns: the mean over the parts of what a duration is longer than that.
        wait_max_ns: the largest of them.
        last_rank: the global rank that came last most often; `NONE` where none did more often than the others.
        last_count: in how many of them it did.
        algorithm_gb_per_s: size over latency, of the median; None where the size isn't known.
        bus_gb_per_s: the same times the factor of nccl-tests.
        exposed_ns: how long a part is exposed, the mean over the parts.
        overlapped_ns: the rest of its duration, the mean.
    """

    kind: Comm
    group: str
    description: str
    group_size: int
    dtype: str
    size_bytes: int
    count: int
    calls: int
    unmatched: int
    latency_ns: int | None
    latency_sum_ns: int
    wait_ns: float | None
    wait_max_ns: int | None
    last_rank: int
    last_count: int
    algorithm_gb_per_s: float | None
    bus_gb_per_s: float | None
    exposed_ns: float
    overlapped_ns: float


def collective_lines(calls: Calls, waits: Waits, numbers: Sequence[int]) -> list[CollectiveLine]:
    """One line per kind, group, type and size, those with the most time first.

    Args:
        numbers: the global rank of each summary.
    """
    if not len(calls):
        return []
    sizes = _common_size(calls)
    line = joined(calls.kind, calls.group, calls.dtype, sizes)
    lines = [_line(calls, waits, rows, int(sizes[rows[0]]), numbers) for _, rows in Places(line)]
    return sorted(lines, key=lambda each: -each.calls * (each.exposed_ns + each.overlapped_ns))


def _common_size(calls: Calls) -> IntArray:
    """int64 [n], the size of each collective: the largest that one of its ranks has."""
    size = calls.size_bytes.copy()
    matched = calls.is_matched
    largest = np.full(len(calls.parts), NONE)
    np.maximum.at(largest, calls.match[matched], size[matched])
    size[matched] = largest[calls.match[matched]]
    return size


def _line(calls: Calls, waits: Waits, rows: IntArray, size: int, numbers: Sequence[int]) -> CollectiveLine:
    first = int(rows[0])
    matched = rows[calls.is_matched[rows]]
    kind, group = COMMS[calls.kind[first]], calls.groups[calls.group[first]]
    _, place = np.unique(calls.match[matched], return_index=True)
    latencies = waits.latency_ns[matched[place]]
    latency = int(np.median(latencies)) if len(latencies) else None
    rate = size / latency if latency and size > 0 else None
    ranks = group.size if group.size > 0 else len(distinct(calls.rank[matched]))
    factor = bus_factor(kind, ranks)
    last, last_count = _last(calls, waits, matched, numbers)
    return CollectiveLine(
        kind=kind,
        group=group.name,
        description=group.description,
        group_size=group.size,
        dtype=calls.dtypes[calls.dtype[first]],
        size_bytes=size,
        count=len(latencies) + len(rows) - len(matched),
        calls=len(rows),
        unmatched=len(rows) - len(matched),
        latency_ns=latency,
        latency_sum_ns=int(latencies.sum()),
        wait_ns=float(waits.wait_ns[matched].mean()) if len(matched) else None,
        wait_max_ns=int(waits.wait_ns[matched].max()) if len(matched) else None,
        last_rank=last,
        last_count=last_count,
        algorithm_gb_per_s=rate,
        bus_gb_per_s=rate * factor if rate is not None and factor is not None else None,
        exposed_ns=float(waits.exposed_ns[rows].mean()),
        overlapped_ns=float((calls.dur_ns[rows] - waits.exposed_ns[rows]).mean()),
    )


def _last(calls: Calls, waits: Waits, rows: IntArray, numbers: Sequence[int]) -> tuple[int, int]:
    """The rank that waited for nobody most often while others did, and how often; `NONE` where there is no such one."""
    others_wait = np.zeros(len(calls.parts), dtype=bool)
    others_wait[calls.match[rows[waits.wait_ns[rows] > 0]]] = True
    last = rows[(waits.wait_ns[rows] == 0) & others_wait[calls.match[rows]]]
    if not len(last):
        return NONE, 0
    counts = np.bincount(calls.rank[last])
    most = int(counts.max())
    return (numbers[int(np.argmax(counts))], most) if int((counts == most).sum()) == 1 else (NONE, most)
