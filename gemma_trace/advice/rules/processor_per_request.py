"""A processor, tokenizer or configuration that is made anew within a request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.advice.rules.data_loader import LOADER

_MADE: Final = r"\.py\(\d+\): (from_pretrained|_from_pretrained|from_file|get_config_dict)$"
_SHARE: Final = 0.02
"""Without Python's frames it is only asked for them where preprocessing takes more of the request than this."""


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    made = case.named(_MADE, case.trace.on_host) & case.in_requests
    if made.any():
        spans = case.within(made) & ~case.trace.is_activity
        yield Candidate(
            change="Create the processor and the tokenizer once, before the first request, and keep them.",
            where=case.where(spans),
            evidence=f"{case.count(made)} calls of from_pretrained within a request take {case.each_ms(spans):,.3f} ms",
            spans=spans,
            confidence=Confidence.HIGH,
            check=AGAIN,
        )
        return
    frames = case.named(r"\.py\(\d+\): ", case.trace.on_host)
    text = case.in_stage("preprocessing", "tokenization", "chat_template") & case.trace.on_host
    text &= ~case.within(case.named(LOADER, case.trace.on_host))
    if not frames.any() and case.total_ns(text) > _SHARE * case.wall_ns:
        yield Lacking(
            f"preprocessing without the images takes {case.each_ms(text):,.3f} ms, and no Python frames show why",
            "Python's stack: gemma-trace capture --stacks, or torch.profiler with with_stack=True",
        )


RULE: Final = Rule(
    "processor_per_request",
    "transformers documentation, Tokenizers and processors: loading",
    _look,
    looks_for="frames of `from_pretrained` within a request",
    leaves="nothing of them",
)
