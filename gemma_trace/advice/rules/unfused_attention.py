"""Attention as two matrix products with a softmax between them: every score is written to memory and read back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gemma_trace.advice.case import Case
from gemma_trace.advice.findings import Confidence
from gemma_trace.advice.products import products_left
from gemma_trace.advice.rule import Candidate, Lacking, Rule
from gemma_trace.trace.events import BoolArray, IntArray
from gemma_trace.trace.places import Places

MOST_OPS: Final = 12
"""Between a product and its softmax lie a scale, a mask, casts and views, so many ops at most."""

LEAST_SHARE: Final = 0.01
"""Without ops it is only asked for them where softmax kernels take more of the requests than this."""

_SOFTMAX: Final = r"^aten::(_?softmax|_safe_softmax)$"
_PRODUCT: Final = r"^aten::(matmul|bmm|baddbmm|einsum)$"
_MASK: Final = r"^aten::(add_?|where|masked_fill_?|baddbmm)$"
"""What adds a mask to the scores."""


@dataclass(frozen=True)
class _Cores:
    """Where a thread computes attention: int64 [c] from where to where, and bool [c] whether scores are masked."""

    track: int
    begin_ns: IntArray
    end_ns: IntArray
    masked: BoolArray

    def of(self, chosen: BoolArray) -> _Cores:
        """Some of them."""
        return _Cores(self.track, self.begin_ns[chosen], self.end_ns[chosen], self.masked[chosen])


def _look(case: Case) -> Iterator[Candidate | Lacking]:
    softmax = case.named(_SOFTMAX, case.trace.is_op)
    if not softmax.any():
        kernels = case.of_families("softmax") & case.trace.is_activity
        if case.total_ns(kernels) > LEAST_SHARE * case.wall_ns:
            yield Lacking(
                "the ops that launched the softmax kernels were not recorded",
                "the CPU's ops as well as the device's activities",
            )
        return
    cores, count = _cores(case, softmax)
    spans = _during(case, cores)
    if not case.total_ns(spans):
        return
    stage = case.stage_name(spans) if case.where(spans) == case.stage_name(spans) else ""
    # A fused kernel computes the same products; but where a mask hides much of them, those may be left out.
    left = products_left(case.trace, _during(case, [each.of(~each.masked) for each in cores]), case.peaks)
    alone = case.within(softmax) & spans
    where = case.where(spans)
    whole = case.in_stage(stage) if stage else case.in_requests
    yield Candidate(
        change='Use fused attention: attn_implementation="sdpa" (or "flash_attention_2") when the model is loaded.',
        where=where,
        evidence=(
            f"{count / len(case.requests):,.0f} softmax ops between two matrix products: the softmax takes "
            f"{case.share(alone, whole)} of {f'the work in {stage}' if stage else 'all work'}, with its products "
            f"{case.share(spans, whole)}{_kept(case, spans, left)}"
        ),
        spans=spans,
        confidence=Confidence.HIGH,
        check=case.check("attn", "sdpa"),
        left=left,
    )


def _kept(case: Case, spans: BoolArray, left: npt.NDArray[np.float64]) -> str:
    """What of some spans is left, in words; "" where that is nothing."""
    kept_ms = float((case.work_ns * left)[spans].sum()) / len(case.requests) / 1e6
    return f"; {kept_ms:,.3f} ms of it is what the products take at the highest rate, fused too" if kept_ms else ""


def _cores(case: Case, softmax: BoolArray) -> tuple[list[_Cores], int]:
    """By thread where attention is computed, and how many softmaxes there are within requests."""
    trace = case.trace
    spans, outer = trace.spans, case.outermost(softmax)
    products = case.outermost(case.named(_PRODUCT, trace.is_op))
    masks = np.flatnonzero(case.named(_MASK, trace.is_op))
    cores, count = [], 0
    for track, rows in Places(spans.track[outer]):
        ops = _ops_of(case, track)
        softmaxes = outer[rows]
        near = products[spans.track[products] == track]
        if not len(near):
            continue
        starts, ends = spans.ts_ns[near], spans.ends_ns(near)
        before = np.searchsorted(ends, spans.ts_ns[softmaxes], side="right") - 1
        after = np.searchsorted(starts, spans.ends_ns(softmaxes))
        both = (before >= 0) & (after < len(near))
        softmaxes, before, after = softmaxes[both], before[both], after[both]
        begin, end = starts[before], ends[after]
        ops_before = np.searchsorted(ops, spans.ts_ns[softmaxes]) - np.searchsorted(ops, ends[before])
        ops_after = np.searchsorted(ops, starts[after]) - np.searchsorted(ops, spans.ends_ns(softmaxes))
        close = (ops_before <= MOST_OPS) & (ops_after <= MOST_OPS)
        begin, end, softmaxes = begin[close], end[close], softmaxes[close]
        added = spans.ts_ns[masks[spans.track[masks] == track]]
        masked = np.searchsorted(added, spans.ts_ns[softmaxes]) > np.searchsorted(added, begin)
        inside = sum(int(((begin >= request.start_ns) & (end <= request.end_ns)).sum()) for request in case.requests)
        if inside:
            cores.append(_Cores(track, begin, end, masked))
            count += inside
    return cores, count


def _ops_of(case: Case, track: int) -> IntArray:
    """int64, where the ops of a thread start that lie in no other op."""
    spans = case.trace.spans
    ops = case.outermost(case.trace.is_op & (spans.track == track))
    starts: IntArray = spans.ts_ns[ops]
    return starts


def _during(case: Case, cores: list[_Cores]) -> BoolArray:
    """bool [n], the ops and calls that start within some stretches of a thread, and the activities launched there."""
    spans = case.trace.spans
    host = np.zeros(len(spans), dtype=bool)
    for core in cores:
        candidates = np.flatnonzero((spans.track == core.track) & (case.trace.is_op | case.trace.is_call))
        place = np.searchsorted(core.begin_ns, spans.ts_ns[candidates], side="right") - 1
        ends = np.append(core.end_ns, np.iinfo(np.int64).min)[place]  # the last is for none
        host[candidates[(place >= 0) & (spans.ends_ns(candidates) <= ends)]] = True
    return case.with_activities(host)


RULE: Final = Rule(
    "unfused_attention",
    "FlashAttention (Dao et al. 2022); transformers' documentation, Attention backends",
    _look,
    looks_for="softmax between two matrix products, at most 12 ops from each",
    leaves=(
        "of the products their FLOPs at the peak rate, on a CPU at the rate of the fastest product in the"
        " trace; nothing of all else, nor of masked scores"
    ),
)
