"""Labels of the nodes of CUDA graphs, by which stages inside of a graph are told apart.

A replay of a graph runs nothing on the host but its launch, so that all of its activities belong to the stage of that.
torch 2.13 labels nodes while they are captured (`torch.cuda.graph(..., enable_annotations=True)`, and in it
`torch.cuda._graph_annotations.mark_kernels`); `python -m torch.cuda._annotate_cuda_graph_trace` puts the labels into
the arguments of each activity that has a `graph node id`: a text as `str`, the items of a dictionary one by one, and
what is neither as `annotation`. Our own capture writes the stage as `stage`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemma_trace.trace.event_structs import ABSENT, SpanArgs
from gemma_trace.trace.events import NONE

_decode = msgspec.json.Decoder(str).decode


def node_labels(args: Sequence[SpanArgs]) -> list[str | None] | None:
    """What each of some activities' nodes is labelled; None of those without a label, and None where all are.

    Of several labels the stage that our hooks gave counts, then the text of `mark_kernels`. A label that is no text is
    none.
    """
    nodes = [arg.graph_node for arg in args]
    if nodes.count(NONE) == len(nodes):
        return None
    labels = [None if node in (NONE, 0) else _label_of(arg) for node, arg in zip(nodes, args, strict=True)]
    return labels if any(labels) else None


def _label_of(arg: SpanArgs) -> str | None:
    for text in (arg.node_stage, arg.node_text, arg.node_annotation):
        if text is not ABSENT and (label := _text(text)):
            return label
    return None


def _text(text: msgspec.Raw) -> str:
    """The text that a JSON text is; nothing where it is something else."""
    try:
        return _decode(text)
    except msgspec.DecodeError:  # a ValidationError is one
        return ""
