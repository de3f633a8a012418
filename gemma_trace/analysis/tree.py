"""Request → stage → layer or module → op → kernel, with the time of each: one tree, whoever draws it.

A node's host time is the time in which a span below it was the innermost on its thread; its device time is the sum of
the activities that were launched from below it. So the children of a node add up to it, in both, to the nanosecond:
what a node keeps for itself is a child of its own, `(self)`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import numpy as np

from gemma_trace.analysis.paths import FRAME, Layers, Paths, paths
from gemma_trace.analysis.timeline import UNLINKED, Request
from gemma_trace.analysis.work_pieces import host_work
from gemma_trace.arguments import checked
from gemma_trace.stages import LAYER_PREFIX, MODULE_PREFIX, Stage
from gemma_trace.tabular import Tabular
from gemma_trace.trace.events import NONE, BoolArray, Codes, IntArray
from gemma_trace.trace.open_spans import OpenSpans
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.trace import Trace

OTHER_THREADS: Final = "other threads"
OUTSIDE: Final = "outside requests"
SELF: Final = "(self)"

DEEPEST: Final = 300
"""No tree is pruned to more levels than this."""

_NUMBER: Final = re.compile(r"(?<=[._])\d+(?=\.|$)")


class NodeKind(StrEnum):
    """What a node stands for."""

    TRACE = "trace"
    REQUEST = "request"
    STAGE = "stage"
    LAYER = "layer"
    MODULE = "module"
    RANGE = "range"
    OP = "op"
    KERNEL = "kernel"
    REST = "rest"


@dataclass(frozen=True, repr=False)
class TreeNode(Tabular):
    """A node, and what is below it.

    Attributes:
        name: of `layer` and `module` without what torch or we put before it.
        count: how many spans or activities it is; of a request how many requests; of a rest how many nodes, or 0.
        host_ns: equals the sum over the children, if there are any.
        device_ns: likewise.
        children: stages in the order a request goes through them, all others by time, the rest last.
    """

    name: str
    kind: NodeKind
    count: int
    host_ns: int
    device_ns: int
    children: tuple[TreeNode, ...] = ()

    def walk(self, depth: int = 0) -> Iterator[tuple[int, TreeNode]]:
        """This node and all below it, each with its depth, parents first."""
        left = [(depth, self)]
        while left:
            level, node = left.pop()
            yield level, node
            left += [(level + 1, child) for child in reversed(node.children)]

    def find(self, kind: NodeKind, name: str) -> list[TreeNode]:
        """The topmost nodes of a kind and a name."""
        matches, below = [], -1
        for depth, node in self.walk():
            if below < 0 or depth <= below:
                below = -1
                if node.kind is kind and node.name == name:
                    matches.append(node)
                    below = depth
        return matches

    def headline(self) -> str:
        """What the result is, in a line."""
        return (
            f"{self.kind.value} {self.name}: {self.host_ns / 1e6:,.3f} ms host, {self.device_ns / 1e6:,.3f} ms device"
        )

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per node, parents first."""
        for depth, node in self.walk():
            yield {
                "depth": depth,
                "kind": node.kind.value,
                "name": node.name,
                "count": node.count,
                "host_ns": node.host_ns,
                "device_ns": node.device_ns,
            }


@checked
def call_tree(trace: Trace, request: int | Request | None = None, *, each_layer: bool = False) -> TreeNode:
    """The tree of a trace, its requests as one.

    Args:
        request: only the request of this index.
        each_layer: one node per layer; else layers that differ in their number alone are one, e.g. `layers.*`.

    Raises:
        InputError: there is no such request.

    >>> [child.name for child in call_tree(trace).children]      # doctest: +SKIP
    ['request', 'outside requests']
    """
    requests = trace.chosen(request)
    builder = _Builder(trace, requests, everything=request is None, each_layer=each_layer)
    return builder.build()


def prune(node: TreeNode, depth: int, min_pct: float) -> TreeNode:
    """The tree without what lies deeper, and with small children as one: `(3 more)`. Sums stay what they are.

    Args:
        depth: how many levels below this node are kept.
        min_pct: children are small that have less than this share of this node's host and of its device time. Stages
            never are.
    """
    return _pruned(node, min(depth, DEEPEST), min_pct / 100 * node.host_ns, min_pct / 100 * node.device_ns)


def _pruned(node: TreeNode, depth: int, least_host_ns: float, least_device_ns: float) -> TreeNode:
    if depth <= 0:
        return replace(node, children=())
    large: list[TreeNode] = []
    small: list[TreeNode] = []
    for child in node.children:
        counts = child.host_ns >= least_host_ns > 0 or child.device_ns >= least_device_ns > 0
        everything = not (least_host_ns or least_device_ns)
        (large if counts or everything or child.kind is NodeKind.STAGE else small).append(child)
    kept = [_pruned(child, depth - 1, least_host_ns, least_device_ns) for child in large]
    if small and not large:
        return replace(node, children=())
    if small:
        host, device = sum(child.host_ns for child in small), sum(child.device_ns for child in small)
        name = SELF if [child.name for child in small] == [SELF] else f"({len(small)} more)"
        kept.append(TreeNode(name, NodeKind.REST, len(small), host, device))
    return replace(node, children=tuple(kept))


class _Builder:
    """Builds the tree in columns, a level at a time; only nodes become objects."""

    ROOTS: Final = (Stage.REQUEST.value, OTHER_THREADS, OUTSIDE, UNLINKED)

    def __init__(self, trace: Trace, requests: Sequence[Request], *, everything: bool, each_layer: bool) -> None:
        self._trace = trace
        self._requests = requests
        self._everything = everything
        self._layers = Layers(trace)
        self._labels, self._kinds = self._name_nodes(each_layer)
        # Columns of the nodes, the roots first; a parent always comes before its children.
        self._parent = [NONE] * len(self.ROOTS)
        self._label = list(range(len(self.ROOTS)))
        self._count: list[int] = []
        columns = [(request.start_ns, request.end_ns, request.track) for request in requests]
        start, end, track = np.array(columns, dtype=np.int64).T
        self._windows, self._own_windows = (
            OpenSpans(start, end, np.zeros(len(start), np.int64)),
            OpenSpans(start, end, track),
        )

    def build(self) -> TreeNode:
        trace = self._trace
        spans = trace.spans
        work = host_work(trace)
        track = spans.track[work.span]
        labelled = trace.host[self._layers.is_labelled[trace.host]]
        if not self._everything:
            labelled = labelled[self._in_windows(spans.ts_ns[labelled])]
        launch = np.maximum(trace.launch, 0)
        asked = self._layers.of_launches(launch)
        asking = np.where(asked[0] >= 0, spans.track[np.maximum(asked[0], 0)], spans.track[launch])
        groups = (
            (self._layers.of_spans(labelled), self._root_of(spans.ts_ns[labelled], spans.track[labelled])),
            (self._layers.at(track, work.start_ns), self._root_of(work.start_ns, track)),
            (asked, self._root_of(spans.ts_ns[launch], asking)),
        )
        parts = paths(self._layers, [group[0] for group in groups], [group[1] for group in groups], self._starts_under)
        _, host_node, launch_node = self._nodes_of(parts, [len(group[1]) for group in groups])
        launch_node[trace.launch < 0] = self.ROOTS.index(UNLINKED)
        self._put_below_labels(launch_node)
        self._host = self._sums(host_node, work.length_ns)
        kernels, device = self._kernels(launch_node)
        return self._assemble(kernels, device)

    def _starts_under(self, spans: IntArray) -> IntArray:
        """int64, the root under which each of these spans starts."""
        return self._root_of(self._trace.spans.ts_ns[spans], self._trace.spans.track[spans])

    def _nodes_of(self, paths: Paths, lengths: Sequence[int]) -> list[IntArray]:
        """The node of everything asked for, once all nodes are made: those above before those below."""
        up, root, label = paths.up.tolist(), paths.root.tolist(), self._labels_of(paths.span).tolist()
        node_of: dict[tuple[int, int], int] = {}
        nodes = [NONE] * len(up)
        for path in np.argsort(paths.depth, kind="stable").tolist():
            above = nodes[up[path]] if up[path] != NONE else root[path]
            key = (above, label[path])
            if key not in node_of:
                node_of[key] = len(self._parent)
                self._parent.append(above)
                self._label.append(label[path])
            nodes[path] = node_of[key]
        node = np.array(nodes, dtype=np.int64)
        self._count_spans(node, paths.span)
        held = np.where(paths.place >= 0, node[paths.place], paths.asked_root) if len(node) else paths.asked_root
        return np.split(held, np.cumsum(lengths)[:-1])

    def _put_below_labels(self, node: IntArray) -> None:
        """Give the stages that graph nodes are labelled with nodes of their own, below those of the launches.

        A launch of the same stage has them already.

        Args:
            node: int64 [m], the node of each activity, which is changed in place. A stage counts its launches.
        """
        launch, stage = self._trace.launch, self._trace.labelled_stage
        labelled = np.flatnonzero((stage != NONE) & (launch != NONE))
        labelled = labelled[stage[labelled] != self._trace.stage_at(launch[labelled])]
        stages = len(self._trace.stage_names)
        for pair, places in Places(node[labelled] * stages + stage[labelled]):
            self._parent.append(pair // stages)
            self._label.append(len(self.ROOTS) + pair % stages)
            self._count.append(len(distinct(launch[labelled[places]])))
            node[labelled[places]] = len(self._parent) - 1

    def _name_nodes(self, each_layer: bool) -> tuple[list[str], list[NodeKind]]:
        """Labels and kinds: the roots, the stages, then every name as a range, module, layer or op."""
        trace = self._trace
        labels = [*self.ROOTS, *trace.stage_names]
        kinds = [NodeKind.REQUEST] + [NodeKind.REST] * (len(self.ROOTS) - 1) + [NodeKind.STAGE] * len(trace.stage_names)
        known = {(kind, label): place for place, (kind, label) in enumerate(zip(kinds, labels, strict=True))}
        is_op = np.zeros(len(trace.spans.names), dtype=bool)
        is_op[distinct(trace.spans.name[trace.is_op])] = True
        self._of_name = np.zeros(len(trace.spans.names), dtype=np.int64)
        for code, name in enumerate(trace.spans.names):
            kind, label = _kind_and_label(name, is_op=bool(is_op[code]))
            if not each_layer and kind in (NodeKind.LAYER, NodeKind.MODULE):
                label = _NUMBER.sub("*", label)
            if (kind, label) not in known:
                known[kind, label] = len(labels)
                labels.append(label)
                kinds.append(kind)
            self._of_name[code] = known[kind, label]
        return labels, kinds

    def _labels_of(self, span: IntArray) -> IntArray:
        """int64, the label of each of these spans. A range inside of one of its stage is not that stage once more."""
        trace = self._trace
        stage = trace.stage_range[span].astype(np.int64)
        above = self._layers.parent[0][span]
        again = (above >= 0) & (trace.stage_range[np.maximum(above, 0)] == stage)
        return np.where((stage != NONE) & ~again, len(self.ROOTS) + stage, self._of_name[trace.spans.name[span]])

    def _count_spans(self, node: IntArray, span: IntArray) -> None:
        """A node counts the spans that are the innermost of its paths."""
        spans = max(1, len(self._trace.spans))
        counted = distinct(node * spans + span) // spans
        self._count = np.bincount(counted, minlength=len(self._parent)).tolist()

    def _in_windows(self, when: IntArray) -> BoolArray:
        inside: BoolArray = self._windows.at(np.zeros(len(when), np.int64), when, after=True) != NONE
        return inside

    def _root_of(self, when: IntArray, track: Codes) -> IntArray:
        """The root under which what starts then on this thread belongs."""
        root = np.where(self._in_windows(when), self.ROOTS.index(OTHER_THREADS), self.ROOTS.index(OUTSIDE))
        root[self._own_windows.at(track, when, after=True) != NONE] = 0
        return root

    def _sums(self, node: IntArray, length: IntArray) -> IntArray:
        sums = np.zeros(len(self._parent), dtype=np.int64)
        np.add.at(sums, node, length)
        return sums

    def _kernels(self, node: IntArray) -> tuple[dict[int, list[TreeNode]], IntArray]:
        """The kernels below each node, and what they take in all."""
        spans, activities, launch = self._trace.spans, self._trace.activities, self._trace.launch
        call = np.maximum(launch, 0)
        chosen = np.ones(len(activities), dtype=bool)
        if not self._everything:
            chosen = self._in_windows(spans.ts_ns[np.where(launch >= 0, call, activities)])
        length = spans.dur_ns[activities]
        below: dict[int, list[TreeNode]] = {}
        names = len(spans.names)
        pairs, place = np.unique(node[chosen] * names + spans.name[activities[chosen]], return_inverse=True)
        sums = np.zeros(len(pairs), dtype=np.int64)
        np.add.at(sums, place, length[chosen])
        counts = np.bincount(place, minlength=len(pairs))
        for pair, count, total in zip(pairs.tolist(), counts.tolist(), sums.tolist(), strict=True):
            kernel = TreeNode(spans.names[pair % names], NodeKind.KERNEL, count, 0, total)
            below.setdefault(pair // names, []).append(kernel)
        return below, self._sums(node[chosen], length[chosen])

    def _assemble(self, kernels: dict[int, list[TreeNode]], device: IntArray) -> TreeNode:
        """From the last node to the first, so that children are there before their parents."""
        parent, label, count = self._parent, self._label, self._count
        own_host, own_device = self._host.tolist(), device.tolist()
        below: list[list[TreeNode]] = [[] for _ in parent]
        order = {label: place for place, label in enumerate(self._labels)}
        top: list[TreeNode] = []
        for node in range(len(parent) - 1, -1, -1):
            children = [*below[node], *kernels.get(node, [])]
            host = own_host[node] + sum(child.host_ns for child in below[node])
            total = own_device[node] + sum(child.device_ns for child in below[node])
            children.sort(key=lambda child: _rank(child, order))
            if children and own_host[node]:
                children.append(TreeNode(SELF, NodeKind.REST, 0, own_host[node], 0))
            kind, name = self._kinds[label[node]], self._labels[label[node]]
            number = len(self._requests) if node == 0 else count[node]
            made = TreeNode(name, kind, number, host, total, tuple(children))
            if parent[node] == NONE:
                if host or total or node == 0:
                    top.append(made)
            else:
                below[parent[node]].append(made)
        top.reverse()
        if not self._everything:
            top = [root for root in top if root.name != OUTSIDE]
        host, total = sum(root.host_ns for root in top), sum(root.device_ns for root in top)
        return TreeNode(self._trace.label, NodeKind.TRACE, 1, host, total, tuple(top))


def _kind_and_label(name: str, *, is_op: bool) -> tuple[NodeKind, str]:
    for prefix, kind in ((LAYER_PREFIX, NodeKind.LAYER), (MODULE_PREFIX, NodeKind.MODULE), (FRAME, NodeKind.MODULE)):
        if name.startswith(prefix):
            return kind, name.removeprefix(prefix)
    return (NodeKind.OP if is_op else NodeKind.RANGE), name


def _rank(node: TreeNode, order: dict[str, int]) -> tuple[int, int, str]:
    """Stages first, in their order; then by time, the device's and the host's."""
    if node.kind is NodeKind.STAGE:
        return (0, order[node.name], "")
    return (1, -(node.host_ns + node.device_ns), node.name)
