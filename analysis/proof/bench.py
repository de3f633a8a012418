"""One case in a process of its own, in which requests with and without each of its faults alternate.

Two processes differ by more than many a fault, two requests that follow each other in one process by little. So all
that a fault can be switched by is switched between requests: attributes of objects in hand, torch's threads, the model
out of two. The times are those without the profiler. The same process then captures the slow requests for the advice.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
import torch
import transformers

from analysis.proof.cases import Case, Model
from gemma_trace.capture import sending
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.gemma3 import gemma3_processor
from gemma_trace.capture.generation import greedy_generation
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.random_weights import build_random
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.sending import Sender
from gemma_trace.capture.session import profile
from gemma_trace.capture.tiny import tiny_config
from gemma_trace.capture.workload import build_requests

PROFILED: Final = 5
"""Requests that the advice is given."""
FEWEST_PASSES: Final = 4
"""So many are made, however long they take."""
MOST_PASSES: Final = 60
RESULT: Final = "measured.json"


@dataclass(frozen=True)
class Measured:
    """What a case's process found.

    Attributes:
        saved_ms: by fault, what a request saves without it: a value per pass, in which each side was sent once.
        slow_ms: what the request with all faults took in each pass.
        trace: of the requests with all faults.
    """

    saved_ms: dict[str, list[float]]
    slow_ms: list[float]
    trace: str


class _Deaf:
    """A sink that hears nothing."""

    def begin(self, name: str) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


@dataclass
class Bench:
    """The models and the processor of a case, and which faults they have at the moment."""

    case: Case
    folder: Path
    faults: frozenset[str] = frozenset()
    models: dict[str, Any] = field(default_factory=dict)
    senders: dict[str, Sender] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image_processors = {
            backend: processor_of(self.case.model, backend).image_processor for backend in ("pil", "torchvision")
        }
        self.processor = processor_of(self.case.model, "torchvision")
        self.processor.save_pretrained(self.folder / "processor")

    @property
    def dtype(self) -> str:
        """Of the model that the requests are sent to."""
        halves = "float32" in self.case.faults and "float32" not in self.faults
        return "bfloat16" if halves else "float32"

    def turn(self, faults: Collection[str]) -> None:
        """Have these faults from now on."""
        self.faults = frozenset(faults)
        if self.dtype not in self.models:
            self.models[self.dtype] = model_of(self.case.model, self.dtype)
        self.models[self.dtype].set_attn_implementation("eager" if "attention" in faults else "sdpa")
        self.processor.image_processor = self.image_processors["pil" if "images" in faults else "torchvision"]
        torch.set_num_threads(1 if "threads" in faults else self.case.cores)

    @contextmanager
    def interfering(self) -> Iterator[None]:
        """While the block runs, images are loaded and processors made as slowly as the faults say."""
        decoded, make_inputs = sending._decoded, Sender._inputs

        def sleeping(request: Any) -> Any:
            if "loader" in self.faults:
                time.sleep(self.case.sleep_ms / 1e3)
            return decoded(request)

        def with_new_processor(sender: Any, *arguments: Any) -> Any:
            if "processor" in self.faults:
                transformers.AutoProcessor.from_pretrained(self.folder / "processor")
            return make_inputs(sender, *arguments)

        sending._decoded = sleeping
        Sender._inputs = with_new_processor  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            sending._decoded = decoded
            Sender._inputs = make_inputs  # type: ignore[method-assign]

    @property
    def options(self) -> CaptureConfig:
        """What all requests have in common."""
        model = self.case.model
        return CaptureConfig(
            device="cpu", image_sizes=(model.image,), prompt_tokens=model.prompt_tokens, stacks=self.asks_for_stacks
        )

    @property
    def asks_for_stacks(self) -> bool:
        """Whether only Python's frames tell of a fault; they make the profiler slow."""
        return "processor" in self.case.faults

    def request_ms(self, faults: Collection[str]) -> float:
        """How long a request with these faults takes, from its image's file to its last token."""
        self.turn(faults)
        if self.dtype not in self.senders:
            loaded = LoadedModel(self.models[self.dtype], self.processor, torch.device("cpu"), "random")
            requests = build_requests(self.options, self.folder)
            with greedy_generation(loaded.model, self.options) as generation:
                self.senders[self.dtype] = Sender(self.options, loaded, generation, requests)
        sender, ranges = self.senders[self.dtype], RangeStack(_Deaf())
        with greedy_generation(self.models[self.dtype], self.options):
            began_ns = time.perf_counter_ns()
            sender.send(sender.requests[0], ranges, lambda count: None)
            return (time.perf_counter_ns() - began_ns) / 1e6

    def capture(self) -> Path:
        """A trace of requests with all faults."""
        self.turn(self.case.faults)
        options = replace(self.options, runs=3, warmup=1, profile_runs=PROFILED, force=True)
        options = replace(options, output=self.folder, name="slow")
        return profile(options, model=self.models[self.dtype], processor=self.processor).path


def passes(bench: Bench, ends_s: float, said: Callable[[str], None]) -> tuple[dict[str, list[float]], list[float]]:
    """Send the request with all faults and without each of them in turns, as often as there is time.

    The order of the sides is drawn by lot for each pair of passes, of which the second is the first backwards: what
    grows slowly meanwhile adds as much to each side.

    Args:
        ends_s: no pass begins after this, by `time.monotonic`, but for the `FEWEST_PASSES`.
    """
    everything = frozenset(bench.case.faults)
    sides = {"": everything} | {fault: everything - {fault} for fault in bench.case.faults}
    for faults in sides.values():  # each once, so that none is the first of its kind
        bench.request_ms(faults)
    saved: dict[str, list[float]] = {fault: [] for fault in bench.case.faults}
    slow: list[float] = []
    drawn = random.Random(bench.case.name)
    order = list(sides)
    while len(slow) < MOST_PASSES and (len(slow) < FEWEST_PASSES or time.monotonic() < ends_s):
        if len(slow) % 2:
            order.reverse()
        else:
            drawn.shuffle(order)
        took = {side: bench.request_ms(sides[side]) for side in order}
        slow.append(took[""])
        for fault, values in saved.items():
            values.append(took[""] - took[fault])
        said(f"pass {len(slow)}: {took['']:,.0f} ms with all faults")
    return saved, slow


def measure(case: Case, folder: Path, ends_s: float, said: Callable[[str], None]) -> Measured:
    """Send a case's requests, and capture them.

    Args:
        folder: is the case's own.
        ends_s: when it has to be over, by `time.monotonic`.
    """
    with torch.inference_mode():
        bench = Bench(case, folder)
        with bench.interfering():
            began_s = time.monotonic()
            trace = bench.capture()
            said(f"captured in {time.monotonic() - began_s:.0f} s")
            saved, slow = passes(bench, ends_s, said)
    return Measured(saved, slow, str(trace))


def model_of(wanted: Model, dtype: str) -> Any:
    """A model like `tiny` of other widths, with random weights."""
    config = _config(wanted)
    return build_random(config, torch.device("cpu"), getattr(torch, dtype), 0).eval()


def processor_of(wanted: Model, backend: str) -> Any:
    """Its processor."""
    processor = gemma3_processor(_config(wanted), backend)
    processor.image_processor.size = {"height": wanted.side, "width": wanted.side}
    return processor


def _config(wanted: Model) -> Any:
    config = tiny_config()
    config.vision_config.image_size = wanted.side
    config.vision_config.patch_size = wanted.side // wanted.patches
    config.text_config.hidden_size = wanted.hidden
    config.text_config.intermediate_size = 4 * wanted.hidden
    return config


def save_model(wanted: Model, folder: Path) -> None:
    """Save such a model with its processor, as `gemma-trace capture --model FOLDER` takes it."""
    model_of(wanted, "float32").save_pretrained(folder)
    processor_of(wanted, "torchvision").save_pretrained(folder)


def main(given: bytes, folder: Path, seconds: float) -> None:
    """Measure a case, and write down what came of it.

    Args:
        given: the case as JSON.
        seconds: how long there is, from now on.
    """
    case = msgspec.json.decode(given, type=Case)
    ends_s = time.monotonic() + seconds
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-case.cores :])  # before torch starts any thread
    folder.mkdir(parents=True, exist_ok=True)

    def said(text: str) -> None:
        print(f"  {case.name}: {text}", file=sys.stderr, flush=True)

    with TemporaryDirectory() as scratch:
        found = measure(case, Path(scratch), ends_s, said)
        kept = folder / Path(found.trace).name
        kept.write_bytes(Path(found.trace).read_bytes())
    (folder / RESULT).write_bytes(msgspec.json.encode(replace(found, trace=str(kept))))


if __name__ == "__main__":
    main(sys.argv[1].encode(), Path(sys.argv[2]), float(sys.argv[3]))
