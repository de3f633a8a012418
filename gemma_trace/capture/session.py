"""One capture: warm-up → timed pass → profiled pass → trace file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

# Kineto reports every start and stop of a session on stderr unless it is told not to.
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import torch
from torch import nn

from gemma_trace.capture.accelerators import activity_of
from gemma_trace.capture.adapters import adapter_of
from gemma_trace.capture.alone import alone_in_process, settings_warnings
from gemma_trace.capture.annotate import annotate, labelled_graphs
from gemma_trace.capture.collection import frozen_objects
from gemma_trace.capture.compiled_stages import MOST_WARMUPS, compilations, compiled_stages, watched_decode
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.device_watch import DeviceWatch, watched_devices
from gemma_trace.capture.discovery import find_stage_modules, missing_stages
from gemma_trace.capture.distributed import process_group, this_rank
from gemma_trace.capture.environment import describe_environment
from gemma_trace.capture.generation import assistance_warnings, greedy_generation
from gemma_trace.capture.given import check_applies, check_devices, identity_of, read_given
from gemma_trace.capture.graph_labels import stages_of_nodes
from gemma_trace.capture.images import images_as_files
from gemma_trace.capture.imports import import_ns
from gemma_trace.capture.models import LoadedModel, images_elsewhere, load_assistance, load_model, resolve_device
from gemma_trace.capture.natural_types import shown
from gemma_trace.capture.one_line_errors import as_capture_error
from gemma_trace.capture.options import check_field
from gemma_trace.capture.output import lock_output, lock_run, made, previous_traces
from gemma_trace.capture.phases import NoProgress, Progress
from gemma_trace.capture.profiled_pass import MODULES_WARNING, profiled_pass
from gemma_trace.capture.quantization import quantization_of
from gemma_trace.capture.ranges import Deaf, ProfilerRanges, RangeSink, RangeStack, SynchronizedRanges
from gemma_trace.capture.sending import Sender, Sent
from gemma_trace.capture.timers import StageTimer
from gemma_trace.capture.torch_settings import torch_settings
from gemma_trace.capture.workload import build_requests, image_numbers, request_warnings
from gemma_trace.capture.writer import trace_path, write_trace
from gemma_trace.errors import ConfigError, GemmaTraceError
from gemma_trace.metadata import SCHEMA_VERSION, ColdStart, RequestSample, RunIdentity, RunMetadata, Workload
from gemma_trace.requests_file import ChatRequest
from gemma_trace.stages import Stage
from gemma_trace.trace.scratch import scratch_folder

_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class CaptureResult:
    """Where the trace is, and what it says about itself."""

    path: Path
    metadata: RunMetadata


def profile(
    config: CaptureConfig | None = None,
    *,
    model: nn.Module | str | os.PathLike[str] | None = None,
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
        options: fields of `CaptureConfig` to set over those of `config`; `images` may have Pillow's images among them.

    Raises:
        ConfigError: an option's value makes no sense, or can't apply to the model in hand.
        OutputError: the run's folder holds a trace and `force` isn't set, or a sweep's cell of other options; it can't
            be written, or another sweep or capture writes there.
        CaptureError: model, image or device isn't there, or what torch, transformers or the model raised, which is its
            cause.
    """
    try:
        return _checked_and_run(config, model, processor, progress, options)
    except GemmaTraceError:
        raise
    except Exception as error:
        raise as_capture_error(error) from error


def _checked_and_run(
    config: CaptureConfig | None, model: Any, processor: Any, progress: Progress | None, options: dict[str, Any]
) -> CaptureResult:
    if not isinstance(config, CaptureConfig | None):
        raise ConfigError(f"config is {shown(config)}; it requires a CaptureConfig, and options have their own names")
    for option in options:
        check_field(option)
    if isinstance(model, str | os.PathLike):
        options, model = options | {"model": model}, None
    if (model is None) != (processor is None):
        raise ConfigError("give a model and its processor together, or neither")
    with images_as_files(options.get("images", ())) as images:
        config = replace(config or CaptureConfig(), **options | ({"images": images} if "images" in options else {}))
        if model is not None:
            check_applies(config, read_given(model, processor), options)
        with alone_in_process(), made(config.output), lock_output(config.output, whole=False):
            return profile_run(config, model, processor, progress or NoProgress())


def profile_run(
    config: CaptureConfig, model: nn.Module | None = None, processor: Any = None, progress: Progress | None = None
) -> CaptureResult:
    """`profile` for a caller who has locked the output folder: a sweep's cell."""
    progress = progress or NoProgress()
    given = None if model is None else read_given(model, processor)
    if model is not None:
        check_devices(model, config)
    device = resolve_device(config.device) if given is None else given.device
    if config.image_device is not None:
        resolve_device(config.image_device, "--image-device")
    run = identity_of(config, given, device)
    folder, worker = config.output / run.name, this_rank().worker
    with (
        lock_run(config.output, run.name, worker),
        torch_settings(config, device),
        process_group(this_rank(), device),  # at its end ranks wait for each other, with their traces written
    ):
        previous = previous_traces(config, run.name, worker)
        with scratch_folder() as scratch:
            exported, metadata = _profiled(config, run, model, processor, device, progress, scratch)
            path = trace_path(folder, worker, time.time_ns())
            progress.phase("writing the trace", 1)
            write_trace(exported, metadata, path, keep_paths=config.keep_paths, node_stages=stages_of_nodes())
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
    scratch: Path,
) -> tuple[tuple[Path, ...], RunMetadata]:
    """The profiler's own JSON by cycle, in the scratch folder, and what the trace is to say of itself."""
    environment = describe_environment(device)  # whatever it takes, no pass is lost
    requests = build_requests(config, scratch)
    progress.phase(f"loading {run.model}", 1)
    began_ns = time.perf_counter_ns()
    loaded = load_model(config, progress) if model is None else _in_hand(config, model, processor, run)
    load_ns = None if model is not None else time.perf_counter_ns() - began_ns
    modules = find_stage_modules(loaded.model, config.stage_module_paths)
    images_on = images_elsewhere(config, loaded.device, *loaded.devices)
    with (
        torch.inference_mode(),
        compiled_stages(modules, config.compile),
        greedy_generation(loaded.model, config) as generation,
        watched_decode(loaded.model) as decode_mode,
        watched_devices(loaded.devices, *filter(None, [images_on])) as watch,
    ):
        run = replace(run, weights=loaded.weights)
        session = _Session(config, loaded, generation, requests, progress)
        session.warm_up()
        with frozen_objects():
            timed = session.time_requests(watch)
            exported = session.profile_requests(scratch)
    metadata = RunMetadata(
        schema_version=SCHEMA_VERSION,
        created_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
        workload=session.workload(),
        environment=environment,
        config=config.record()
        | ({"device": str(device)} if model is None else read_given(model, processor).record())
        | {"decode_mode": decode_mode.name}
        | ({"labelled_graph_nodes": len(labels)} if (labels := stages_of_nodes()) else {})
        | ({"images_waited_for": True} if images_on is not None else {})
        | dict(loaded.record),
        timed_requests=tuple(timed),
        profiled_images=tuple(session.request(index).id for index in range(config.profile_runs)),
        profiled_step_tokens=tuple(sent.step_tokens for sent in session.profiled if sent.step_tokens),
        profiled_step_guesses=tuple(sent.step_guesses for sent in session.profiled if sent.step_tokens),
        warnings=(
            *(*loaded.warnings, *session.warnings, *watch.warnings, *decode_mode.warnings),
            *(*missing_stages(modules), *settings_warnings(loaded.model, loaded.devices), *_warnings(device, exported)),
            *assistance_warnings(config, timed),
        ),
        cold_start=ColdStart(import_ns(), load_ns, tuple(session.cold_requests)) if config.cold else None,
        gpus=watch.records,
        energy=watch.energy,
        no_energy=watch.no_energy,
    )
    return exported, metadata


def _in_hand(config: CaptureConfig, model: nn.Module, processor: Any, run: RunIdentity) -> LoadedModel:
    device = next(model.parameters()).device
    record = adapter_of(model) | quantization_of(model)
    return LoadedModel(model, processor, device, run.weights, (), load_assistance(config, model), record)


class _Session:
    """The passes over one loaded model."""

    def __init__(
        self,
        config: CaptureConfig,
        loaded: LoadedModel,
        generation: Any,
        requests: list[ChatRequest],
        progress: Progress,
    ) -> None:
        self._config = config
        self._loaded = loaded
        self._progress = progress
        self._images_on = images_elsewhere(config, loaded.device, *loaded.devices)
        self._sender = Sender(config, loaded, generation, requests)
        self._sent: dict[str, Sent] = {}
        numbers = image_numbers(self._sender.requests)  # now, as images that are made here are gone afterwards
        self._image_numbers = {request.id: count for request, count in zip(self._sender.requests, numbers, strict=True)}
        self.cold_requests: list[RequestSample] = []
        self.profiled: list[Sent] = []
        self.warnings = request_warnings(config, requests)

    def request(self, index: int) -> ChatRequest:
        """The requests in turn."""
        return self._sender.requests[index % len(self._sender.requests)]

    def workload(self) -> Workload:
        """What the requests were made of; complete once each was run."""
        return Workload(
            images=tuple(self._sent),
            prompt_tokens=tuple(sent.prompt_tokens for sent in self._sent.values()),
            new_tokens=max(map(self._sender.new_tokens, self._sender.requests)),
            padding_tokens=tuple(sent.padding_tokens for sent in self._sent.values()),
            image_numbers=tuple(self._image_numbers[label] for label in self._sent),
        )

    def warm_up(self) -> None:
        """Requests that nobody times: each that is measured at least once, unless none is to be warmed up."""
        config = self._config
        measured = max(config.runs, config.profile_runs)
        count = max(config.warmup, min(measured, len(self._sender.requests))) if config.warmup else 0
        self._progress.phase("warming up", count)
        ranges = RangeStack(Deaf())
        if config.cold:
            self.cold_requests = self._timed(count)
        else:
            with labelled_graphs(self._loaded.model, config):
                for index in range(count):
                    self._send(self.request(index), ranges, _ignore_tokens)
                    self._progress.step()
        if self._config.compile != "off":
            self._compile_all(ranges)

    def _compile_all(self, ranges: RangeStack) -> None:
        """Run every kind of request until none makes torch.compile compile once more."""
        self._progress.phase("compiling", 1)
        for _ in range(MOST_WARMUPS):
            before = compilations()
            for request in self._sender.requests:
                self._send(request, ranges, _ignore_tokens)
            if compilations() == before:
                self._progress.step()
                return
        self.warnings += (f"torch.compile was still compiling after {MOST_WARMUPS} rounds of requests",)

    def time_requests(self, watch: DeviceWatch) -> list[RequestSample]:
        """The timed pass: stages on the host's clock and the devices' events, no profiler.

        Args:
            watch: looks at the devices before, after and in between.
        """
        self._progress.phase("timing without the profiler", self._config.runs)
        watch.start()
        samples = self._timed(self._config.runs, watch.between)
        watch.finish(len(samples), self._config.batch * sum(len(sample.token_ns) for sample in samples))
        return samples

    def _timed(self, count: int, between: Callable[[], None] = lambda: None) -> list[RequestSample]:
        """The first requests, so many of them.

        Args:
            between: called once each of them is over and its times are taken.
        """
        timer = StageTimer(*self._loaded.devices)
        samples = []
        with self._annotated(timer, detail="stage") as ranges:
            for index in range(count):
                request = self.request(index)
                timer.start_request()
                sent = self._send(request, ranges, timer.tokens_on_host)
                sample = timer.finish_request(request.id, sent.prompt_tokens, sent.image_pixels)
                samples.append(replace(sample, step_tokens=sent.step_tokens, step_guesses=sent.step_guesses))
                between()
                self._progress.step()
        return samples

    def profile_requests(self, scratch: Path) -> tuple[Path, ...]:
        """The profiled pass.

        Returns:
            The files with the profiler's own JSON, one a cycle.
        """
        detail = self._config.detail if self._config.compile == "off" else "stage"  # hooks inside would be compiled
        with self._annotated(ProfilerRanges(), detail=detail) as ranges:
            profiled = profiled_pass(
                self._config,
                (*self._loaded.devices, *filter(None, [self._images_on])),
                lambda index: self._send(self.request(index), ranges, _ignore_tokens),
                self._progress,
                scratch,
            )
        self.profiled += profiled.sent
        self.warnings += profiled.warnings
        if self._config.stacks and len(profiled.exported) > 1 and self._only_some_have_images():
            self.warnings += (MODULES_WARNING,)
        return profiled.exported

    def _only_some_have_images(self) -> bool:
        """Whether some of the profiled requests have images and others don't."""
        profiled = map(self.request, range(self._config.profile_runs))
        return len({bool(self._image_numbers[request.id]) for request in profiled}) > 1

    @contextmanager
    def _annotated(self, sink: RangeSink, detail: str) -> Iterator[RangeStack]:
        if self._images_on is not None:
            sink = SynchronizedRanges(sink, self._images_on, only=Stage.IMAGE_PROCESSING)
        if self._config.sync_stages:
            sink = SynchronizedRanges(sink, *self._loaded.devices)
        with annotate(
            self._loaded.model,
            self._loaded.processor,
            detail=detail,
            stage_modules=self._config.stage_module_paths,
            sink=sink,
        ) as ranges:
            yield ranges

    def _send(self, request: ChatRequest, ranges: RangeStack, tokens_on_host: Callable[[int], None]) -> Sent:
        self._sent[request.id] = sent = self._sender.send(request, ranges, tokens_on_host)
        return sent


def _ignore_tokens(count: int) -> None:
    """Nobody times these tokens."""


def _warnings(device: torch.device, exported: Iterable[Path]) -> tuple[str, ...]:
    if activity_of(device) is None:
        unseen = f"this torch's profiler records no activity of {device.type}"
        return (f"{unseen}: the stages waited for it, but no kernel is known",)
    if device.type != "cpu" and not any(_holds(file, b'"cat": "kernel"') for file in exported):
        return ("the profiler recorded no device activity; run with KINETO_LOG_LEVEL=1 to see what CUPTI says",)
    return ()


def _holds(file: Path, text: bytes) -> bool:
    """Whether a file holds a text; a piece of it at a time."""
    with file.open("rb") as opened:
        piece = b""
        while part := opened.read(_PIECE_BYTES):
            piece = piece[-len(text) :] + part
            if text in piece:
                return True
    return False
