"""Stages inside of a CUDA graph, by the labels of its nodes. All values are worked out by hand."""

from __future__ import annotations

import contextlib
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace.analysis.critical_path import critical_paths
from gemma_trace.analysis.timeline import partition
from gemma_trace.analysis.tree import NodeKind, call_tree
from gemma_trace.health.examine import examine
from gemma_trace.ranks.collectives import collectives_of
from gemma_trace.stages import StageRule, stage_rule
from gemma_trace.trace import ahead, reader, source
from gemma_trace.trace.reader import read_trace
from gemma_trace.trace.trace import Trace, load
from tests.trace.test_ahead import WorkerOfItsOwn, assert_same
from tests.trace_builder import TraceBuilder

VISION, PROJECTOR = "gemma_trace::vision_tower", "gemma_trace::projector"


def replay() -> TraceBuilder:
    """A request of 1,000 ns; one replay in `prefill` (100 to 300), and a kernel launched outside of all stages."""
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 200)
    built.launch(1, 110, 5, name="cudaGraphLaunch").launch(3, 120, 140, name="cudaStreamSynchronize").launch(2, 400, 5)
    node(built, "conv", 130, 50, 5, stage=VISION, str="a label of the program's own")
    node(built, "mlp", 180, 20, 6, stage=PROJECTOR)
    node(built, "gemm", 200, 40, 7)
    node(built, "norm", 240, 10, 8, str="phase A")
    return built.kernel("late", 420, 30, correlation=2)


def node(built: TraceBuilder, name: str, start_ns: int, dur_ns: int, number: Any, **labels: Any) -> None:
    """An activity of the replay."""
    args = {"correlation": 1, "stream": 7, "device": 0, "graph node id": number} | labels
    built.span("kernel", name, start_ns, dur_ns, pid=0, tid=7, **args)


def stages(trace: Trace) -> dict[str, str]:
    """By kernel the stage that it works for."""
    names = (*trace.stage_names, "unlinked")
    kernels = [trace.spans.names[code] for code in trace.spans.name[trace.activities].tolist()]
    return dict(zip(kernels, [names[code] for code in trace.activity_stage.tolist()], strict=True))


def test_a_labelled_node_is_of_its_own_stage(tmp_path: Path) -> None:
    assert stages(replay().load(tmp_path)) == {
        "conv": "vision_tower",
        "mlp": "projector",
        "gemm": "prefill",
        "norm": "prefill",
        "late": "unattributed",
    }


def test_the_stages_times_are_those_of_their_nodes(tmp_path: Path) -> None:
    trace = replay().load(tmp_path)
    rows = {row.stage: (row.device_sum_ns, row.host_ns, row.activities, row.launches) for row in partition(trace, 0)}
    assert rows == {
        "vision_tower": (50, 0, 1, 1),
        "projector": (20, 0, 1, 1),
        "prefill": (50, 200, 2, 1),
        "unattributed": (30, 800, 1, 1),
    }
    assert sum(row.time_ns for row in partition(trace, 0)) == 1000
    (path,) = critical_paths(trace, trace.requests)
    of_vision = path.stage == path.stages.index("vision_tower")
    assert (path.start_ns[of_vision].tolist(), path.end_ns[of_vision].tolist()) == ([130], [180])


def test_rules_hold_for_labels_as_for_names_but_not_for_ours(tmp_path: Path) -> None:
    path = replay().write(tmp_path / "a.json")
    rules = [stage_rule("norms", "phase [AB]"), stage_rule("other", "::projector")]
    found = stages(load(path, rules))
    assert (found["norm"], found["conv"], found["mlp"]) == ("norms", "vision_tower", "projector")
    without = [each.message for each in examine(load(path, rules)).findings if each.code == "rule_without_match"]
    assert len(without) == 1
    assert "rule other" in without[0], "what is labelled by a capture keeps its stage"


def test_what_is_not_told_apart_is_said(tmp_path: Path) -> None:
    findings = {each.code: each for each in examine(replay().load(tmp_path)).findings}
    assert findings["graph_replays"].count == 2, "the two kernels that are of the launch's stage"
    assert findings["labels_without_stage"].count == 1
    assert "'phase A'" in findings["labels_without_stage"].message
    assert findings["launched_outside_stages"].count == 1
    named = examine(load(replay().write(tmp_path / "a.json"), [stage_rule("norms", "phase")])).findings
    assert "labels_without_stage" not in {each.code for each in named}


def test_the_call_tree_has_a_stage_below_its_launch(tmp_path: Path) -> None:
    tree = call_tree(replay().load(tmp_path))

    (prefill,) = tree.find(NodeKind.STAGE, "prefill")
    assert (prefill.device_ns, prefill.host_ns) == (120, 200)
    below = [(depth, node.name, node.count, node.device_ns) for depth, node in prefill.walk() if node.device_ns]
    assert below == [
        *[(0, "prefill", 1, 120), (1, "vision_tower", 1, 50), (2, "conv", 1, 50)],
        *[(1, "projector", 1, 20), (2, "mlp", 1, 20), (1, "gemm", 1, 40), (1, "norm", 1, 10)],
    ]


def test_a_label_of_the_launchs_own_stage_changes_nothing(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50).launch(1, 10, name="cudaGraphLaunch")
    node(built, "gemm", 20, 10, 5, stage="gemma_trace::prefill")
    trace = built.load(tmp_path)
    assert stages(trace) == {"gemm": "prefill"}
    assert [node.name for _, node in call_tree(trace).walk()].count("prefill") == 1


def test_an_activity_without_its_launch_stays_unlinked(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100)
    args: dict[str, Any] = {"graph node id": 5, "stage": VISION, "device": 0}
    built.span("kernel", "conv", 10, 10, pid=0, tid=7, **args)
    assert stages(built.load(tmp_path)) == {"conv": "unlinked"}


@pytest.mark.parametrize(
    ("labels", "stage"),
    [
        ({"stage": VISION}, "vision_tower"),
        ({"str": VISION}, "vision_tower"),
        ({"annotation": VISION}, "vision_tower"),
        ({"stage": 3, "str": VISION}, "vision_tower"),
        ({"stage": None}, "prefill"),
        ({"stage": [VISION]}, "prefill"),
        ({"stage": ""}, "prefill"),
        ({"stage": "gemma_trace::request"}, "prefill"),
        ({"stage": "gemma_trace::layer::model.layers.0"}, "prefill"),
        ({"stage": "vision_tower"}, "prefill"),
        ({"graph node id": 0, "stage": VISION}, "prefill"),
        ({"graph node id": "6", "stage": VISION}, "vision_tower"),
        ({"graph node id": 2**64 - 1, "stage": VISION}, "vision_tower"),
        ({"graph node id": None, "stage": VISION}, "prefill"),
        ({"stage": "\ud83d"}, "prefill"),
    ],
    ids=str,
)
def test_labels_of_any_form(tmp_path: Path, labels: dict[str, Any], stage: str) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50).launch(1, 10, name="cudaGraphLaunch")
    args = {"correlation": 1, "stream": 7, "device": 0, "graph node id": 5} | labels
    event = {"ph": "X", "cat": "kernel", "name": "gemm", "pid": 0, "tid": 7, "ts": 0.02, "dur": 0.01, "args": args}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"traceEvents": [*json.loads(built.json())["traceEvents"], event]}))
    assert stages(load(path)) == {"gemm": stage}


def test_a_span_of_the_host_has_no_node(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50)
    args: dict[str, Any] = {"correlation": 1, "graph node id": 5, "stage": VISION}
    built.span("cuda_runtime", "cudaGraphLaunch", 10, 5, **args)
    assert stages(built.kernel("gemm", 20, 10, correlation=1).load(tmp_path)) == {"gemm": "prefill"}


def test_a_collective_is_of_its_nodes_stage(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50).launch(1, 10, name="cudaGraphLaunch")
    node(built, "ncclDevKernel_AllReduce_Sum_bf16_RING_LL", 20, 10, 5, stage=VISION)
    trace = built.load(tmp_path)
    assert [trace.stage_names[code] for code in collectives_of(trace).stage.tolist()] == ["vision_tower"]


def test_several_processes_read_the_same_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    built = TraceBuilder().range("request", 0, 1_000_000).launch(1, 10, name="cudaGraphLaunch")
    for at in range(2000):
        labels = rng.choice([{}, {"stage": VISION}, {"str": f"phase {at % 7}"}])
        node(built, f"k{at % 5}", 20 + 10 * at, 5, at % 50, **labels)
    path = built.write(tmp_path / "a.json")
    serial = read_trace(path, jobs=1)
    monkeypatch.setattr(ahead, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(ahead, "WORTHWHILE_FORKED_BYTES", 0)
    monkeypatch.setattr(source, "CHUNK_BYTES", 20_000)
    workers = [WorkerOfItsOwn(), WorkerOfItsOwn()]
    monkeypatch.setattr(reader, "block_workers", lambda path, count, detailed: contextlib.nullcontext(workers[:count]))
    assert_same(serial, read_trace(path, jobs=3))
    assert sum(worker._given for worker in workers), "none of it was read by others"
    labels_read = [
        serial.events.names[code] for code in serial.events.node_label[serial.events.node_label >= 0].tolist()
    ]
    assert set(labels_read) == {VISION, *(f"phase {number}" for number in range(7))}


def test_a_trace_without_labels_has_a_column_that_takes_no_memory(tmp_path: Path) -> None:
    spans = TraceBuilder().range("request", 0, 9).launch(1, 1).kernel("k", 2, 3, correlation=1).load(tmp_path).spans
    assert spans.node_label.strides == (0,)
    assert np.all(spans.node_label == -1)


def test_the_same_rule_for_a_name_and_a_label(tmp_path: Path) -> None:
    built = replay().range("phase A", 310, 40)
    built.events[-1]["name"] = "phase A"
    trace = load(built.write(tmp_path / "a.json"), [StageRule("norms", "phase A")])
    rows = {row.stage: (row.device_sum_ns, row.host_ns) for row in partition(trace, 0)}
    assert rows["norms"] == (10, 40)
