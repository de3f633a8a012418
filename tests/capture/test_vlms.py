from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.discovery import StageModules, find_stage_modules, missing_stages
from gemma_trace.capture.random_weights import build_random
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.errors import ConfigError
from gemma_trace.stages import Stage
from tests.capture.recorder import Recorder
from tests.conftest import thorough

declare_missing_operators()

NEW_TOKENS = 3
OF_THE_SAME_PARTS = ("gemma4", "llava", "paligemma", "idefics3", "internvl")
"""Families with a processor here, whose stages are found as those of Gemma 3 and Qwen 2.5 VL are."""


def build(family: str) -> tuple[Any, dict[str, torch.Tensor]]:
    from tests.capture.vlms import FAMILIES

    torch.manual_seed(0)
    config, inputs = FAMILIES[family]()
    return build_random(config, torch.device("cpu"), torch.float32, 0).eval(), inputs


@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl", *thorough([*OF_THE_SAME_PARTS, "smolvlm"])])
def test_the_stages_of_a_family_are_its_own(family: str, tmp_path: Path) -> None:
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.trace.trace import load

    model, inputs = build(family)
    exported = tmp_path / f"{family}.json"
    with (
        torch.inference_mode(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler,
        annotate(model) as ranges,
        ranges.stage(Stage.REQUEST),
    ):
        model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    profiler.export_chrome_trace(str(exported))
    trace = load(exported)
    spans = trace.spans
    counts = {
        stage: int((trace.stage_range == code).sum())
        for code, stage in enumerate(trace.stage_names)
        if (trace.stage_range == code).any()
    }
    assert counts == {
        "request": 1,
        "vision_tower": 1,
        "projector": 1,
        "prefill": 1,
        "sampling": NEW_TOKENS,
        "decode": NEW_TOKENS - 1,
    }
    measures = summarize(trace).measures
    assert all(measures[f"{stage}_ms"] for stage in ("vision_tower", "projector", "prefill", "sampling", "decode"))
    # Times are exclusive wherever one stage lies inside another, as Qwen's merger does in its tower.
    codes = {stage: list(Stage).index(Stage(stage)) for stage in ("vision_tower", "projector")}
    tower, projector = (spans.dur_ns[trace.stage_range == code].sum() for code in codes.values())
    inside = family == "qwen2_5_vl"
    vision_ms = measures["vision_tower_ms"]
    assert vision_ms is not None
    assert vision_ms.median == pytest.approx((tower - projector * inside) / 1e6)
    layers = {name for name in spans.names if name.startswith("gemma_trace::layer::")}
    assert len(layers) == 4, "two of the tower, two of the decoder"


def text_stages(prefill: int = 1) -> dict[str, int]:
    return {"prefill": prefill, "sampling": NEW_TOKENS, "decode": NEW_TOKENS - 1}


OTHERS = {
    "instructblip": {"vision_tower": 1, "projector": 2} | text_stages(),
    "florence2": {"vision_tower": 1, "projector": 1} | text_stages(2),
    "fuyu": {"projector": 1} | text_stages(),
    "udop": text_stages(2),
    "git": {"vision_tower": 1, "projector": 1} | text_stages(),
    "pix2struct": {"vision_tower": 1} | text_stages(),
    "ovis2": {"vision_tower": 1, "projector": 2} | text_stages(),
    "qwen3_vl": {"vision_tower": 1, "projector": 2} | text_stages(),
    "whisper": {"audio_tower": 1} | text_stages(),
    "qwen2_audio": {"audio_tower": 1, "projector": 1} | text_stages(),
}
"""Ranges a stage has. All families are in analysis/models.md."""


@pytest.mark.parametrize("family", OTHERS)
def test_families_with_other_parts_have_the_stages_that_they_have(family: str) -> None:
    from tests.capture.vlms_more import MORE_FAMILIES, built

    torch.manual_seed(0)
    model, inputs = built(MORE_FAMILIES[family])
    recorder = Recorder()
    with annotate(model, sink=recorder), torch.inference_mode():
        model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    heard = [name.strip() for name in recorder.heard]
    assert {name: heard.count(name) for name in heard if "::" not in name} == OTHERS[family]
    assert any("layer::" in name for name in heard)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of PaliGemma's processor
@pytest.mark.parametrize("family", ["gemma3", "qwen2_5_vl", *thorough(OF_THE_SAME_PARTS)])
def test_a_saved_model_of_a_family_is_captured_with_its_own_processor(family: str, tmp_path: Path) -> None:
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.capture.session import profile
    from gemma_trace.trace.trace import load
    from tests.capture.processors import PROCESSORS

    saved = tmp_path / family
    build(family)[0].save_pretrained(saved)
    PROCESSORS[family]().save_pretrained(saved)
    options: dict[str, Any] = {"device": "cpu", "warmup": 0, "runs": 2, "profile_runs": 1, "images_per_request": 2}
    found = profile(model=str(saved), output=tmp_path / "out", new_tokens=NEW_TOKENS, batch=2, **options)
    assert (found.metadata.run.model, found.metadata.run.weights) == (family, "pretrained")
    assert found.metadata.warnings == ()
    trace = load(found.path)
    run = summarize(trace)
    assert (run.runs, run.timing) == (2, "timed")
    stages = {"image_load", "preprocessing", "image_processing", "tokenization", "transfer"}
    stages |= {"vision_tower", "projector", "prefill", "sampling", "decode"}
    stages |= {"chat_template"} if family != "paligemma" else set()
    assert {name for name in run.requests[0].stages_ns if run.requests[0].stages_ns[name]} == stages
    for stage in stages:
        assert run.measures[f"{stage}_ms"] is not None, stage
    rows = [row for row in breakdown(trace).rows if row.request == 0]
    assert {row.stage for row in rows} == stages | {"unattributed"}
    assert sum(row.time_ns for row in rows) == breakdown(trace).requests[0].wall_ns


def test_a_model_that_hands_over_to_another_is_captured(tmp_path: Path) -> None:
    from gemma_trace.capture.session import profile
    from tests.capture.processors import blip2
    from tests.capture.vlms_more import MORE_FAMILIES, built

    torch.manual_seed(0)
    model, _ = built(MORE_FAMILIES["blip2"])
    own = model.language_model.generation_config
    found = profile(
        model=model, processor=blip2(), output=tmp_path, warmup=0, runs=1, profile_runs=1, new_tokens=NEW_TOKENS
    )
    (sample,) = found.metadata.timed_requests
    counts = {stage: sample.stages[stage].count for stage in ("projector", "prefill", "sampling", "decode")}
    assert counts == {"projector": 2} | text_stages()
    assert len(sample.token_ns) == NEW_TOKENS, "as long as asked for, whatever the inner model's settings say"
    assert model.language_model.generation_config is own
    assert found.metadata.warnings == ()


def test_a_module_can_be_named_where_none_is_found() -> None:
    model, _ = build("llava")
    given = find_stage_modules(model, {"vision": "model.language_model", "projector": "lm_head"})
    assert given.vision_tower == (model.model.language_model,)
    assert given.projector == (model.lm_head,)
    assert given.decoder is model.model.language_model, "found, since it isn't given"
    with pytest.raises(ConfigError, match=r"no module at 'model\.tower'; it has model, model\.vision_tower"):
        find_stage_modules(model, {"vision": "model.tower"})
    assert CaptureConfig(stage_modules=("vision=a.b",)).stage_module_paths == {"vision": "a.b"}
    for text in ("tower=a.b", "vision", "vision="):
        with pytest.raises(ConfigError, match="is not one of vision=PATH, projector=PATH, decoder=PATH"):
            CaptureConfig(stage_modules=(text,))


def test_what_is_not_there_is_said() -> None:
    nothing = find_stage_modules(nn.Sequential(nn.Linear(2, 2)))
    assert nothing == StageModules(absent={})
    said = missing_stages(nothing)
    assert [line.split(" was found")[0] for line in said] == ["no vision tower", "no projector", "no text decoder"]
    assert all("--stage-module" in line for line in said)
    model, _ = build("llava")
    assert missing_stages(find_stage_modules(model)) == []
