from __future__ import annotations

import io
import threading
import zlib
from pathlib import Path

import pytest

from gemma_trace.errors import OutputError
from gemma_trace.trace.files import output_file
from gemma_trace.trace.gzip_blocks import BLOCK_BYTES, GzipBlocks
from gemma_trace.trace.jobs import JOBS_VARIABLE
from gemma_trace.trace.source import SourceState, read_chunks

TEXT = b"".join(b'{"name": "aten::mm", "ts": %d},' % number for number in range(3 * BLOCK_BYTES // 24))


def compressed(parts: list[bytes], jobs: int) -> bytes:
    written = io.BytesIO()
    with GzipBlocks(written.write, jobs) as out:
        for part in parts:
            out.write(part)
        out.finish()
    return written.getvalue()


def inflated(data: bytes) -> bytes:
    """The content of the one member that there is."""
    inflater = zlib.decompressobj(31)
    text = inflater.decompress(data)
    assert inflater.eof, "its checksum and length are right, or this would have raised"
    assert not inflater.unused_data
    return text


@pytest.mark.parametrize(
    "size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES, len(TEXT)], ids=str
)
def test_what_is_written_is_one_member_and_the_same_on_any_number_of_cores(size: int) -> None:
    text = TEXT[:size]
    one = compressed([text], jobs=1)
    assert inflated(one) == text
    assert compressed([text], jobs=3) == one
    pieces = [text[begin : begin + 300_007] for begin in range(0, size, 300_007)]
    assert compressed([b"", *pieces, b""], jobs=2) == one


def test_our_reader_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS_VARIABLE, "2")
    with output_file(tmp_path / "a.json.gz") as out:
        out.write(TEXT)
    state = SourceState()
    assert b"".join(read_chunks(tmp_path / "a.json.gz", state)) == TEXT
    assert (state.truncated, state.damaged) == (False, False)


def test_a_number_of_processes_that_is_none_loses_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOBS_VARIABLE, "many")
    with output_file(tmp_path / "a.gz") as out:
        out.write(TEXT)
    assert inflated((tmp_path / "a.gz").read_bytes()) == TEXT


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_full_disk_leaves_neither_file_nor_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str) -> None:
    monkeypatch.setenv(JOBS_VARIABLE, jobs)
    before = threading.active_count()

    def fail(self: GzipBlocks, block: bytes) -> None:
        compress(self, block)
        raise OSError(28, "No space left on device")

    compress = GzipBlocks._compress
    monkeypatch.setattr(GzipBlocks, "_compress", fail)
    with pytest.raises(OutputError, match="No space left on device"), output_file(tmp_path / "a.gz") as out:
        out.write(TEXT)
    assert list(tmp_path.iterdir()) == []
    assert threading.active_count() == before
