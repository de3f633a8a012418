"""A cache of keys and values that is copied into a longer one at every token."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    ops = case.named(r"^aten::cat$", case.trace.is_op) & case.in_stage(Stage.DECODE)
    if not ops.any():
        return
    spans = case.within(ops)
    if case.on_device:
        spans &= case.trace.is_activity
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            'Give the cache its final length at once: generate(cache_implementation="static") '
            "(gemma-trace capture --cache static)."
        ),
        where=Stage.DECODE,
        evidence=f"{case.count(ops)} concatenations while decoding take {case.each_ms(spans):,.3f} ms",
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=case.check("cache", "static", before="dynamic"),
    )


RULE: Final = Rule(
    "kv_cache",
    "transformers documentation, KV cache strategies: static cache",
    _look,
    looks_for="`aten::cat` while decoding",
    leaves="nothing of it",
)
