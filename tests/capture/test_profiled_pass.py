"""The profiled pass in cycles: what it records is what one cycle does."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gemma_trace.analysis.allocations import memory_use
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.capture import session
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.cycles import cycle_lengths
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.phases import NoProgress
from gemma_trace.capture.profiled_pass import ProfiledPass, profiled_pass
from gemma_trace.capture.ranges import profiler_is_running
from gemma_trace.capture.sending import Sent
from gemma_trace.errors import CaptureError
from gemma_trace.health.examine import examine
from gemma_trace.trace.events import ANNOTATION_CATEGORIES, OP_CATEGORIES
from gemma_trace.trace.trace import Trace, load

CPU = torch.device("cpu")


class Steps:
    """Progress, as what is said of it."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def phase(self, name: str, steps: int) -> None:
        self.said.append([name, steps, 0])

    def step(self) -> None:
        self.said[-1][2] += 1


def send(index: int) -> Sent:
    with torch.profiler.record_function(f"request {index}"):
        torch.ones(2).add(1)
    return Sent(index, ())


def passed(
    folder: Path, send: Any = send, progress: Any = None, requests: int = 5, devices: Sequence[torch.device] = (CPU,)
) -> ProfiledPass:
    config = CaptureConfig(device="cpu", profile_runs=requests)
    return profiled_pass(config, devices, send, progress or NoProgress(), folder, longest_cycle=2)


@pytest.mark.parametrize("requests", [*range(1, 34), 100, 101])
def test_cycles_are_as_few_and_as_even_as_can_be(requests: int) -> None:
    lengths = cycle_lengths(requests, 10)
    assert sum(lengths) == requests
    assert len(lengths) == -(-requests // 10)
    assert max(lengths) <= 10
    assert max(lengths) - min(lengths) <= 1


def test_each_request_is_recorded_once_and_those_before_the_cycles_are_not(tmp_path: Path) -> None:
    asked: list[int] = []
    progress = Steps()

    def heard(index: int) -> Sent:
        asked.append(index)
        return send(index)

    found = passed(tmp_path, heard, progress)
    assert asked == [0, 0, 1, 2, 2, 3, 4, 4], "each cycle's own first request warms it up"
    assert [sent.prompt_tokens for sent in found.sent] == [0, 1, 2, 3, 4]
    assert progress.said == [["profiling", 8, 8], ["collecting the profile", 1, 0]]
    names = [
        [event["name"] for event in json.loads(file.read_bytes())["traceEvents"] if event["ph"] == "X"]
        for file in found.exported
    ]
    requests = [[name for name in cycle if name.startswith("request")] for cycle in names]
    assert requests == [["request 0", "request 1"], ["request 2", "request 3"], ["request 4"]]
    steps = [name for cycle in names for name in cycle if name.startswith("ProfilerStep")]
    assert steps == [f"ProfilerStep#{step}" for step in (1, 2, 4, 5, 7)]


@pytest.mark.parametrize("at", range(3, 6))
def test_who_is_interrupted_in_the_second_cycle_leaves_no_profiler_behind(at: int, tmp_path: Path) -> None:
    asked: list[int] = []

    def interrupted(index: int) -> Sent:
        asked.append(index)
        if len(asked) == at + 1:
            raise KeyboardInterrupt
        return send(index)

    with pytest.raises(KeyboardInterrupt):
        passed(tmp_path, interrupted)
    assert not profiler_is_running()
    assert len(passed(tmp_path, requests=3).sent) == 3


def test_an_export_that_fails_in_the_second_cycle_is_what_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.profiler.profile.export_chrome_trace

    def export(self: Any, path: str) -> Any:
        if path.endswith("-1.json"):
            raise OSError(28, "No space left on device")
        return real(self, path)

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", export)
    with pytest.raises(OSError, match="No space left"):
        passed(tmp_path)
    assert not profiler_is_running()


def captured(quick: LoadedModel, folder: Path, monkeypatch: pytest.MonkeyPatch, longest: int) -> Trace:
    monkeypatch.setattr(session, "profiled_pass", partial(profiled_pass, longest_cycle=longest))
    sizes = ("32x24", "24x32")
    options: dict[str, Any] = {"warmup": 0, "runs": 0, "profile_runs": 2, "new_tokens": 3, "image_sizes": sizes}
    options |= {"stacks": True, "memory": True, "detail": "stage"}
    found = session.profile(model=quick.model, processor=quick.processor, output=folder, **options)
    assert found.metadata.profiled_images == sizes
    return load(found.path)


def kinds_of(trace: Trace) -> list[Counter[str]]:
    """By request, how many ops, ranges and modules' frames it has of each name."""
    spans = trace.spans
    is_module = np.array([name.startswith("nn.Module: ") for name in spans.names], dtype=bool)[spans.name]
    shown = is_module | spans.in_categories(OP_CATEGORIES | ANNOTATION_CATEGORIES)
    inside = [(spans.ts_ns >= request.start_ns) & (spans.ts_ns < request.end_ns) for request in trace.requests]
    return [Counter(spans.names[name] for name in spans.name[shown & own]) for own in inside]


def test_a_trace_of_two_cycles_is_one_of_one_cycle(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = captured(quick, tmp_path / "one", monkeypatch, 2)
    two = captured(quick, tmp_path / "two", monkeypatch, 1)
    assert kinds_of(two) == kinds_of(one)
    assert any("nn.Module: " in name for name in kinds_of(two)[1])
    for trace in (one, two):
        assert len(trace.requests) == 2
        assert trace.nesting.clipped == 0
    stages = [[(row.request, row.stage) for row in breakdown(trace).rows] for trace in (one, two)]
    assert stages[0] == stages[1]
    before, after = (memory_use(trace) for trace in (one, two))
    assert before is not None
    assert after is not None
    assert [device.caches for device in after.devices] == [device.caches for device in before.devices]
    assert [row.allocated_bytes for row in after.stages] == [row.allocated_bytes for row in before.stages]
    codes = {finding.code for finding in examine(two).findings} - {finding.code for finding in examine(one).findings}
    assert codes <= {"uneven_steps", "slow_first_step"}, "what depends on the machine"


def test_a_cycle_that_was_never_exported_is_one_line_and_no_file(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.profiler.profile.export_chrome_trace

    def export(self: Any, path: str) -> None:
        if path.endswith("-0.json"):
            real(self, path)

    monkeypatch.setattr(torch.profiler.profile, "export_chrome_trace", export)  # as Kineto does on a full disk
    monkeypatch.setattr(session, "profiled_pass", partial(profiled_pass, longest_cycle=1))
    with pytest.raises(CaptureError, match="the JSON that the profiler exported is not valid"):
        session.profile(
            model=quick.model,
            processor=quick.processor,
            output=tmp_path,
            warmup=0,
            runs=0,
            profile_runs=2,
            detail="stage",
            image_sizes="32x24",
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("others", "activities"),
    [
        ([], [torch.profiler.ProfilerActivity.CPU]),
        (["cuda:1"], [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]),
    ],
)
def test_the_device_that_processes_images_is_recorded_too(
    others: list[str], activities: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    class AskedError(Exception):
        """Nothing is recorded: there is no such device here."""

    def profile(**options: Any) -> Any:
        asked.append(options["activities"])
        raise AskedError

    monkeypatch.setattr(torch.profiler, "profile", profile)
    with pytest.raises(AskedError):
        passed(tmp_path, devices=[CPU, *map(torch.device, others)])
    assert asked == [activities]
