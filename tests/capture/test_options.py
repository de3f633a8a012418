"""What the options of a request do to the inputs, the stages and the trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from gemma_trace.analysis.summary import summarize
from gemma_trace.analysis.timeline import ttft_ns
from gemma_trace.capture import session
from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.sending import Sender, Sent
from gemma_trace.capture.session import profile
from gemma_trace.capture.torch_settings import torch_settings
from gemma_trace.capture.workload import lengthened
from gemma_trace.errors import ConfigError, DeviceError
from gemma_trace.requests_file import ChatRequest
from gemma_trace.trace.trace import Trace, load
from tests.conftest import thorough

LEAST: dict[str, Any] = {"device": "cpu", "warmup": 0, "runs": 0, "profile_runs": 1}
"""What the profiler records is all that is looked at."""


def captured(quick: LoadedModel, folder: Path, **options: Any) -> Trace:
    """With images that take no time to make and to decode, where the options don't say which."""
    small = {} if options.keys() & {"images", "requests"} else {"image_sizes": ("64x48", "48x64")}
    given: dict[str, Any] = {"model": quick.model, "processor": quick.processor, "output": folder}
    return load(profile(**given | LEAST | small | options).path)


def ranges(trace: Trace, stage: str) -> int:
    return int((trace.stage_range == trace.stage_names.index(stage)).sum())


def test_batch_and_images_multiply_what_the_tower_sees(quick: LoadedModel, tmp_path: Path) -> None:
    trace = captured(quick, tmp_path, batch=2, images_per_request=2)
    assert trace.metadata is not None
    assert trace.metadata.workload.prompt_tokens[0] >= 2 * 64
    assert trace.label.endswith("-batch2-64x48-48x64-images2")
    (conv,) = {
        trace.spans.texts[dims]
        for dims, name in zip(trace.spans.input_dims, trace.spans.name, strict=True)
        if trace.spans.names[name] == "aten::conv2d"
    }
    assert conv.startswith("[[4, 3, 224, 224]"), "two prompts of two images each"


def test_a_prompt_is_as_long_as_asked_for(quick: LoadedModel, tmp_path: Path) -> None:
    metadata = captured(quick, tmp_path, prompt_tokens=600).metadata
    assert metadata is not None
    assert set(metadata.workload.prompt_tokens) == {600}
    with pytest.raises(ConfigError, match=r"tokens longer than prompt_tokens= allows"):
        captured(quick, tmp_path, prompt_tokens=100, name="short")


@pytest.mark.parametrize("more", [0, 1, 2, 7, 100])
def test_words_fill_a_prompt(more: int) -> None:
    assert len(lengthened("What?", more, len)) == 5 + more, "each letter a token"
    words = lengthened("What is it?", more, lambda text: len(text.split()))
    assert len(words.split()) == 3 + more, "each word a token"


def test_requests_longer_than_the_model_are_refused(quick: LoadedModel, tmp_path: Path) -> None:
    positions = quick.model.config.text_config.max_position_embeddings
    for options in ({"prompt_tokens": positions}, {"new_tokens": positions + 1}, {"prompt_tokens": 10**10}):
        with pytest.raises(ConfigError, match=f"the model has positions for {positions:,} tokens"):
            captured(quick, tmp_path, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_an_image_device_that_is_not_there_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    config = CaptureConfig(model="no such model: it isn't looked for", device="cpu", image_device="cuda")
    with pytest.raises(DeviceError, match=r"no device cuda: .*; use image_device='cpu'"):
        profile(config, output=tmp_path)


def test_a_prefill_in_chunks_is_several_and_the_first_token_comes_after_the_last(
    quick: LoadedModel, tmp_path: Path
) -> None:
    trace = captured(quick, tmp_path, prefill_chunk=48)
    assert (ranges(trace, "prefill"), ranges(trace, "sampling")) == (3, 1)
    (request,) = trace.requests
    prefills = trace.stage_range == trace.stage_names.index("prefill")
    last = int(trace.spans.end_ns[prefills].max())
    load_ns = int(trace.spans.dur_ns[trace.stage_range == trace.stage_names.index("image_load")].sum())
    ttft = ttft_ns(trace, request)
    assert ttft is not None
    assert ttft > last - request.start_ns - load_ns


@pytest.mark.parametrize("is_traced", [False, *thorough([True])])
def test_compiled_stages_keep_their_ranges(
    quick: LoadedModel, tmp_path: Path, is_traced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = torch.compile, []

    def eager(forward: Any) -> Any:  # the compiler's back end would take a minute; that it is asked is what counts
        asked.append(forward.__self__)
        return real(forward, backend="eager") if is_traced else lambda *args, **kwargs: forward(*args, **kwargs)

    @contextmanager
    def annotated(*args: Any, detail: str, **kwargs: Any) -> Iterator[Any]:
        details.append(detail)
        with annotate(*args, detail=detail, **kwargs) as ranges:
            yield ranges

    details: list[str] = []
    monkeypatch.setattr(session, "annotate", annotated)
    monkeypatch.setattr(torch, "compile", eager)
    before = type(quick.model.model.vision_tower).forward
    trace = captured(quick, tmp_path, compile="stages", runs=1)
    for stage in ("vision_tower", "projector", "prefill", "sampling"):
        assert ranges(trace, stage) == 1, stage
    inner = quick.model.model
    assert asked == [inner.vision_tower, inner.multi_modal_projector, inner.language_model]
    assert inner.vision_tower.forward.__func__ is before, "as it was"
    assert trace.metadata is not None
    assert trace.metadata.warnings == ()
    assert details == ["stage", "stage"], (
        "inside of what is compiled nothing listens, in the timed pass or the profiled"
    )


def test_options_that_make_no_sense_are_refused() -> None:
    for options, message in (
        ({"batch": 0}, "batch is 0"),
        ({"images_per_request": 0}, "images_per_request is 0"),
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"compile": "all"}, "no compile mode 'all'"),
        ({"image_device": "cuda", "image_backend": "pil"}, "requires image_backend='torchvision'"),
        ({"image_device": "tpu"}, "no image device 'tpu'"),
        ({"model": " "}, "the model is empty"),
        ({"seed": -1}, "seed is -1"),
        ({"cache": "paged"}, "no cache 'paged'; give one of dynamic, static"),
        ({"cold": True, "warmup": 0}, "cold=True times the warm-up; give warmup=1"),
        ({"threads": 0}, "threads is 0; it must be 1 or more"),
        ({"image_sizes": ("big",)}, "no image size 'big'; give WIDTHxHEIGHT in pixels"),
        ({"image_sizes": ("0x9",)}, "no image size '0x9'"),
        ({"image_sizes": ("90000x9",)}, "no image size '90000x9'"),
        ({"image_sizes": ("9000x9000",)}, "no image size '9000x9000'"),
        ({"image_sizes": ("9x9",), "images": ("a.jpg",)}, "images= and image_sizes= both say"),
        ({"shuffle": 1}, "shuffle= requires requests= FILE"),
        ({"online": True}, "online=True requires requests= FILE"),
        ({"requests": "r.jsonl", "prompt": "Hi"}, "requests= already says what is sent; leave out prompt="),
        ({"requests": "r.jsonl", "image_sizes": "9x9"}, "leave out image_sizes="),
        ({"seed": 2**63}, "must be from 0 to"),
    ):
        with pytest.raises(ConfigError, match=message):
            CaptureConfig(**options)


def test_a_file_of_requests_is_sent_as_it_is_written(quick: LoadedModel, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    image = {"type": "image", "path": "a.png"}
    lines = [
        {"id": "text", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3},
        {"id": "two", "messages": [{"role": "user", "content": [image, {"type": "text", "text": "and"}, image]}]},
        {"id": "one", "messages": [{"role": "user", "content": [image]}], "top_p": 0.5},
    ]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    trace = captured(
        quick, tmp_path, requests=tmp_path / "asked.jsonl", runs=3, warmup=1, profile_runs=2, detail="stage"
    )
    metadata = trace.metadata
    assert metadata is not None
    found = {sample.image: (len(sample.token_ns), sample.image_pixels) for sample in metadata.timed_requests}
    assert found == {"text": (3, ()), "two": (1, (3072, 3072)), "one": (1, (3072,))}
    text, two, one = (sample.prompt_tokens for sample in metadata.timed_requests)
    assert text is not None
    assert two is not None
    assert one is not None
    assert two - one > 64 > text, "an image has 64 tokens, and others around them"
    assert metadata.profiled_images == ("text", "two")
    assert ranges(trace, "vision_tower") == 1, "one call for both images, and none for text"
    assert metadata.workload.new_tokens == 3
    assert metadata.workload.image_numbers == ((), (0, 0), (0,)), "all have the same image"
    assert metadata.workload.padding_tokens == (0, 0, 0)
    assert metadata.config["requests"] == "asked.jsonl"
    assert trace.label == "Gemma3ForConditionalGeneration-float32-cpu-torchvision-asked"
    (said,) = (warning for warning in metadata.warnings if "were ignored" in warning)
    assert said.endswith("were ignored: top_p")


def test_each_request_that_is_measured_is_warmed_up(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    real = Sender.send

    def send(self: Sender, request: ChatRequest, *rest: Any) -> Sent:
        sent.append(request.id)
        return real(self, request, *rest)

    monkeypatch.setattr(Sender, "send", send)
    sizes = ("64x48", "48x64", "32x32", "16x16")
    captured(quick, tmp_path, image_sizes=sizes, warmup=1, runs=3, detail="stage")
    assert sent == [*sizes[:3], *sizes[:3], sizes[0], sizes[0]], "the one that no pass has isn't warmed up"


def test_pillows_images_are_sent(quick: LoadedModel, tmp_path: Path) -> None:
    images = [Image.new("RGB", (64, 48)), Image.new("L", (32, 20))]
    trace = captured(quick, tmp_path, images=images, profile_runs=2, detail="stage")
    assert trace.metadata is not None
    assert trace.metadata.profiled_images == ("image-1-64x48.png", "image-2-32x20.png")


def test_a_cold_start_is_recorded_from_the_first_request_on(quick: LoadedModel, tmp_path: Path) -> None:
    trace = captured(quick, tmp_path, cold=True, warmup=2, runs=1, image_sizes="64x48", detail="stage")
    assert trace.metadata is not None
    cold = trace.metadata.cold_start
    assert cold is not None
    assert len(cold.requests) == 2
    assert all({"image_load", "vision_tower", "prefill"} <= set(sample.ttft_stages) for sample in cold.requests)
    assert cold.load_ns is None, "the model was in hand"
    parts = [part.part for part in summarize(trace).cold_start]
    assert parts[:1] == ["first request"] or parts[1] == "first request", "after the import, if that was ours"


def test_torch_is_set_while_a_capture_runs(quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads(), torch.backends.cudnn.benchmark
    trace = captured(quick, tmp_path, threads=3, cudnn_benchmark=True, image_sizes="64x48", detail="stage")
    assert trace.metadata is not None
    assert trace.metadata.environment.torch_threads == 3
    assert (torch.get_num_threads(), torch.backends.cudnn.benchmark) == before
    bound: list[torch.device] = []

    @contextmanager
    def bind(device: torch.device) -> Iterator[None]:
        bound.append(device)
        yield

    monkeypatch.setattr(torch.cuda, "device", bind)
    with torch_settings(CaptureConfig(), torch.device("cuda", 1)):
        assert bound == [torch.device("cuda", 1)], "on whose stream events are recorded"
    with torch_settings(CaptureConfig(cudnn_benchmark=True), torch.device("cpu")):
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before[1]


@pytest.mark.parametrize(("cache", "kind"), [("static", "StaticCache"), *thorough([("dynamic", "DynamicCache")])])
def test_keys_and_values_are_kept_as_asked_for(quick: LoadedModel, tmp_path: Path, cache: str, kind: str) -> None:
    kept: set[str] = set()
    drawn: set[bool] = set()

    def hear(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        kept.add(type(kwargs.get("cache", kwargs.get("past_key_values"))).__name__)
        drawn.add(quick.model.generation_config.do_sample)

    hook = quick.model.model.language_model.register_forward_pre_hook(hear, with_kwargs=True)
    try:
        trace = captured(quick, tmp_path, cache=cache, sample=cache == "static", new_tokens=3, detail="stage")
    finally:
        hook.remove()
    assert kept == {kind}
    assert drawn == {cache == "static"}
    assert (ranges(trace, "prefill"), ranges(trace, "decode")) == (1, 2)
    assert f"-{cache}-cache" in trace.label
