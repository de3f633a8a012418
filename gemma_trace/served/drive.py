"""Drives a server: requests without the profiler, the same under it, and its traces put beside what the client saw."""

from __future__ import annotations

import datetime
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from gemma_trace.errors import CaptureError, ConfigError, GemmaTraceError, OutputError
from gemma_trace.metadata import ConfigValue
from gemma_trace.served.api import Server, ServerError
from gemma_trace.served.merge import merge
from gemma_trace.served.metrics import changed, read_measures
from gemma_trace.served.payloads import PROMPT, Payload, made_payloads, payloads_of
from gemma_trace.served.record import MERGED, SCHEMA_VERSION, ClientRequest, ServedRecord
from gemma_trace.served.server_kind import ServerKind, kind_of, start_profile, stop_profile
from gemma_trace.served.trace_files import keep, known_files, wait_for_new

_PATIENCE_S: Final = 5.0
"""How long files are waited for where the server didn't say that it wrote them."""


_WRITING_S: Final = 60.0
"""How long where it did: its files may be on their way through a network's file system."""


class Progress(Protocol):
    """Hears what is being done."""

    def phase(self, name: str, steps: int) -> None:
        """Something begins that has so many steps."""

    def step(self) -> None:
        """One of them is done."""


@dataclass(frozen=True)
class ServeConfig:
    """How a server is driven.

    Attributes:
        server: its URL.
        traces: the folder that it writes its traces into; None times requests without the profiler alone.
        requests: a file of requests; None makes them.
        runs: how many are timed, and how many profiled, where they are made.
        images, size: how many images each has, and their width and height.
        new_tokens: how many tokens each asks for, unless a file of requests says so.
        repeat_images: whether all have the same images.
        warmup: how many are sent first, which aren't counted.
        concurrency: how many are open at once, at most.
        rate: how many are sent a second; None sends each when there is room.
        seed: what the images are made of; None draws one, so that no cache knows them.
        timeout_s, stop_timeout_s: how long the server may say nothing, and how long `/stop_profile`.
    """

    server: str
    out_dir: Path
    name: str
    traces: Path | None = None
    model: str | None = None
    requests: Path | None = None
    online: bool = False
    runs: int = 5
    images: int = 1
    size: tuple[int, int] = (896, 896)
    prompt: str = PROMPT
    new_tokens: int = 16
    repeat_images: bool = False
    warmup: int = 1
    concurrency: int = 1
    rate: float | None = None
    seed: int | None = None
    timeout_s: float = 600.0
    stop_timeout_s: float = 600.0
    force: bool = False

    def options(self) -> dict[str, ConfigValue]:
        """How requests were sent, for the record: without addresses, paths and a seed that was drawn."""
        return {
            "requests": "made" if self.requests is None else "file",
            "images": self.images,
            "size": f"{self.size[0]}x{self.size[1]}",
            "new_tokens": self.new_tokens,
            "repeat_images": self.repeat_images,
            "concurrency": self.concurrency,
            "rate": self.rate,
            "warmup": self.warmup,
            "seed": self.seed,
        }


@dataclass(frozen=True)
class Served:
    """What came of it.

    Attributes:
        trace: the merged trace; None where there is none.
        failure: why there is no trace, or requests have no answer; None where all is well.
    """

    folder: Path
    record: ServedRecord
    trace: Path | None
    failure: GemmaTraceError | None


def drive(config: ServeConfig, progress: Progress) -> Served:
    """Drive a server; whatever was measured is kept, even if the server dies.

    Raises:
        ConfigError, CaptureError, InputError: nothing was measured.
        OutputError: the record can't be written.
    """
    server = Server(config.server, config.timeout_s)
    folder = _folder(config)
    seed = secrets.randbelow(2**31) if config.seed is None else config.seed
    given = None if config.requests is None else payloads_of(config.requests, online=config.online)
    kind = kind_of(server, config.model)
    sender = _Sender(server, kind, config, progress)

    def payloads(which: int) -> Sequence[Payload]:
        if given is not None:
            return given
        repeated = config.repeat_images
        return made_payloads(
            config.runs if which else config.warmup,
            config.images,
            config.size,
            config.prompt,
            seed if repeated else seed + which,
            repeated=repeated,
        )

    warm = payloads(0)[: config.warmup]
    if warm:
        progress.phase("warming up", len(warm))
        first: list[ClientRequest] = []
        sender.send(warm, first)
        if all(request.error for request in first):
            raise CaptureError(first[0].error)
    before = read_measures(server)
    record = ServedRecord(
        SCHEMA_VERSION,
        datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        config.name,
        kind.shown,
        kind.model.rstrip("/").rpartition("/")[2],
        config.options(),
        warnings=(kind.several,) if kind.several else (),
    )
    progress.phase("timing requests", len(payloads(1)))
    timed: list[ClientRequest] = []
    try:
        sender.send(payloads(1), timed)
    except BaseException:
        if timed:
            replace(record, timed=tuple(timed)).write(folder)
        raise
    record = replace(record, timed=tuple(timed), measures=changed(before, read_measures(server)))
    record.write(folder)
    if config.traces is None:
        return Served(folder, record, None, _unanswered(timed))
    return _profiled(config, folder, record, sender, payloads(2), progress)


def _folder(config: ServeConfig) -> Path:
    folder = config.out_dir / config.name
    if folder.exists() and any(folder.iterdir()):
        if not config.force:
            raise OutputError(f"{folder} exists already; give --name another name, or --force to replace it")
        for name in ("served.json", MERGED):
            (folder / name).unlink(missing_ok=True)
        for old in (folder / "processes").glob("*"):
            old.unlink()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"can't make the folder {folder}: {error.strerror}; check --out-dir") from error
    return folder


def _profiled(
    config: ServeConfig,
    folder: Path,
    record: ServedRecord,
    sender: _Sender,
    payloads: Sequence[Payload],
    progress: Progress,
) -> Served:
    """The same requests under the profiler."""
    assert config.traces is not None
    try:
        known = known_files(config.traces)
        start_profile(sender.server, sender.kind, config.name, str(config.traces.absolute()))
    except GemmaTraceError as error:
        if isinstance(error, ServerError):  # it may have begun, though it didn't say so
            stop_profile(sender.server, _PATIENCE_S)
        return Served(folder, record, None, error)
    progress.phase("profiling requests", len(payloads))
    requests: list[ClientRequest] = []
    try:
        sender.send(payloads, requests)
    except BaseException:
        stop_profile(sender.server, _PATIENCE_S)  # or it would record all that others ask for
        raise
    progress.phase("waiting for the server's traces", 0)
    trouble = stop_profile(sender.server, config.stop_timeout_s)
    record = replace(record, profiled=tuple(requests), warnings=(*record.warnings, *([trouble] if trouble else [])))
    record.write(folder)
    try:
        files = wait_for_new(config.traces, known, _PATIENCE_S if trouble else _WRITING_S)
        kept, lost = keep(files, folder)
        record = replace(record, traces=tuple(kept), warnings=(*record.warnings, *lost))
        record.write(folder)
        if not kept:
            none = f"the server wrote no trace into {config.traces}; check --traces"
            raise CaptureError(trouble or "; ".join(lost) or none)
        trace, notes = merge(folder, record)
    except GemmaTraceError as error:
        return Served(folder, record, None, error)
    record = replace(record, warnings=(*record.warnings, *notes))
    return Served(folder, record, trace, CaptureError(trouble) if trouble else _unanswered([*record.timed, *requests]))


def _unanswered(requests: Sequence[ClientRequest]) -> CaptureError | None:
    failed = [request for request in requests if request.error]
    if not failed:
        return None
    return CaptureError(f"{len(failed)} of {len(requests)} requests failed: {failed[0].error}")


class _Sender:
    """Sends requests, several at a time where that is asked for."""

    def __init__(self, server: Server, kind: ServerKind, config: ServeConfig, progress: Progress) -> None:
        self.server, self.kind = server, kind
        self._config, self._progress = config, progress

    def send(self, payloads: Sequence[Payload], done: list[ClientRequest]) -> None:
        """Send requests, and wait for all answers. After an error of the connection nothing more is sent.

        Args:
            done: the answers, in the order of the requests; those that were there where this is interrupted, too.
        """
        answers: list[ClientRequest | None] = [None] * len(payloads)
        waiting = iter(enumerate(payloads))
        lock, began_s = threading.Lock(), time.monotonic()
        gone = threading.Event()

        def work() -> None:
            while not gone.is_set():
                with lock:
                    next_payload = next(waiting, None)
                if next_payload is None:
                    return
                number, payload = next_payload
                if self._config.rate:
                    time.sleep(max(0.0, began_s + number / self._config.rate - time.monotonic()))
                answer = self._one(payload)
                answers[number] = answer
                if answer.error and not answer.token_ns and not self._is_alive():
                    gone.set()
                with lock:
                    self._progress.step()

        try:
            _in_threads(work, min(self._config.concurrency, len(payloads)))
        finally:
            gone.set()
            done += [answer for answer in answers if answer is not None]

    def _one(self, payload: Payload) -> ClientRequest:
        tokens = payload.max_tokens or self._config.new_tokens
        return self.server.chat(payload, self.kind.model, tokens, self.kind.extra(payload.id))

    def _is_alive(self) -> bool:
        try:
            self.server.ask("GET", "/v1/models", timeout_s=10)
        except CaptureError:
            return False
        return True


def _in_threads(work: Callable[[], None], count: int) -> None:
    """Do the same in some threads; in this one where it is one."""
    if count <= 1:
        work()
        return
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check(config: ServeConfig) -> None:
    """Refuse what makes no sense before anything is sent.

    Raises:
        ConfigError: two options don't go together.
    """
    if config.repeat_images and config.requests is not None:
        raise ConfigError("--repeat-images repeats generated images; leave it out, or leave out --requests")
    if config.rate is not None and config.rate <= 0:
        raise ConfigError("--rate is a number of requests per second; give more than 0")
