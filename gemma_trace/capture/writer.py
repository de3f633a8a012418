"""The profiler's JSON → our trace file: metadata embedded, names of this machine left out, frames trimmed.

Events stay as the profiler wrote them, byte for byte, but for three things: paths in strings lose their folders,
Python frames that cross the edge of a range end at that edge (`frame_edges.py`), and activities of a CUDA graph whose
nodes are labelled have their stage among their arguments (`graph_labels.py`). The JSON goes through block by
block, twice, since its header stands behind its events and a frame may end before the range that it crosses begins:
in memory are a block and where the frames and ranges are.

Where the profiler exported several cycles, they follow each other in one trace, which has the first one's header:
later ones' ids are moved (`cycle_ids.py`), and the names of processes and threads stand there once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import numpy as np

from gemma_trace.capture.cycle_ids import CycleIds, Renumbering
from gemma_trace.capture.cycles import CYCLE_REQUESTS
from gemma_trace.capture.frame_edges import FrameEdges
from gemma_trace.capture.output import made
from gemma_trace.errors import CaptureError, InputError, OutputError
from gemma_trace.foreign import UNDECODABLE
from gemma_trace.metadata import RunMetadata
from gemma_trace.trace.clock import ns_to_decimal_us
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.header import METADATA_KEY
from gemma_trace.trace.reader import stream_events
from gemma_trace.trace.salvage import EventSink
from gemma_trace.trace.short_paths import PathScrubber

LEFT_OUT: Final = re.compile(r"host|user|traceName", re.IGNORECASE)
"""Top-level keys of Kineto's that name this machine, its user or a path on it."""

_BASE: Final = "baseTimeNanoseconds"
_NAMING: Final = b'"ph": "M"'
_TS = re.compile(rb'(?<!\\)("ts":\s*)[-0-9.eE+]+')
_DUR = re.compile(rb'(?<!\\)("dur":\s*)[-0-9.eE+]+')
_NODE = re.compile(rb'(?<!\\)"graph node id":\s*(\d+)')
_events = msgspec.json.Decoder(list[msgspec.Raw])


def trace_path(folder: Path, worker: str, timestamp_ns: int) -> Path:
    """The name under which TensorBoard's plugin finds a trace: `<worker>.<timestamp>.pt.trace.json.gz`."""
    return folder / f"{worker}.{timestamp_ns}.pt.trace.json.gz"


def write_trace(
    exported: Sequence[Path],
    metadata: RunMetadata,
    path: Path,
    *,
    keep_paths: bool = False,
    node_stages: Mapping[int, str] | None = None,
) -> None:
    """Write a trace file, whole or not at all.

    Args:
        exported: what `torch.profiler` exported, one cycle after the other.
        path: ends in `.json.gz`; its folder is made.
        keep_paths: leave the folders of files in texts, but for the home folder.
        node_stages: by the id of a graph's node the stage's range that its activities are labelled with.

    Raises:
        CaptureError: an export is no JSON, or counts its times from elsewhere than the first.
        OutputError: the file can't be written.
    """
    lighter = metadata.lighter_options()
    advice = f"; try {lighter}" if lighter else ""
    cycles = (_Cycle(file, advice, len(exported) > 1) for file in exported)
    first = next(cycles)
    header = {key: value for key, value in first.header.items() if not LEFT_OUT.search(key)}
    header[METADATA_KEY] = msgspec.Raw(metadata.to_json())
    scrub = PathScrubber(keep_paths=keep_paths)
    try:
        with made(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)  # which says why it can't be
            with atomic_file(path) as out:
                _write_header(out, header, scrub)
                events = _EventWriter(out, scrub, node_stages or {})
                for cycle in chain([first], cycles):
                    _check_base(cycle.header, first.header)
                    events.begin_cycle(cycle)
                    _streamed(cycle.file, events, advice)
                out.write(b"\n]\n}\n")
    except OSError as error:
        raise OutputError(f"can't write {path}: {error.strerror}; check --out-dir") from error


class _Cycle:
    """What has to be known of an export before it is written: it is read once.

    Args:
        advice: ends what is said of an export that is not valid.
        one_of_several: whether its ids may be those of another one.

    Attributes:
        header: its top-level members but for the events.
        trimmed: the frames that are trimmed.

    Raises:
        CaptureError: not all of it is JSON.
    """

    def __init__(self, file: Path, advice: str, one_of_several: bool) -> None:
        self.file, self.ids = file, CycleIds()
        self._one_of_several = one_of_several
        self._frames = FrameEdges()
        self.header = _streamed(file, self, advice)
        self.trimmed = self._frames.trimmed()

    def decode(self, array: bytes | memoryview) -> bool:
        """Take the events of a JSON array; False, and nothing is taken, where it doesn't decode."""
        if not self._frames.decode(array):
            return False
        if self._one_of_several:
            self.ids.take(bytes(array))
        return True


def _check_base(header: dict[str, msgspec.Raw], first: dict[str, msgspec.Raw]) -> None:
    """Refuse a cycle whose times stand for other instants than the first one's."""
    if header.get(_BASE) != first.get(_BASE):
        raise CaptureError(
            f"the profiler counts the times of its cycles from different instants; profile {CYCLE_REQUESTS} requests "
            "or less"
        )


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
    """Takes the profiler's events, cycle by cycle and batch by batch, and writes them."""

    def __init__(self, out: BinaryIO, scrub: PathScrubber, node_stages: Mapping[int, str]) -> None:
        self._out, self._scrub, self._node_stages = out, scrub, node_stages
        self._renumbered = Renumbering()
        self._between = b""
        self._names: set[bytes] = set()  # what earlier cycles said of processes and threads
        self._new_names: set[bytes] = set()

    def begin_cycle(self, cycle: _Cycle) -> None:
        """What comes next is of this cycle."""
        self._taken, self._trimmed = 0, cycle.trimmed
        self._renumbered.begin_cycle(cycle.ids)
        self._names |= self._new_names

    def decode(self, array: bytes | memoryview) -> bool:
        """Write the events of a JSON array; False, and nothing is written, where it doesn't decode."""
        try:
            events = _events.decode(array)
        except UNDECODABLE:
            return False
        texts = [bytes(event) for event in events]
        begin, end = np.searchsorted(self._trimmed.event, (self._taken, self._taken + len(texts))).tolist()
        for event, *edges in zip(*(column[begin:end].tolist() for column in self._trimmed), strict=True):
            place = event - self._taken
            texts[place] = _with_edges(texts[place], *edges)
        self._taken += len(texts)
        if self._node_stages:
            texts = [_NODE.sub(self._labelled, text, count=1) for text in texts]
        texts = [text for text in texts if _NAMING not in text or not self._is_known(text)]
        if texts:
            self._out.write(self._between + self._scrub(self._renumbered(b",\n".join(texts))))
            self._between = b",\n"
        return True

    def _labelled(self, node: re.Match[bytes]) -> bytes:
        """A graph node's id, followed by its stage if it has one."""
        stage = self._node_stages.get(int(node[1]))
        return node[0] if stage is None else node[0] + b', "stage": ' + msgspec.json.encode(stage)

    def _is_known(self, naming: bytes) -> bool:
        """Whether an earlier cycle said the same of a process or thread, at whatever time."""
        said = _TS.sub(b"", naming, count=1)
        self._new_names.add(said)
        return said in self._names


def _with_edges(event: bytes, start_ns: int, end_ns: int) -> bytes:
    text = _TS.sub(rb"\g<1>" + ns_to_decimal_us(start_ns), event, count=1)
    return _DUR.sub(rb"\g<1>" + ns_to_decimal_us(end_ns - start_ns), text, count=1)
