"""Stages in which the device waits for the host to launch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.bindings import BoundBy, binding
from gemma_trace.analysis.reasons import Kind, stage_reasons


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    if not case.on_device:
        return
    trace = case.trace
    bound = [
        each.reason
        for each in map(binding, stage_reasons(trace, case.only))
        if each.bound is BoundBy.KIND and each.kind is Kind.LAUNCH
    ]
    for reason in bound:
        names = [*trace.stage_names, "unlinked"]
        in_stage = case.stage == names.index(reason.stage)
        frames = case.named(r"^nn\.Module: |\.py\(\d+\): ", trace.on_host)
        waits = case.named(r"(?i)synchronize", trace.is_call)
        spans = in_stage & (trace.is_op | trace.is_call | frames) & ~waits
        if not case.total_ns(spans):
            continue
        share = 100 * reason.by_kind_ns(Kind.LAUNCH) / reason.time_ns
        yield Candidate(
            change=(
                'Launch fewer kernels, or several at once: torch.compile(mode="reduce-overhead") or CUDA graphs, or a '
                f"larger batch (gemma-trace capture --compile stages, --batch {case.larger_batch})."
            ),
            where=case.where(spans),
            evidence=(
                f"{share:.0f}% of the stage's {reason.time_ns / reason.requests / 1e6:,.3f} ms the device waits for "
                f"launches; {reason.launches / reason.requests:,.0f} of them, activities of "
                f"{(reason.median_activity_ns or 0) / 1e3:,.1f} µs (median)"
            ),
            spans=spans,
            confidence=Confidence.HIGH,
            check=case.check("compile", "stages"),
        )


RULE: Final = Rule(
    "launch_bound",
    "PyTorch blog, Accelerating PyTorch with CUDA Graphs",
    _look,
    looks_for="stages whose verdict is that the device waits for launches",
    leaves="nothing of their ops and launches on the host",
)
