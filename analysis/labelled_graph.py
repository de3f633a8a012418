"""Show the stages inside of a CUDA graph by the labels of its nodes: `python analysis/labelled_graph.py [FOLDER]`.

Needs a CUDA device, torch 2.13, cuda-bindings, and a driver of CUDA 13.1 or later. The encoder and the projector of the
tiny model are captured as a graph, which is replayed under the profiler; the trace, with torch's own labels, is written
into the folder, and each kernel of the replays must then be of the stage that it was captured in.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import torch

import gemma_trace

REPLAYS = 3


def main(folder: Path) -> str:
    """Capture, replay and read.

    Returns:
        What is wrong; nothing where each stage has its kernels.
    """
    if not torch.cuda.is_available():
        return "labelled graphs were not tried: no CUDA device is visible"
    from torch.cuda import _annotate_cuda_graph_trace, _graph_annotations

    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.models import load_model

    model = load_model(CaptureConfig(device="cuda")).model
    size = model.config.vision_config.image_size
    pixels = torch.rand(1, 3, size, size, device="cuda", dtype=next(model.parameters()).dtype)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        for _ in range(REPLAYS):
            model.get_image_features(pixels)
        with gemma_trace.annotate(model), torch.cuda.graph(graph, enable_annotations=True):
            model.get_image_features(pixels)
        with torch.profiler.profile() as profiler, gemma_trace.annotate(model) as ranges:
            for _ in range(REPLAYS):
                with ranges.stage(gemma_trace.Stage.REQUEST), ranges.stage(gemma_trace.Stage.PREFILL):
                    graph.replay()
                    torch.cuda.synchronize()
    exported, labelled = folder / "exported.json", folder / "labelled-graph.pt.trace.json"
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(exported))
    trace = json.loads(exported.read_text())
    labels = dict(_graph_annotations.get_kernel_annotations())
    count = _annotate_cuda_graph_trace.annotate_trace(trace, labels)
    labelled.write_text(json.dumps(trace))
    exported.unlink()
    print(f"{len(labels)} labelled nodes, {count} labelled activities")
    read = gemma_trace.load(labelled)
    names = (*read.stage_names, "unlinked")
    stages = Counter(names[code] for code in read.activity_stage.tolist())
    print(f"activities by stage: {dict(stages)}")
    if not labels:
        return "torch labelled no node; see its log, and which driver and cuda-bindings there are"
    expected = {"vision_tower", "projector"}
    return "" if expected <= stages.keys() else f"stages without an activity: {', '.join(expected - stages.keys())}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "traces/labelled-graph")) or 0)
