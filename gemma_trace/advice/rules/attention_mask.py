"""Attention masks that are built anew in every layer, though one would do for all."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, BoolArray, IntArray

FEWEST: Final = 4
"""A model has a mask or two of a kind (causal, sliding); more that are alike in one pass are of its layers."""

_OPS: Final = r"^aten::(tril|triu|tril_|triu_)$"
_FRAMES: Final = (
    r"\.py\(\d+\): (_?(make|build|create|prepare|update|expand|invert|compute|generate|get)_(\w*_)?mask\w*|"
    r"(eager|sdpa|flex_attention)_mask\w*)$"
)


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    named = case.named(_OPS, trace.is_op) | case.named(_FRAMES, trace.on_host)
    built = case.outermost(named & case.in_requests)
    again = built[_are_repeated(case, built)]
    if not len(again):
        return
    host = np.zeros(len(trace.spans), dtype=bool)
    host[again] = True
    spans = case.within(host)
    if not case.total_ns(spans):
        return
    yield Candidate(
        change="Build the attention mask once per forward pass, before the first layer, and pass it to all layers.",
        where=case.where(spans),
        evidence=(
            f"{len(built) / len(case.requests):,.0f} masks are built, {case.count(host)} of them like an earlier "
            f"one in the same pass; these take {case.each_ms(spans):,.3f} ms"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=AGAIN,
    )


def _are_repeated(case: Case, built: IntArray) -> BoolArray:
    """bool, which masks are like one before in the same pass, of those passes that have `FEWEST` alike.

    A stage range is a pass. Outside of stages a request is taken for one, and only what lies in a layer counts.
    """
    trace, spans = case.trace, case.trace.spans
    ranges = trace.innermost_range[built]
    in_stage = trace.stage_of_ranges(ranges) != UNATTRIBUTED_CODE
    starts = np.array([request.start_ns for request in case.requests])
    request = np.searchsorted(starts, spans.ts_ns[built], side="right")
    a_pass = np.where(in_stage, ranges, -1 - request)
    columns = np.stack((a_pass, spans.name[built], spans.input_dims[built]))
    _, kind = np.unique(columns, axis=1, return_inverse=True)
    kind = kind.reshape(-1)
    first = np.zeros(len(built), dtype=bool)
    first[np.unique(kind, return_index=True)[1]] = True
    many = np.bincount(kind, minlength=1)[kind] >= FEWEST
    repeated: BoolArray = many & ~first & (in_stage | (trace.innermost_layer[built] != NONE))
    return repeated


RULE: Final = Rule(
    "attention_mask",
    "transformers' masking_utils: masks are made once for all layers",
    _look,
    looks_for="4 masks or more of a kind that are built in one stage range, or in layers of a request",
    leaves="nothing of all but the first",
)
