"""What an exported trace shows beside its own events: a process of stages, and counters of what a device was up to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gemma_trace.analysis.counters import Series, allocated_bytes, busy_pct, queue_depth
from gemma_trace.analysis.devices import devices_of
from gemma_trace.export.ids import ViewerIds, metadata_event
from gemma_trace.export.stage_tracks import StageTrack, stage_tracks
from gemma_trace.trace.clock import ns_to_decimal_us
from gemma_trace.trace.events import NONE
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace

PROCESS: Final = "stages"
"""The process on top of an exported trace."""

_CATEGORY: Final = "gemma_trace"


class AddedEvents:
    """Makes the events.

    Args:
        shift_ns: what is taken off all times.
        sort_index: where the process stands among the file's.
    """

    def __init__(self, trace: Trace, ids: ViewerIds, shift_ns: int, sort_index: int) -> None:
        self._trace, self._ids, self._shift_ns, self._sort_index = trace, ids, shift_ns, sort_index
        self._pid = ids.new()

    def first(self) -> dict[str, Any]:
        """The event that names the process."""
        return metadata_event("process_name", self._pid, 0, name=f"{self._ids.owner} {PROCESS}".strip())

    def events(self) -> Iterator[list[dict[str, Any]]]:
        """All others, a list a track."""
        yield [metadata_event("process_sort_index", self._pid, 0, sort_index=self._sort_index)]
        for index, track in enumerate(stage_tracks(self._trace)):
            yield self._slices(track, index)
        for device in devices_of(self._trace):
            name = "device" if device == NONE else f"device {device}"
            yield self._counter(f"{name} busy", "%", busy_pct(self._trace, device))
            yield self._counter(f"{name} launch queue", "depth", queue_depth(self._trace, device))
        for device in distinct(self._trace.memory.device).tolist():
            name = "host" if device == NONE else f"device {device}"
            allocated, reserved = allocated_bytes(self._trace, device)
            yield self._counter(f"{name} memory allocated", "bytes", allocated)
            if reserved.value.any():
                yield self._counter(f"{name} memory reserved", "bytes", reserved)

    def _slices(self, track: StageTrack, index: int) -> list[dict[str, Any]]:
        tid = self._ids.new()
        times = zip(track.labels, track.start_ns.tolist(), track.end_ns.tolist(), strict=True)
        return [
            metadata_event("thread_name", self._pid, tid, name=track.name),
            metadata_event("thread_sort_index", self._pid, tid, sort_index=index),
            *(
                {
                    "ph": "X",
                    "cat": _CATEGORY,
                    "name": label,
                    "pid": self._pid,
                    "tid": tid,
                    "ts": self._time(start_ns),
                    "dur": msgspec.Raw(ns_to_decimal_us(end_ns - start_ns)),
                }
                for label, start_ns, end_ns in times
            ),
        ]

    def _counter(self, name: str, unit: str, series: Series) -> list[dict[str, Any]]:
        """A counter's samples; the first of a run of equal ones, for it holds until the next."""
        series = series.changes()
        return [
            {
                "ph": "C",
                "cat": _CATEGORY,
                "name": name,
                "pid": self._pid,
                "ts": self._time(ts_ns),
                "args": {unit: round(value, 1)},
            }
            for ts_ns, value in zip(series.ts_ns.tolist(), series.value.tolist(), strict=True)
        ]

    def _time(self, ts_ns: int) -> msgspec.Raw:
        return msgspec.Raw(ns_to_decimal_us(ts_ns - self._shift_ns))
