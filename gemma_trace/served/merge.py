"""The traces of a server's processes and what its client saw → one trace, on one clock.

Processes stay as they are, but for the time that theirs begins at. Each request of the client gets a thread of its own
in a process of clients, with its range, its stages, and a mark for each piece of text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from gemma_trace._version import __version__
from gemma_trace.errors import InputError, UnreadableError
from gemma_trace.export.links import LinkNumbers
from gemma_trace.foreign import UnreadableValueError, decoded, text, value_of
from gemma_trace.metadata import (
    SCHEMA_VERSION,
    Environment,
    RequestSample,
    RunIdentity,
    RunMetadata,
    Workload,
)
from gemma_trace.served.placing import Placed, clocks_apart_ns, overlapping, place
from gemma_trace.served.record import MERGED, RECORD, ClientRequest, ServedRecord
from gemma_trace.served.request_stages import request_stages
from gemma_trace.served.scene import Scene, scene_of
from gemma_trace.served.stamps import PATTERN, read_stamps
from gemma_trace.served.trace_files import known_files
from gemma_trace.stages import PREFIX, Stage
from gemma_trace.trace.clients import TOKEN, client_process
from gemma_trace.trace.clock import ns_to_decimal_us, time_ns
from gemma_trace.trace.files import output_file
from gemma_trace.trace.header import BASE_KEY, DEVICES_KEY, METADATA_KEY
from gemma_trace.trace.reader import read_header, stream_events
from gemma_trace.trace.short_paths import PathScrubber
from gemma_trace.trace.trace import Trace, load
from gemma_trace.trace.unusable import UNSEEN

Watch = Callable[[Path], AbstractContextManager[Callable[[int], None] | None]]
"""Opens, for the time in which a file is read, what hears how many bytes were."""

_NOTABLE_NS: Final = 1_000_000
"""Clocks that differ by less are taken for one."""

_KEPT_HEADER: Final = (DEVICES_KEY, "vllm_version", "record_shapes", "with_stack", "schemaVersion")


def merge(folder: Path, record: ServedRecord, watch: Watch = lambda path: nullcontext(None)) -> tuple[Path, list[str]]:
    """Write the one trace that a folder of served requests stands for.

    Args:
        record: the folder's.

    Returns:
        The trace, and what is to be known of it, a line each.

    Raises:
        InputError: none of the processes' traces can be read, or none of the requests was profiled.
        OutputError: it can't be written.
    """
    answered = sorted(
        (request for request in record.profiled if request.token_ns or not request.error),
        key=lambda request: request.sent_unix_ns,  # as the requests of a trace are
    )
    if not answered:
        raise InputError(f"{folder} has no request that the profiler recorded, so there is nothing to merge")
    stamps = [stamp for path in sorted(folder.rglob(PATTERN)) for stamp in read_stamps(path)]
    traces, notes = _loaded([folder / name for name in record.traces], watch, has_stamps=bool(stamps))
    scene = scene_of(traces, stamps)
    placed = place(answered, scene)
    notes += _remarks(scene, placed, answered)
    base_ns = min(trace.base_ns for trace in traces)
    metadata = _metadata(record, scene, traces, answered, notes)
    processes = [client_process(workers) for workers in _workers(traces, scene)] if len(scene.engines) > 1 else []
    events = _client_events(placed, scene, base_ns, processes or [client_process()])
    return _write(folder, traces, metadata, events, watch), notes


def merge_processes(folder: Path, watch: Watch = lambda path: nullcontext(None)) -> tuple[Path, list[str]]:
    """Merge a server's traces without a client's record, and therefore without requests.

    Returns:
        The trace, and what is to be known of it, a line each.

    Raises:
        InputError: none of the traces can be read.
        OutputError: it can't be written.
    """
    has_stamps = any(folder.rglob(PATTERN))
    paths = [path for path in known_files(folder) if not path.match(PATTERN) and path.name != MERGED]
    if not paths:
        raise UnreadableError(f"{folder} has no trace in it; give the folder that the server wrote its traces into")
    traces, notes = _loaded(paths, watch, has_stamps=has_stamps)
    done = _write(folder, traces, None, (), watch)
    none = f"there is no {RECORD} of a client: requests, their queues and their time to first token are unknown"
    return done, [none, *notes]


def _write(
    folder: Path, traces: Sequence[Trace], metadata: RunMetadata | None, more: Iterable[dict[str, Any]], watch: Watch
) -> Path:
    """Write all processes on one clock, and more events after them."""
    base_ns = min(trace.base_ns for trace in traces)
    target = folder / MERGED
    with output_file(target, "check the folder") as file:
        out = _Out(file)
        out.begin(_header(traces, base_ns, metadata))
        for position, trace in enumerate(traces):
            with watch(trace.path) as on_bytes:
                renames = _shared_process(trace, traces[:position])
                shifted = _Shifted(out, position, trace.base_ns - base_ns, renames=renames)
                stream_events(trace.path, shifted, on_bytes)
        out.write(more)
        out.end()
    return target


def _loaded(paths: Sequence[Path], watch: Watch, *, has_stamps: bool) -> tuple[list[Trace], list[str]]:
    """Those traces of the server's processes that can be read, and a note for each of the others.

    Args:
        has_stamps: whether our plugin was there: then the front end's trace may be empty, and times stand beside it.
    """
    traces: list[Trace] = []
    notes: list[str] = []
    for path in paths:
        try:
            with watch(path) as on_bytes:
                trace = load(path, on_bytes=on_bytes)
        except InputError as error:
            if has_stamps and str(error).endswith(UNSEEN):
                continue
            notes.append(f"a trace of the server is left out: {error}")
            continue
        if not trace.base_ns:
            notes.append(f"{path.name} is left out, because it does not say which clock it uses (no {BASE_KEY})")
            continue
        traces.append(trace)
    if not traces:
        raise UnreadableError("; ".join(notes) or "there is no trace of the server; check --traces")
    return traces, notes


def _remarks(scene: Scene, placed: Sequence[Placed], requests: Sequence[ClientRequest]) -> list[str]:
    notes = []
    if not scene.steps:
        notes.append("the traces have no step of the engine, so the whole of each request counts as `front_end`")
    elif without := sum(not each.steps for each in placed):
        notes.append(
            f"{without} of {len(placed)} requests have no step of the engine; check that the profiler was on, and "
            f"that server and client use the same clock"
        )
    if scene.steps and not scene.front:
        notes.append("the front end's trace has no stages, so the time before the first step counts as `front_end`")
    if (apart_ns := max(map(clocks_apart_ns, placed), default=0)) > _NOTABLE_NS:
        notes.append(
            f"the clocks of client and server are at least {apart_ns / 1e6:,.1f} ms apart: `http`, `queue` and "
            f"`return` may be wrong by as much; run serve-capture on the server's machine"
        )
    if scene.encoder_hidden:
        notes.append("the image encoder can't be told from the prefill; record stacks, or use a plugin")
    engines, workers = len(scene.engines), sum(map(len, scene.engines))
    if workers > engines:
        notes.append(
            f"{workers} processes run the steps of {engines} engine(s): each step is as long as in the slowest process"
        )
    if engines > 1:
        notes.append(f"{engines} engines run independent steps; a request belongs to the steps of one of them")
    if overlapping(requests):
        shared = sum(
            (step.counts.context_requests or 0) + (step.counts.generation_requests or 0) > 1 for step in scene.steps
        )
        how = "by the engine's own ids" if any(step.request_ids for step in scene.steps) else "by the order of tokens"
        notes.append(
            f"several requests were open at once: {shared} of {len(scene.steps)} steps are shared, and the whole of "
            f"a shared step counts for each of its requests; requests are told apart {how}"
        )
    return notes


def _metadata(
    record: ServedRecord, scene: Scene, traces: Sequence[Trace], answered: Sequence[ClientRequest], notes: Sequence[str]
) -> RunMetadata:
    on_device = any(len(trace.activities) for trace in traces)
    device = next((name for trace in traces for name in trace.devices.values() if name), "")
    samples = [
        RequestSample(request.done_ns, request.token_ns[0], request.token_ns, request.label, {}, {})
        for request in record.timed
        if request.token_ns and not request.error
    ]
    labels = tuple(dict.fromkeys(request.label for request in [*record.timed, *record.profiled]))
    prompts = {request.label: request.prompt_tokens for request in [*record.timed, *record.profiled]}
    return RunMetadata(
        schema_version=SCHEMA_VERSION,
        created_utc=record.created_utc,
        run=RunIdentity(record.name, record.model, "", "", "cuda" if on_device else "cpu", ""),
        workload=Workload(labels, tuple(prompts[label] for label in labels), _new_tokens(record)),
        environment=Environment(__version__, "", "", None, "", "", "", 0, 0, 0, device),
        config={**record.options, "server": record.server},
        timed_requests=tuple(samples),
        profiled_images=tuple(request.label for request in answered),
        warnings=(*record.warnings, *notes),
    )


def _new_tokens(record: ServedRecord) -> int:
    return max((request.output_tokens or len(request.token_ns) for request in record.profiled), default=0)


def _header(traces: Sequence[Trace], base_ns: int, metadata: RunMetadata | None) -> dict[str, msgspec.Raw]:
    members: dict[str, msgspec.Raw] = {}
    for trace in sorted(traces, key=lambda trace: -len(trace.activities)):
        header = read_header(trace.path)
        members |= {key: header[key] for key in _KEPT_HEADER if key in header and key not in members}
    members[BASE_KEY] = msgspec.Raw(b"%d" % base_ns)
    if metadata is not None:
        members[METADATA_KEY] = msgspec.Raw(metadata.to_json())
    return members


class _Out:
    """The merged file while it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._scrub, self._separator = file, PathScrubber(keep_paths=False), b"\n"

    def begin(self, header: dict[str, msgspec.Raw]) -> None:
        """Write all that stands before the events."""
        for number, (key, value) in enumerate(header.items()):
            line = msgspec.json.encode(key) + b": " + self._scrub(bytes(value))
            self._file.write((b",\n" if number else b"{\n") + line)
        self._file.write(b',\n"traceEvents": [')

    def write(self, events: Iterable[dict[str, Any]]) -> None:
        """Write events."""
        lines = [msgspec.json.encode(event) for event in events]
        if lines:
            self._file.write(self._separator + self._scrub(b",\n".join(lines)))
            self._separator = b",\n"

    def end(self) -> None:
        """Write what stands behind the events."""
        self._file.write(b"\n]\n}\n")


class _Shifted:
    """Takes a process's events and writes them with the clock of all.

    Args:
        position: the process's number: from the second on its launches, arrows and process ids are told apart by it.
        shift_ns: what is added to every time.
        renames: whether its processes' ids are those of other processes.
    """

    def __init__(self, out: _Out, position: int, shift_ns: int, *, renames: bool) -> None:
        self._out, self._position, self._shift_ns, self._renames = out, position, shift_ns, renames
        self._links = LinkNumbers(position) if position else LinkNumbers()

    def decode(self, array: bytes | memoryview) -> bool:
        """Write the events of a JSON array; False, and nothing is written, where it doesn't decode."""
        try:
            events = decoded(bytes(array).decode("utf-8", "replace"), list[dict[str, msgspec.Raw]])
        except UnreadableValueError:
            return False
        self._out.write([self._event(event) for event in events])
        return True

    def _event(self, event: dict[str, Any]) -> dict[str, Any]:
        at_ns = time_ns(bytes(event["ts"])) if "ts" in event else None
        if at_ns is not None and bytes(event.get("ph", b"")) != b'"M"':
            event["ts"] = msgspec.Raw(ns_to_decimal_us(at_ns + self._shift_ns))
        if self._position:
            if bytes(event.get("ph", b"")) in (b'"s"', b'"t"', b'"f"'):
                arrow = value_of(event.get("id", b"0"))
                event["id"] = self._links.arrow(arrow if type(arrow) is int else text(arrow))
            elif "args" in event:
                event["args"] = self._links.args(bytes(event["args"]))
        if self._renames and "pid" in event:
            event["pid"] = _renamed(self._position, text(value_of(event["pid"])))
        return event


def _shared_process(trace: Trace, others: Sequence[Trace]) -> bool:
    """Whether a process of a trace has the number of one of others, as those of different containers can."""
    return any(not _pids(trace).isdisjoint(_pids(other)) for other in others)


def _pids(trace: Trace) -> set[str]:
    return {track.pid for track in trace.spans.tracks if track.pid.isdigit() and track.pid == track.tid}


def _workers(traces: Sequence[Trace], scene: Scene) -> list[list[str]]:
    """Of each engine the ids, in the merged trace, of the processes that run its steps."""
    by_engine: list[list[str]] = [[] for _ in scene.engines]
    for position, trace in enumerate(traces):
        renamed = _shared_process(trace, traces[:position])
        for engine, names in zip(by_engine, scene.engines, strict=True):
            if trace.path.name in names:
                engine += [_renamed(position, pid) if renamed else pid for pid in sorted(_pids(trace))]
    return by_engine


def _renamed(position: int, pid: str) -> str:
    return f"{position}:{pid}"


def _client_events(
    placed: Sequence[Placed], scene: Scene, base_ns: int, processes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The processes of clients: of each request a thread with its range, its stages, and marks of its tokens.

    Args:
        processes: the id of the process of each engine's clients.
    """
    for number, process in enumerate(processes):
        which = f", engine {number}" if number or len(processes) > 1 else ""
        yield _named("process_name", process, 0, name=f"requests of the client{which}")
        yield _named("process_sort_index", process, 0, sort_index=-1)
    for thread, each in enumerate(placed):
        request, process = each.request, processes[each.steps[0].engine if each.steps else 0]
        sent = request.sent_unix_ns - base_ns
        args = {"id": request.id, "images": request.label} | ({"error": request.error} if request.error else {})
        yield _named("thread_name", process, thread, name=f"request {thread}: {request.label}")
        yield _range(Stage.REQUEST.range_name, sent, request.done_ns, process, thread, args)
        for start_ns, end_ns, stage in request_stages(each, scene.detokenization):
            yield _range(PREFIX + stage, start_ns - base_ns, end_ns - start_ns, process, thread)
        for token_ns in request.token_ns:
            yield _range(TOKEN, sent + token_ns, 0, process, thread)


def _named(kind: str, process: str, thread: int, **args: Any) -> dict[str, Any]:
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": args}


def _range(
    name: str, start_ns: int, length_ns: int, process: str, thread: int, args: dict[str, Any] | None = None
) -> dict[str, Any]:
    event = {"ph": "X", "cat": "user_annotation", "name": name, "pid": process, "tid": thread}
    times = {"ts": msgspec.Raw(ns_to_decimal_us(start_ns)), "dur": msgspec.Raw(ns_to_decimal_us(length_ns))}
    return event | times | ({"args": args} if args else {})
