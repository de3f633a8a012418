"""Stages as labels of the nodes of a CUDA graph, with torch's own labels faked: no device is at hand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace.capture.annotate import annotate, labelled_graphs
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.graph_labels import labels_nodes, stages_of_nodes
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.writer import write_trace
from gemma_trace.stages import Stage, stage_rule
from gemma_trace.trace.trace import load
from tests.capture.recorder import Recorder
from tests.capture.test_writer import METADATA
from tests.trace_builder import TraceBuilder

pytestmark = pytest.mark.capture


class Labels:
    """What stands for `torch.cuda._graph_annotations`: ops that run under a label are its nodes.

    Attributes:
        capturing: whether a graph is being captured.
        told: the labels that were entered and left, in order.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.capturing = False
        self.told: list[str] = []
        self.by_node: dict[int, list[Any]] = {}
        self.module = ModuleType("torch.cuda._graph_annotations")
        vars(self.module).update(
            _annotations_enabled=True, mark_kernels=self.mark_kernels, get_kernel_annotations=lambda: self.by_node
        )
        monkeypatch.setitem(sys.modules, "torch.cuda._graph_annotations", self.module)
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: self.capturing)

    @contextmanager
    def mark_kernels(self, annotation: dict[str, str]) -> Iterator[None]:
        self.told.append(f"+{annotation['stage']}")
        yield
        self.told.append(f"-{annotation['stage']}")

    def stages(self) -> list[str]:
        return [told.replace("gemma_trace::", "") for told in self.told]


@pytest.fixture
def labels(monkeypatch: pytest.MonkeyPatch) -> Labels:
    return Labels(monkeypatch)


def test_the_encoders_inside_of_a_captured_graph_are_labels_and_no_ranges(
    quick: LoadedModel, inputs: Any, labels: Labels
) -> None:
    recorder = Recorder()
    with annotate(quick.model, quick.processor, sink=recorder), torch.inference_mode():
        labels.capturing = True
        quick.model(**inputs)
        labels.capturing = False
        assert recorder.heard == []
        assert labels.stages() == ["+vision_tower", "-vision_tower", "+projector", "-projector"]
        quick.model(**inputs)
    assert len(labels.told) == 4, "outside of a graph there are ranges"
    assert [name.strip() for name in recorder.heard if "layer" not in name] == ["prefill", "vision_tower", "projector"]


def test_a_graph_captured_inside_of_a_range_leaves_the_range_whole(
    quick: LoadedModel, inputs: Any, labels: Labels
) -> None:
    recorder = Recorder()
    tower = next(module for module in quick.model.modules() if type(module).__name__ == "SiglipVisionModel")
    pixels = inputs["pixel_values"]
    with annotate(quick.model, quick.processor, detail="stage", sink=recorder) as ranges, torch.inference_mode():
        with ranges.stage(Stage.REQUEST), ranges.stage(Stage.PREFILL):
            labels.capturing = True
            tower(pixels)
            with ranges.stage(Stage.SAMPLING):
                torch.ones(1)
            labels.capturing = False
        assert recorder.depth == 0
    assert [name.strip() for name in recorder.heard] == ["request", "prefill"]
    assert labels.stages() == ["+vision_tower", "-vision_tower", "+sampling", "-sampling"]


def test_a_request_inside_of_a_graph_is_no_label(labels: Labels) -> None:
    ranges = RangeStack(Recorder())
    labels.capturing = True
    with ranges.stage(Stage.REQUEST), ranges.stage(Stage.DECODE):
        pass
    assert labels.stages() == ["+decode", "-decode"]


def test_without_labels_a_graph_is_captured_as_it_was(
    quick: LoadedModel, inputs: Any, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    monkeypatch.setattr(labels.module, "_annotations_enabled", False)
    labels.capturing = True
    with annotate(quick.model, quick.processor, sink=recorder), torch.inference_mode():
        quick.model(**inputs)
    assert (recorder.heard, labels.told) == ([], [])


def test_what_torch_compiles_is_not_labelled(labels: Labels, monkeypatch: pytest.MonkeyPatch) -> None:
    labels.capturing = True
    assert labels_nodes()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not labels_nodes()


def test_a_label_that_fails_is_the_programs_no_concern(
    quick: LoadedModel, inputs: Any, labels: Labels, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(annotation: Any) -> Any:
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    vars(labels.module)["mark_kernels"] = fails
    labels.capturing = True
    with annotate(quick.model, quick.processor, sink=Recorder()), torch.inference_mode():
        assert quick.model(**inputs).logits is not None
    assert "could not record a range: RuntimeError: cudaErrorStreamCaptureInvalidated" in caplog.text


def test_warm_up_labels_the_graphs_that_a_model_captures_when_it_is_first_called(
    quick: LoadedModel, inputs: Any, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels.capturing = True
    with labelled_graphs(quick.model, CaptureConfig()), torch.inference_mode():
        quick.model(**inputs)
    assert labels.stages() == ["+vision_tower", "-vision_tower", "+projector", "-projector"]
    labels.told.clear()
    with labelled_graphs(quick.model, CaptureConfig(compile="stages")), torch.inference_mode():
        quick.model(**inputs)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with labelled_graphs(quick.model, CaptureConfig()), torch.inference_mode():
        quick.model(**inputs)
    assert labels.told == []


def test_the_stages_of_nodes_are_those_of_our_labels(labels: Labels) -> None:
    labels.by_node = {
        1: [{"stage": "gemma_trace::vision_tower"}],
        2: [{"str": "a program's own"}],
        3: [{"str": "a program's own", "stage": "gemma_trace::projector"}],
        4: ["text"],
        5: [{"stage": 3}],
        6: [{"stage": "gemma_trace::prefill"}, {"stage": "gemma_trace::decode"}],
    }
    assert stages_of_nodes() == {
        1: "gemma_trace::vision_tower",
        3: "gemma_trace::projector",
        6: "gemma_trace::decode",
    }


def test_where_torch_has_no_labels_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch.cuda._graph_annotations", raising=False)
    assert stages_of_nodes() == {}
    assert not labels_nodes()


def test_torchs_own_module_is_as_it_is_taken_to_be() -> None:
    torchs = pytest.importorskip("torch.cuda._graph_annotations", reason="torch 2.13 has it")
    assert torchs._annotations_enabled is False
    assert torchs.get_kernel_annotations() == {}
    with torchs.mark_kernels({"stage": "gemma_trace::prefill"}):
        nn.Linear(2, 2)(torch.ones(1, 2))
    assert torchs.get_kernel_annotations() == {}, "nothing is captured"


def test_what_torchs_own_tool_writes_is_read(tmp_path: Path) -> None:
    tool = pytest.importorskip("torch.cuda._annotate_cuda_graph_trace", reason="torch 2.13 has it")
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 200)
    built.launch(1, 110, 5, name="cudaGraphLaunch")
    for number, name in enumerate(("conv", "gemm", "mlp", "norm")):
        args = {"device": 0, "correlation": 1, "stream": 7, "graph node id": 100 + number}
        built.span("kernel", name, 130 + 30 * number, 20, pid=0, tid=7, **args)
    labels = {
        100: [{"stage": "gemma_trace::vision_tower"}],
        102: [{"str": "phase A", "stage": "gemma_trace::projector"}],
        103: [{"str": "phase B"}],
    }
    trace = json.loads(built.json())
    assert tool.annotate_trace(trace, labels) == 3
    path = tmp_path / "annotated.json"
    path.write_text(json.dumps(trace))
    read = load(path, [stage_rule("norms", "phase")])
    expected = ["vision_tower", "prefill", "projector", "norms"]
    assert [read.stage_names[code] for code in read.activity_stage] == expected


def test_a_trace_of_ours_has_the_stage_of_each_labelled_node(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 200)
    built.launch(1, 110, 5, name="cudaGraphLaunch")
    for number, (name, start_ns) in enumerate(
        {"conv": 130, "gemm": 200, 'a "graph node id": 7 in a name': 250}.items()
    ):
        args = {"device": 0, "correlation": 1, "stream": 7, "graph node id": (3 << 32) + number}
        built.span("kernel", name, start_ns, 20, pid=0, tid=7, **args)
    exported = built.write(tmp_path / "profiler.json")
    path = tmp_path / "a.pt.trace.json.gz"
    stages = {3 << 32: "gemma_trace::vision_tower", (3 << 32) + 2: "gemma_trace::projector", 7: "gemma_trace::decode"}
    write_trace([exported], METADATA, path, node_stages=stages)
    trace = load(path)
    assert [trace.stage_names[code] for code in trace.activity_stage] == ["vision_tower", "prefill", "projector"]
    write_trace([exported], METADATA, path)
    assert set(load(path).spans.node_label.tolist()) == {-1}
