"""Prompts that are padded: the model computes what nobody looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.foreign import list_of
from gemma_trace.stages import Stage
from gemma_trace.trace.places import distinct

LEAST_SHARE: Final = 0.1
"""Where the prefill takes a smaller share of the requests, it isn't asked how long their prompts are."""

_EMBEDDING: Final = r"^aten::embedding$"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    work = case.trace.is_activity if case.on_device else case.trace.is_op
    spans = case.in_stage(Stage.PREFILL) & work
    if case.total_ns(spans) <= LEAST_SHARE * case.wall_ns:
        return
    if case.metadata is None:
        if (prompts := _prompts(case)) > 1:
            yield Lacking(
                f"the length of each prompt: {prompts} are computed at once, and shapes do not show padding",
                "attention_mask.sum(-1) beside the trace, or a capture: gemma-trace capture --requests FILE",
            )
        return
    shares = _padded(case)
    if not any(shares.values()):
        return
    share = sum(shares.values()) / len(shares)
    yield Candidate(
        change=(
            'Pad prompts only to the longest one (padding="longest"), put prompts of similar length into a batch, or '
            "pack them into one row (flash_attention_2 takes position_ids)."
        ),
        where=Stage.PREFILL,
        evidence=(
            f"{100 * share:.0f}% of the tokens of a prompt are padding; the prefill takes {case.each_ms(spans):,.3f} ms"
        ),
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=AGAIN,
        left=case.by_request({index: 1 - padded for index, padded in shares.items()}),
    )


def _padded(case: Case) -> dict[int, float]:
    """By the index of each looked-at request, which share of its prompt's tokens is padding, where it is recorded."""
    assert case.metadata is not None
    workload, labels = case.metadata.workload, case.metadata.profiled_images
    columns = (workload.images, workload.prompt_tokens, workload.padding_tokens)
    by_label = {label: padding / max(1, tokens) for label, tokens, padding in zip(*columns, strict=False)}
    label_of = {request.index: labels[request.index] for request in case.requests if request.index < len(labels)}
    return {index: min(1.0, by_label[label]) for index, label in label_of.items() if label in by_label}


def _prompts(case: Case) -> int:
    """How many rows the largest lookup of tokens in a prefill has; 0 where shapes don't tell."""
    spans = case.trace.spans
    lookups = case.named(_EMBEDDING, case.trace.is_op) & case.in_stage(Stage.PREFILL) & (spans.input_dims >= 0)
    rows = [0]
    for code in distinct(spans.input_dims[lookups]).tolist():
        dims = list_of(spans.texts[code])
        if len(dims) > 1 and isinstance(dims[1], list) and len(dims[1]) == 2 and type(dims[1][0]) is int:
            rows.append(dims[1][0])
    return max(rows)


RULE: Final = Rule(
    "padding",
    "transformers documentation, Padding and truncation; DataCollatorWithFlattening",
    _look,
    looks_for="the capture says how many tokens of prompts are padding",
    leaves="the share of the prefill that isn't",
)
