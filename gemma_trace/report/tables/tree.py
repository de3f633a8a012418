"""The tree of a trace, drawn as an indented table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gemma_trace.analysis.tree import NodeKind, TreeNode
from gemma_trace.analysis.tree_lines import TreeLine, tree_lines
from gemma_trace.health.findings import Health
from gemma_trace.report.short_names import folded
from gemma_trace.report.table import Col, Report, Table, holding
from gemma_trace.report.units import COUNT, LABEL, MS, PCT

ON_DEVICE: Final = "activities ran on a device"


def _folded_name(line: TreeLine) -> str:
    node = line.node
    return "  " * line.depth + (folded(node.name) if node.kind is NodeKind.KERNEL else node.name)


def _full_name(line: TreeLine) -> str:
    return "  " * line.depth + line.node.name


def _kind(line: TreeLine) -> str:
    return "" if line.node.kind is NodeKind.REST else line.node.kind.value


NODE: Final = Col("name", "", LABEL, definition="the name of the node", value="node.name")
KIND: Final = Col(
    "kind",
    "kind",
    definition=(
        "`trace`, `request`, `stage`, `layer`, `module`, `range` (any other `record_function`), `op`, `kernel`, or "
        "`rest`: `(self)` and what is folded"
    ),
    priority=4,
    value="node.kind.value",
)
COUNTED: Final = Col(
    "count",
    "count",
    replace(COUNT, absent=""),
    definition="spans, activities, or requests of the node",
    priority=3,
    value="node.count",
    is_sum=True,
)
HOST: Final = Col(
    "host_ns",
    "host",
    MS,
    definition="Σ time, on any thread, in which a span below the node is the innermost on its thread",
    value="node.host_ns",
    is_sum=True,
)
DEVICE: Final = Col(
    "device_ns",
    "device",
    MS,
    definition="Σ duration of the activities launched from below the node",
    when=ON_DEVICE,
    value="node.device_ns",
    is_sum=True,
)

TREE_FILE: Final = (
    Col("depth", definition="of the node; a node's children follow it, one deeper"),
    *(NODE, KIND, COUNTED, HOST, DEVICE),
)
"""A row per node."""

TREE_COLS: Final = (
    NODE.of(_folded_name),
    KIND.of(_kind),
    COUNTED.of("count"),
    HOST,
    Col("host_pct", "host", PCT, priority=2),
    DEVICE,
    Col("device_pct", "device", PCT, priority=1, when=ON_DEVICE),
)
"""The same rows for people."""


def tree_report(
    tops: Sequence[TreeNode], whole: TreeNode, requests: int, source: str, health: Health, *, full_names: bool = False
) -> Report:
    """The trees under these nodes, pruned as they are.

    Args:
        tops: what is drawn.
        whole: what shares are of.
        requests: by how many times and counts are divided for people; files have the sums.
        full_names: names of kernels as they are recorded, not folded for reading.
    """
    notes = [
        "host: the time in which a span below the node was the innermost one of its thread; (self) is the node "
        "without its children."
    ]
    if whole.device_ns:
        notes.append("device: the sum of the activities that were launched from below the node.")
    if requests > 1:
        notes.append(f"Times and counts are means per request, over {requests}.")
    lines = tree_lines(tops, whole)
    cols = (NODE.of(_full_name), *TREE_COLS[1:]) if full_names else TREE_COLS
    conditions = holding({ON_DEVICE: whole.device_ns > 0})
    title = f"Tree of {whole.name}"
    return Report(
        command="tree",
        source=[source],
        tables=(Table(title, cols, lines, notes=tuple(notes), conditions=conditions, per=requests),),
        data=Table(title, TREE_FILE, lines),
        totals={"requests": requests, "host_ns": whole.host_ns, "device_ns": whole.device_ns},
        health=health,
    )
