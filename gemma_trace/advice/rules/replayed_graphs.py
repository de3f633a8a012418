"""Graphs that are replayed: what they run has no ops, so that rules which look at ops do not see it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.rule import Candidate, Lacking, Rule

LEAST_SHARE: Final = 0.2
"""Of the device's work; less of it leaves enough to see."""

_REPLAYS: Final = r"(?i)graph_?launch"


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    replays = case.named(_REPLAYS, trace.is_call)
    if not replays.any():
        return
    replayed = case.with_activities(replays) & trace.is_activity
    share = case.total_ns(replayed) / max(1, case.total_ns(trace.is_activity))
    if share > LEAST_SHARE:
        yield Lacking(
            f"the ops of {100 * share:.0f}% of the device's work, which replayed graphs launch; rules that look at ops "
            "(attention_mask, dtype_casts, kv_cache, layout_copies, unfused_attention) do not see it",
            "the same without graphs, in another trace: gemma-trace capture --compile off, or vLLM's "
            "enforce_eager=True",
        )


RULE: Final = Rule(
    "replayed_graphs",
    "PyTorch documentation, CUDA semantics: CUDA Graphs",
    _look,
    looks_for="graph launches with a fifth of the device's work or more",
    leaves="no finding: it says which rules see nothing of the ops in them",
)
