"""What several processes read is what one reads, column for column."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.errors import ConfigError, GemmaTraceError, InputError
from gemma_trace.trace import ahead, block_process, block_worker, block_workers, jobs, reader, source
from gemma_trace.trace.block_workers import BlockWorker
from gemma_trace.trace.collected import Block, Collected
from gemma_trace.trace.reader import TraceFile, read_trace
from tests.conftest import HUNG_S, SAMPLES, SHARED, quick_first, tries
from tests.trace.test_chunks import trace_events

# Only a process of one thread is forked, but for here.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

REAL = sorted([*SHARED.glob("corpus*/**/*.json"), *SHARED.glob("corpus*/**/*.json.gz"), *SAMPLES.glob("**/*.json.gz")])


def is_small(path: Path) -> bool:
    return path.suffix == ".json" or path.stat().st_size < 100_000


class WorkerOfItsOwn:
    """Decodes here, as a process does, and answers when it is asked for the second time."""

    def __init__(self, *, detailed: bool = True) -> None:
        self.detailed = detailed
        self._slots = [memoryview(bytearray(block_worker.SLOT_BYTES)) for _ in range(block_worker.SLOTS)]
        self._waiting: list[tuple[memoryview, bytes]] = []
        self._given = self._asked = 0

    @property
    def is_free(self) -> bool:
        return len(self._waiting) < block_worker.SLOTS

    @property
    def has_answered(self) -> bool:
        self._asked += 1
        return self._asked % 2 == 0

    def give(self, array: memoryview) -> None:
        slot = self._slots[self._given % block_worker.SLOTS]
        self._given += 1
        slot[: len(array)] = array
        self._waiting.append((slot, block_worker._answered(slot, len(array), detailed=self.detailed)))

    def take(self) -> Block | None:
        slot, answer = self._waiting.pop(0)
        return block_worker.block_of(answer, slot) if answer else None


def assert_same(one: TraceFile, other: TraceFile) -> None:
    for part in ("events", "flows", "memory", "counters"):
        if getattr(one, part) is None:
            assert getattr(other, part) is None
            continue
        for name, value in vars(getattr(one, part)).items():
            again = getattr(getattr(other, part), name)
            if isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, again, err_msg=f"{part}.{name}")
                assert value.dtype == again.dtype
            else:
                assert value == again, f"{part}.{name}"
    assert one.names == other.names
    assert {key: bytes(raw) for key, raw in one.header.items()} == {
        key: bytes(raw) for key, raw in other.header.items()
    }
    assert one.report == other.report
    assert one.content == other.content


def outcome(path: Path, jobs: int, *, detailed: bool) -> TraceFile | str:
    try:
        return read_trace(path, jobs=jobs, detailed=detailed)
    except GemmaTraceError as error:
        return str(error)


def assert_read_alike(path: Path, *, detailed: bool = True) -> None:
    serial, parallel = outcome(path, 1, detailed=detailed), outcome(path, 3, detailed=detailed)
    if isinstance(serial, str) or isinstance(parallel, str):
        assert serial == parallel
    else:
        assert_same(serial, parallel)


def every_file_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "WORTHWHILE_BYTES", 0)
    monkeypatch.setattr(ahead, "WORTHWHILE_FORKED_BYTES", 0)


@pytest.fixture
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is worth it, and what other processes would do is done here."""
    every_file_is_worth_it(monkeypatch)
    monkeypatch.setattr(reader, "block_workers", workers_here)


@contextlib.contextmanager
def workers_here(path: Path, count: int, *, detailed: bool) -> Iterator[list[WorkerOfItsOwn]]:
    yield [WorkerOfItsOwn(detailed=detailed) for _ in range(count)]


@pytest.mark.uncounted
@pytest.mark.parametrize("path", quick_first(REAL, is_small), ids=lambda path: path.name)
@pytest.mark.usefixtures("_here")
def test_every_trace_there_is_gives_the_same_columns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = path.suffix == ".gz" and path.stat().st_size > 500_000
    monkeypatch.setattr(source, "CHUNK_BYTES", 1 << 20 if large else 50_000)
    assert_read_alike(path)
    assert_read_alike(path, detailed=False)


STRANGE: list[dict[str, Any]] = [
    {"ph": "B", "name": "begun", "pid": 1, "tid": 1, "ts": 5},
    {"ph": "E", "pid": 1, "tid": 1, "ts": 9},
    {"ph": "C", "name": "load", "pid": 1, "ts": 5, "args": {"value": 3}},
    {"ph": "M", "name": "process_name", "pid": 1, "args": {"name": "late"}},
    {"ph": "i", "name": "mark", "pid": 1, "tid": 1, "ts": 2},
    {"ph": "i", "name": "[memory]", "pid": 1, "tid": 1, "ts": 2, "args": {"Bytes": 64, "Device Id": 0, "Addr": 9}},
    {"ph": "s", "id": "text", "name": "f", "cat": "fwdbwd", "pid": 1, "tid": 1, "ts": 3},
    {"ph": "f", "id": 7, "name": "f", "cat": "ac2g", "pid": 0, "tid": "7", "ts": 3},
    {"ph": "X", "name": "epoch", "pid": 1, "tid": 1, "ts": 1_600_000_000_000_000, "dur": 3},
    {"ph": "X", "name": "loose", "pid": 1, "tid": 1, "ts": 4, "dur": 3, "args": {"stream": None, "device": 1}},
    {"ph": "X", "name": "huge", "pid": 2**70, "tid": 1, "ts": 4, "dur": -3, "args": {"correlation": 2**70}},
    {"ph": "X", "name": "dims", "cat": "cpu_op", "pid": 1, "tid": 1, "ts": 4, "args": {"Input Dims": [[1, 2]]}},
    {"ph": "X", "name": "lost"},
    {"ph": "X", "name": 'a "},{" b', "pid": 1, "tid": 1, "ts": 4, "dur": 0, "args": {"list": [{"a": 1}, {"b": 2}]}},
    {},
]
BROKEN = ['{"ph": "X", "name" what}', '{"ph": "X", "ts": 3, "dur": NaN}', "[1]", '{"name": "\x01", "ph": "X", "ts": 1}']


@settings(max_examples=tries(60))
@given(
    events=st.lists(
        st.sampled_from([json.dumps(each) for each in [*STRANGE, *trace_events(20)]] + BROKEN), max_size=60
    ),
    chunk_bytes=st.sampled_from([97, 200, 333, 1024]),
    closed=st.booleans(),
)
@pytest.mark.usefixtures("_here")
def test_whatever_a_trace_holds_it_is_read_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[str], chunk_bytes: int, closed: bool
) -> None:
    path = tmp_path / "trace.json"
    path.write_text('{"a": 1, "traceEvents": [' + ",\n".join(events) + ('], "b": 2}' if closed else ""))
    with monkeypatch.context() as patch:
        patch.setattr(source, "CHUNK_BYTES", chunk_bytes)
        assert_read_alike(path)


@pytest.mark.usefixtures("_here")
def test_what_several_read_is_appended_in_the_files_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "CHUNK_BYTES", 400)
    absorbed: list[int] = []
    absorb = Collected.absorb

    def noticed(self: Collected, block: Block) -> None:
        absorbed.append(block.begun)
        absorb(self, block)

    monkeypatch.setattr(Collected, "absorb", noticed)
    events = [{"ph": "X", "name": f"op {i}", "pid": 1, "tid": 1, "ts": 100 - i, "dur": 1} for i in range(100)]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(events))
    file = read_trace(path, jobs=3)
    assert len(absorbed) > 10
    assert sum(absorbed) > 80
    assert file.events.place.tolist() == list(range(99, -1, -1))
    assert file.events.names == tuple(f"op {i}" for i in range(100))


@contextlib.contextmanager
def started(path: Path, count: int, *, detailed: bool) -> Iterator[list[BlockWorker]]:
    """Processes that have started: a small trace would be read before."""
    with block_workers.block_workers(path, count, detailed=detailed) as workers:
        until = time.monotonic() + HUNG_S
        while not all(worker.is_free for worker in workers) and time.monotonic() < until:
            time.sleep(0.01)
        yield workers


@pytest.fixture(params=[block_process.Program, block_process.Forked])
def _processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    every_file_is_worth_it(monkeypatch)
    monkeypatch.setattr(block_workers, "started", request.param)
    monkeypatch.setattr(source, "CHUNK_BYTES", 4096)
    monkeypatch.setattr(reader, "block_workers", started)


def written(folder: Path, count: int = 1000) -> Path:
    path = folder / "trace.json.gz"
    path.write_bytes(gzip.compress(json.dumps({"traceEvents": trace_events(count), "end": 1}).encode(), 1))
    return path


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.mark.usefixtures("_processes")
def test_processes_read_what_one_reads_and_are_gone_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given_away: list[int] = []
    give = BlockWorker.give

    def noticed(self: BlockWorker, array: memoryview) -> None:
        given_away.append(len(array))
        give(self, array)

    monkeypatch.setattr(BlockWorker, "give", noticed)
    before = children()
    path = written(tmp_path)
    assert_read_alike(path)
    assert len(given_away) > 3
    assert children() == before


@pytest.mark.usefixtures("_processes")
def test_a_process_that_is_killed_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give = BlockWorker.give

    def killed(self: BlockWorker, array: memoryview) -> None:
        self._process.kill()
        self._process.wait()
        give(self, array)

    monkeypatch.setattr(BlockWorker, "give", killed)
    before = children()
    path = written(tmp_path)
    with pytest.raises(InputError) as caught:
        read_trace(path, jobs=2)
    assert str(caught.value) == (
        f"{path} was not read: a process that decoded part of it was ended by SIGKILL, perhaps because memory ran out; "
        "set GEMMA_TRACE_JOBS to 1 to read it in one process"
    )
    assert children() == before


@pytest.mark.usefixtures("_processes")
def test_what_interrupts_the_reading_leaves_no_process(tmp_path: Path) -> None:
    before = children()

    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace_events(1000)))
    heard: list[int] = []

    def later(count: int) -> None:
        heard.append(count)
        if len(heard) == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_trace(path, later, jobs=2)
    assert children() == before


@pytest.mark.parametrize("kind", ["Program", "Forked"])
def test_processes_end_when_whoever_started_them_is_killed(kind: str) -> None:
    code = (
        "import sys, time; from pathlib import Path; from gemma_trace.trace import block_process, block_workers\n"
        f"block_workers.started = block_process.{kind}\n"
        "workers = [block_workers.BlockWorker(Path('x')) for _ in range(2)]\n"
        "while not all(worker.is_free for worker in workers): time.sleep(0.01)\n"
        "print(*(worker._process.pid for worker in workers), flush=True); time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        children = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    until = time.monotonic() + HUNG_S
    while any(map(is_running, children)) and time.monotonic() < until:
        time.sleep(0.01)
    assert len(children) == 2
    assert not any(map(is_running, children))


def test_a_process_of_one_thread_is_forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("1", "2"):
        monkeypatch.setattr(block_process, "_THREADS", tmp_path)
        (tmp_path / name).mkdir()
        assert block_process.may_fork() is (name == "1")
    monkeypatch.setattr(block_process, "_THREADS", tmp_path / "none")
    assert not block_process.may_fork()


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_where_no_process_can_be_started_one_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refused(*args: object, **options: object) -> None:
        raise error

    every_file_is_worth_it(monkeypatch)
    monkeypatch.setattr(subprocess, "Popen", refused)
    monkeypatch.setattr(os, "fork", refused)
    assert len(read_trace(written(tmp_path), jobs=2).events) == 1000


def test_small_files_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr(reader, "block_workers", refused)
    assert len(read_trace(written(tmp_path), jobs=4).events) == 1000


def test_how_many_processes_read_is_given_or_stands_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(jobs.JOBS_VARIABLE, raising=False)
    monkeypatch.setattr(jobs, "_cores", lambda: 5)
    assert (jobs.jobs_of(None), jobs.jobs_of(3), jobs.jobs_of(100)) == (5, 3, jobs.MOST_JOBS)
    monkeypatch.setenv(jobs.JOBS_VARIABLE, "2")
    assert (jobs.jobs_of(None), jobs.jobs_of(4)) == (2, 4)
    monkeypatch.delenv(jobs.JOBS_VARIABLE)
    monkeypatch.setattr(jobs, "_is_one_of_many", lambda: True)
    assert (jobs.jobs_of(None), jobs.jobs_of(4)) == (1, 4)


@pytest.mark.parametrize("given", ["0", "-1", "two", "1.5", " 2"])
def test_what_is_no_number_of_processes_is_refused(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(jobs.JOBS_VARIABLE, given)
    with pytest.raises(ConfigError, match="it requires a whole number of processes, such as 1 or 4"):
        jobs.jobs_of(None)


def test_a_process_of_a_pool_reads_by_itself() -> None:
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(jobs.jobs_of, None).result() == 1


def test_no_module_in_the_current_folder_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("json", "numpy"):
        (tmp_path / f"{module}.py").write_text("open('taken', 'w').close()")
    monkeypatch.chdir(tmp_path)
    with (tmp_path / "shared").open("w+b") as shared:
        shared.truncate(block_worker.SLOTS * block_worker.SLOT_BYTES)
        process = block_process.Program(shared.fileno(), detailed=True)
        assert process.answers.read(len(block_worker.READY)) == block_worker.READY
        process.orders.close()
        process.wait()
    process.answers.close()
    assert not (tmp_path / "taken").exists()
