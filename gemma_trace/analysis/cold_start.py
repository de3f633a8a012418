"""How a process begins: import, load, the first request, and how long it takes until requests are as fast as ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Final

from gemma_trace.metadata import RequestSample, RunMetadata

STEADY_FACTOR: Final = 1.1
"""A request whose TTFT is under this many times the median of the timed ones is as fast as ever."""


@dataclass(frozen=True)
class ColdPart:
    """One part of a cold start.

    Attributes:
        part: `import`, `load`, `first request` or `until steady`.
        time_ns: of a request its TTFT; of `until steady` all of the above, and the whole of each request that was slow.
        steady_ns: the median TTFT of the timed requests that are like it; None where it isn't a request.
        requests: how many requests were slow; None where it isn't about them.
    """

    part: str
    time_ns: int
    steady_ns: int | None = None
    requests: int | None = None

    @property
    def factor(self) -> float | None:
        """How many times as long as it takes later."""
        return self.time_ns / self.steady_ns if self.steady_ns else None


def cold_parts(metadata: RunMetadata | None) -> tuple[ColdPart, ...]:
    """The parts of a run's cold start; none where it wasn't captured.

    `until steady` is left out where the last of the requests was still slow.
    """
    cold = metadata.cold_start if metadata else None
    if metadata is None or cold is None:
        return ()
    return tuple(_parts(cold.import_ns, cold.load_ns, cold.requests, metadata.timed_requests))


def _parts(
    import_ns: int | None, load_ns: int | None, cold: tuple[RequestSample, ...], timed: tuple[RequestSample, ...]
) -> Iterator[ColdPart]:
    begun = [("import", import_ns), ("load", load_ns)]
    yield from (ColdPart(part, time_ns) for part, time_ns in begun if time_ns is not None)
    if not cold:
        return
    steady = [_steady_ns(sample, timed) for sample in cold]
    yield ColdPart("first request", cold[0].ttft_ns, steady[0])
    slow = _slow(cold, steady)
    if slow is not None:
        before = sum(time_ns for _, time_ns in begun if time_ns is not None)
        yield ColdPart("until steady", before + sum(sample.wall_ns for sample in cold[:slow]), None, slow)


def _slow(cold: tuple[RequestSample, ...], steady: list[int | None]) -> int | None:
    """How many requests there were up to the last slow one; None where that is the last of all, or can't be told."""
    known = [(sample.ttft_ns, usual) for sample, usual in zip(cold, steady, strict=True) if usual is not None]
    if len(known) < len(cold):
        return None
    slow = [place for place, (ttft, usual) in enumerate(known, 1) if ttft > STEADY_FACTOR * usual]
    count = slow[-1] if slow else 0
    return None if count == len(cold) else count


def _steady_ns(sample: RequestSample, timed: tuple[RequestSample, ...]) -> int | None:
    """The median TTFT of the timed requests with its image, or of all where none has that."""
    alike = [each.ttft_ns for each in timed if each.image == sample.image] or [each.ttft_ns for each in timed]
    return round(median(alike)) if alike else None
