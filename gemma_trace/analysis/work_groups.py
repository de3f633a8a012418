"""Work of a trace in groups: by what it is, or by what asked for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from gemma_trace.analysis.grouping import By
from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.analysis.timeline import UNLINKED
from gemma_trace.analysis.work_pieces import Work
from gemma_trace.stages import LAYER_PREFIX, MODULE_PREFIX
from gemma_trace.trace.events import NONE, Codes, IntArray
from gemma_trace.trace.trace import Trace

OUTSIDE_OPS: Final = "(host work outside ops)"
"""The row of host time in which no PyTorch op is the innermost span: Python, Pillow, waiting."""

OUTSIDE_MODULES: Final = "(outside modules)"
"""The row of work that no `nn.Module` frame and no module or layer range holds."""

WITHOUT_OP: Final = "(launched outside ops)"
"""The row of activities whose launching call lies in no op."""

_MODULE_PREFIX: Final = re.compile(rf"^(?:{re.escape(LAYER_PREFIX)}|{re.escape(MODULE_PREFIX)}|nn\.Module: )")


@dataclass(frozen=True)
class Groups:
    """Which group each piece of work is in, and which call. All columns have the work's length.

    Attributes:
        code: int64 [n], the group, an index into `names`.
        names: a name a group; a name may be a group's that has no piece.
        call: int64 [n], pieces of one call count as one; two pieces of different groups never share a call.
    """

    code: IntArray
    names: list[str]
    call: IntArray


def group(trace: Trace, work: Work, by: By) -> Groups:
    """Group work by what it is, or by what asked for it.

    What asked for an unlinked activity isn't known, so that it is in the group `unlinked`; what it is, its name tells:
    by kernel and by family it is where it would be with its launch. On the host there are no kernels: `by` kernel is by
    op there.
    """
    if by is By.FAMILY:
        return _by_family(trace, work)
    if by is By.KERNEL and work.on == "device":
        return Groups(trace.spans.name[work.span].astype(np.int64), list(trace.spans.names), work.span)
    if by in (By.MODULE, By.LAYER):
        inner = trace.innermost_module if by is By.MODULE else trace.innermost_layer
        names = [_MODULE_PREFIX.sub("", name) for name in trace.spans.names]
        return _by_owner(trace, work, _found(inner, work.caller), names, OUTSIDE_MODULES)
    owner = _found(trace.innermost_op, work.caller)
    if work.on == "host":
        owner = np.where(owner == work.caller, owner, NONE)  # self time: the op is the innermost span itself
    outside = WITHOUT_OP if work.on == "device" else OUTSIDE_OPS
    if by is By.SHAPE:
        return _by_shape(trace, work, owner, outside)
    return _by_owner(trace, work, owner, list(trace.spans.names), outside)


def families(trace: Trace, work: Work) -> tuple[IntArray, list[str]]:
    """The family of each piece: by the names of the kernel and the launching op, of an unlinked one by its own alone.

    Returns:
        int64 [n], codes into the list. Host work outside ops is a family of that name.
    """
    spans = trace.spans
    op = _found(trace.innermost_op, work.caller)
    if work.on == "host":
        names = np.where(op == work.caller, spans.name[work.span], NONE) + 1
        return _named(
            names, lambda code: family_of(spans.names[code - 1]) if code else OUTSIDE_OPS, len(spans.names) + 1
        )
    second = np.where(op >= 0, spans.name[np.maximum(op, 0)], NONE).astype(np.int64)
    base = len(spans.names) + 1
    pairs, place = np.unique(spans.name[work.span].astype(np.int64) * base + second + 1, return_inverse=True)
    texts = ["", *spans.names]
    pair_list = pairs.tolist()
    return _named(
        place,
        lambda place: family_of(spans.names[pair_list[place] // base], texts[pair_list[place] % base]),
        len(pairs),
    )


def _named(code: IntArray, name_of: Callable[[int], str], codes: int) -> tuple[IntArray, list[str]]:
    """Codes → codes of their names, and the names; only codes that occur are named."""
    used = np.flatnonzero(np.bincount(code, minlength=codes)).tolist()
    named = [name_of(each) for each in used]
    distinct = list(dict.fromkeys(named))
    table = np.zeros(codes, dtype=np.int64)
    table[used] = [distinct.index(name) for name in named]
    return table[code], distinct


def _by_family(trace: Trace, work: Work) -> Groups:
    code, names = families(trace, work)
    if work.on == "device":
        return Groups(code, names, work.span)
    is_op = _found(trace.innermost_op, work.caller) == work.caller
    call = _calls(np.where(is_op, work.span, NONE), len(trace.spans))
    return Groups(np.where(is_op, code, len(names)), [*names, OUTSIDE_OPS], call)


def _by_shape(trace: Trace, work: Work, owner: IntArray, outside: str) -> Groups:
    """By op and the dimensions of its inputs."""
    spans = trace.spans
    op_name = spans.name[np.maximum(owner, 0)].astype(np.int64)
    dims = spans.input_dims[np.maximum(owner, 0)].astype(np.int64)
    pairs, place = np.unique(op_name * (len(spans.texts) + 1) + dims + 1, return_inverse=True)
    names = []
    for pair in pairs.tolist():
        name_code, dims_code = divmod(pair, len(spans.texts) + 1)
        names.append(f"{spans.names[name_code]} {shape_text(spans.texts[dims_code - 1]) if dims_code else ''}".rstrip())
    return _with_rest(trace, work, owner, np.asarray(place, dtype=np.int64), names, outside)


def shape_text(dims: str) -> str:
    """Kineto's `Input Dims` as people write shapes; inputs that are no tensors are left out.

    >>> shape_text("[[1, 256], [256, 768], [], []]")
    '1×256, 256×768'
    """
    shapes = (re.findall(r"\d+", shape) for shape in re.findall(r"\[([\d\s,]+)\]", dims))
    return ", ".join("×".join(sizes) for sizes in shapes if sizes)


def _by_owner(trace: Trace, work: Work, owner: IntArray, names: list[str], outside: str) -> Groups:
    """By the name of the host span that owns each piece."""
    code = trace.spans.name[np.maximum(owner, 0)].astype(np.int64)
    return _with_rest(trace, work, owner, code, names, outside)


def _with_rest(trace: Trace, work: Work, owner: IntArray, code: IntArray, names: list[str], outside: str) -> Groups:
    """Adds the groups of what has no owner and of what is unlinked."""
    code = np.where(owner >= 0, code, len(names))
    code = np.where(work.caller == NONE, len(names) + 1, code)
    call = work.span if work.on == "device" else _calls(owner, len(trace.spans))
    return Groups(code, [*names, outside, UNLINKED], call)


def _calls(owner: IntArray, beyond: int) -> IntArray:
    """A call an owner; a piece without one stands for itself."""
    return np.where(owner >= 0, owner, beyond + np.arange(len(owner)))


def _found(innermost: Codes, caller: IntArray) -> IntArray:
    """The span of a kind around each caller; `NONE` for no caller."""
    return np.where(caller >= 0, innermost[np.maximum(caller, 0)], NONE).astype(np.int64)
