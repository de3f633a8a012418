"""The tree of a trace, drawn as an indented table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gemma_trace.analysis.tree import NodeKind, TreeNode
from gemma_trace.health.findings import Health
from gemma_trace.report.model import Column, Report, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import milliseconds, percent, significant

_UNCOUNTED = (NodeKind.REST, NodeKind.TRACE)


def tree_report(
    tops: Sequence[TreeNode], whole: TreeNode, requests: int, source: str, health: Health, *, full_names: bool = False
) -> Report:
    """The trees under these nodes, pruned as they are.

    Args:
        tops: what is drawn.
        whole: what shares are of.
        requests: by how many times and counts are divided for people; machines get the sums.
    """
    on_device = whole.device_ns > 0
    columns = (
        Column("", align="left", overflow="ellipsis"),
        Column("kind", 4, align="left"),
        Column("count", 3),
        Column("host ms"),
        Column("host %", 2),
        *((Column("device ms"), Column("device %", 1)) if on_device else ()),
    )
    rows: list[tuple[str, ...]] = []
    records: list[dict[str, Any]] = []
    for top in tops:
        for depth, node in top.walk():
            name = node.name if full_names or node.kind is not NodeKind.KERNEL else folded(node.name)
            count = "" if node.kind in _UNCOUNTED else significant_mean(node.count, requests)
            rows.append(
                (
                    "  " * depth + name,
                    node.kind.value if node.kind is not NodeKind.REST else "",
                    count,
                    milliseconds(node.host_ns / requests),
                    percent(node.host_ns, whole.host_ns),
                    *(
                        (milliseconds(node.device_ns / requests), percent(node.device_ns, whole.device_ns))
                        if on_device
                        else ()
                    ),
                )
            )
            records.append(_record(node, depth))
    notes = ["host: time in which something below was the innermost span of its thread; (self) is the node's own."]
    if on_device:
        notes.append("device: the sum of the activities launched from below.")
    if requests > 1:
        notes.append(f"Times and counts are means a request, of {requests}.")
    return Report(
        command="tree",
        source=[source],
        sections=(Section(f"Tree of {whole.name}", columns, tuple(rows), notes=tuple(notes)),),
        records=records,
        totals={"requests": requests, "host_ns": whole.host_ns, "device_ns": whole.device_ns},
        health=health,
    )


def significant_mean(count: int, requests: int) -> str:
    """A count a request; whole where it is."""
    mean = count / requests
    return f"{mean:,.0f}" if mean == int(mean) else significant(mean)


def _record(node: TreeNode, depth: int) -> dict[str, Any]:
    return {
        "depth": depth,
        "name": node.name,
        "kind": node.kind.value,
        "count": node.count,
        "host_ns": node.host_ns,
        "device_ns": node.device_ns,
    }
