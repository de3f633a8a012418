"""FLOPs from a trace's shapes against torch's own counter, on the same forward of `tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gemma_trace import gemma3_shapes
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.roofline.floors import stage_floors
from gemma_trace.analysis.roofline.opcosts import op_costs
from gemma_trace.trace.trace import load
from tests.conftest import real_trace, thorough


def _inputs(loaded: Any) -> Any:
    from PIL import Image

    text = "<bos><start_of_turn>user\n<start_of_image>What is it?<end_of_turn>\n<start_of_turn>model\n"
    image = Image.new("RGB", (640, 480), (200, 30, 30))
    return loaded.processor(text=[text], images=[[image]], return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize(("attention", "least"), [("sdpa", 5e8), ("eager", 5e8), *thorough([("sdpa", 28e9)])])
def test_flops_are_those_of_torchs_counter(attention: str, least: float, quick_gemma: Path, tmp_path: Path) -> None:
    """Of a model with a small tower, since one of 4,096 patches takes long; in `make test-all` of all of `tiny`."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.models import load_model

    model = "tiny" if least > 1e10 else str(quick_gemma)
    loaded = load_model(CaptureConfig(device="cpu", attn=attention, model=model))
    inputs = _inputs(loaded)
    # The counter has this formula for CUDA's attention, and leaves the CPU's out.
    on_cpu = {
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
    }
    with torch.no_grad():
        with FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
            loaded.model(**inputs)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True, acc_events=True
        ) as profiler:
            loaded.model(**inputs)
    path = tmp_path / "forward.json"
    profiler.export_chrome_trace(str(path))
    counted = op_costs(load(path)).column("matrix_flops").sum()
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert counted > least, "most of tiny's is the tower's attention: 4 layers of 4 · 4096² · 96"


def test_a_stages_work_by_its_shapes_is_that_by_the_models_config(captured: Path) -> None:
    """The two sources of a floor, held against each other on a trace that has both."""
    from gemma_trace.analysis.roofline.gemma3_floor import model_work

    trace = real_trace(captured)
    found = breakdown(trace)
    requests = {request.index: request for request in found.requests}
    shape = gemma3_shapes.TINY
    compared = []
    for floor in stage_floors(trace, found, None):
        work = model_work(trace, requests[floor.request], floor.stage)
        if work is None:
            continue
        assert floor.floor_source == "shapes"
        # Causal attention under a mask multiplies all pairs of 314 tokens; the config counts those that are seen.
        hidden = 314 * 314 - 314 * 315 // 2 if floor.stage == "prefill" else 0
        unseen = 4 * shape.layers * shape.heads * shape.head_dim * hidden
        assert work.flops + unseen == pytest.approx(floor.matrix_flops, rel=0.001), floor.stage
        compared.append(floor.stage)
    assert compared == 2 * ["vision_tower", "projector", "prefill", "decode"]
