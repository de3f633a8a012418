"""Stages that take what it takes to move their bytes: more arithmetic would cost nothing, fewer bytes would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.analysis.roofline.opcosts import has_shapes
from gemma_trace.stages import Stage

LEAST_MOVING: Final = 0.5
"""A stage of which moving its bytes takes a smaller share is bound by something else."""
MOST_MOVING: Final = 1.2
"""Where it would take more than this, the bytes came from a cache."""

LEFT: Final = 1 / 4
"""What is left at most savings: weights of 4 bits for those of 16."""

LEAST_SHARE: Final = 0.05
"""Where a stage takes a smaller share of the requests, no peaks are asked for."""

_STAGES: Final = (Stage.DECODE, Stage.PREFILL, Stage.VISION_TOWER)


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    trace = case.trace
    work = trace.is_activity if case.on_device else trace.is_op
    heavy = [stage for stage in _STAGES if _ns(case, stage) > LEAST_SHARE * case.wall_ns]
    if not heavy:
        return
    if not has_shapes(trace):
        yield Lacking(
            f"whether memory binds {heavy[0]} is unknown: the shapes of inputs were not recorded",
            "shapes: gemma-trace capture without --no-shapes, or torch.profiler with record_shapes=True",
        )
        return
    peaks = case.floors.device.peaks
    if peaks is None:
        yield Lacking(
            f"whether memory binds {heavy[0]} can't be told: no peak rates of this "
            f"{'device' if case.on_device else 'CPU'} are known",
            "its rates: gemma-trace doctor --measure > peaks.toml, then advise --peaks peaks.toml",
        )
        return
    for stage in heavy:
        floor = case.floors.by_stage.get(stage)
        if floor is None or floor.bound != "memory" or not floor.measured_ns:
            continue
        moving_ns = floor.bytes / peaks.bytes_per_ns
        if not LEAST_MOVING <= moving_ns / floor.measured_ns <= MOST_MOVING:
            continue
        spans = case.in_stage(stage) & work
        yield Candidate(
            change=(
                "Move fewer bytes for each token: quantized weights (8 or 4 bits), bfloat16 instead of float32, or "
                f"more requests at once, which share what is read (gemma-trace capture --batch {case.larger_batch})."
            ),
            where=stage,
            evidence=(
                f"its bytes, {floor.mean_bytes / 1e9:,.3f} GB, take {moving_ns / floor.requests / 1e6:,.3f} ms at the "
                f"memory's peak rate, {100 * moving_ns / floor.measured_ns:.0f}% of the "
                f"{floor.measured_ns / floor.requests / 1e6:,.3f} ms of its work"
            ),
            spans=spans,
            confidence=Confidence.MEDIUM,
            check=case.check("batch", case.larger_batch),
            left=LEFT,
        )


def _ns(case: Case, stage: Stage) -> int:
    return case.total_ns(case.in_stage(stage))


RULE: Final = Rule(
    "memory_bound",
    "Williams, Waterman, Patterson: Roofline (CACM 52(4), 2009); transformers documentation, quantization",
    _look,
    looks_for=(
        "`vision_tower`, `prefill` or `decode`: to move the bytes of their ops at the memory's peak rate "
        "takes half of their work's time or more"
    ),
    leaves="1/4 of them",
)
