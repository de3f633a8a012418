from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.workload import messages_for
from gemma_trace.errors import ConfigError
from gemma_trace.request_media import Media
from gemma_trace.requests_file import ChatRequest, Text, Turn
from gemma_trace.stages import Stage

IMAGE = Image.new("RGB", (320, 200), (10, 200, 30))


class Recorder:
    """A sink that writes down what it hears, indented by depth."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.depth = 0

    def begin(self, name: str) -> None:
        self.heard.append("  " * self.depth + name.removeprefix("gemma_trace::"))
        self.depth += 1

    def end(self) -> None:
        self.depth -= 1
        assert self.depth >= 0


ENCODER = ["vision_tower", "projector"]


def without_encoder(recorder: Recorder) -> list[str]:
    """What was heard beside the encoder, which runs before the prefill, or in transformers 5.17 inside it."""
    return [name for name in recorder.heard if name.strip() not in ENCODER]


def hooks_of(quick: LoadedModel) -> list[Any]:
    """All that `annotate` could leave behind."""
    modules = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in quick.model.modules()]
    parts = (quick.processor, quick.processor.image_processor, quick.processor.tokenizer)
    return [modules, [type(part) for part in parts], sorted(vars(quick.processor)), sorted(vars(quick.model))]


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
