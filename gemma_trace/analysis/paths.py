"""What is open around a piece of work: stages, other ranges, modules and ops, each by time, from the outermost in.

Every kind is a layer of its own, in which the innermost span of an instant is the one that started last of those open;
so what crosses spans of another kind loses nothing. A path merges the layers by start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np

from gemma_trace.stages import REQUEST_CODE
from gemma_trace.trace.events import NONE, Codes, IntArray
from gemma_trace.trace.open_spans import OpenSpans
from gemma_trace.trace.requests import is_step_name
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest

FRAME: Final = "nn.Module: "
"""What the names of torch's module frames begin with."""

Columns = tuple[IntArray, ...]
"""One int64 array a layer: the innermost span of the layer, `NONE` where none is open."""


class Layers:
    """The labelled spans of a trace by layer: stages, other annotations, module frames, ops.

    Attributes:
        is_labelled: bool [n], which spans are in any layer.
        parent: by layer int64 [n], the span of the layer around each of its spans.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        spans = trace.spans
        step = np.array([is_step_name(name) for name in spans.names], dtype=bool)[spans.name]
        framed = np.array([name.startswith(FRAME) for name in spans.names], dtype=bool)[spans.name]
        stages = trace.stage_range != NONE
        self._wanted = (
            stages & (trace.stage_range != REQUEST_CODE),
            trace.is_annotation & ~step & ~stages,
            framed & ~trace.is_annotation & ~stages,
            trace.is_op & ~framed & ~trace.is_annotation & ~stages,
        )
        self.is_labelled = np.logical_or.reduce(self._wanted)
        self._chosen = [trace.host[wanted[trace.host]] for wanted in self._wanted]
        self._open = [
            OpenSpans(spans.ts_ns[chosen], spans.ends_ns(chosen), spans.track[chosen]) for chosen in self._chosen
        ]
        self._inner = tuple(trace.innermost(wanted).astype(np.int64) for wanted in self._wanted)
        self.parent = tuple(self._parents(layer) for layer in range(len(self._wanted)))

    def _parents(self, layer: int) -> IntArray:
        """Ranges that cross are beside each other; what bleeds out of an op or a module is inside it all the same."""
        spans, chosen = self._trace.spans, self._chosen[layer]
        place = self._open[layer].parent
        if layer > 1:
            place = nest(spans.ts_ns[chosen], spans.ends_ns(chosen), spans.track[chosen]).parent
        parent = np.full(len(spans), NONE, dtype=np.int64)
        parent[chosen] = np.where(place >= 0, chosen[place], NONE) if len(chosen) else NONE
        return parent

    def of_spans(self, spans: IntArray) -> Columns:
        """What is open around spans of the host on their threads, and they themselves where they are labelled."""
        return tuple(inner[spans] for inner in self._inner)

    def of_launches(self, calls: IntArray) -> Columns:
        """The same of launching calls, but that their stage is the one that asked for them, on whichever thread."""
        asked = self._trace.asking_range[calls].astype(np.int64)
        is_request = (asked >= 0) & (self._trace.stage_range[asked] == REQUEST_CODE)
        return (np.where(is_request, NONE, asked), *(inner[calls] for inner in self._inner[1:]))

    def at(self, track: Codes, ts_ns: IntArray) -> Columns:
        """What is open on threads from these instants on."""
        innermost = []
        for chosen, opened in zip(self._chosen, self._open, strict=True):
            place = opened.at(track, ts_ns, after=True)
            innermost.append(np.where(place >= 0, chosen[place], NONE) if len(chosen) else place)
        return tuple(innermost)

    def innermost_layer(self, columns: Columns) -> IntArray:
        """int64, the layer of the innermost span of each path: what started last, another thread's stage first of all.

        `NONE` where nothing is open.
        """
        track = self._trace.spans.track
        keys = np.stack(columns)
        below = np.maximum.reduce(keys[1:])
        abroad = (keys[0] >= 0) & (below >= 0) & (track[keys[0]] != track[below])
        keys[0] = np.where(abroad, NONE, keys[0])
        return np.where(keys.max(axis=0) >= 0, keys.argmax(axis=0), NONE)


@dataclass(frozen=True)
class Paths:
    """The paths of everything asked for, and the paths above them. All columns but the last two have the length p.

    Attributes:
        span: int64, the innermost span of each path.
        up: int64, the path without it; `NONE` where nothing is left.
        root: int64, the root that the path is under.
        depth: int64, how many paths lie above each.
        place: int64 [q], the path of everything asked for; `NONE` where nothing is open.
        asked_root: int64 [q], its root.
    """

    span: IntArray
    up: IntArray
    root: IntArray
    depth: IntArray
    place: IntArray
    asked_root: IntArray


def paths(
    layers: Layers, asked: Sequence[Columns], roots: Sequence[IntArray], root_of_spans: Callable[[IntArray], IntArray]
) -> Paths:
    """Merge layers into paths.

    Args:
        asked: what is open around everything.
        roots: the root of everything, int64 from 0.
        root_of_spans: the root under which spans start; but for stages what starts under another one is left out.
    """
    root = np.concatenate(roots)
    columns = tuple(np.concatenate(parts) for parts in zip(*asked, strict=True))
    columns = (columns[0], *(_under(column, root, root_of_spans) for column in columns[1:]))
    known = _Distinct(len(columns) + 1)
    place = known.add(np.stack((*columns, root), axis=1))
    span, up, here = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    while len(rows := known.fresh()):
        *layer_columns, own_root = rows.T
        columns = tuple(layer_columns)
        layer = layers.innermost_layer(columns)
        span.append(np.stack(columns)[layer, np.arange(len(layer))])
        above = []
        for index, column in enumerate(columns):
            outer = np.where(layer == index, layers.parent[index][column], column)
            above.append(outer if index == 0 else _under(outer, own_root, root_of_spans))
        up.append(known.add(np.stack((*above, own_root), axis=1)))
        here.append(own_root)
    ups = np.concatenate(up)
    return Paths(np.concatenate(span), ups, np.concatenate(here), _depths(ups), place, root)


class _Distinct:
    """Numbers distinct rows in the order in which they come; a row with nothing open has none.

    Args:
        width: how many int64 a row has; the last one is its root.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._numbers: dict[bytes, int] = {}
        self._fresh: list[bytes] = []

    def add(self, rows: IntArray) -> IntArray:
        """int64 [k], the numbers of rows, int64 [k, width]; `NONE` for those with nothing open."""
        codes = np.full(len(rows), NONE, dtype=np.int64)
        real = np.flatnonzero((rows[:, :-1] >= 0).any(axis=1))
        keys = np.ascontiguousarray(rows[real]).view(f"V{8 * self._width}").reshape(-1).tolist()
        before, numbers = len(self._numbers), self._numbers
        codes[real] = [numbers.setdefault(key, len(numbers)) for key in keys]
        self._fresh += list(islice(numbers, before, None)) if len(numbers) > before else []
        return codes

    def fresh(self) -> IntArray:
        """int64 [f, width], the rows that came since this was asked last, by number."""
        rows = np.frombuffer(b"".join(self._fresh), dtype=np.int64).reshape(-1, self._width)
        self._fresh = []
        return rows


def _depths(up: IntArray) -> IntArray:
    """int64 [p], how many steps up there are from each path; each round doubles the steps."""
    depth, above = (up >= 0).astype(np.int64), up
    while (above >= 0).any():
        known = above >= 0
        depth = depth + np.where(known, depth[above], 0)
        above = np.where(known, above[above], NONE)
    return depth


def _under(spans: IntArray, root: IntArray, root_of_spans: Callable[[IntArray], IntArray]) -> IntArray:
    known = np.flatnonzero(spans >= 0)
    kept = spans.copy()
    kept[known[root_of_spans(spans[known]) != root[known]]] = NONE
    return kept
