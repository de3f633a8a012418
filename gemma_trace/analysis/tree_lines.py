"""The nodes of a tree one under another, each with its share of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_trace.analysis.tree import NodeKind, TreeNode

_UNCOUNTED = (NodeKind.REST, NodeKind.TRACE)


@dataclass(frozen=True)
class TreeLine:
    """A node of the tree as a row of a table.

    Attributes:
        depth: of the node below the top that it is under.
        whole: what shares are of.
    """

    depth: int
    node: TreeNode
    whole: TreeNode

    @property
    def count(self) -> int | None:
        """How many spans, activities or requests it is; None of what isn't counted."""
        return None if self.node.kind in _UNCOUNTED else self.node.count

    @property
    def host_pct(self) -> float | None:
        """Its share of the host's time; None where there is none."""
        return 100 * self.node.host_ns / self.whole.host_ns if self.whole.host_ns else None

    @property
    def device_pct(self) -> float | None:
        """Its share of the device's time; None where there is none."""
        return 100 * self.node.device_ns / self.whole.device_ns if self.whole.device_ns else None


def tree_lines(tops: Sequence[TreeNode], whole: TreeNode) -> list[TreeLine]:
    """The nodes under these tops, parents first.

    Args:
        whole: what shares are of.
    """
    return [TreeLine(depth, node, whole) for top in tops for depth, node in top.walk()]
