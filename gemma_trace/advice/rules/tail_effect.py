"""Matrix products whose last wave of blocks leaves most multiprocessors without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from gemma_trace.advice.case import Case
from gemma_trace.advice.checking import AGAIN
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.grids import blocks_of, multiprocessors_of, what_grids_lack
from gemma_trace.advice.rule import Candidate, Lacking, Rule

MOST_FULL: Final = 0.75
"""Products whose waves are fuller than this lose too little."""

LEAST_SHARE: Final = 0.1
"""Where such products have a smaller share of all products, their shapes don't matter."""

_FAMILIES: Final = ("gemm", "convolution")


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    products = case.kernels & case.of_families(*_FAMILIES)
    if not case.total_ns(products) or what_grids_lack(trace, products):  # of which another rule says what is missing
        return
    blocks, multiprocessors = blocks_of(trace), multiprocessors_of(trace)
    waves = -(-blocks // np.maximum(multiprocessors, 1))
    full = blocks / np.maximum(waves * multiprocessors, 1)
    spans = products & (multiprocessors > 0) & (blocks > multiprocessors) & (full < MOST_FULL)
    if case.total_ns(spans) <= LEAST_SHARE * case.total_ns(products):
        return
    longest = np.flatnonzero(spans)[np.argmax(case.work_ns[spans])]
    yield Candidate(
        change=(
            "Choose sizes (batch, tokens, channels) whose tiles fill the last wave of blocks, or have kernels tuned "
            'for them: torch.compile(mode="max-autotune").'
        ),
        where=case.where(spans),
        evidence=(
            f"{case.count(spans)} products take {case.share(spans, products)} of all matrix products with waves that "
            f"are {100 * np.average(full[spans], weights=case.work_ns[spans]):.0f}% full, e.g. {blocks[longest]:,} "
            f"blocks on {multiprocessors[longest]:,} multiprocessors, if each runs one block at a time"
        ),
        spans=spans,
        confidence=Confidence.LOW,
        check=AGAIN,
        left=np.where(spans, full, 1.0),
    )


RULE: Final = Rule(
    "tail_effect",
    "NVIDIA, Matrix Multiplication Background User's Guide: wave quantization",
    _look,
    looks_for=(
        "matrix products whose last wave of blocks leaves waves under 75% full, with a tenth of all products or more"
    ),
    leaves="the share that is full",
)
