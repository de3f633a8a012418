"""Stages inside of a CUDA graph that a program captures, as labels of the graph's nodes.

A replay runs no Python, so that no range can be inside of it. torch 2.13 labels the nodes of a graph while it is
captured, in `torch.cuda.graph(graph, enable_annotations=True)`, with cuda-bindings and a driver of CUDA 13.1 or later;
the profiler then writes each activity's `graph node id`. Where torch has no labels nothing is labelled.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import torch

from gemma_trace.stages import Stage, stage_of_range

KEY: Final = "stage"
"""What of a label is the stage's range; a program's own labels, which are texts, have another key."""

_TORCHS: Final = "torch.cuda._graph_annotations"
_ENABLED: Final = "_annotations_enabled"


def labels_nodes() -> bool:
    """Whether a CUDA graph is being captured whose nodes torch labels."""
    if torch.compiler.is_compiling() or not getattr(sys.modules.get(_TORCHS), _ENABLED, False):
        return False
    return torch.cuda.is_initialized() and bool(torch.cuda.is_current_stream_capturing())


class GraphLabels(threading.local):
    """A `RangeSink` that labels the nodes captured meanwhile with the name of a stage's range."""

    def __init__(self) -> None:
        self._open: list[AbstractContextManager[Any]] = []

    def begin(self, name: str) -> None:
        """From here on nodes are of this stage; the innermost counts. Ranges that are no stage's label nothing."""
        label: AbstractContextManager[Any] = nullcontext()
        if stage_of_range(name) not in (None, Stage.REQUEST):
            label = sys.modules[_TORCHS].mark_kernels({KEY: name})
        label.__enter__()
        self._open.append(label)

    def end(self) -> None:
        """The innermost stage ends."""
        self._open.pop().__exit__(None, None, None)


def stages_of_nodes() -> Mapping[int, str]:
    """The name of the stage's range that each node of this process's graphs is labelled with, by `graph node id`."""
    torchs = sys.modules.get(_TORCHS)
    labels: Mapping[int, list[Any]] = {} if torchs is None else torchs.get_kernel_annotations()
    stages: dict[int, str] = {}
    for node, given in labels.items():
        for label in given:  # as torch's own tool does it, the last one counts
            if isinstance(label, dict) and isinstance(label.get(KEY), str):
                stages[node] = label[KEY]
    return stages
