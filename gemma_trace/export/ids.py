"""Process and thread ids that every viewer takes, and the names beside them that say what was there before.

An id stays what it is where it is a positive 32-bit number and no other track has it. Others (text, 0, negative ones,
which Perfetto folds into another thread, and a stream that shares its number with a stream of another device) get a
small number that nobody has.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from gemma_trace.export.layout import Row
from gemma_trace.foreign import id_of
from gemma_trace.trace.events import Track

_LARGEST: Final = 2**31 - 1


@dataclass(frozen=True)
class ViewerTrack:
    """A process's and a thread's id as viewers get them."""

    pid: int
    tid: int


@dataclass
class Names:
    """What a trace's metadata events say of a process or a thread; empty where they don't."""

    name: str = ""
    labels: str = ""
    sort_index: float = 0


@dataclass
class ViewerIds:
    """Hands out ids, the same for the same track.

    Attributes:
        owner: what processes' names begin with; empty where a file has the tracks of one trace only.
        processes, threads: what is known of them, by their original ids.
    """

    owner: str = ""
    _pids: dict[str, int] = field(default_factory=dict)
    _tids: dict[tuple[str, str, bool, int], int] = field(default_factory=dict)
    _used_pids: set[int] = field(default_factory=set)
    _used_tids: set[int] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    processes: dict[str, Names] = field(default_factory=dict)
    threads: dict[tuple[str, str], Names] = field(default_factory=dict)

    def row(self, track: Track, row: Row) -> ViewerTrack:
        """The ids of a row; those of its first lane are the track's own, if they may stay."""
        return self._of(track.pid, track.tid, row.annotations, row.lane)

    def track(self, pid: Any, tid: Any) -> ViewerTrack:
        """The ids of a track as an event names it."""
        return self._of(str(id_of(pid)), str(id_of(tid)), annotations=False, lane=0)

    def process(self, pid: Any) -> int:
        """The id of a process as an event names it."""
        return self._process(str(id_of(pid)))

    def new(self) -> int:
        """An id that nobody has, neither a process nor a thread."""
        number = next(n for n in self._numbers if n not in self._used_pids and n not in self._used_tids)
        self._used_pids.add(number)
        self._used_tids.add(number)
        return number

    def beside(self, owner: str) -> ViewerIds:
        """Ids for another trace in the same file: none of them is one of these, whatever it was there."""
        return ViewerIds(owner, _used_pids=self._used_pids, _used_tids=self._used_tids, _numbers=self._numbers)

    def _of(self, pid: str, tid: str, annotations: bool, lane: int) -> ViewerTrack:
        viewed = self._process(pid)
        key = (pid, tid, annotations, lane)
        if key not in self._tids:
            first = not annotations and not lane
            self._tids[key] = (first and self._kept(tid, self._used_tids)) or self.new()
        return ViewerTrack(viewed, self._tids[key])

    def _process(self, pid: str) -> int:
        if pid not in self._pids:
            self._pids[pid] = self._kept(pid, self._used_pids) or self.new()
        return self._pids[pid]

    @staticmethod
    def _kept(original: str, used: set[int]) -> int | None:
        """An id as it is, if viewers take it so and nobody has it."""
        is_number = original.isascii() and original.isdigit() and len(original) <= 10
        number = int(original) if is_number else 0
        if not 0 < number <= _LARGEST or number in used:
            return None
        used.add(number)
        return number

    def metadata(self, first_index: int, on_device: set[str]) -> Iterator[dict[str, Any]]:
        """The metadata events that name all that has been handed out.

        Args:
            first_index: the `process_sort_index` of the first process.
            on_device: the original ids of processes that stand for a device.
        """
        order = sorted(self._pids, key=lambda pid: self.processes.get(pid, Names()).sort_index)
        for place, pid in enumerate(order):
            known, viewed = self.processes.get(pid, Names()), self._pids[pid]
            named_by_label = pid in on_device and bool(known.labels)
            kind = "device" if pid in on_device else "process"
            name = known.labels if named_by_label else known.name or _plain(pid, kind)
            labels = [f"{self.owner}: {pid}"] if self.owner else []
            labels += [] if named_by_label or not known.labels else [known.labels]
            yield metadata_event("process_name", viewed, 0, name=f"{self.owner} {name}".strip())
            if labels:
                yield metadata_event("process_labels", viewed, 0, labels=", ".join(labels))
            yield metadata_event("process_sort_index", viewed, 0, sort_index=first_index + place)
        keys = sorted(self._tids, key=lambda key: (self._thread(key).sort_index, key[1], not key[2], key[3]))
        for place, key in enumerate(keys):
            pid, tid, annotations, lane = key
            name = self._thread(key).name.strip() or _plain(tid, "stream" if pid in on_device else "thread")
            name = f"{name} · annotations" if annotations else name
            name += f" · overlapping {lane}" if lane else ""
            yield metadata_event("thread_name", self._pids[pid], self._tids[key], name=name)
            yield metadata_event("thread_sort_index", self._pids[pid], self._tids[key], sort_index=place)

    def _thread(self, key: tuple[str, str, bool, int]) -> Names:
        return self.threads.get(key[:2], Names())


def _plain(original: str, kind: str) -> str:
    """A name for what has none: the id itself where it is text, else what it is of."""
    return f"{kind} {original}".strip() if original.lstrip("-").isdigit() or not original else original


def metadata_event(kind: str, pid: int, tid: int, /, **args: Any) -> dict[str, Any]:
    """An event that names a process or a thread."""
    return {"ph": "M", "name": kind, "pid": pid, "tid": tid, "ts": 0, "args": args}
