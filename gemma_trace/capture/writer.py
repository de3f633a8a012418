"""The profiler's JSON → our trace file: metadata embedded, names of this machine left out, frames trimmed.

Events stay as the profiler wrote them, byte for byte, but for two things: paths in strings lose their folders,
and Python frames that cross the edge of a range end at that edge (`frame_edges.py`). The JSON goes through block by
block, twice, since its header stands behind its events and a frame may end before the range that it crosses begins:
in memory are a block and where the frames and ranges are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from gemma_trace.capture.frame_edges import FrameEdges, NewEdges
from gemma_trace.errors import CaptureError, InputError, OutputError
from gemma_trace.foreign import UNDECODABLE
from gemma_trace.metadata import METADATA_KEY, RunMetadata
from gemma_trace.trace.clock import ns_to_decimal_us
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.reader import stream_events
from gemma_trace.trace.salvage import EventSink
from gemma_trace.trace.short_paths import PathScrubber

LEFT_OUT: Final = re.compile(r"host|user|traceName", re.IGNORECASE)
"""Top-level keys of Kineto's that name this machine, its user or a path on it."""

_TS = re.compile(rb'(?<!\\)("ts":\s*)[-0-9.eE+]+')
_DUR = re.compile(rb'(?<!\\)("dur":\s*)[-0-9.eE+]+')
_events = msgspec.json.Decoder(list[msgspec.Raw])


def trace_path(folder: Path, worker: str, timestamp_ns: int) -> Path:
    """The name under which TensorBoard's plugin finds a trace: `<worker>.<timestamp>.pt.trace.json.gz`."""
    return folder / f"{worker}.{timestamp_ns}.pt.trace.json.gz"


def write_trace(exported: Path, metadata: RunMetadata, path: Path, *, keep_paths: bool = False) -> None:
    """Write a trace file, whole or not at all.

    Args:
        exported: what `torch.profiler` exported.
        path: ends in `.json.gz`; its folder is made.
        keep_paths: leave the folders of files in texts, but for the home folder.

    Raises:
        CaptureError: the profiler's export is no JSON.
        OutputError: the file can't be written.
    """
    frames = FrameEdges()
    lighter = metadata.lighter_options()
    advice = f"; try {lighter}" if lighter else ""
    header = {key: value for key, value in _streamed(exported, frames, advice).items() if not LEFT_OUT.search(key)}
    header[METADATA_KEY] = msgspec.Raw(metadata.to_json())
    scrub = PathScrubber(keep_paths=keep_paths)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as out:
            _write_header(out, header, scrub)
            _streamed(exported, _EventWriter(out, scrub, frames.trimmed()), advice)
            out.write(b"\n]\n}\n")
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; check --out-dir") from error


def _streamed(exported: Path, sink: EventSink, advice: str) -> dict[str, msgspec.Raw]:
    """Hand all events to a sink.

    Args:
        advice: ends what is said of an export that is not valid.

    Returns:
        The other top-level members.

    Raises:
        CaptureError: not all of it is JSON.
    """
    try:
        report = stream_events(exported, sink)
    except InputError as error:
        raise CaptureError(f"the JSON that the profiler exported is not valid ({error}){advice}") from error
    if report.incomplete:
        raise CaptureError(f"the JSON that the profiler exported is not valid (it ends too early){advice}")
    if wrong := {kind: count for kind, count in report.repairs.items() if count}:
        listed = ", ".join(f"{kind.replace('_', ' ')}: {count:,}" for kind, count in wrong.items())
        raise CaptureError(f"the JSON that the profiler exported is not valid ({listed}){advice}")
    return report.header


def _write_header(out: BinaryIO, header: dict[str, msgspec.Raw], scrub: PathScrubber) -> None:
    """The header first, so that what is left of a damaged file still says what it is."""
    out.write(b"{\n")
    for key, value in header.items():
        out.write(msgspec.json.encode(key) + b": " + scrub(bytes(value)) + b",\n")
    out.write(b'"traceEvents": [\n')


class _EventWriter:
    """Takes the profiler's events, batch by batch, and writes them.

    Args:
        trimmed: which of them are frames that are trimmed.
    """

    def __init__(self, out: BinaryIO, scrub: PathScrubber, trimmed: NewEdges) -> None:
        self._out, self._scrub, self._trimmed = out, scrub, trimmed
        self._written = 0

    def decode(self, array: bytes | memoryview) -> bool:
        """Write the events of a JSON array; False, and nothing is written, where it doesn't decode."""
        try:
            events = _events.decode(array)
        except UNDECODABLE:
            return False
        texts = [bytes(event) for event in events]
        begin, end = np.searchsorted(self._trimmed.event, (self._written, self._written + len(texts))).tolist()
        for event, *edges in zip(*(column[begin:end].tolist() for column in self._trimmed), strict=True):
            place = event - self._written
            texts[place] = _with_edges(texts[place], *edges)
        if texts:
            self._out.write((b",\n" if self._written else b"") + self._scrub(b",\n".join(texts)))
        self._written += len(texts)
        return True


def _with_edges(event: bytes, start_ns: int, end_ns: int) -> bytes:
    text = _TS.sub(rb"\g<1>" + ns_to_decimal_us(start_ns), event, count=1)
    return _DUR.sub(rb"\g<1>" + ns_to_decimal_us(end_ns - start_ns), text, count=1)
