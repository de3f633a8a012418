from __future__ import annotations

import copy
import pickle
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.capture.workload import messages_for
from gemma_trace.errors import ConfigError
from gemma_trace.request_media import Media
from gemma_trace.requests_file import ChatRequest, Text, Turn
from gemma_trace.stages import Stage
from tests.capture.recorder import Recorder

declare_missing_operators()

IMAGE = Image.new("RGB", (320, 200), (10, 200, 30))


ENCODER = ["vision_tower", "projector"]


def without_encoder(recorder: Recorder) -> list[str]:
    """What was heard beside the encoder, which runs before the prefill, or in transformers 5.17 inside it."""
    return [name for name in recorder.heard if name.strip() not in ENCODER]


def hooks_of(quick: LoadedModel) -> list[Any]:
    """All that `annotate` could leave behind."""
    modules = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in quick.model.modules()]
    parts = (quick.processor, quick.processor.image_processor, quick.processor.tokenizer)
    attributes = [sorted(vars(module)) for module in quick.model.modules()]
    return [modules, [type(part) for part in parts], sorted(vars(quick.processor)), attributes]


def test_generate_has_its_stages_in_order(quick: LoadedModel, inputs: Any) -> None:
    recorder = Recorder()
    with annotate(quick.model, quick.processor, detail="stage", sink=recorder), torch.inference_mode():
        quick.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert recorder.depth == 0
    assert [name.strip() for name in recorder.heard if name.strip() in ENCODER] == ENCODER
    assert without_encoder(recorder) == ["prefill", "sampling", "decode", "sampling", "decode", "sampling"]


def test_a_plain_call_nests_the_encoder_in_the_prefill(quick: LoadedModel, inputs: Any) -> None:
    recorder = Recorder()
    with annotate(quick.model, quick.processor, detail="stage", sink=recorder), torch.inference_mode():
        first = quick.model(**inputs, use_cache=True)
        token = first.logits[:, -1:].argmax(-1)
        cache = "cache" if "cache" in first else "past_key_values"  # until transformers 5.23
        quick.model(input_ids=token, **{cache: first[cache]})
    assert recorder.heard == ["prefill", "  vision_tower", "  projector", "decode"]


def test_the_bare_decoder_is_prefill_too(quick: LoadedModel) -> None:
    recorder = Recorder()
    with annotate(quick.model, detail="stage", sink=recorder), torch.inference_mode():
        quick.model.get_decoder()(inputs_embeds=torch.zeros(1, 4, 128))
    assert recorder.heard == ["prefill"]


def test_chunked_prefill_is_prefill_throughout(quick: LoadedModel, inputs: Any) -> None:
    recorder = Recorder()
    length = inputs["input_ids"].shape[1]
    with annotate(quick.model, detail="stage", sink=recorder), torch.inference_mode():
        quick.model.generate(
            **inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False, prefill_chunk_size=length // 2 + 1
        )
    stages = ["prefill", "prefill", "sampling", "decode", "sampling"]
    assert without_encoder(recorder) == stages, "no sampling between the chunks"


ASKED = ChatRequest("1", (Turn("user", (Media("image", b""), Text("Hi"))),))


def test_the_processor_has_its_parts(quick: LoadedModel) -> None:
    recorder = Recorder()
    with annotate(quick.model, quick.processor, sink=recorder) as ranges:
        with ranges.stage(Stage.PREPROCESSING):
            text = quick.processor.apply_chat_template(messages_for(ASKED, [IMAGE]), tokenize=False)
            quick.processor(text=[text], images=[[IMAGE]], return_tensors="pt")
        quick.processor.apply_chat_template(messages_for(ASKED, [IMAGE]), tokenize=True, return_dict=True)
    assert recorder.heard[:4] == ["preprocessing", "  chat_template", "  image_processing", "  tokenization"]
    assert recorder.heard[4:] == ["preprocessing", "  image_processing", "  tokenization"]


@pytest.mark.parametrize(("detail", "layers", "modules"), [("stage", 0, 0), ("layer", 10, 0), ("module", 10, 100)])
def test_detail_says_how_deep(quick: LoadedModel, inputs: Any, detail: str, layers: int, modules: int) -> None:
    recorder = Recorder()
    with annotate(quick.model, detail=detail, sink=recorder), torch.inference_mode():
        quick.model(**inputs)
    heard = [name.strip() for name in recorder.heard]
    assert sum(name.startswith("layer::") for name in heard) == layers
    assert sum(name.startswith("module::") for name in heard) >= modules
    assert (sum(name.startswith("module::") for name in heard) > 0) == (modules > 0)
    if layers:
        assert "layer::model.language_model.layers.5" in heard
        assert heard.count("layer::model.vision_tower.encoder.layers.0") == 1


def test_an_unknown_detail_is_refused(quick: LoadedModel) -> None:
    with pytest.raises(ConfigError, match="no detail 'deep'"), annotate(quick.model, detail="deep"):
        pass


def test_every_hook_is_gone_after_the_block(quick: LoadedModel) -> None:
    before = hooks_of(quick)
    with annotate(quick.model, quick.processor, detail="module", sink=Recorder()):
        assert hooks_of(quick) != before
    assert hooks_of(quick) == before


def test_every_hook_is_gone_and_every_range_closed_after_a_failure(quick: LoadedModel, inputs: Any) -> None:
    before = hooks_of(quick)
    recorder = Recorder()
    layer = quick.model.get_decoder().layers[2]

    def fail(*_: Any) -> None:
        raise RuntimeError("boom")

    handle = layer.register_forward_pre_hook(fail)
    try:
        with (
            pytest.raises(RuntimeError, match="boom"),
            torch.inference_mode(),
            annotate(quick.model, quick.processor, sink=recorder),
        ):
            quick.model.generate(**inputs, max_new_tokens=2)
    finally:
        handle.remove()
    assert recorder.depth == 0
    assert "prefill" in recorder.heard
    assert hooks_of(quick) == before


def test_annotated_parts_are_still_what_they_were(quick: LoadedModel) -> None:
    kind = type(quick.processor.image_processor)
    with annotate(quick.model, quick.processor, sink=Recorder()):
        assert isinstance(quick.processor.image_processor, kind)
        assert type(quick.processor.image_processor).__name__ == kind.__name__


def test_ranges_land_in_the_callers_own_profiler_session(quick: LoadedModel, inputs: Any) -> None:
    with (
        torch.inference_mode(),
        torch.profiler.profile() as profiler,
        annotate(quick.model, quick.processor) as ranges,
        ranges.stage(Stage.REQUEST),
    ):
        quick.model.generate(**inputs, max_new_tokens=1)
    names = {event.name for event in profiler.events()}
    assert {"gemma_trace::request", "gemma_trace::vision_tower", "gemma_trace::prefill"} <= names
    assert "gemma_trace::layer::model.language_model.layers.0" in names


def test_an_annotation_inside_another_doubles_nothing(quick: LoadedModel, inputs: Any) -> None:
    def ranges_of(annotations: int) -> dict[str, int]:
        with ExitStack() as entered, torch.inference_mode():
            activities = [torch.profiler.ProfilerActivity.CPU]
            profiler = entered.enter_context(torch.profiler.profile(activities=activities))
            for _ in range(annotations):
                ranges = entered.enter_context(annotate(quick.model, quick.processor))
            with ranges.stage(Stage.REQUEST):
                text = quick.processor.apply_chat_template(messages_for(ASKED, [IMAGE]), tokenize=False)
                quick.processor(text=[text], images=[[IMAGE]], return_tensors="pt")
                quick.model.generate(**inputs, max_new_tokens=2, min_new_tokens=2, do_sample=False)
        return Counter(event.name for event in profiler.events() if event.name.startswith("gemma_trace::"))

    assert ranges_of(2) == ranges_of(1)


def test_a_part_that_hears_or_sees_moving_pictures_has_its_stage() -> None:
    from tests.capture.processors import gemma4

    processor, recorder = gemma4(), Recorder()
    with annotate(nn.Linear(1, 1), processor, sink=recorder):
        processor.feature_extractor([np.zeros(3200, dtype=np.float32)], return_tensors="pt")
        processor.image_processor([IMAGE], return_tensors="pt")
        processor.video_processor(
            [np.zeros((2, 3, 48, 48), dtype=np.uint8)], do_sample_frames=False, return_tensors="pt"
        )
    assert recorder.heard == ["audio_processing", "image_processing", "video_processing"]


def test_an_annotated_processor_is_copied_pickled_and_saved_as_it_was(quick: LoadedModel, tmp_path: Path) -> None:
    processor, recorder = quick.processor, Recorder()
    before = processor.to_dict()
    with annotate(quick.model, processor, sink=recorder):
        copies = [copy.deepcopy(processor), pickle.loads(pickle.dumps(processor))]
        assert processor.to_dict() == before
        processor.save_pretrained(tmp_path)
        for each in copies:
            each(text=["<start_of_image>"], images=[[IMAGE]], return_tensors="pt")
    assert recorder.heard == []
    for each in copies:
        assert [type(part) for part in (each, each.image_processor, each.tokenizer)] == [
            type(part) for part in (processor, processor.image_processor, processor.tokenizer)
        ]
    assert type(processor).from_pretrained(tmp_path).to_dict() == before


@pytest.mark.parametrize(
    ("model", "processor", "says"),
    [
        ({}, None, "annotate requires a model of transformers, and this is a dict"),
        (nn.Linear(1, 1), "google/gemma-3-4b-it", "the processor is 'google.*'; give the model's own, or none"),
    ],
)
def test_what_is_no_model_or_no_processor_is_refused(model: Any, processor: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says), annotate(model, processor):
        pass
