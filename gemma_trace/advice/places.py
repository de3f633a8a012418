"""Where some work lies: the layer, the op and the source line that most of it is in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.stages import LAYER_PREFIX
from gemma_trace.trace.events import NONE, BoolArray, IntArray

if TYPE_CHECKING:
    from gemma_trace.advice.case import Case

LEAST_SHARE: Final = 0.25
"""A layer, op or line with a smaller share of the work isn't where it is."""

_FOLDERS: Final = re.compile(r"^[^()]*[/\\](?=[^/\\()]*\.py\()")
_LAYER_PREFIX: Final = re.compile(rf"^(?:{re.escape(LAYER_PREFIX)}|nn\.Module: )")
_NUMBER: Final = re.compile(r"([_.])\d+$")


@dataclass(frozen=True)
class Place:
    """Where most of some work lies; each is "" where nothing says it, or it lies in no single one.

    Attributes:
        layer: the kind of layer, e.g. `Owlv2EncoderLayer_*`; with its number where it is one alone.
        op: the innermost op.
        line: the innermost Python frame that isn't of torch or what it stands on, where stacks were recorded.
    """

    layer: str = ""
    op: str = ""
    line: str = ""

    @property
    def short(self) -> str:
        """What is known of it, the line without the folders of its file."""
        return ", ".join(filter(None, (self.layer, self.op, _FOLDERS.sub("", self.line))))


def place_of(case: Case, spans: BoolArray) -> Place:
    """Where most of the work of some spans lies.

    Args:
        spans: bool [n]; of activities their launches are looked at, and they alone where there are any.
    """
    trace = case.trace
    worked = spans & (case.work_ns > 0)
    chosen = np.flatnonzero(worked & trace.is_activity if (worked & trace.is_activity).any() else worked)
    asked = np.arange(len(spans))
    asked[trace.activities] = trace.launch
    host, work_ns = asked[chosen], case.work_ns[chosen]
    linked = host >= 0
    around, ops, frames = (
        np.where(linked, innermost[np.maximum(host, 0)], NONE)
        for innermost in (trace.innermost_layer, trace.innermost_op, case.innermost_line)
    )
    layers = {_LAYER_PREFIX.sub("", name): time_ns for name, time_ns in _by_name(case, around, work_ns).items()}
    total_ns = int(work_ns.sum())
    kinds: dict[str, list[str]] = {}
    for name in layers:
        kinds.setdefault(_NUMBER.sub(r"\1*", name), []).append(name)
    kind = _heaviest({kind: sum(layers[name] for name in names) for kind, names in kinds.items()}, total_ns)
    return Place(
        kinds[kind][0] if len(kinds.get(kind, [])) == 1 else kind,
        _heaviest(_by_name(case, ops, work_ns), total_ns),
        _heaviest(_by_name(case, frames, work_ns), total_ns),
    )


def _by_name(case: Case, around: IntArray, work_ns: IntArray) -> dict[str, int]:
    """By the name of what is around some work how long it takes; without what nothing is around."""
    known = around >= 0
    codes, place = np.unique(case.trace.spans.name[around[known]], return_inverse=True)
    sums = np.zeros(len(codes), dtype=np.int64)
    np.add.at(sums, place, work_ns[known])
    return {case.trace.spans.names[code]: time_ns for code, time_ns in zip(codes.tolist(), sums.tolist(), strict=True)}


def _heaviest(sums: dict[str, int], total_ns: int) -> str:
    """The name with the most time; "" where that is less than `LEAST_SHARE` of all."""
    name = max(sums, key=lambda each: sums[each], default="")
    return name if name and sums[name] >= LEAST_SHARE * total_ns else ""
