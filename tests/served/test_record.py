"""What is kept of what a client saw."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.errors import TraceFormatError, UnreadableError
from gemma_trace.served.metrics import changed, told
from gemma_trace.served.record import RECORD, SCHEMA_VERSION, ClientRequest, ServedRecord


def record(*requests: ClientRequest) -> ServedRecord:
    return ServedRecord(SCHEMA_VERSION, "2026-01-01T00:00:00+00:00", "run", "vllm", "tiny", {}, timed=requests)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = record(ClientRequest("request-0", "896x896", 10**18, (5, 9), 11, 300, 2))
    written.write(tmp_path)
    assert ServedRecord.read(tmp_path) == written
    assert (written.timed[0].ttft_ns, written.timed[0].end_unix_ns) == (5, 10**18 + 11)


def test_the_home_folder_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    record(ClientRequest("r", "", 0, (), 1, error="no model at /home/ada/models")).write(tmp_path)
    assert "ada" not in (tmp_path / RECORD).read_text()


@pytest.mark.parametrize("content", ["", "[]", '{"schema_version": 1}', "{" * 10_000, '{"schema_version": "x"}'])
def test_what_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(TraceFormatError, match="is not a record of served requests"):
        ServedRecord.read(tmp_path)


def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    ServedRecord(SCHEMA_VERSION + 1, "", "", "", "", {}).write(tmp_path)
    with pytest.raises(TraceFormatError, match="newer gemma-trace"):
        ServedRecord.read(tmp_path)


def test_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file"):
        ServedRecord.read(tmp_path)


def test_measures_of_the_server() -> None:
    queue = "vllm:request_queue_time_seconds"
    before = {f"{queue}_sum": 1.0, f"{queue}_count": 4.0, "vllm:same": 2.0}
    after = {f"{queue}_sum": 1.5, f"{queue}_count": 14.0, "vllm:same": 2.0}
    after |= {"vllm:mm_cache_queries_total": 10.0, "vllm:mm_cache_hits_total": 7.0}
    found = changed(before, after)
    assert "vllm:same" not in [measure.name for measure in found]
    assert [(each.what, each.value) for each in told(found)] == [
        ("time in the queue", "50.000 ms per request"),
        ("multimodal cache", "had 7 of 10"),
    ]
