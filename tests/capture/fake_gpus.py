"""GPUs that take the time that a test says, on a clock that stands still while the host works.

Each GPU has streams, which do one thing after another. The host goes on at once when it asks for something, and waits
where it says so. Events of different GPUs can't be compared, as real ones can't.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

MS = 1_000_000


@dataclass(eq=False)
class Stream:
    """A queue of work: when the last of it will be done."""

    gpus: Gpus
    device: torch.device
    done_ns: int = 0

    def wait_event(self, event: Event) -> None:
        self.done_ns = max(self.done_ns, event.at_ns)


@dataclass(eq=False)
class Event:
    """In the place of torch.cuda.Event."""

    gpus: Gpus
    timed: bool
    at_ns: int = 0
    device: torch.device | None = None

    def record(self, stream: Stream) -> None:
        self.at_ns = stream.done_ns = max(stream.done_ns, self.gpus.now_ns)
        self.device = stream.device

    def elapsed_time(self, end: Event) -> float:
        if not (self.timed and end.timed) or self.device != end.device:
            raise RuntimeError("events of one device, made with enable_timing=True, can be compared")
        if max(self.at_ns, end.at_ns) > self.gpus.now_ns:
            raise RuntimeError("device not ready")
        return (end.at_ns - self.at_ns) / MS


@dataclass(eq=False)
class Gpus:
    """Some GPUs, each with the stream that work goes to; what torch.cuda is asked for is asked of them."""

    count: int
    now_ns: int = 0
    streams: list[Stream] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.devices = [torch.device("cuda", index) for index in range(self.count)]
        self.streams = [Stream(self, device) for device in self.devices]

    def current_stream(self, device: torch.device) -> Stream:
        return self.streams[self.devices.index(device)]

    def new_stream(self, device: torch.device) -> Stream:
        self.streams.append(Stream(self, device))
        return self.streams[-1]

    def work(self, index: int, ms: float) -> None:
        """Ask a GPU for work of so long."""
        stream = self.streams[index]
        stream.done_ns = max(stream.done_ns, self.now_ns) + round(ms * MS)

    def hand_over(self, source: int, target: int) -> None:
        """Copy from one GPU to another, in no time: what follows on either waits for what came before on both."""
        both = self.streams[source], self.streams[target]
        for stream in both:
            stream.done_ns = max(other.done_ns for other in both)

    def synchronize(self, device: torch.device) -> None:
        """The host waits for a GPU."""
        self.now_ns = max([self.now_ns, *(stream.done_ns for stream in self.streams if stream.device == device)])


def fake_gpus(monkeypatch: pytest.MonkeyPatch, count: int) -> Gpus:
    """Put GPUs into torch's place, and their host's clock into Python's."""
    gpus = Gpus(count)
    properties = SimpleNamespace(name="Fake GPU", total_memory=80 << 30, uuid="none")
    monkeypatch.setattr(time, "perf_counter_ns", lambda: gpus.now_ns)
    monkeypatch.setattr(torch.cuda, "Event", lambda enable_timing: Event(gpus, enable_timing))
    monkeypatch.setattr(torch.cuda, "Stream", gpus.new_stream)
    monkeypatch.setattr(torch.cuda, "current_stream", gpus.current_stream)
    monkeypatch.setattr(torch.cuda, "synchronize", gpus.synchronize)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (70 << 30, 80 << 30))
    return gpus
