"""The steps of a server's engine: one forward each, for one request or several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from gemma_trace.stages import Stage
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

StepKind = Literal["prefill", "decode", "mixed", "empty"]

_VLLM: Final = re.compile(r"execute_(?:\w+_)?context_(\d{1,9})\(([^()]{0,80})\)_generation_(\d{1,9})\(([^()]{0,80})\)")
_SGLANG: Final = re.compile(r"step\[(EXTEND|MIXED|DECODE|TARGET_VERIFY)\b([^\]]{0,400})\]")
_SGLANG_NUMBER: Final = re.compile(r"\b(bs|toks|c|g|c_sq|g_sq)=(\d{1,9})\b")
_QUERY_TOKENS: Final = re.compile(r"sq(\d{1,9})")

_VISION: Final = list(Stage).index(Stage.VISION_TOWER)
_PREFILL: Final = list(Stage).index(Stage.PREFILL)
_DECODE: Final = list(Stage).index(Stage.DECODE)


@dataclass(frozen=True)
class StepCounts:
    """What a step was of. A number is None where its name doesn't say it.

    Attributes:
        context_requests, context_tokens: those whose prompt it read, and how many tokens of it.
        generation_requests, generation_tokens: those that it gave a token each, and how many tokens it read for that.
    """

    context_requests: int | None
    context_tokens: int | None
    generation_requests: int | None
    generation_tokens: int | None

    @property
    def kind(self) -> StepKind:
        """`mixed` reads prompts and generates for others; `empty` does neither, and clears up after them."""
        if self.context_requests == 0:
            return "empty" if self.generation_requests == 0 else "decode"
        return "mixed" if self.generation_requests else "prefill"


def step_counts(name: str) -> StepCounts | None:
    """What the range of a step says of it: vLLM's in both of its forms, SGLang's; None for any other name.

    >>> step_counts("execute_context_1(296)_generation_0(0)")
    StepCounts(context_requests=1, context_tokens=296, generation_requests=0, generation_tokens=0)
    >>> step_counts("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk55086sqsq32sqsk55086)")
    StepCounts(context_requests=0, context_tokens=0, generation_requests=32, generation_tokens=32)
    >>> step_counts("step[EXTEND bs=15 toks=15360]")
    StepCounts(context_requests=15, context_tokens=15360, generation_requests=0, generation_tokens=0)
    >>> step_counts("step[MIXED bs=2 c=1 g=1 c_sq=5 c_sk=8 g_sq=1 g_sk=12]")
    StepCounts(context_requests=1, context_tokens=5, generation_requests=1, generation_tokens=1)
    """
    if match := _VLLM.fullmatch(name):
        return StepCounts(int(match[1]), _tokens(match[2]), int(match[3]), _tokens(match[4]))
    if match := _SGLANG.fullmatch(name):
        return _sglang_counts(match[1], {key: int(value) for key, value in _SGLANG_NUMBER.findall(match[2])})
    return None


def _sglang_counts(mode: str, numbers: dict[str, int]) -> StepCounts:
    """Of SGLang's step of a mode. Only its detailed names tell what of a mixed one is of prompts."""
    requests, tokens = numbers.get("bs"), numbers.get("g_sq")
    read = numbers.get("c_sq", numbers.get("toks"))
    if mode == "MIXED":
        return StepCounts(numbers.get("c", requests), read, numbers.get("g"), tokens)
    if mode == "EXTEND":
        return StepCounts(requests, read, 0, 0)
    return StepCounts(0, 0, requests, numbers.get("toks", tokens if tokens is not None else requests))


def _tokens(text: str) -> int | None:
    """How many tokens are asked for: all there is in the short form, `sq` in the long one."""
    if text.isdecimal() and len(text) <= 9:
        return int(text)
    match = _QUERY_TOKENS.match(text)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class EngineStep:
    """One step of the engine.

    Attributes:
        index: 0 for the trace's first.
        start_ns, end_ns: on the trace's clock; of its range on the host.
        track: code of the thread that it runs on.
        counts: what its name says.
    """

    index: int
    start_ns: int
    end_ns: int
    track: int
    counts: StepCounts

    @property
    def host_ns(self) -> int:
        """The length of its range."""
        return self.end_ns - self.start_ns


def engine_steps(trace: Trace) -> tuple[EngineStep, ...]:
    """The steps of a trace of an engine, by start; those of the thread that has most of them."""
    spans = trace.spans
    known = [step_counts(name) for name in spans.names]
    named = np.array([counts is not None for counts in known], dtype=bool)
    return _steps(trace, np.flatnonzero(named[spans.name] & trace.is_annotation), known)


def forwards(trace: Trace) -> tuple[EngineStep, ...]:
    """The steps of an engine whose ranges don't count: its prefills and decodes, one of one request each."""
    spans = trace.spans
    chosen = np.flatnonzero((trace.stage_range == _PREFILL) | (trace.stage_range == _DECODE))
    counts: list[StepCounts | None] = [None] * len(spans.names)
    for code in np.unique(spans.name[chosen]).tolist():
        stages = trace.stage_range[chosen[spans.name[chosen] == code]]
        counts[code] = StepCounts(1, None, 0, 0) if (stages == _PREFILL).any() else StepCounts(0, 0, 1, 1)
    return _steps(trace, chosen, counts)


def _steps(trace: Trace, chosen: IntArray, counts: list[StepCounts | None]) -> tuple[EngineStep, ...]:
    spans = trace.spans
    if not len(chosen):
        return ()
    outermost = nest(spans.ts_ns[chosen], spans.ends_ns(chosen), spans.track[chosen]).parent == NONE
    chosen = chosen[outermost]
    track = int(np.bincount(spans.track[chosen]).argmax())
    chosen = chosen[spans.track[chosen] == track]
    rows = zip(spans.name[chosen].tolist(), spans.ts_ns[chosen].tolist(), spans.ends_ns(chosen).tolist(), strict=True)
    steps: list[EngineStep] = []
    for name, start_ns, end_ns in rows:
        known = counts[name]
        assert known is not None
        steps.append(EngineStep(len(steps), start_ns, end_ns, track, known))
    return tuple(steps)


def hides_encoder(trace: Trace, steps: Sequence[EngineStep]) -> bool:
    """Whether an engine's prefills are in a trace, and nothing that tells an image encoder from them."""
    reads = any(step.counts.context_requests != 0 for step in steps)
    return reads and not (trace.stage_range == _VISION).any()
