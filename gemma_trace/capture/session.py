"""One capture: warm-up → timed pass → profiled pass → trace file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Kineto reports every start and stop of a session on stderr unless it is told not to.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import torch
from PIL.Image import Image
from torch import nn
from torch.profiler import ProfilerActivity

from gemma_trace.capture.activation_memory import give_back, large_blocks_apart
from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.compiled_stages import MOST_WARMUPS, compilations, compiled_stages, watched_decode
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.discovery import find_stage_modules, missing_stages
from gemma_trace.capture.distributed import process_group, this_rank
from gemma_trace.capture.environment import describe_environment
from gemma_trace.capture.generation import TokenClock, greedy_generation
from gemma_trace.capture.given import GivenModel, check_applies, read_given
from gemma_trace.capture.models import LoadedModel, load_model, resolve_device
from gemma_trace.capture.output import lock_output, lock_run, made, previous_traces
from gemma_trace.capture.phases import NoProgress, Progress
from gemma_trace.capture.ranges import ProfilerRanges, RangeSink, RangeStack, SynchronizedRanges
from gemma_trace.capture.request_memory import RequestShape, check_request
from gemma_trace.capture.timers import StageTimer
from gemma_trace.capture.workload import (
    ImagePrompt,
    build_requests,
    check_length,
    lengthened,
    load_image,
    prompt_text,
)
from gemma_trace.capture.writer import trace_path, write_trace
from gemma_trace.errors import ConfigError
from gemma_trace.metadata import SCHEMA_VERSION, RequestSample, RunIdentity, RunMetadata, Workload
from gemma_trace.stages import Stage
from gemma_trace.trace.scratch import scratch_folder


@dataclass(frozen=True)
class CaptureResult:
    """Where the trace is, and what it says about itself."""

    path: Path
    metadata: RunMetadata


def profile(
    config: CaptureConfig | None = None,
    *,
    model: nn.Module | str | None = None,
    processor: Any = None,
    progress: Progress | None = None,
    **options: Any,
) -> CaptureResult:
    """Capture requests and write their trace: `gemma-trace capture` for a program.

        result = gemma_trace.profile(image_backend="pil", new_tokens=8)
        print(gemma_trace.load(result.path).metadata.run.name)

    Args:
        config: what to run; None is the default, the tiny model.
        model: a preset's name or a folder, as in `CaptureConfig`; or a model of transformers in hand, on its device.
        processor: the processor of a model in hand.
        progress: hears how far it is.
        options: fields of `CaptureConfig` to set over those of `config`.

    Raises:
        ConfigError: an option's value makes no sense, or can't apply to the model in hand.
        OutputError: the run's folder holds a trace and `force` isn't set, or a sweep's cell of other options; it can't
            be written, or another sweep or capture writes there.
        CaptureError: model, image or device isn't there.
    """
    if isinstance(model, str):
        options, model = options | {"model": model}, None
    config = replace(config or CaptureConfig(), **options)
    if (model is None) != (processor is None):
        raise ConfigError("give a model and its processor together, or neither")
    if model is not None:
        check_applies(config, read_given(model, processor), options)
    with made(config.output), lock_output(config.output, whole=False):
        return profile_run(config, model, processor, progress or NoProgress())


def profile_run(
    config: CaptureConfig, model: nn.Module | None = None, processor: Any = None, progress: Progress | None = None
) -> CaptureResult:
    """`profile` for a caller who has locked the output folder: a sweep's cell."""
    progress = progress or NoProgress()
    given = None if model is None else read_given(model, processor)
    device = resolve_device(config.device) if given is None else given.device
    if config.image_device is not None:
        resolve_device(config.image_device, "--image-device")
    run = _identity(config, given, device)
    folder, worker = config.output / run.name, this_rank().worker
    with lock_run(config.output, run.name, worker):
        previous = previous_traces(config, run.name, worker)
        profiler_json, metadata = _profiled(config, run, model, processor, device, progress)
        path = trace_path(folder, worker, time.time_ns())
        progress.phase("writing the trace", 1)
        write_trace(profiler_json, metadata, path, keep_paths=config.keep_paths)
        for old in previous:
            old.unlink(missing_ok=True)
        progress.step()
    return CaptureResult(path, metadata)


def _profiled(
    config: CaptureConfig,
    run: RunIdentity,
    model: nn.Module | None,
    processor: Any,
    device: torch.device,
    progress: Progress,
) -> tuple[bytes, RunMetadata]:
    """The profiler's own JSON, and what the trace is to say of itself."""
    with process_group(this_rank(), device), scratch_folder() as scratch:
        requests = build_requests(config.prompt, config.images, scratch)
        progress.phase(f"loading {run.model}", 1)
        loaded = load_model(config, progress) if model is None else LoadedModel(model, processor, device, run.weights)
        modules = find_stage_modules(loaded.model, config.stage_module_paths)
        with (
            torch.inference_mode(),
            compiled_stages(modules, config.compile),
            greedy_generation(loaded.model, config) as generation,
            watched_decode(loaded.model) as decode_mode,
        ):
            run = replace(run, weights=loaded.weights)
            session = _Session(config, loaded, generation, requests, progress)
            session.warm_up()
            timed = session.time_requests()
            profiler_json = session.profile_requests(scratch)
    metadata = RunMetadata(
        schema_version=SCHEMA_VERSION,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
        workload=session.workload(),
        environment=describe_environment(device),
        config=config.record()
        | ({"device": str(device)} if model is None else read_given(model, processor).record())
        | {"decode_mode": decode_mode.name},
        timed_requests=tuple(timed),
        profiled_images=tuple(session.request(index).label for index in range(config.profile_runs)),
        warnings=(*loaded.warnings, *session.warnings, *missing_stages(modules), *_warnings(device, profiler_json)),
    )
    return profiler_json, metadata


class _Session:
    """The passes over one loaded model."""

    def __init__(
        self,
        config: CaptureConfig,
        loaded: LoadedModel,
        generation: Any,
        requests: list[ImagePrompt],
        progress: Progress,
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._generation = generation
        self._requests = requests
        self._progress = progress
        self._prompt_tokens: dict[str, int] = {}
        self.warnings: tuple[str, ...] = ()
        shape = self._shape()
        check_length(loaded.model, shape.prompt_tokens, config.new_tokens)
        check_request(loaded.model.config, shape, loaded.model.dtype, loaded.device)
        self._prompt = self._lengthened_prompt(config.prompt_tokens) if config.prompt_tokens else ""

    def request(self, index: int) -> ImagePrompt:
        """The requests in turn."""
        return self._requests[index % len(self._requests)]

    def workload(self) -> Workload:
        """What the requests were made of; complete once each was run."""
        return Workload(
            images=tuple(self._prompt_tokens),
            prompt_tokens=tuple(self._prompt_tokens.values()),
            new_tokens=self._config.new_tokens,
        )

    def warm_up(self) -> None:
        """Requests that nobody times."""
        self._progress.phase("warming up", self._config.warmup)
        ranges = RangeStack(_Deaf())
        for index in range(self._config.warmup):
            self._run(self.request(index), ranges, _ignore_token)
            self._progress.step()
        if self._config.compile != "off":
            self._compile_all(ranges)

    def _compile_all(self, ranges: RangeStack) -> None:
        """Run every kind of request until none makes torch.compile compile once more."""
        self._progress.phase("compiling", 1)
        for _ in range(MOST_WARMUPS):
            before = compilations()
            for request in self._requests:
                self._run(request, ranges, _ignore_token)
            if compilations() == before:
                self._progress.step()
                return
        self.warnings += (f"torch.compile was still compiling after {MOST_WARMUPS} rounds of requests",)

    def time_requests(self) -> list[RequestSample]:
        """The timed pass: stages on the host's clock and CUDA's events, no profiler."""
        self._progress.phase("timing without the profiler", self._config.runs)
        timer = StageTimer(self._loaded.device)
        samples = []
        with self._annotated(timer, detail="stage") as ranges:
            for index in range(self._config.runs):
                request = self.request(index)
                timer.start_request()
                self._run(request, ranges, timer.token_on_host)
                samples.append(timer.finish_request(request.label))
                self._progress.step()
        return samples

    def profile_requests(self, scratch: Path) -> bytes:
        """The profiled pass; one more request first, which the profiler throws away.

        Returns:
            The profiler's own JSON.
        """
        config = self._config
        self._progress.phase("profiling", config.profile_runs + 1)
        exported = scratch / "profiler.json"
        detail = config.detail if config.compile == "off" else "stage"  # inside of a compiled stage there are no hooks
        activities = [ProfilerActivity.CPU]
        activities += [ProfilerActivity.CUDA] if self._loaded.device.type == "cuda" else []
        with (
            large_blocks_apart(),
            self._annotated(ProfilerRanges(), detail=detail) as ranges,
            torch.profiler.profile(
                activities=activities,
                schedule=torch.profiler.schedule(wait=0, warmup=1, active=config.profile_runs, repeat=1),
                on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(exported)),
                record_shapes=config.shapes,
                profile_memory=config.memory,
                with_stack=config.stacks,
            ) as profiler,
        ):
            for index in range(-1, config.profile_runs):
                self._run(self.request(max(index, 0)), ranges, _ignore_token)
                if self._loaded.device.type == "cuda":
                    torch.cuda.synchronize(self._loaded.device)
                give_back()
                self._progress.step()
                if index == config.profile_runs - 1:
                    self._progress.phase("collecting the profile", 1)
                profiler.step()
        return exported.read_bytes()

    @contextmanager
    def _annotated(self, sink: RangeSink, detail: str) -> Iterator[RangeStack]:
        if self._config.sync_stages:
            sink = SynchronizedRanges(sink, self._loaded.device)
        with annotate(
            self._loaded.model,
            self._loaded.processor,
            detail=detail,
            stage_modules=self._config.stage_module_paths,
            sink=sink,
        ) as ranges:
            yield ranges

    def _run(self, request: ImagePrompt, ranges: RangeStack, token_on_host: Callable[[], None]) -> None:
        """One request, from the messages in hand to its last token on the host."""
        model = self._loaded.model
        with ranges.stage(Stage.REQUEST):
            with ranges.stage(Stage.IMAGE_LOAD):
                images = [load_image(request.image) for _ in range(self._config.images_per_request)]
            with ranges.stage(Stage.PREPROCESSING):
                inputs = self._inputs(self._prompt or request.prompt, images, self._config.batch)
            with ranges.stage(Stage.TRANSFER):
                inputs = inputs.to(self._loaded.device, dtype=model.dtype)
            model.generate(**inputs, generation_config=self._generation, streamer=TokenClock(ranges, token_on_host))
        self._prompt_tokens[request.label] = int(inputs["input_ids"].shape[1])

    def _shape(self) -> RequestShape:
        """How large a request is, told from a single prompt with its first image or two, whatever it will have."""
        config, request = self._config, self.request(0)
        image = load_image(request.image)
        one = self._inputs(request.prompt, [image], 1)
        tokens = int(one["input_ids"].shape[1])
        if config.images_per_request > 1:
            two = int(self._inputs(request.prompt, [image, image], 1)["input_ids"].shape[1])
            tokens += (config.images_per_request - 1) * (two - tokens)
        return RequestShape(
            prompts=config.batch,
            images=config.images_per_request,
            image_pixels=image.width * image.height,
            prompt_tokens=config.prompt_tokens or tokens,
            new_tokens=config.new_tokens,
            chunk_tokens=config.prefill_chunk,
            typed="token_type_ids" in one,
        )

    def _inputs(self, prompt: str, images: list[Image], batch: int) -> Any:
        """What the processor makes of a prompt and its images, `batch` times the same."""
        config, processor = self._config, self._loaded.processor
        text = prompt_text(processor, prompt, images)
        bos = getattr(processor.tokenizer, "bos_token", None)
        inputs = processor(
            text=[text] * batch,
            images=[images] * batch,
            return_tensors="pt",
            add_special_tokens=not (bos and text.startswith(bos)),
            **({"device": config.image_device} if config.image_device else {}),
        )
        inputs.pop("labels", None)  # PaliGemma's; they are for training, and would add a loss to the prefill
        return inputs

    def _lengthened_prompt(self, wanted: int) -> str:
        """The prompt that makes a request so many tokens long."""
        request, tokenizer = self.request(0), self._loaded.processor.tokenizer
        images = [load_image(request.image) for _ in range(self._config.images_per_request)]
        now = int(self._inputs(request.prompt, images, 1)["input_ids"].shape[1])

        def count(text: str) -> int:
            return len(tokenizer(text, add_special_tokens=False)["input_ids"])

        return lengthened(request.prompt, wanted - now, count)


class _Deaf:
    """A sink that hears nothing."""

    def begin(self, name: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


def _ignore_token() -> None:
    """Nobody times this token."""


def _identity(config: CaptureConfig, given: GivenModel | None, device: torch.device) -> RunIdentity:
    if given is None:  # its weights are known once it is loaded
        name, backend = config.run_name(device.type), config.image_backend
        return RunIdentity(name, config.model_label, "", config.dtype, device.type, backend)
    name = replace(config, model=given.label).run_name(device.type, given.dtype, given.image_backend)
    return RunIdentity(name, given.label, "given", given.dtype, device.type, given.image_backend)


def _warnings(device: torch.device, profiler_json: bytes) -> tuple[str, ...]:
    if device.type == "cuda" and b'"cat": "kernel"' not in profiler_json:
        return ("the profiler recorded no device activity; run with KINETO_LOG_LEVEL=1 to see what CUPTI says",)
    return ()
