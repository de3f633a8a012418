"""Servers of other kinds than vLLM, and captures that are interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.errors import CaptureError
from gemma_trace.report.records import to_json
from gemma_trace.report.tables.served import served_report
from gemma_trace.served.api import Server
from gemma_trace.served.drive import ServeConfig, drive
from gemma_trace.served.record import SCHEMA_VERSION, ClientRequest, ServedRecord
from gemma_trace.served.server_kind import kind_of
from tests.served.loopback import LoopbackServer
from tests.served.test_api import head, scripted


def models(*ids: str, owner: str = "library") -> bytes:
    listed = [{"id": each, "owned_by": owner} for each in ids]
    return head("200 OK", "Connection: close") + json.dumps({"object": "list", "data": listed}).encode()


def test_one_of_several_models() -> None:
    with scripted(models("gemma3:4b", "llama3\n:8b")) as server:
        found = kind_of(Server(f"http://127.0.0.1:{server.port}/v1", 5), None)
    assert (found.model, found.name) == ("gemma3:4b", "")
    assert found.several == "the server has 2 models; gemma3:4b is its first, --model NAME takes another"
    assert found.extra("request-0") == {}, "what only vLLM and SGLang know isn't asked of others"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (models(), "the server lists no model at /v1/models; check that it is OpenAI-compatible, or give model="),
        (
            head("200 OK") + b"<html></html>",
            "the server lists no model at /v1/models; check that it is OpenAI-compatible",
        ),
        (head("404 Not Found"), "the server has no /v1/models; check the path of server=, or give model="),
        (head("401 Unauthorized") + b"{}", "the server answers 401; set GEMMA_TRACE_API_KEY to its token"),
        (
            head("302 Found", "Location: http://192.0.2.1/"),
            "it redirects, which is not followed; give server= the new address",
        ),
    ],
    ids=["none", "page", "no-such-path", "no-token", "redirects"],
)
def test_no_model(answer: bytes, said: str) -> None:
    with scripted(answer) as server, pytest.raises(CaptureError) as caught:
        kind_of(Server(f"http://127.0.0.1:{server.port}", 5), None)
    assert said in str(caught.value)
    with scripted(answer) as server:
        assert kind_of(Server(f"http://127.0.0.1:{server.port}", 5), "tiny").model == "tiny"


def served(**more: Any) -> dict[str, Any]:
    request = ClientRequest("request-0", "text", 0, (10_000_000, 16_000_000, 22_000_000), 30_000_000, **more)
    record = ServedRecord(SCHEMA_VERSION, "", "run", "", "tiny", {}, timed=(request,))
    report = served_report(record, "run")
    row: dict[str, Any] = json.loads(to_json(report))["rows"][0]
    return row | {"notes": " ".join(report.tables[0].notes)}


def test_several_tokens_in_a_piece() -> None:
    row = served(output_tokens=7, prompt_tokens=30)
    assert (row["tpot_ns"], row["longest_itl_ns"], row["tokens"], row["prompt_tokens"]) == (2_000_000, 6_000_000, 7, 30)
    assert "Of 1 requests, text came in more or fewer pieces than the server counts tokens" in row["notes"]


def test_a_server_that_counts_nothing() -> None:
    row = served()
    assert (row["tpot_ns"], row["tokens"], row["prompt_tokens"]) == (6_000_000, 3, None)
    assert "pieces" not in row["notes"]
    assert "--traces and the folder of those" in row["notes"]


class _Interrupts:
    """Stands for a Ctrl-C while a request of a pass is being waited for."""

    def __init__(self, after: int) -> None:
        self._left, self._counts = after, False

    def phase(self, name: str, steps: int) -> None:
        self._counts = name in ("timing requests", "profiling requests")

    def step(self) -> None:
        self._left -= self._counts
        if self._left < 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("after", "timed"), [(1, 2), (0, 1), (4, 3)])
def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path, after: int, timed: int) -> None:
    pytest.importorskip("PIL", reason="needs the extra serve")
    with LoopbackServer(tmp_path / "traces") as server:
        config = ServeConfig(server.url, tmp_path, "run", traces=server.traces, runs=3, size=(32, 32))
        with pytest.raises(KeyboardInterrupt):
            drive(config, _Interrupts(after))
        assert not server.profiles, "the profiler is off"
    record = ServedRecord.read(tmp_path / "run")
    assert [request.error for request in record.timed] == [""] * timed
    assert record.profiled == ()
