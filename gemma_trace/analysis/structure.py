"""Two call trees held against each other, whatever their operators are called.

Nodes of one kind and name below the same parent are the same. What is left over below a parent that both trees have is
set against each other as a whole: that parent is the lowest common ancestor of work that was renamed, fused or split,
so that `aten::addmm` and `aten::gelu` against `triton_poi_fused_…` are one row. A node that only one tree has around
what both have (a wrapper's module, a compiled region) is looked through.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gemma_trace.analysis.tree import SELF, NodeKind, TreeNode

_TRANSPARENT: Final = frozenset({NodeKind.LAYER, NodeKind.MODULE, NodeKind.RANGE, NodeKind.OP})


@dataclass(frozen=True)
class WorkPair:
    """Work of two trees that stands for each other.

    Attributes:
        path: names from the stage down to the lowest common ancestor; of work that both trees have alike, to itself.
        before, after: what stands there, the same of work that both have alike; nothing where one tree has none.
        before_ns, after_ns: its time on the device, or, of trees without one, on the host; of all requests.
        before_count, after_count: its activities or calls, of all requests.
    """

    path: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    before_ns: int
    after_ns: int
    before_count: int
    after_count: int

    @property
    def is_alike(self) -> bool:
        """Whether both trees have it under one name."""
        return self.before == self.after

    @property
    def name(self) -> str:
        """The name of the row."""
        if self.is_alike:
            return " / ".join(self.path[1:]) or self.path[0]
        where = " / ".join(self.path[1:])
        change = f"{_joined(self.before)} → {_joined(self.after)}"
        return f"{where}: {change}" if where else change


def paired_trees(before: TreeNode, after: TreeNode) -> list[WorkPair]:
    """All work of two trees in pairs; its times add up to the trees'.

    Device time counts where either tree has any, else the host's.
    """
    on_device = bool(before.device_ns or after.device_ns)
    return list(_paired(_plain(before, on_device=on_device), _plain(after, on_device=on_device), ()))


def merged_trees(trees: Sequence[TreeNode]) -> TreeNode:
    """Several trees of one configuration as one, whose times and counts are their sums."""
    first = trees[0]
    below: dict[tuple[NodeKind, str], list[TreeNode]] = {}
    for tree in trees:
        for child in tree.children:
            below.setdefault((child.kind, child.name), []).append(child)
    return replace(
        first,
        count=sum(tree.count for tree in trees),
        host_ns=sum(tree.host_ns for tree in trees),
        device_ns=sum(tree.device_ns for tree in trees),
        children=tuple(merged_trees(children) for children in below.values()),
    )


@dataclass(frozen=True)
class _Node:
    """A node with the one time that counts."""

    kind: NodeKind
    name: str
    ns: int
    count: int
    children: tuple[_Node, ...]

    @property
    def key(self) -> tuple[NodeKind, str]:
        return self.kind, self.name


def _plain(node: TreeNode, *, on_device: bool) -> _Node:
    children = [_plain(child, on_device=on_device) for child in node.children]
    ns = node.device_ns if on_device else node.host_ns
    return _Node(node.kind, node.name, ns, node.count, tuple(child for child in children if child.ns))


def _paired(before: _Node, after: _Node, path: tuple[str, ...]) -> Iterator[WorkPair]:
    """What two nodes that are the same have below them, in pairs."""
    if not before.children and not after.children:
        name = (before.name,)
        yield WorkPair(path or name, name, name, before.ns, after.ns, before.count, after.count)
        return
    first, second = _looked_through(_parts(before), _parts(after))
    known = {child.key: child for child in second}
    left: list[_Node] = []
    for child in first:
        other = known.pop(child.key, None)
        if other is None:
            left.append(child)
        else:
            yield from _paired(child, other, (*path, child.name) if child.kind is not NodeKind.REQUEST else path)
    right = list(known.values())
    if left or right:
        yield WorkPair(
            path or (before.name,),
            tuple(child.name for child in left),
            tuple(child.name for child in right),
            sum(child.ns for child in left),
            sum(child.ns for child in right),
            sum(map(_leaf_count, left)),
            sum(map(_leaf_count, right)),
        )


def _parts(node: _Node) -> list[_Node]:
    """What a node's time is made of: its children, or, where it has none, itself."""
    self_ns = node.ns - sum(child.ns for child in node.children)
    kept = list(node.children)
    return [*kept, _Node(NodeKind.REST, SELF, self_ns, 0, ())] if self_ns else kept


def _looked_through(first: list[_Node], second: list[_Node]) -> tuple[list[_Node], list[_Node]]:
    """Both sides, with nodes that only one has replaced by their children where the other side has one of those."""
    sides = [first, second]
    changed = True
    while changed:
        changed = False
        for side, other in ((0, 1), (1, 0)):
            there = {node.key for node in sides[other]}
            here = {node.key for node in sides[side]}
            wanted = there - here
            opened = [
                node
                for node in sides[side]
                if node.key not in there
                and node.kind in _TRANSPARENT
                and any(child.key in wanted for child in node.children)
            ]
            if opened:
                names = {node.key for node in opened}
                inner = [child for node in opened for child in _parts(node)]
                sides[side] = _by_name([node for node in sides[side] if node.key not in names] + inner)
                changed = True
    return sides[0], sides[1]


def _by_name(nodes: Sequence[_Node]) -> list[_Node]:
    """Nodes of one name as one."""
    by_key: dict[tuple[NodeKind, str], _Node] = {}
    for node in nodes:
        known = by_key.get(node.key)
        if known is None:
            by_key[node.key] = node
        else:
            children = tuple(_by_name([*known.children, *node.children]))
            by_key[node.key] = replace(known, ns=known.ns + node.ns, count=known.count + node.count, children=children)
    return list(by_key.values())


def _leaf_count(node: _Node) -> int:
    return sum(map(_leaf_count, node.children)) if node.children else node.count


def _joined(names: Sequence[str]) -> str:
    return " + ".join(names) if names else "nothing"
