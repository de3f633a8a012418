"""The real vLLM, on the CPU, with our plugin: make serve-test

Five requests, one after the other. Of each the stages have to add up to the client's TTFT, and the plugin's ranges have
to agree with what the Python frames in the same trace tell.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np

from gemma_trace.analysis.timeline import ttft_ns
from gemma_trace.served.drive import ServeConfig, drive
from gemma_trace.stages import PREFIX
from gemma_trace.trace.events import NONE
from gemma_trace.trace.trace import Trace, load
from gemma_trace.trace.tree import nest
from tests.served import tiny_served

PORT = 8731
START_S = 600
TTFT_MS, SHARE = 5.0, 0.03
EDGES_MS = 0.05
"""What a range's edges and a frame's are apart at most: Python's own calls between them, each of which is recorded."""

COMPARED = ("vision_tower", "projector", "prefill", "decode", "sampling")


class _Quiet:
    def phase(self, name: str, steps: int) -> None:
        print(name, f"({steps})" if steps else "")

    def step(self) -> None: ...


def main(python: Path, folder: Path) -> int:
    """Serve, drive, compare; the number of disagreements."""
    folder.mkdir(parents=True, exist_ok=True)
    model, traces = folder / "model", folder / "traces"
    if not (model / "config.json").exists():
        tiny_served.write(model)
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(_command(python, model, traces), stdout=log, stderr=log, env=_environment())
        try:
            _wait(server)
            config = ServeConfig(
                f"http://127.0.0.1:{PORT}", folder, "run", traces=traces.absolute(), new_tokens=6, force=True
            )
            done = drive(config, _Quiet())
        finally:
            server.terminate()
            server.wait(60)
    assert done.trace is not None, done.failure
    wrong = _compare_ttft(load(done.trace), [request.ttft_ns or 0 for request in done.record.profiled])
    return wrong + _compare_ranges(next((done.folder / "processes").glob("*rank0*.json.gz")), folder)


def _command(python: Path, model: Path, traces: Path) -> list[str]:
    profiler = {"profiler": "torch", "torch_profiler_dir": str(traces.absolute()), "torch_profiler_with_stack": True}
    return [
        *(str(python.parent / "vllm"), "serve", str(model), "--served-model-name", "tiny", "--host", "127.0.0.1"),
        *("--port", str(PORT), "--chat-template-content-format", "openai", "--enforce-eager", "--dtype", "float32"),
        *("--max-model-len", "2048", "--profiler-config", json.dumps(profiler)),
    ]


def _environment() -> dict[str, str]:
    asked = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "GEMMA_TRACE_VLLM": "1"}
    return os.environ | asked | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def _wait(server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        assert server.poll() is None, "vLLM has ended; see server.log"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/health", timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError("vLLM doesn't answer; see server.log")


def _compare_ttft(trace: Trace, clients_ns: list[int]) -> int:
    """How many requests' stages, up to the first token, aren't the client's TTFT."""
    spans, wrong = trace.spans, 0
    for request, client_ns in zip(trace.requests, clients_ns, strict=True):
        first = request.start_ns + (ttft_ns(trace, request) or 0)
        own = trace.inner_stage_ranges[spans.track[trace.inner_stage_ranges] == request.track]
        ends = spans.ends_ns(own).clip(max=first)
        sum_ns = int((ends - spans.ts_ns[own]).clip(min=0).sum())
        off_ms = abs(sum_ns - client_ns) / 1e6
        print(f"{request.label}: client's TTFT {client_ns / 1e6:.3f} ms, its stages {sum_ns / 1e6:.3f} ms")
        wrong += off_ms > TTFT_MS
    return wrong


def _compare_ranges(worker: Path, folder: Path) -> int:
    """How many stages the plugin's ranges and the frames disagree on."""
    content = json.loads(gzip.decompress(worker.read_bytes()))
    events = [event for event in content["traceEvents"] if not str(event.get("name", "")).startswith(PREFIX)]
    bare = folder / "frames_alone.json"
    bare.write_text(json.dumps(content | {"traceEvents": events}))
    by_ranges, by_frames = (_medians_ms(load(path)) for path in (worker, bare))
    wrong = 0
    for stage in COMPARED:
        ours, frames = by_ranges[stage], by_frames[stage]
        print(f"{stage}: {ours:.3f} ms by the plugin, {frames:.3f} ms by frames, the median of calls")
        wrong += abs(ours - frames) > max(SHARE * frames, EDGES_MS)
    return wrong


def _medians_ms(trace: Trace) -> dict[str, float]:
    """The median length of each stage's outermost ranges: a few calls wait for a core, whoever measures them."""
    spans, found = trace.spans, {}
    for stage in COMPARED:
        ranges = trace.inner_stage_ranges[trace.stage_range[trace.inner_stage_ranges] == trace.stage_names.index(stage)]
        outermost = nest(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges]).parent == NONE
        found[stage] = float(np.median(spans.dur_ns[ranges[outermost]])) / 1e6
    return found


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
