from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.writer import write_trace
from gemma_trace.export.speedscope import export_speedscope
from gemma_trace.export.viewer import export_trace
from gemma_trace.trace.short_paths import PathScrubber, meaning_of, without_folders
from gemma_trace.trace.trace import load
from tests.capture.test_writer import METADATA
from tests.cli.test_commands import run
from tests.trace_builder import TraceBuilder

ACME = "/srv/clients/acme/models/owl.py(12): forward"


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")


def built() -> TraceBuilder:
    trace = TraceBuilder().range("request", 0, 100_000).frame(ACME, 10, 900)
    trace.frame("/home/ann/run.py(3): main", 1000, 9)
    trace.frame("/home/ann/secret/plan/run.py(4): main", 2000, 9).frame(r"D:\clients\acme\x.py(5): f", 3000, 9)
    trace.frame("torch/nn/modules/linear.py(6): forward", 4000, 9).span(
        "cpu_op", "aten::mm", 5000, 9, file="/srv/a/b.cc"
    )
    trace.counter("/srv/a/load", 10, 1).counter("/srv/b/load", 20, {"/srv/c/x": 2, "/srv/d/x": 3})
    return trace.op('say "/srv/clients/acme/it" \\ twice', 6000, 9)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (ACME, "owl.py(12): forward"),
        ("/opt/venv/lib/python3.11/site-packages/torch/nn/a.py(1): f", "torch/nn/a.py(1): f"),
        ("~/run.py(3): main", "~/run.py(3): main"),
        ("~/secret/run.py(3): main", "run.py(3): main"),
        (r"\\server\share\acme\x.bin", "x.bin"),
        ("file:///srv/acme/x.bin", "x.bin"),
        ("transformers/models/owl.py(3): f", "transformers/models/owl.py(3): f"),
        ("src/models/owl.py(3): f", "src/models/owl.py(3): f"),
        ("aten::div / 2, a/b", "aten::div / 2, a/b"),
        ("https://example.org/a/b", "https://example.org/a/b"),
    ],
)
def test_absolute_paths_alone_lose_their_folders(text: str, short: str) -> None:
    assert without_folders(text) == short


def test_what_tells_a_stage_stays() -> None:
    for name in ("/srv/acme/vllm/model_executor/models/siglip.py(3): forward", "/srv/x/threading.py(355): wait"):
        assert meaning_of(without_folders(name)) == meaning_of(name)
        assert "acme" not in without_folders(name)
        assert "srv" not in without_folders(name)


def test_json_is_changed_in_its_texts_alone() -> None:
    scrub = PathScrubber(keep_paths=False)
    value = {"a": '"/srv/x/y" \\ "', "b/c": ["/srv/x/z", "\\", "\n/", 1], "/srv/p/k": 1, "/srv/q/k": 2, "": "/"}
    assert json.loads(scrub(json.dumps(value).encode())) == {
        "a": '"y" \\ "',
        "b/c": ["z", "\\", "\n/", 1],
        "k": 1,
        "k ~2": 2,
        "": "/",
    }


def content(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode()


def test_a_capture_has_no_folders_of_this_machine(tmp_path: Path) -> None:
    write_trace([built().write(tmp_path / "profiler.json")], METADATA, tmp_path / "a.json.gz")
    text = content(tmp_path / "a.json.gz")
    for private in ("srv", "acme", "home", "plan", "clients"):
        assert private not in text
    assert {"owl.py(12): forward", "~/run.py(3): main", "run.py(4): main"} <= set(
        load(tmp_path / "a.json.gz").spans.names
    )
    assert "torch/nn/modules/linear.py(6): forward" in text


def test_paths_can_be_kept(tmp_path: Path) -> None:
    write_trace([built().write(tmp_path / "profiler.json")], METADATA, tmp_path / "a.json.gz", keep_paths=True)
    names = set(load(tmp_path / "a.json.gz").spans.names)
    assert {ACME, "~/run.py(3): main", "~/secret/plan/run.py(4): main"} <= names
    assert CaptureConfig(keep_paths=True).record() == CaptureConfig().record(), "a sweep's traces stay what they are"


def test_exports_have_none_either(tmp_path: Path) -> None:
    trace = built().load(tmp_path)
    export_trace(trace, tmp_path / "p.json")
    export_speedscope(trace, tmp_path / "s.json")
    for path in (tmp_path / "p.json", tmp_path / "s.json"):
        for private in ("srv", "acme", "home", "clients"):
            assert private not in content(path), path
        assert "owl.py(12): forward" in content(path)
    events = json.loads(content(tmp_path / "p.json"))["traceEvents"]
    counters = {event["name"]: event["args"] for event in events if event["ph"] == "C" and "load" in event["name"]}
    assert counters == {"load": {"value": 1}, "load ~2": {"x": 2, "x ~2": 3}}, "two counters stay two"
    export_trace(trace, tmp_path / "k.json", keep_paths=True)
    assert ACME in content(tmp_path / "k.json")
    assert "/home/ann" not in content(tmp_path / "k.json")


def test_arrows_lose_theirs_too(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 100_000).launch(5, 100).kernel("k", 200, 10, correlation=5)
    for phase, at, where in (("s", 0.101, (1, 100)), ("f", 0.201, (0, 7))):
        trace.raw(
            ph=phase, id=5, cat="/srv/acme/ac2g", name="/srv/acme/arrow", ts=at, pid=where[0], tid=where[1], bp="e"
        )
    export_trace(trace.load(tmp_path), tmp_path / "p.json")
    assert "arrow" in content(tmp_path / "p.json")
    assert "acme" not in content(tmp_path / "p.json")


def test_the_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = built().write(tmp_path / "t.json")
    assert run(capsys, "export", path, "--keep-paths", "-o", tmp_path / "k.json")[0] == 0
    assert ACME in content(tmp_path / "k.json")
    code, _, err = run(capsys, "export", path, "--keep-paths", "--redact")
    assert code == 2
    assert "give only one of the two" in err
