"""The same stages timed without the profiler: the host's clock, and events of the device where it has them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from gemma_trace.capture.accelerators import DeviceClock, TimedEvent
from gemma_trace.metadata import RequestSample, StageSample
from gemma_trace.stages import Stage, stage_of_range


@dataclass(eq=False)
class _Span:
    stage: Stage
    parent: int
    begin_ns: int
    begin_event: TimedEvent | None
    end_ns: int = 0
    end_event: TimedEvent | None = None


class StageTimer:
    """Listens to the stage ranges of one request at a time; ranges that are no stage's cost nothing.

    Use from one thread. `start_request` forgets what came before, `finish_request` sums up.

    Args:
        devices: those that work for the model.
    """

    def __init__(self, *devices: torch.device) -> None:
        self._devices = DeviceClock(*devices)
        self.start_request()

    def start_request(self) -> None:
        """Forget all spans and tokens."""
        self._spans: list[_Span] = []
        self._open: list[int | None] = []
        self._tokens_ns: list[int] = []

    def begin(self, name: str) -> None:
        """A range begins."""
        stage = stage_of_range(name)
        if stage is None:
            self._open.append(None)
            return
        parent = next((index for index in reversed(self._open) if index is not None), -1)
        self._open.append(len(self._spans))
        event = self._devices.now()
        self._spans.append(_Span(stage, parent, time.perf_counter_ns(), event))

    def end(self) -> None:
        """The innermost range ends."""
        now = time.perf_counter_ns()
        index = self._open.pop()
        if index is not None:
            self._spans[index].end_ns = now
            self._spans[index].end_event = self._devices.now()

    def tokens_on_host(self, count: int = 1) -> None:
        """Token ids of each sequence have reached the host, so many at once."""
        self._tokens_ns += [time.perf_counter_ns()] * count

    def finish_request(
        self, image: str, prompt_tokens: int | None = None, image_pixels: tuple[int, ...] = ()
    ) -> RequestSample:
        """The request as a sample; waits for the devices, after all clocks have been read.

        Args:
            image: the label of the request's image, or of the request.
            prompt_tokens: of one of its prompts.
            image_pixels: of each of a prompt's images.

        Raises:
            ValueError: no request range was closed, or no token arrived.
        """
        self._devices.wait()
        root = next((span for span in self._spans if span.stage is Stage.REQUEST), None)
        if root is None or not self._tokens_ns:
            raise ValueError("a request needs its range and at least one token")
        tokens = tuple(token - root.begin_ns for token in self._tokens_ns)
        before_token = [span for span in self._spans if span.end_ns <= self._tokens_ns[0]]
        ttft_stages = self._sum_up(before_token)
        load = ttft_stages.get(Stage.IMAGE_LOAD.value)
        return RequestSample(
            wall_ns=root.end_ns - root.begin_ns,
            ttft_ns=tokens[0] - (load.host_ns if load else 0),
            token_ns=tokens,
            image=image,
            ttft_stages=ttft_stages,
            stages=self._sum_up([span for span in self._spans if span is not root]),
            prompt_tokens=prompt_tokens,
            image_pixels=image_pixels,
        )

    def _sum_up(self, spans: list[_Span]) -> dict[str, StageSample]:
        """Exclusive times by stage: a span's own less those of its children."""
        stages: dict[str, StageSample] = {}

        def add(stage: Stage, host_ns: int, device_ns: int | None, count: int) -> None:
            before = stages.get(stage.value, StageSample(0, None if device_ns is None else 0, 0))
            device = None if device_ns is None else (before.device_ns or 0) + device_ns
            stages[stage.value] = StageSample(before.host_ns + host_ns, device, before.count + count)

        for span in spans:
            host_ns, device_ns = span.end_ns - span.begin_ns, self._elapsed_ns(span)
            add(span.stage, host_ns, device_ns, 1)
            parent = self._spans[span.parent]
            if parent in spans:
                add(parent.stage, -host_ns, None if device_ns is None else -device_ns, 0)
        return stages

    def _elapsed_ns(self, span: _Span) -> int | None:
        if span.begin_event is None or span.end_event is None:
            return None
        elapsed_ms: float = span.begin_event.elapsed_time(span.end_event)
        return round(elapsed_ms * 1e6)
