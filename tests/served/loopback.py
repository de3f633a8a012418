"""A server on loopback that speaks OpenAI's API, has a profiler, and writes traces as vLLM's processes do."""

from __future__ import annotations

import gzip
import itertools
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.trace_builder import TraceBuilder

BASE_NS = 1_700_000_000_000_000_000
"""What the traces' times are relative to."""

TOWER = "nn.Module: SiglipVisionTransformer_0"
FRONT, WORKER = 11, 22


@dataclass
class Behaviour:
    """What a server does.

    Attributes:
        name: what it says that it is.
        profiler: whether it has one.
        refuses: the status of its answers to requests from this one on; None answers all.
        dies_at: which request it dies at, from 0.
        hangs: whether `/stop_profile` never answers.
        mute: whether `/start_profile` begins, and doesn't answer.
        halves: whether it writes half of the worker's trace.
        tokens: how many tokens each answer has.
        step_s: how long it takes for each thing that it does.
    """

    name: str = "vllm"
    profiler: bool = True
    refuses: int | None = None
    dies_at: int | None = None
    hangs: bool = False
    mute: bool = False
    halves: bool = False
    tokens: int = 3
    step_s: float = 0.004


class TorchWorker:
    """An engine whose steps torch computes and its profiler records, in a thread of its own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1)

    def start(self) -> None:
        self._pool.submit(self._start).result()

    def step(self, first: bool) -> None:
        self._pool.submit(self._step, first).result()

    def stop(self, path: Path) -> None:
        self._pool.submit(self._stop, path).result()

    def _start(self) -> None:
        import torch

        self._profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        self._profiler.__enter__()

    def _step(self, first: bool) -> None:
        import torch
        from torch.profiler import record_function

        matrix = torch.ones(128, 128)
        with record_function(f"execute_context_{first:d}({300 * first})_generation_{not first:d}({not first:d})"):
            if first:
                with record_function(TOWER):
                    matrix = matrix @ matrix
            matrix = torch.relu(matrix @ matrix)
        with record_function("gpu_model_runner: sample"):
            matrix.argmax()

    def _stop(self, path: Path) -> None:
        self._profiler.__exit__(None, None, None)
        self._profiler.export_chrome_trace(str(path))


@dataclass
class LoopbackServer:
    """Serves while the block runs.

    Attributes:
        traces: where its traces go.
        worker: does the engine's steps; None sleeps, and writes the worker's trace by hand.
        seen: the bodies of all requests.
        profiles: whether it records.
    """

    traces: Path
    behaviour: Behaviour = field(default_factory=Behaviour)
    worker: TorchWorker | None = None
    seen: list[dict[str, Any]] = field(default_factory=list)
    profiles: bool = False

    def __enter__(self) -> Self:
        server = self
        self._front, self._worker = TraceBuilder(), TraceBuilder()
        self._engine = threading.Lock()
        self._count = itertools.count()
        self._ended = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server.get(self)

            def do_POST(self) -> None:
                server.post(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Http(ThreadingHTTPServer):
            def handle_error(self, *_: Any) -> None:
                pass  # a client that has gone, or a server that is to die

        self._http = Http(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._http.shutdown()
        self._http.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def get(self, to: BaseHTTPRequestHandler) -> None:
        answers: dict[str, bytes] = {
            "/v1/models": json.dumps({"data": [{"id": "org/tiny", "owned_by": self.behaviour.name}]}).encode(),
            "/version": b'{"version": "0.32.0"}',
            "/metrics": (
                b'# TYPE x\nvllm:request_queue_time_seconds_sum{engine="0"} %f\n'
                b'vllm:request_queue_time_seconds_count{engine="0"} %d\nother 3\n'
                % (0.002 * len(self.seen), len(self.seen))
            ),
        }
        found = answers.get(to.path)
        _answer(to, 200 if found else 404, found or b"{}")

    def post(self, to: BaseHTTPRequestHandler) -> None:
        data = to.rfile.read(int(to.headers.get("Content-Length") or 0))
        body = json.loads(data) if data else {}
        if to.path == "/v1/chat/completions":
            self._chat(to, body)
        elif to.path == "/start_profile" and self.behaviour.profiler:
            self._front, self._worker = TraceBuilder(), TraceBuilder()
            self.profiles = True
            if self.worker is not None:
                self.worker.start()
            if self.behaviour.mute:
                self._ended.wait(30)
            _answer(to, 200, b"")
        elif to.path == "/stop_profile" and self.behaviour.profiler:
            self.profiles = False
            self._write()
            if self.behaviour.hangs:
                self._ended.wait(30)
            _answer(to, 200, b"")
        else:
            _answer(to, 404, b'{"detail":"Not Found"}')

    def _chat(self, to: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        number = next(self._count)
        self.seen.append(body)
        does = self.behaviour
        if does.dies_at is not None and number >= does.dies_at:
            self._http.socket.close()  # nobody is answered any more
            to.connection.shutdown(socket.SHUT_RDWR)
            to.close_connection = True
            return
        if does.refuses is not None:
            _answer(to, does.refuses, b'{"error": {"message": "this model takes\\nno images"}}')
            return
        self._timed(self._front, "vllm/multimodal/media/image.py(104): load_base64", FRONT)
        self._timed(self._front, "vllm/multimodal/processing/processor.py(1811): apply", FRONT)
        to.send_response(200)
        to.send_header("Content-Type", "text/event-stream")
        to.send_header("Connection", "close")
        to.end_headers()
        _event(to, {"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for token in range(does.tokens):
            with self._engine:
                self._step(first=not token)
            _event(to, {"choices": [{"delta": {"content": "a"}}]})
        _event(to, {"choices": [], "usage": {"prompt_tokens": 300, "completion_tokens": does.tokens}})
        to.wfile.write(b"data: [DONE]\n\n")
        to.close_connection = True

    def _step(self, *, first: bool) -> None:
        if self.worker is not None:
            self.worker.step(first)
            return
        begun = time.time_ns()
        if first:
            self._timed(self._worker, TOWER, WORKER)
        self._rest()
        name = "execute_context_1(300)_generation_0(0)" if first else "execute_context_0(0)_generation_1(1)"
        if self.profiles:
            self._worker.span("user_annotation", name, begun - BASE_NS, time.time_ns() - begun, pid=WORKER, tid=WORKER)
        self._timed(self._worker, "vllm/v1/worker/gpu_worker.py(1293): sample_tokens", WORKER)

    def _timed(self, builder: TraceBuilder, name: str, process: int) -> None:
        begun = time.time_ns()
        self._rest()
        if self.profiles:
            builder.frame(name, begun - BASE_NS, time.time_ns() - begun, tid=process, pid=process)

    def _rest(self) -> None:
        time.sleep(self.behaviour.step_s)

    def _write(self) -> None:
        self.traces.mkdir(parents=True, exist_ok=True)
        builders = {"front.async_llm": self._front, "rank0": self._worker}
        if self.worker is not None:
            self.worker.stop(self.traces / "rank0.1.pt.trace.json.gz")
            del builders["rank0"]
        for name, builder in builders.items():
            builder.header["baseTimeNanoseconds"] = BASE_NS
            data = gzip.compress(builder.json())
            halved = self.behaviour.halves and name == "rank0"
            (self.traces / f"{name}.1.pt.trace.json.gz").write_bytes(data[: len(data) // 2] if halved else data)


def _answer(to: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
    to.send_response(status)
    to.send_header("Content-Length", str(len(body)))
    to.end_headers()
    to.wfile.write(body)


def _event(to: BaseHTTPRequestHandler, chunk: dict[str, Any]) -> None:
    to.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    to.wfile.flush()
