"""The profiler's JSON → our trace file: metadata embedded, names of this machine left out, frames trimmed.

Events stay as the profiler wrote them, byte for byte, but for two things: paths in strings lose their folders,
and Python frames that cross the edge of a range end at that edge. Perfetto needs the slices of a thread to nest
and drops one that crosses another; with stacks, `record_function`'s own frames cross the range they open or close
(pytorch #174555, #191797), and the range is what gets lost.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from gemma_trace.errors import CaptureError, OutputError
from gemma_trace.metadata import METADATA_KEY, RunMetadata
from gemma_trace.trace.clock import decimal_us_to_ns, ns_to_decimal_us
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.short_paths import PathScrubber

LEFT_OUT: Final = re.compile(r"host|user|traceName", re.IGNORECASE)
"""Top-level keys of Kineto's that name this machine, its user or a path on it."""

_EVENTS_A_WRITE: Final = 4096


class _Event(msgspec.Struct, gc=False):
    """What of an event the trimming needs."""

    cat: str = ""
    pid: int | str = 0
    tid: int | str = 0
    ts: msgspec.Raw = msgspec.Raw(b"0")
    dur: msgspec.Raw = msgspec.Raw(b"0")


class _Edges(NamedTuple):
    """The new edges of a frame, in ns."""

    start_ns: int
    end_ns: int


def trace_path(folder: Path, worker: str, timestamp_ns: int) -> Path:
    """The name under which TensorBoard's plugin finds a trace: `<worker>.<timestamp>.pt.trace.json.gz`."""
    return folder / f"{worker}.{timestamp_ns}.pt.trace.json.gz"


def write_trace(profiler_json: bytes, metadata: RunMetadata, path: Path, *, keep_paths: bool = False) -> None:
    """Write a trace file, whole or not at all.

    Args:
        profiler_json: what `torch.profiler` exported.
        path: ends in `.json.gz`; its folder is made.
        keep_paths: leave the folders of files in texts, but for the home folder.

    Raises:
        CaptureError: the profiler's export is no JSON.
        OutputError: the file can't be written.
    """
    try:
        top = msgspec.json.decode(profiler_json, type=dict[str, msgspec.Raw])
        events = msgspec.json.decode(top.pop("traceEvents", msgspec.Raw(b"[]")), type=list[msgspec.Raw])
    except msgspec.MsgspecError as error:
        raise CaptureError(
            f"the JSON that the profiler exported is not valid ({error}); try without --stacks"
        ) from error
    if b'"python_function"' in profiler_json:
        for index, edges in _frames_to_trim(events).items():
            events[index] = _with_edges(events[index], edges)
    header = {key: value for key, value in top.items() if not LEFT_OUT.search(key)}
    header[METADATA_KEY] = msgspec.Raw(metadata.to_json())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as out:
            for part in _serialize(header, events, PathScrubber(keep_paths=keep_paths)):
                out.write(part)
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; check --out-dir") from error


def _serialize(
    header: dict[str, msgspec.Raw], events: list[msgspec.Raw], scrub: Callable[[bytes], bytes]
) -> Iterator[bytes]:
    """The header first, so that what is left of a damaged file still says what it is."""
    yield b"{\n"
    for key, value in header.items():
        yield msgspec.json.encode(key) + b": " + scrub(bytes(value)) + b",\n"
    yield b'"traceEvents": [\n'
    for start in range(0, len(events), _EVENTS_A_WRITE):
        text = b",\n".join(bytes(event) for event in events[start : start + _EVENTS_A_WRITE])
        yield (b",\n" if start else b"") + scrub(text)
    yield b"\n]\n}\n"


def _frames_to_trim(events: list[msgspec.Raw]) -> dict[int, _Edges]:
    """The Python frames that cross a range's edge: event index → where they end and start now."""
    frames: dict[tuple[int | str, int | str], list[tuple[int, int, int]]] = {}
    ranges: dict[tuple[int | str, int | str], list[tuple[int, int]]] = {}
    for index, raw in enumerate(events):
        event = msgspec.json.decode(raw, type=_Event)
        if event.cat not in ("python_function", "user_annotation"):
            continue
        start_ns = decimal_us_to_ns(bytes(event.ts))
        end_ns = start_ns + decimal_us_to_ns(bytes(event.dur))
        thread = (event.pid, event.tid)
        if event.cat == "python_function":
            frames.setdefault(thread, []).append((start_ns, end_ns, index))
        else:
            ranges.setdefault(thread, []).append((start_ns, end_ns))
    trimmed: dict[int, _Edges] = {}
    for thread, spans in ranges.items():
        if thread in frames:
            trimmed |= _trim_thread(np.array(frames[thread]), np.array(spans))
    return trimmed


def _trim_thread(frames: np.ndarray, ranges: np.ndarray) -> dict[int, _Edges]:
    """One thread's share of `_frames_to_trim`.

    A frame that starts before a range and ends inside it ends at the range's start; one that starts inside and
    ends after it starts at the range's end.

    Args:
        frames: int64 rows of start_ns, end_ns, event index.
        ranges: int64 rows of start_ns, end_ns.
    """
    edges = np.sort(ranges.ravel())
    holds_an_edge = np.searchsorted(edges, frames[:, 0], "right") < np.searchsorted(edges, frames[:, 1], "left")
    trimmed: dict[int, _Edges] = {}
    for start_ns, end_ns, index in frames[holds_an_edge].tolist():
        opened = (start_ns < ranges[:, 0]) & (ranges[:, 0] < end_ns) & (end_ns < ranges[:, 1])
        closed = (ranges[:, 0] < start_ns) & (start_ns < ranges[:, 1]) & (ranges[:, 1] < end_ns)
        if opened.any() or closed.any():
            new_start = int(ranges[closed, 1].max(initial=start_ns))
            new_end = int(ranges[opened, 0].min(initial=end_ns))
            trimmed[index] = _Edges(new_start, max(new_start, new_end))
    return trimmed


_TS = re.compile(rb'(?<!\\)("ts":\s*)[-0-9.eE+]+')
_DUR = re.compile(rb'(?<!\\)("dur":\s*)[-0-9.eE+]+')


def _with_edges(event: msgspec.Raw, edges: _Edges) -> msgspec.Raw:
    text = _TS.sub(rb"\g<1>" + ns_to_decimal_us(edges.start_ns), bytes(event), count=1)
    text = _DUR.sub(rb"\g<1>" + ns_to_decimal_us(edges.end_ns - edges.start_ns), text, count=1)
    return msgspec.Raw(text)
