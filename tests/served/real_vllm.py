"""The real vLLM, on the CPU, with our plugin: make serve-test

Five requests, one after the other. Of each the stages have to add up to the client's TTFT, the plugin's ranges have to
agree with what the Python frames in the same trace tell, and the encoder's time with vLLM's own statistics of it
(`vllm_with_statistics.py`), which its workers are asked for over `/collective_rpc`.
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
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.trace import Trace, load
from gemma_trace.trace.tree import nest
from tests.served import tiny_served

PORT = 8731
START_S = 600
TTFT_MS, SHARE = 5.0, 0.03

WRAPPER = "gemma_trace/plugins/hooks.py("

ENCODER = ("vision_tower", "projector")
ENCODER_SHARE = 0.05

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
            encoder_ms = _encoder_ms()
        finally:
            server.terminate()
            server.wait(60)
    assert done.trace is not None, done.failure
    wrong = _compare_ttft(load(done.trace), [request.ttft_ns or 0 for request in done.record.profiled])
    worker = next((done.folder / "processes").glob("*rank0*.json.gz"))
    return wrong + _compare_encoder(load(worker), encoder_ms) + _compare_ranges(worker, folder)


def _command(python: Path, model: Path, traces: Path) -> list[str]:
    profiler = {"profiler": "torch", "torch_profiler_dir": str(traces.absolute()), "torch_profiler_with_stack": True}
    vllm = Path(__file__).with_name("vllm_with_statistics.py")
    return [
        *(str(python), str(vllm), "serve", str(model), "--served-model-name", "tiny", "--host", "127.0.0.1"),
        *("--port", str(PORT), "--chat-template-content-format", "openai", "--enforce-eager", "--dtype", "float32"),
        *("--max-model-len", "2048", "--profiler-config", json.dumps(profiler)),
    ]


def _environment() -> dict[str, str]:
    asked = {"OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "GEMMA_TRACE_VLLM": "1"}
    asked |= {"VLLM_SERVER_DEV_MODE": "1"}  # has /collective_rpc
    alone = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # The plugin is the one that is installed, whatever lies where this program is run.
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | asked | alone


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


def _encoder_ms() -> list[float]:
    """What vLLM says that its encoder took for each request since it started, in the order in which they came."""
    asked = urllib.request.Request(
        f"http://127.0.0.1:{PORT}/collective_rpc",
        json.dumps({"method": "get_encoder_timing_stats"}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        (worker,) = json.load(answer)["results"]
    return [1e3 * stats["encoder_forward_secs"] for stats in worker.values()]


def _compare_encoder(trace: Trace, told_ms: list[float]) -> int:
    """How many requests' tower and projector take another time than vLLM says; the profiled ones are the last."""
    spans, names = trace.spans, trace.stage_names
    stages = trace.stage_range[trace.inner_stage_ranges]
    tower, projector = (spans.dur_ns[trace.inner_stage_ranges[stages == names.index(stage)]] / 1e6 for stage in ENCODER)
    ours_ms = (tower + projector).tolist()
    wrong = 0
    for number, (ours, told) in enumerate(zip(ours_ms, told_ms[-len(ours_ms) :], strict=True)):
        print(f"request {number}: encoder {ours:.3f} ms by the plugin, {told:.3f} ms by vLLM's own statistics")
        wrong += abs(ours - told) > ENCODER_SHARE * told
    return wrong


def _compare_ranges(worker: Path, folder: Path) -> int:
    """How many stages the plugin's ranges and the frames disagree on."""
    content = json.loads(gzip.decompress(worker.read_bytes()))
    assert any(str(event.get("name", "")).startswith(PREFIX) for event in content["traceEvents"]), "the plugin is off"
    events = [event for event in content["traceEvents"] if not str(event.get("name", "")).startswith(PREFIX)]
    bare = folder / "frames_alone.json"
    bare.write_text(json.dumps(content | {"traceEvents": events}))
    by_ranges, by_frames = load(worker), load(bare)
    wrong = 0
    for stage in COMPARED:
        ranges, frames = _outermost(by_ranges, stage), _outermost(by_frames, stage)
        added_ns = _added_ns(by_ranges, ranges, by_frames, frames)
        # The median: a few calls wait for a core, whoever measures them.
        ours, theirs, added = (
            float(np.median(each)) / 1e6
            for each in (by_ranges.spans.dur_ns[ranges], by_frames.spans.dur_ns[frames] - added_ns, added_ns)
        )
        print(
            f"{stage}: {ours:.3f} ms by the plugin, {theirs:.3f} ms by frames, "
            f"without the {1e3 * added:.1f} µs that its own call and range add to them; the median of calls"
        )
        wrong += abs(ours - theirs) > SHARE * theirs
    return wrong


def _outermost(trace: Trace, stage: str) -> IntArray:
    """The ranges of a stage that lie in no other of it, by start."""
    spans, inner = trace.spans, trace.inner_stage_ranges
    ranges = inner[trace.stage_range[inner] == trace.stage_names.index(stage)]
    outermost: IntArray = ranges[nest(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges]).parent == NONE]
    return outermost


def _added_ns(trace: Trace, ranges: IntArray, bare: Trace, frames: IntArray) -> IntArray:
    """int64 [frames], what the plugin's wrapper around each range takes beside the range, inside of each frame.

    It is no part of the stage: the profiler records the wrapper's frame, and opens the range, which takes 1 µs in a
    loop and 50 µs on a core whose caches hold something else.
    """
    spans = trace.spans
    wrapper = np.array([WRAPPER in name for name in spans.names], dtype=bool)
    wrappers = np.flatnonzero(wrapper[spans.name])
    added = np.zeros(len(frames), dtype=np.int64)
    starts, ends = bare.spans.ts_ns[frames], bare.spans.ends_ns(frames)
    for index in ranges.tolist():
        around = wrappers[(spans.ts_ns[wrappers] <= spans.ts_ns[index])]
        around = around[spans.ends_ns(around) >= spans.ts_ns[index] + spans.dur_ns[index]]
        if len(around):
            own = int(around[-1])
            inside = (starts <= spans.ts_ns[own]) & (ends >= spans.ts_ns[own] + spans.dur_ns[own])
            added[inside] += spans.dur_ns[own] - spans.dur_ns[index]
    return added


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
