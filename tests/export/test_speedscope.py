from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.export.speedscope import SCHEMA, export_speedscope
from gemma_trace.trace.trace import Trace
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder


def exported(trace: Trace, folder: Path) -> dict[str, Any]:
    count = export_speedscope(trace, folder / "out.json")
    content: dict[str, Any] = json.loads((folder / "out.json").read_text())
    assert len(content["profiles"]) == count
    return content


def totals_ns(content: dict[str, Any], profile: dict[str, Any]) -> dict[str, int]:
    """The length of each frame, and proof that opens and closes nest and don't go back in time."""
    names = [frame["name"] for frame in content["shared"]["frames"]]
    opened: list[tuple[int, int]] = []
    total: dict[str, int] = {}
    before = profile["startValue"]
    for event in profile["events"]:
        assert event["at"] >= before
        before = event["at"]
        if event["type"] == "O":
            opened.append((event["frame"], event["at"]))
        else:
            frame, start = opened.pop()
            assert frame == event["frame"]
            total[names[frame]] = total.get(names[frame], 0) + event["at"] - start
    assert not opened
    assert before <= profile["endValue"]
    return total


def test_a_trace_by_hand(tmp_path: Path) -> None:
    built = (
        TraceBuilder().range("request", 1000, 100).range("prefill", 1010, 50).op("outer", 1010, 40).op("in", 1010, 5)
    )
    built.op("in", 1020, 0).op("in", 1050, 0)
    content = exported(built.load(tmp_path), tmp_path)
    assert content["$schema"] == SCHEMA
    profiles = {profile["name"]: profile for profile in content["profiles"]}
    assert list(profiles)[:2] == ["stages: host", "stages: time"]
    assert totals_ns(content, profiles["stages: time"]) == {"unattributed": 50, "prefill": 50}
    ops = profiles["process 1, thread 100"]
    assert totals_ns(content, ops) == {"outer": 40, "in": 5}
    names = [frame["name"] for frame in content["shared"]["frames"]]
    assert [(event["type"], names[event["frame"]], event["at"]) for event in ops["events"]] == [
        ("O", "outer", 10),
        ("O", "in", 10),
        ("C", "in", 15),
        ("O", "in", 20),
        ("C", "in", 20),
        ("C", "outer", 50),
        ("O", "in", 50),
        ("C", "in", 50),
    ]
    assert (ops["unit"], ops["startValue"], ops["endValue"]) == ("nanoseconds", 10, 50)


@pytest.mark.parametrize("path", sorted(SAMPLES.rglob("*.json.gz")), ids=lambda path: path.parent.name)
def test_the_samples_nest(path: Path, tmp_path: Path) -> None:
    trace = real_trace(path)
    content = exported(trace, tmp_path)
    assert sum(len(profile["events"]) for profile in content["profiles"][2:]) == 2 * len(trace.spans)
    for profile in content["profiles"]:
        totals_ns(content, profile)


@pytest.mark.parametrize("name", ["a100_alexnet_cuda_sync", "h100_bert_small", "mi300x_vllm_decode_graph"])
def test_foreign_traces_nest(corpus: Path, tmp_path: Path, name: str) -> None:
    content = exported(real_trace(corpus / f"{name}.json.gz"), tmp_path)
    for profile in content["profiles"]:
        totals_ns(content, profile)
