"""The same store, whether one process makes it or a Dask cluster of which a worker is lost."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gemma_trace.errors import UnreadableError
from gemma_trace.store import cluster
from gemma_trace.store.indexing import IndexJob, Outcome, Status, index_file, job_for
from tests.trace_builder import TraceBuilder

distributed = pytest.importorskip("distributed", reason="needs the extra scale")
FILES = 12


def _killing_once(path: Path, job: IndexJob) -> Outcome:
    """The first worker that gets to the sixth file is killed in the middle of it."""
    killed = path.parent / "killed"
    if path.name == "6.json" and not killed.exists():
        killed.write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)
    return index_file(job, path)


def test_a_lost_worker_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = []
    for place in range(FILES):
        trace = TraceBuilder().range("request", 0, 1000 + place).range("prefill", 100, 400)
        paths.append(trace.write(tmp_path / "runs" / f"{place}.json"))
    bad = tmp_path / "runs" / "bad.json"
    bad.write_text("[]")
    alone = job_for(tmp_path / "alone")
    for path in (*paths, bad):
        index_file(alone, path)
    monkeypatch.setattr(cluster, "_index", _killing_once)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as running:
        address = running.scheduler_address
        found = list(cluster.outcomes_on(address, job_for(tmp_path / "store"), [*paths, bad]))
    assert (tmp_path / "runs" / "killed").exists()
    assert sorted(outcome.path for outcome in found) == sorted([*paths, bad])
    assert [outcome.path for outcome in found if outcome.status is Status.FAILED] == [bad]
    assert _files(tmp_path / "store") == _files(tmp_path / "alone")


def _files(store: Path) -> dict[str, bytes]:
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*.parquet")}


def test_no_scheduler_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_CONNECT_S", 1)
    with pytest.raises(UnreadableError, match=r"can.t reach a scheduler at tcp://127\.0\.0\.1:1 "):
        list(cluster.outcomes_on("tcp://127.0.0.1:1", job_for(tmp_path / "store"), []))
