"""A trace → the trace that viewers get: nothing of it lost, stages and counters on top.

Two passes over the file: the first reads its columns, which tell where everything goes; the second writes its events
one after another. So memory is the columns, whatever the events carry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from gemma_trace.arguments import checked
from gemma_trace.export.ids import ViewerIds
from gemma_trace.export.links import LinkNumbers
from gemma_trace.export.part import ExportResult, TracePart
from gemma_trace.export.viewer_file import viewer_file
from gemma_trace.trace.header import BASE_KEY, METADATA_KEY
from gemma_trace.trace.reader import read_header
from gemma_trace.trace.trace import Trace

_KEPT: Final = ("schemaVersion", "deviceProperties", METADATA_KEY)
"""The top-level members that go into the export. Others are nobody's business: some name a host, a user, a token."""


@checked
def export_trace(
    trace: Trace, output: str | Path, on_bytes: Callable[[int], None] | None = None, *, keep_paths: bool = False
) -> ExportResult:
    """Write the trace that viewers get. Every time is relative to the trace's first event, to the nanosecond.

    Args:
        output: gzip if it ends in .gz.
        on_bytes: hears how many bytes of the trace's file were read, each time some are.
        keep_paths: leave the folders of files in names, but for the home folder.

    Raises:
        OutputError: the file can't be written.
        InputError: the trace's file is gone, or it has grown since it was read.
    """
    shift_ns = trace.read_report.first_ns or 0
    with viewer_file(Path(output), keep_paths=keep_paths) as file:
        part = TracePart(trace, ViewerIds(), shift_ns, -1, file, LinkNumbers())
        file.begin(part.record, _members(trace, shift_ns))
        part.write_events(on_bytes)
        file.add_arrows()
        result = part.write_names()
        file.end()
    return result


def kept_members(trace: Trace) -> Iterator[tuple[str, bytes]]:
    """The top-level members that go into an export as they are."""
    header = read_header(trace.path)
    for key in _KEPT:
        if key in header:
            yield key, bytes(header[key]).decode("utf-8", "replace").encode()


def _members(trace: Trace, shift_ns: int) -> Iterator[tuple[str, bytes]]:
    yield from kept_members(trace)
    if trace.base_ns and 0 <= trace.base_ns + shift_ns < 2**63:
        yield BASE_KEY, b"%d" % (trace.base_ns + shift_ns)
