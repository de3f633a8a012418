"""Text work that is the same for every request: chat template and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.stages import Stage


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    spans = case.in_stage(Stage.CHAT_TEMPLATE, Stage.TOKENIZATION) & case.trace.on_host
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            "Keep the token ids of what all prompts share (system prompt, template), and use a fast tokenizer "
            "(before transformers 5 use_fast=True)."
        ),
        where=case.stage_name(spans),
        evidence=f"chat template and tokenization take {case.each_ms(spans):,.3f} ms of the request's thread",
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
    )


RULE: Final = Rule(
    "prompt_processing",
    "transformers documentation, Tokenizers: fast tokenizers",
    _look,
    looks_for="the stages `chat_template` and `tokenization`",
    leaves="nothing of them",
)
