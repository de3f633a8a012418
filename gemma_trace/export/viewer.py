"""Writes a trace for viewers: all of its events, with stages and counters on top.

The file is read twice: the first pass reads the columns, from which the layout follows; the second one writes the
events one after another. So memory holds the columns only, whatever the events contain.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from gemma_trace.export.added_events import AddedEvents
from gemma_trace.export.ids import ViewerIds
from gemma_trace.export.layout import lay_out
from gemma_trace.export.rewriter import Rewriter
from gemma_trace.foreign import integer, value_of
from gemma_trace.metadata import METADATA_KEY
from gemma_trace.printable import path_text
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.files import output_file
from gemma_trace.trace.header import EXPORT_KEY
from gemma_trace.trace.reader import read_header, stream_events
from gemma_trace.trace.short_paths import PathScrubber
from gemma_trace.trace.trace import Trace

SUFFIX: Final = ".perfetto.json.gz"

DISPLACED: Final = "displaced"
"""The reason for leaving out a span at time zero or decades away from all others."""

_SPOOLED_BYTES: Final = 64 << 20
_KEPT: Final = ("schemaVersion", "deviceProperties", METADATA_KEY)
"""The top-level members that are exported. Others may contain the name of a host or a user, or a token."""


_BASE: Final = "baseTimeNanoseconds"
"""The member with the base of Kineto's times."""


@dataclass(frozen=True)
class ExportRecord:
    """How times and tracks were changed; part of the export as its top-level `gemma_trace_export`.

    Attributes:
        source: the trace's file name.
        shift_ns: subtracted from every time, so that the first event is at 0.
        moved_spans: number of spans that crossed another one and are on a track below it.
        cut_spans: number of spans that were shortened, for lack of further tracks or since their length is impossible.
    """

    source: str
    shift_ns: int
    moved_spans: int
    cut_spans: int


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        written: number of the trace's events, by `ph`; a `B` and its `E` are one `X`.
        added: number of added events: stages, counters, names.
        left_out: number of events that no viewer can show, by reason.
    """

    record: ExportRecord
    written: dict[str, int]
    added: int
    left_out: dict[str, int]


def export_trace(
    trace: Trace, output: Path, on_bytes: Callable[[int], None] | None = None, *, keep_paths: bool = False
) -> ExportResult:
    """Write a trace for viewers. Times are relative to the first event, exact to the nanosecond.

    Args:
        output: gzip if it ends in .gz.
        on_bytes: is called with the number of bytes read, after each piece.
        keep_paths: leave the folders of files in names, but for the home folder.

    Raises:
        OutputError: the file can't be written.
        InputError: the trace's file is gone, or it has grown since it was read.
    """
    layout = lay_out(trace)
    cut = layout.cut_short + len(trace.implausible.overlong)
    record = ExportRecord(path_text(trace.path.name), trace.read_report.first_ns or 0, layout.moved, cut)
    ids = ViewerIds()
    with output_file(output) as file, tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as spool:
        scrub = PathScrubber(keep_paths=keep_paths)
        out, arrows = _Scrubbed(file, scrub), _Scrubbed(spool, scrub)
        rewriter = Rewriter(trace, layout, ids, out, arrows, record.shift_ns, scrub.distinct)
        added = AddedEvents(trace, ids, record.shift_ns)
        out.write(b'{\n"displayTimeUnit": "ms"')
        for key, value in _header(trace, record):
            out.write(b",\n%b: %b" % (msgspec.json.encode(key), value))
        out.write(b',\n"traceEvents": [\n%b' % msgspec.json.encode(added.first()))
        for events in added.events():  # first: a viewer that looks for a request's slice finds ours
            rewriter.write(events)
        ours = rewriter.counts.copy()
        stream_events(trace.path, rewriter, on_bytes)
        rewriter.finish()
        spool.seek(0)
        shutil.copyfileobj(spool, file)
        done = rewriter.counts - ours
        rewriter.write(list(ids.metadata(0, _device_pids(trace))))
        out.write(b"\n]\n}\n")
    left_out = {reason: count for reason, count in done.items() if len(reason) > 1}
    if trace.implausible.displaced:
        left_out[DISPLACED] = trace.implausible.displaced
    return ExportResult(
        record,
        written={phase: count for phase, count in done.items() if len(phase) == 1},
        added=1 + rewriter.counts.total() - done.total(),
        left_out=left_out,
    )


class _Scrubbed:
    """A file that removes the user's folders from what is written. Each write must be a complete text."""

    def __init__(self, file: IO[bytes], scrub: Callable[[bytes], bytes]) -> None:
        self._file, self._scrub = file, scrub

    def write(self, data: bytes, /) -> None:
        self._file.write(self._scrub(data))


def _header(trace: Trace, record: ExportRecord) -> Iterator[tuple[str, bytes]]:
    """The top-level members before the events."""
    yield EXPORT_KEY, msgspec.json.encode(record)
    header = read_header(trace.path)
    for key in _KEPT:
        if key in header:
            yield key, bytes(header[key]).decode("utf-8", "replace").encode()
    base = integer(value_of(header.get(_BASE, b"null")))
    if base >= 0 and 0 <= base + record.shift_ns < 2**63:
        yield _BASE, b"%d" % (base + record.shift_ns)


def _device_pids(trace: Trace) -> set[str]:
    """The processes that contain device activities and nothing of the host."""
    spans = trace.spans

    def pids(chosen: IntArray) -> set[str]:
        return {spans.tracks[code].pid for code in set(spans.track[chosen].tolist())}

    return pids(trace.activities) - pids(trace.host)
