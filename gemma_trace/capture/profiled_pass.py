"""The profiled pass: requests under the profiler, in cycles that it collects and exports one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity

from gemma_trace.capture.accelerators import activity_of, wait_for
from gemma_trace.capture.activation_memory import APART_WARNING, profiled_heap
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.cycles import CYCLE_REQUESTS, cycle_lengths
from gemma_trace.capture.phases import Progress
from gemma_trace.capture.sending import Sent

MODULES_WARNING: Final = (
    "the numbers in the names of nn.Module frames are counted anew in each cycle of the profiler, in the order of "
    "first calls, which differs where only some requests have images: one number may stand for several modules; "
    "--detail module names them for certain"
)
"""What a capture with stacks says of itself if its cycles may number modules differently."""


@dataclass(frozen=True)
class ProfiledPass:
    """What came of it.

    Attributes:
        exported: the profiler's own JSON of each cycle.
        sent: the requests that were recorded.
        warnings: what the trace is to say of the pass.
    """

    exported: tuple[Path, ...]
    sent: tuple[Sent, ...]
    warnings: tuple[str, ...]


def profiled_pass(
    config: CaptureConfig,
    devices: Sequence[torch.device],
    send: Callable[[int], Sent],
    progress: Progress,
    scratch: Path,
    longest_cycle: int = CYCLE_REQUESTS,
) -> ProfiledPass:
    """Record requests; before each cycle one more is sent, which the profiler throws away.

    Args:
        devices: those that work, for the model or for images.
        send: sends the request of a number, from 0 on, and comes back with its last token on the host.
        scratch: where the exports go.
        longest_cycle: how many requests a cycle may have.
    """
    lengths = cycle_lengths(config.profile_runs, longest_cycle)
    progress.phase("profiling", config.profile_runs + len(lengths))
    exported: list[Path] = []
    sent: list[Sent] = []
    with profiled_heap() as heap:
        for length in lengths:
            exported.append(scratch / f"profiler-{len(exported)}.json")
            heap.begin_cycle()
            with _profiler(config, devices, len(sent) + len(exported) - 1, length, exported[-1]) as profiler:
                for still_to_come in range(length, -1, -1):
                    answer = send(len(sent))
                    sent += [answer] if still_to_come < length else []
                    for device in devices:
                        wait_for(device)
                    heap.after_request(still_to_come)
                    progress.step()
                    if len(sent) == config.profile_runs:
                        progress.phase("collecting the profile", 1)
                    profiler.step()
            profiler.profiler = None  # with all that it recorded: it is part of a cycle of references
    return ProfiledPass(tuple(exported), tuple(sent), (APART_WARNING,) if heap.apart else ())


def _profiler(
    config: CaptureConfig, devices: Sequence[torch.device], first_step: int, length: int, exported: Path
) -> torch.profiler.profile:
    """The profiler of one cycle. Each has its own: one that goes on to the next can't be left by an exception.

    Args:
        first_step: which of all steps of the pass its first is, the request that is thrown away.
        length: how many requests it records.
        exported: where it writes what it has recorded.
    """
    activities = list(dict.fromkeys([ProfilerActivity.CPU, *filter(None, map(activity_of, devices))]))
    steps = torch.profiler.schedule(wait=0, warmup=1, active=length, repeat=1)
    profiler = torch.profiler.profile(
        activities=activities,
        schedule=lambda step: steps(max(step - first_step, 0)),
        on_trace_ready=lambda ready: ready.export_chrome_trace(str(exported)),
        record_shapes=config.shapes,
        profile_memory=config.memory,
        with_stack=config.stacks,
    )
    profiler.step_num = first_step  # the numbers of its steps are in the trace
    return profiler
