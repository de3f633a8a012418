"""Ops on the CPU that use fewer threads than there are cores for the process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    if case.metadata is None or case.on_device or case.metadata.run.device != "cpu":
        return
    environment = case.metadata.environment
    threads, cores = environment.torch_threads, environment.usable_cores or environment.host_cores
    if not 0 < threads < cores:
        return
    spans = case.trace.is_op & (case.work_ns > 0)
    if not case.total_ns(spans):
        return
    yield Candidate(
        change=(
            f"Let ops use every core: torch.set_num_threads({cores}), or OMP_NUM_THREADS={cores} in the environment "
            f"(gemma-trace capture --threads {cores})."
        ),
        where=case.where(spans),
        evidence=f"{threads} of {cores} cores are used by ops, which take {case.each_ms(spans):,.3f} ms",
        spans=spans,
        confidence=Confidence.MEDIUM,
        check=case.check("threads", str(cores), before=str(threads)),
        left=threads / cores,
    )


RULE: Final = Rule(
    "cpu_threads",
    "PyTorch Performance Tuning Guide: CPU specific optimizations",
    _look,
    looks_for="ops of a CPU capture that used fewer threads than its process has cores",
    leaves="threads / cores of them",
)
