"""Writes a trace in speedscope's own format: one profile per track, the stages first.

The format is speedscope's "evented" profile (https://www.speedscope.app/file-format-schema.json): spans open and close
in turn, so they must nest. `layout.py` ensures that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from gemma_trace._version import __version__
from gemma_trace.export.layout import Layout, Row, lay_out
from gemma_trace.export.stage_tracks import stage_tracks
from gemma_trace.trace.closed_pieces import stable_order
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.files import output_file
from gemma_trace.trace.short_paths import PathScrubber
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

SUFFIX: Final = ".speedscope.json"
SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


@dataclass(frozen=True)
class _Profile:
    """A track of nested spans, sorted by start, the outer one first. `frame` indexes the frames."""

    name: str
    start_ns: IntArray
    end_ns: IntArray
    frame: IntArray


def export_speedscope(trace: Trace, output: Path, *, keep_paths: bool = False) -> int:
    """Write a trace for speedscope. Times are ns since the first event of the trace.

    Args:
        output: gzip if it ends in .gz.
        keep_paths: leave the folders of files in names, but for the home folder.

    Returns:
        The number of profiles.

    Raises:
        OutputError: the file can't be written.
    """
    zero = trace.read_report.first_ns or 0
    scrub = PathScrubber(keep_paths=keep_paths)
    frames = _Frames(trace.spans.names)
    count = 0
    with output_file(output) as out:
        head = {"$schema": SCHEMA, "exporter": f"gemma-trace {__version__}", "name": trace.label}
        out.write(scrub(msgspec.json.encode(head)[:-1]) + b',"activeProfileIndex":0,"profiles":[')
        for profile in _profiles(trace, frames):
            out.write(b",\n" if count else b"\n")
            out.write(scrub(_head(profile, zero)))
            for part in _events(profile, zero):
                out.write(part)
            out.write(b"]}")
            count += 1
        shared = {"frames": [{"name": name} for name in frames.names]}
        out.write(b'\n],"shared":' + scrub(msgspec.json.encode(shared)) + b"}\n")
    return count


class _Frames:
    """Maps names to indices. The names of the trace's spans keep their codes."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = list(names)
        self._known = {name: code for code, name in enumerate(names)}

    def codes(self, names: tuple[str, ...]) -> IntArray:
        """int64, the index of each name; new names are added."""
        for name in dict.fromkeys(names):
            if name not in self._known:
                self._known[name] = len(self.names)
                self.names.append(name)
        return np.array([self._known[name] for name in names], dtype=np.int64)


def _profiles(trace: Trace, frames: _Frames) -> Iterator[_Profile]:
    for track in stage_tracks(trace):
        yield _Profile(f"stages: {track.name}", track.start_ns, track.end_ns, frames.codes(track.labels))
    layout: Layout = lay_out(trace)
    spans = trace.spans
    on_device = set(spans.track[trace.activities].tolist())
    by_row = np.argsort(layout.row, kind="stable")
    edges = np.searchsorted(layout.row[by_row], np.arange(len(layout.rows) + 1))
    for row, begin, stop in zip(layout.rows, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        rows = by_row[begin:stop]
        start = spans.ts_ns[rows]
        name = _name_of(trace, row, on_device=row.track in on_device)
        yield _Profile(name, start, start + layout.dur_ns[rows], spans.name[rows].astype(np.int64))


def _name_of(trace: Trace, row: Row, *, on_device: bool) -> str:
    track = trace.spans.tracks[row.track]
    name = f"{'device' if on_device else 'process'} {track.pid}, {'stream' if on_device else 'thread'} {track.tid}"
    return name + (" · annotations" if row.annotations else "") + (f" · overlapping {row.lane}" if row.lane else "")


def _head(profile: _Profile, zero: int) -> bytes:
    head = {
        "type": "evented",
        "name": profile.name,
        "unit": "nanoseconds",
        "startValue": int(profile.start_ns.min(initial=2**62)) - zero if len(profile.start_ns) else 0,
        "endValue": int(profile.end_ns.max()) - zero if len(profile.end_ns) else 0,
    }
    return msgspec.json.encode(head)[:-1] + b',"events":['


def _events(profile: _Profile, zero: int, at_once: int = 65536) -> Iterator[bytes]:
    """The open and close events of the profile in order, as JSON.

    Before span i opens, i spans were opened, and all but the d spans around it were closed, so it opens as event
    2i - d. Before it closes, the k spans up to its last descendant were opened, and all but itself and the d around it
    were closed, so it closes as event 2k - 1 - d.
    """
    n = len(profile.start_ns)
    nesting = nest(profile.start_ns, profile.end_ns, np.zeros(n, dtype=np.int64))
    last = np.arange(n)
    by_depth = stable_order(nesting.depth)
    levels = np.searchsorted(nesting.depth[by_depth], np.arange(nesting.depth.max(initial=0) + 2))
    for depth in range(len(levels) - 2, 0, -1):
        below = by_depth[levels[depth] : levels[depth + 1]]
        np.maximum.at(last, nesting.parent[below], last[below])
    place = np.concatenate((2 * np.arange(n) - nesting.depth, 2 * (last + 1) - 1 - nesting.depth))
    at = np.concatenate((profile.start_ns, nesting.end_ns)) - zero
    order = np.empty(2 * n, dtype=np.int64)
    order[place] = np.arange(2 * n)
    for begin in range(0, 2 * n, at_once):
        chosen = order[begin : begin + at_once]
        rows = zip((chosen < n).tolist(), profile.frame[chosen % n].tolist(), at[chosen].tolist(), strict=True)
        text = ",".join(
            f'{{"type":"{"O" if opens else "C"}","frame":{frame},"at":{time}}}' for opens, frame, time in rows
        )
        yield (b"," if begin else b"") + text.encode()
