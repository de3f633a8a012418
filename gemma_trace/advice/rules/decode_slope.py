"""Tokens that take longer and longer, as the cache of keys and values grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.decode import MIN_FOR_INTERVAL, DecodeRequest, DecodeStatistics
from gemma_trace.stages import Stage
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.requests import Request
from gemma_trace.trace.tree import nest

LEAST_GROWTH: Final = 0.05
"""The last token has to take this much longer than the first, as a share of that one."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    starts = [_steps_of(case, request) for request in case.requests]
    series = {place: np.diff(each) for place, each in enumerate(starts) if len(each) > MIN_FOR_INTERVAL}
    if not series:
        return
    requests = {place: DecodeRequest(tuple(steps.tolist())) for place, steps in series.items() if steps.sum() > 0}
    statistics = DecodeStatistics("steps", 1, tuple(requests.values()))
    if not requests or (interval := statistics.slope_interval_us) is None or interval[0] <= 0:
        return
    left = np.ones(len(case.trace.spans))
    lines = []
    for place, request in requests.items():
        line = _line_ns(request)
        if line[-1] > line[0] * (1 + LEAST_GROWTH):
            lines.append(line)
            _flatten(case, starts[place], line, left)
    spans = (left < 1) & ~case.named(r"(?i)synchronize", case.trace.is_call)
    if not lines or not case.total_ns(spans):
        return
    slope_us = statistics.slope.median if statistics.slope else 0
    first, last = (np.mean([line[end] for line in lines]) / 1e6 for end in (0, -1))
    yield Candidate(
        change=(
            "Keep all steps as short as the first one: fused attention, which reads the cache once "
            '(attn_implementation="sdpa"), a cache of fixed length (cache_implementation="static"), a sliding window, '
            "or a quantized cache."
        ),
        where=Stage.DECODE,
        evidence=(
            f"each token takes {slope_us:,.1f} µs longer than the one before (95%: {interval[0]:,.1f} to "
            f"{interval[1]:,.1f}): from {first:,.3f} ms to {last:,.3f} ms over {max(map(len, lines)):,} steps"
        ),
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=_check(case),
        left=left,
    )


def _check(case: Case) -> str:
    """The command for fused attention, or where the capture has that for a cache of fixed length."""
    is_eager = case.metadata is not None and case.metadata.config.get("attn") == "eager"
    return case.check("attn", "sdpa") if is_eager else case.check("cache", "static", before="dynamic")


def _steps_of(case: Case, request: Request) -> IntArray:
    """int64, when each step of decoding begins on the request's thread."""
    trace, spans = case.trace, case.trace.spans
    inside = (spans.ts_ns >= request.start_ns) & (spans.ts_ns < request.end_ns) & (spans.track == request.track)
    ranges = np.flatnonzero(inside & (trace.stage_range == list(Stage).index(Stage.DECODE)))
    outermost = nest(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges]).parent < 0
    starts: IntArray = spans.ts_ns[ranges[outermost]]
    return starts


def _line_ns(request: DecodeRequest) -> npt.NDArray[np.float64]:
    """float64 [steps], what each step takes by the line through them."""
    place = np.arange(len(request.intervals_ns), dtype=np.float64)
    slope = request.slope_ns or 0.0
    begin = max(0.0, float(np.median(np.asarray(request.intervals_ns) - slope * place)))
    line: npt.NDArray[np.float64] = begin + slope * place
    return line


def _flatten(case: Case, starts: IntArray, line: npt.NDArray[np.float64], left: npt.NDArray[np.float64]) -> None:
    """Note of the spans of each step, and of what they launched, what is left if it takes what the first does."""
    trace, spans = case.trace, case.trace.spans
    asked = np.arange(len(spans))
    asked[trace.activities] = trace.launch
    at = np.where(asked >= 0, spans.ts_ns[asked], starts[0] - 1)
    step = np.searchsorted(starts, at, side="right") - 1
    inside = (step >= 0) & (step < len(line))
    left[inside] = line[0] / line[step[inside]]


RULE: Final = Rule(
    "decode_slope",
    "transformers documentation, KV cache strategies; Theil 1950 and Sen 1968 for the slope",
    _look,
    looks_for=(
        "11 steps or more of decoding whose slope (Theil and Sen) is over 0 with 95% certainty, and which"
        " grow by over 5%"
    ),
    leaves="each step takes what the first takes by the line",
)
