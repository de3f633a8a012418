"""Which stage the spans of servers are: vLLM's, SGLang's, and those of transformers serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.decode import decode_statistics
from gemma_trace.cli import main
from gemma_trace.stages import FOREIGN_RULES
from tests.trace_builder import TraceBuilder

RULES = (
    ("execute_context_1(296)_generation_0(0)", "prefill"),
    ("execute_context_1(296)_generation_3(3)", "prefill"),
    ("execute_context_0(0)_generation_3(3)", "decode"),
    ("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk55086sqsq32sqsk55086)", "decode"),
    ("execute_context_0(0)_generation_0(0)", None),
    ("gpu_model_runner: preprocess", None),
    ("gpu_model_runner: forward", None),
    ("gpu_model_runner: postprocess", None),
    ("gpu_model_runner: sample", "sampling"),
    ("gpu_model_runner: bookkeep", "sampling"),
    ("vllm/v1/worker/gpu_worker.py(1293): sample_tokens", "sampling"),
    ("vllm/distributed/device_communicators/shm_broadcast.py(961): dequeue", "idle"),
    ("vllm/multimodal/media/image.py(104): load_base64", "image_load"),
    ("vllm/renderers/hf.py(60): safe_apply_chat_template", "chat_template"),
    ("vllm/renderers/base.py(894): _process_multimodal", "preprocessing"),
    ("vllm/v1/engine/output_processor.py(681): process_outputs", "detokenization"),
    ("step[EXTEND bs=15 toks=15360]", "prefill"),
    ("step[DECODE bs=8]", "decode"),
    ("step[DECODE bs=2 g_sq=8 g_sqsq=32 g_sqsk=120 g_sk=30]", "decode"),
    ("step[TARGET_VERIFY bs=2]", "decode"),
    ("/sgl-workspace/sglang/python/sglang/srt/managers/scheduler.py(1201): recv_requests", "idle"),
    ("sglang/srt/managers/scheduler_components/request_receiver.py(40): recv_requests", "idle"),
    ("sglang/srt/model_executor/model_runner.py(2011): sample", "sampling"),
    ("sglang/srt/models/gemma3_mm.py(300): get_image_feature", "vision_tower"),
    ("sglang/srt/utils/common.py(900): load_image", "image_load"),
    ("sglang/srt/multimodal/processors/base_processor.py(200): process_mm_data", "preprocessing"),
    ("sglang/srt/managers/detokenizer_manager.py(150): handle_batch_token_id_out", "detokenization"),
    ("transformers/generation/utils.py(4283): _prefill", "prefill"),
    ("transformers/generation/utils.py(3123): _sample", "decode"),
    ("transformers/image_utils.py(400): load_image", "image_load"),
    ("transformers/processing_utils.py(1700): apply_chat_template", "preprocessing"),
    ("transformers/utils/chat_template_utils.py(500): render_jinja_template", "chat_template"),
    ("my/scheduler.py(3): recv_requests", None),
    ("my/utils.py(3): _sample", None),
)


@pytest.mark.parametrize(("name", "stage"), RULES, ids=[name for name, _ in RULES])
def test_names(name: str, stage: str | None) -> None:
    assert next((rule.stage for rule in FOREIGN_RULES if rule.matches(name)), None) == stage


def test_rules_hold_beside_ranges_of_ours_in_another_process(tmp_path: Path) -> None:
    trace = (
        TraceBuilder()
        .range("request", 0, 100)
        .range("vision_tower", 10, 20)
        .frame("nn.Module: SiglipVisionTransformer_0", 12, 5)
        .span("user_annotation", "execute_context_0(0)_generation_1(1)", 40, 30, pid=2, tid=2)
        .load(tmp_path)
    )
    assert [trace.stage_names[code] for code in trace.stage_range[trace.stage_ranges]] == [
        *("request", "vision_tower", "decode")
    ]


def test_an_engine_that_waits_is_idle_and_no_host_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = (
        TraceBuilder()
        .span("user_annotation", "step[EXTEND bs=1 toks=300]", 0, 1_000_000)
        .frame("sglang/srt/managers/scheduler.py(1201): recv_requests", 1_000_000, 9_000_000)
        .write(tmp_path / "scheduler.json")
    )
    assert main(["stages", str(path)]) == 0
    assert "waits for the next step" in capsys.readouterr().out


def test_a_token_is_sampled_and_kept_in_two_ranges(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for at, name in enumerate(["execute_context_1(9)_generation_0(0)", *["execute_context_0(0)_generation_1(1)"] * 3]):
        builder.span("user_annotation", name, 100 * at, 50)
        builder.span("user_annotation", "gpu_model_runner: sample", 100 * at + 50, 10)
        builder.span("user_annotation", "gpu_model_runner: bookkeep", 100 * at + 60, 10)
    found = decode_statistics(builder.load(tmp_path))
    assert found is not None
    assert [request.intervals_ns for request in found.requests] == [(100, 100, 100)]


def test_several_prefills_and_no_request_have_no_ttft(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for at in (0, 1000):
        builder.span("user_annotation", "execute_context_1(9)_generation_0(0)", at, 50)
        builder.span("user_annotation", "gpu_model_runner: sample", at + 50, 10)
    assert breakdown(builder.load(tmp_path)).ttfts_ns == (None,)
