"""The steps of a server's engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import COUNT, MS, STAGE
from gemma_trace.served.steps import EngineStep, StepCounts

MOST_ROWS: Final = 20
"""Kinds of steps that people see at most."""

_CONTEXT_REQUESTS: Final = Col(
    "context_requests",
    "context requests",
    COUNT,
    definition="requests of whose prompt the step read tokens; null where its name doesn't say",
)
_CONTEXT_TOKENS: Final = Col(
    "context_tokens", "context tokens", COUNT, definition="tokens of prompts that it read", priority=1
)
_GENERATION_REQUESTS: Final = Col(
    "generation_requests", "generation requests", COUNT, definition="requests that it gave a token"
)
_GENERATION_TOKENS: Final = Col(
    "generation_tokens", "generation tokens", COUNT, definition="tokens that it read for those", priority=2
)
_COUNTS: Final = (_CONTEXT_REQUESTS, _CONTEXT_TOKENS, _GENERATION_REQUESTS, _GENERATION_TOKENS)
_KIND: Final = Col(
    "kind",
    "step",
    STAGE,
    definition="`prefill`, `decode`, `mixed`, which reads prompts and generates for others, or `empty`",
    value="counts.kind",
)

STEP_FILE: Final = (
    Col("step", definition="its number, from 0", value="index"),
    _KIND,
    *(col.within("counts") for col in _COUNTS),
    Col("start_ns", definition="when it starts, on the trace's clock"),
    Col("host_ns", definition="length of its range on the host; on a GPU its work can end later"),
)
"""A row per step, in traces of vLLM and SGLang; each counts once, however many requests were in it."""

_HIDDEN: Final = (
    "The image encoder can't be told from the prefill here: its time is in `prefill`. To see it, record Python stacks "
    "(vLLM: torch_profiler_with_stack in --profiler-config; SGLang: with_stack), or run vLLM with GEMMA_TRACE_VLLM=1."
)


@dataclass(frozen=True)
class _Alike:
    """Steps of the same counts."""

    counts: StepCounts
    steps: int
    median_ns: float
    sum_ns: int


_ALIKE_COLS: Final = (
    _KIND,
    *(col.within("counts") for col in _COUNTS),
    Col("steps", "steps", COUNT),
    Col("median_ns", "median", MS),
    Col("sum_ns", "sum", MS, priority=3),
)


def steps_table(steps: Sequence[EngineStep], *, encoder_hidden: bool) -> Table[_Alike]:
    """A row per kind of step, in the order in which they first come."""
    alike: dict[StepCounts, list[int]] = {}
    for step in steps:
        alike.setdefault(step.counts, []).append(step.host_ns)
    rows = [_Alike(counts, len(times), median(times), sum(times)) for counts, times in alike.items()]
    notes = [_HIDDEN] if encoder_hidden else []
    if any((step.counts.context_requests or 0) + (step.counts.generation_requests or 0) > 1 for step in steps):
        notes.append("A step that several requests share counts once here.")
    table = Table("Steps of the engine, on the host", _ALIKE_COLS, rows, notes=tuple(notes))
    return table.cut(MOST_ROWS, "")


def steps_data(steps: Sequence[EngineStep]) -> Table[EngineStep]:
    """For files: every step."""
    return Table("Steps of the engine", STEP_FILE, steps)
