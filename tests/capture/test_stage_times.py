"""The timed pass against clocks of one's own around the same modules, on the same requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import nn

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.timers import StageTimer
from gemma_trace.stages import Stage

REQUESTS = 7
MOST_NS, MOST_SHARE, MARGIN = 20_000, 0.01, 5
"""How much a stage's time may differ: 20 µs or 1%, and five times that where other programs run beside the tests."""


def clocked(module: nn.Module, spent: list[int]) -> Callable[[], None]:
    """Add the time of each forward to `spent`, in ns, by hooks that know nothing of ours."""
    began: list[int] = []
    before = module.register_forward_pre_hook(lambda *_: began.append(time.perf_counter_ns()))
    after = module.register_forward_hook(lambda *_: spent.append(time.perf_counter_ns() - began.pop()))
    return lambda: (before.remove(), after.remove())[0]


def test_stage_times_are_those_of_independent_hooks(quick: LoadedModel, inputs: Any) -> None:
    model = quick.model
    modules = {
        "vision_tower": model.model.vision_tower,
        "projector": model.model.multi_modal_projector,
        "text": model,
    }
    spent: dict[str, list[int]] = {name: [] for name in modules}
    timer = StageTimer(torch.device("cpu"))
    differences: dict[str, list[float]] = {"vision_tower": [], "projector": [], "prefill": [], "decode": []}
    with annotate(model, detail="stage", sink=timer) as ranges, torch.inference_mode():
        removals = [clocked(module, spent[name]) for name, module in modules.items()]
        try:
            for _ in range(REQUESTS):
                for times in spent.values():
                    times.clear()
                timer.start_request()
                with ranges.stage(Stage.REQUEST):
                    model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
                    timer.tokens_on_host()
                found = timer.finish_request("")
                prefill, *decode = spent["text"]
                theirs = {name: sum(spent[name]) for name in ("vision_tower", "projector")}
                if spent["vision_tower"] and found.stages["prefill"].host_ns < prefill * 0.5:
                    prefill -= theirs["vision_tower"] + theirs["projector"]  # transformers 5.17 has them inside
                theirs |= {"prefill": prefill, "decode": sum(decode)}
                assert (found.stages["decode"].count, len(decode)) == (2, 2)
                for name, ns in theirs.items():
                    allowed = max(MOST_NS * max(1, found.stages[name].count), MOST_SHARE * ns)
                    differences[name].append(abs(found.stages[name].host_ns - ns) / allowed)
        finally:
            for remove in removals:
                remove()
    assert {name: median(each) < MARGIN for name, each in differences.items()} == dict.fromkeys(differences, True)
