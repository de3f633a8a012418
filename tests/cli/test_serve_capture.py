"""`gemma-trace serve-capture`, against a server on loopback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace.cli import main
from gemma_trace.served.record import ServedRecord
from tests.report.test_definitions import defined
from tests.served.loopback import Behaviour, LoopbackServer, TorchWorker


def run(server: LoopbackServer, folder: Path, *more: str, traces: bool = True, size: str = "64x48") -> int:
    given = ["--traces", str(server.traces)] if traces else []
    options = ["--runs", "2", "--warmup", "1", "--image-size", size, "--new-tokens", "3"]
    options += ["--out-dir", str(folder / "out")]
    return main(["serve-capture", "--server", server.url, *given, *options, *more])


@pytest.fixture(autouse=True)
def _settles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PIL", reason="needs the extra serve")
    monkeypatch.setattr("gemma_trace.served.trace_files.SETTLED_S", 0.0)
    monkeypatch.setattr("gemma_trace.served.drive._PATIENCE_S", 0.2)


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def server(tmp_path: Path, behaviour: Behaviour) -> LoopbackServer:
    return LoopbackServer(tmp_path / "traces", behaviour)


def errors_of(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr that say what went wrong."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("gemma-trace: ")]


def test_requests_and_traces_become_one(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server:
        assert run(server, tmp_path, "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert set(rows["rows"][0]) | {"what", "value", "server", "model"} <= defined("serve-capture")
    assert [(row["requests"], row["tokens"], row["error"]) for row in rows["rows"]] == [
        *[("timed", 3, "")] * 2,
        *[("profiled", 3, "")] * 2,
    ]
    assert rows["totals"]["measures"] == [{"what": "time in the queue", "value": "2.000 ms per request"}]
    bodies = [json.dumps(body["messages"]) for body in server.seen]
    assert len(set(bodies)) == 5, "each request has images of its own"
    assert all(body["ignore_eos"] and body["stream"] for body in server.seen)
    record = ServedRecord.read(tmp_path / "out" / "served")
    assert main(["stages", str(tmp_path / "out"), "--format", "json"]) == 0
    stages = json.loads(capsys.readouterr().out)
    for number, request in enumerate(record.profiled):
        of_request = {row["stage"]: row["time_ns"] for row in stages["rows"] if row["request"] == number}
        assert sum(of_request.values()) == request.done_ns
        assert {"http", "image_load", "preprocessing", "queue", "vision_tower", "decode", "return"} <= set(of_request)


@pytest.mark.capture
def test_traces_of_torch_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LoopbackServer(tmp_path / "traces", worker=TorchWorker()) as server:
        assert run(server, tmp_path, "--quiet") == 0
    folder = tmp_path / "out" / "served"
    capsys.readouterr()
    assert main(["stages", str(folder), "--format", "json"]) == 0
    stages = json.loads(capsys.readouterr().out)
    for number, request in enumerate(ServedRecord.read(folder).profiled):
        of_request = {row["stage"]: row["time_ns"] for row in stages["rows"] if row["request"] == number}
        assert sum(of_request.values()) == request.done_ns
        # Steps of some µs may all end before the client has read its first token: what it waits for then is `return`.
        assert {"preprocessing", "vision_tower", "prefill", "sampling"} <= set(of_request)
    assert [step["kind"] for step in stages["totals"]["steps"]] == ["prefill", "decode", "decode"] * 2
    assert main(["kernels", str(folder), "--stage", "vision_tower", "--by", "op", "--format", "json"]) == 0
    assert "aten::mm" in {row["name"] for row in json.loads(capsys.readouterr().out)["rows"]}


def test_repeated_images(server: LoopbackServer, tmp_path: Path) -> None:
    with server:
        assert run(server, tmp_path, "--repeat-images", traces=False) == 0
    assert len({json.dumps(body["messages"]) for body in server.seen}) == 1


@pytest.mark.parametrize("behaviour", [Behaviour(name="sglang")])
def test_sglang_takes_a_requests_name_from_its_body(server: LoopbackServer, tmp_path: Path) -> None:
    with server:
        assert run(server, tmp_path, traces=False) == 0
    assert [body["rid"] for body in server.seen] == ["request-0000000", "request-0000000", "request-0000001"]


def test_nothing_to_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-capture", "--merge", str(tmp_path)]) == 4
    assert len(errors_of(capsys)) == 1
    assert main(["serve-capture", "--merge", str(tmp_path / "nowhere")]) == 4
    assert len(errors_of(capsys)) == 1


def test_requests_of_a_file_several_at_once(server: LoopbackServer, tmp_path: Path) -> None:
    lines = [{"id": f"r{n}", "messages": [{"role": "user", "content": f"Say {n}"}]} for n in range(3)]
    (tmp_path / "requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with server:
        assert run(server, tmp_path, "--requests", str(tmp_path / "requests.jsonl"), "--concurrency", "3") == 0
    record = ServedRecord.read(tmp_path / "out" / "served")
    assert [request.label for request in record.profiled] == ["r0", "r1", "r2"]
    merged = tmp_path / "out" / "served"
    assert main(["serve-capture", "--merge", str(merged)]) == 0


@pytest.mark.parametrize(
    ("behaviour", "said", "measured"),
    [
        (
            Behaviour(profiler=False),
            "the server has no /start_profile, so that its requests are only timed;",
            2,
        ),
        (Behaviour(refuses=500), "the server answers 500: this model takes no images; see its log", 0),
        (Behaviour(dies_at=2), "2 of 2 requests failed", 1),
        (Behaviour(hangs=True), "/stop_profile: the server sent nothing for 0.3 s; see its log, or give --stop-", 2),
    ],
    ids=["no profiler", "refuses", "dies", "hangs"],
)
def test_what_goes_wrong_is_one_line_and_what_was_measured_is_kept(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], said: str, measured: int
) -> None:
    with server:
        assert run(server, tmp_path, "--stop-timeout", "0.3") == 1
    (line,) = errors_of(capsys)
    assert said in line or "no server listens" in line
    path = tmp_path / "out" / "served"
    if measured:
        answered = [request for request in ServedRecord.read(path).timed if not request.error]
        assert len(answered) == measured


@pytest.mark.parametrize("behaviour", [Behaviour(hangs=True)])
def test_what_a_hanging_server_wrote_is_used(server: LoopbackServer, tmp_path: Path) -> None:
    with server:
        assert run(server, tmp_path, "--stop-timeout", "0.3") == 1
    assert main(["stages", str(tmp_path / "out" / "served")]) == 0


@pytest.mark.parametrize("behaviour", [Behaviour(mute=True)])
def test_a_profiler_that_may_have_begun_is_stopped(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server:
        assert run(server, tmp_path, "--timeout", "0.5") == 1
        assert not server.profiles
    (line,) = errors_of(capsys)
    assert "the server sent nothing for 0.5 s" in line
    assert len(ServedRecord.read(tmp_path / "out" / "served").timed) == 2


@pytest.mark.parametrize("behaviour", [Behaviour(halves=True)])
def test_half_a_trace(server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with server:
        code = run(server, tmp_path)
    assert code == 0
    assert len(ServedRecord.read(tmp_path / "out" / "served").profiled) == 2


def test_no_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-capture", "--server", "http://127.0.0.1:9", "--out-dir", str(tmp_path)]) == 1
    assert errors_of(capsys) == ["gemma-trace: no server listens at --server; start it, and check the port"]


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://", "http://[::1", "http://u:p@127.0.0.1", "http://h:99999"])
def test_no_address(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-capture", "--server", url]) == 2
    assert len(errors_of(capsys)) == 1


@pytest.mark.parametrize("options", [[], ["--server", "http://127.0.0.1:9", "--merge", "x"]])
def test_one_of_two(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve-capture", *options]) == 2
    assert len(errors_of(capsys)) == 1


def test_an_earlier_capture_is_not_replaced(
    server: LoopbackServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server:
        assert run(server, tmp_path, traces=False) == 0
        assert run(server, tmp_path, traces=False) == 1
        assert "--force" in errors_of(capsys)[0]
        assert run(server, tmp_path, "--force", traces=False) == 0
