from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace.errors import ConfigError, TraceFormatError
from gemma_trace.stages import Stage, stage_rule
from gemma_trace.trace.trace import Trace, load, load_metadata
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder


def stage_of(trace: Trace, name: str) -> str:
    """The stage that the activity of this name was launched in."""
    index = int(np.flatnonzero(trace.spans.name == trace.spans.names.index(name))[0])
    place = int(np.flatnonzero(trace.activities == index)[0])
    return trace.stage_names[int(trace.stage_at(trace.launch[[place]])[0])]


def launched_in(name: str, cat: str = "user_annotation") -> TraceBuilder:
    """A kernel launched inside a span of this name."""
    return TraceBuilder().span(cat, name, 0, 100).launch(1, 10).kernel("k", 500, 10, correlation=1)


@pytest.mark.parametrize(
    ("name", "cat", "stage"),
    [
        ("execute_15360_context_15(sq15360sk15360)_generation_0(sq0sk0)", "user_annotation", "prefill"),
        ("execute_48_context_2(sq40sk40)_generation_8(sq8sk99)", "user_annotation", "prefill"),
        ("execute_32_context_0(sq0sk0)_generation_32(sq32sk55086)", "user_annotation", "decode"),
        ("step[EXTEND bs=15 toks=15360]", "user_annotation", "prefill"),
        ("step[DECODE bs=8]", "user_annotation", "decode"),
        ("nn.Module: Owlv2VisionTransformer_0", "python_function", "vision_tower"),
        ("nn.Module: SiglipVisionModel_0", "python_function", "vision_tower"),
        ("nn.Module: Gemma3MultiModalProjector_0", "python_function", "projector"),
        ("nn.Module: Owlv2TextTransformer_0", "python_function", "text_tower"),
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "user_annotation", "preprocessing"),
        ("transformers/models/owlv2/image_processing_owlv2.py(368): preprocess", "python_function", "image_processing"),
        ("transformers/models/gemma3/processing_gemma3.py(60): __call__", "python_function", "preprocessing"),
        ("nn.Module: Linear_4", "python_function", "unattributed"),
        ("step[DECODE bs=8]", "cpu_op", "unattributed"),
    ],
)
def test_foreign_names_have_their_stage(tmp_path: Path, name: str, cat: str, stage: str) -> None:
    assert stage_of(launched_in(name, cat).load(tmp_path), "k") == stage


def test_foreign_names_mean_nothing_next_to_our_own_ranges(tmp_path: Path) -> None:
    built = launched_in("nn.Module: SiglipVisionModel_0", "python_function").range("request", 0, 1000)
    assert stage_of(built.load(tmp_path), "k") == "unattributed"


def test_a_users_rule_takes_any_span_of_the_host_and_comes_first(tmp_path: Path) -> None:
    built = launched_in("aten::mm", "cpu_op").range("prefill", 0, 200).range("request", 0, 1000)
    path = built.write(tmp_path / "a.json")
    assert stage_of(load(path), "k") == "prefill"
    trace = load(path, [stage_rule("matmul", "::mm"), stage_rule("never", "::mm")])
    assert stage_of(trace, "k") == "matmul"
    assert trace.stage_names[: len(Stage)] == tuple(stage.value for stage in Stage)


@pytest.mark.parametrize("name", ["request", "unattributed", "unlinked", "", "a b", "1st"])
def test_reserved_or_unfit_stage_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be a stage's name"):
        stage_rule(name, "x")


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not a regular expression"):
        stage_rule("moe", "((")


def test_arrows_link_what_correlations_do_not(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 100).launch(0, 10, name="hipLaunchKernel")
    built.kernel("k", 500, 10)
    for phase, track, ts in (("s", {"pid": 1, "tid": 100}, 0.01), ("f", {"pid": 0, "tid": 7}, 0.5)):
        built.raw(ph=phase, cat="async_cpu_to_gpu", name="flow", id=77, ts=ts, **track)
    trace = built.load(tmp_path)
    assert trace.spans.names[trace.spans.name[trace.launch[0]]] == "hipLaunchKernel"
    assert stage_of(trace, "k") == "prefill"


def test_a_correlation_counts_before_an_arrow(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 10, name="right").launch(2, 20, name="wrong").kernel("k", 500, 10, correlation=1)
    built.raw(ph="s", cat="ac2g", id=1, pid=1, tid=100, ts=0.02).raw(ph="f", cat="ac2g", id=1, pid=0, tid=7, ts=0.5)
    trace = built.load(tmp_path)
    assert trace.spans.names[trace.spans.name[trace.launch[0]]] == "right"


def test_the_autograd_thread_finds_its_stage_through_the_forward_op(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 5000).range("vision_tower", 0, 100).op("aten::mm", 10, 20)
    built.op("MmBackward0", 1000, 200, tid=9).op("aten::mm", 1010, 50, tid=9).launch(1, 1020, tid=9)
    built.op("other", 1500, 200, tid=9).launch(2, 1520, tid=9)
    built.raw(ph="s", cat="fwdbwd", id=5, pid=1, tid=100, ts=0.01).raw(ph="f", cat="fwdbwd", id=5, pid=1, tid=9, ts=1)
    built.kernel("grad", 2000, 10, correlation=1).kernel("lone", 2100, 10, correlation=2)
    trace = built.load(tmp_path)
    assert stage_of(trace, "grad") == "vision_tower"
    assert stage_of(trace, "lone") == "unattributed"


def test_innermost_op_and_module_of_a_launch(tmp_path: Path) -> None:
    built = TraceBuilder().span("python_function", "nn.Module: Linear_0", 0, 100)
    built.op("aten::linear", 10, 50).op("aten::addmm", 20, 30).launch(1, 30).kernel("k", 200, 5, correlation=1)
    trace = built.load(tmp_path)
    names = trace.spans.names
    assert names[trace.spans.name[trace.innermost_op[trace.launch[0]]]] == "aten::addmm"
    assert names[trace.spans.name[trace.innermost_module[trace.launch[0]]]] == "nn.Module: Linear_0"


def test_the_vision_tower_of_the_owlv2_trace(corpus: Path) -> None:
    from gemma_trace.analysis.breakdown import breakdown

    found = breakdown(real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz"))
    rows = {row.stage: row for row in found.rows}
    assert round(rows["vision_tower"].device_sum_ns / 1e6, 3) == 545.592
    assert rows["vision_tower"].activities == 3295
    assert rows["text_tower"].activities > 0
    assert rows["image_processing"].exposed_host_ns > 128_500_000, "what peers lose before the first kernel"


def test_a_file_of_metadata_alone_is_no_trace(tmp_path: Path) -> None:
    built = TraceBuilder().raw(ph="M", name="process_name", pid=1, args={"name": "python"})
    with pytest.raises(TraceFormatError, match="holds metadata but no span"):
        built.load(tmp_path)


def test_metadata_of_a_newer_schema_is_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from tests.capture.test_writer import METADATA

    path = (
        TraceBuilder().range("request", 0, 1).metadata(replace(METADATA, schema_version=99)).write(tmp_path / "a.json")
    )
    with pytest.raises(TraceFormatError, match="written by a newer gemma-trace"):
        load_metadata(path)
    path = TraceBuilder().range("request", 0, 1).metadata(METADATA).write(tmp_path / "b.json")
    assert load_metadata(path) == METADATA


def test_the_frame_has_a_row_a_span_and_names_spelled_out(tmp_path: Path) -> None:
    trace = TraceBuilder().op("aten::mm", 5, 10, dims=[[2, 3]]).range("request", 0, 100).load(tmp_path)
    frame = trace.events()
    assert frame["name"].tolist() == ["gemma_trace::request", "aten::mm"]
    assert frame["ts_ns"].tolist() == [0, 5]
    assert frame["tid"].tolist() == ["100", "100"]
    assert frame["input_dims"].tolist()[1].replace(" ", "").replace("\n", "") == "[[2,3]]"


def test_devices_are_named_as_the_profiler_names_them(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 10)
    assert built.load(tmp_path).devices == {}
    built.header["deviceProperties"] = [{"id": 0, "name": "NVIDIA L4", "numSms": 58}, {"id": 1, "name": ""}]
    assert built.load(tmp_path).devices == {0: "NVIDIA L4", 1: ""}
    built.header["deviceProperties"] = "none"
    assert built.load(tmp_path).devices == {}


def test_strides_and_concrete_inputs_are_columns(tmp_path: Path) -> None:
    args: dict[str, Any] = {"Input Strides": [[3, 1], []], "Concrete Inputs": ["", "[0, 1]"]}
    trace = TraceBuilder().span("cpu_op", "aten::permute", 0, 10, **args).op("aten::mm", 20, 10).load(tmp_path)
    texts, spans = trace.spans.texts, trace.details.spans
    assert spans is trace.spans, "nothing is read twice"
    assert json.loads(texts[spans.input_strides[0]]) == [[3, 1], []]
    assert json.loads(texts[spans.concrete_inputs[0]]) == ["", "[0, 1]"]
    assert (spans.input_strides[1], spans.concrete_inputs[1]) == (-1, -1)
