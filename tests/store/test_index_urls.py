"""`gemma-trace index` of traces and into stores behind URLs: fetched once, and no secret is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

import gemma_trace
from gemma_trace import opening
from gemma_trace.cli import main
from gemma_trace.remote import RemotePath, path_of
from gemma_trace.store.indexing import Status, index_file, job_for
from tests.conftest import SAMPLES
from tests.store.traces import built, content_of, run_id_of

SAMPLE = next((SAMPLES / "sample-tiny-cpu-pil").glob("*.gz"))


def test_traces_and_a_store_behind_urls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs the extra scale")
    root = f"memory://{uuid4().hex}"
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(2)]
    for trace in traces:
        fsspec.filesystem("memory").pipe_file(f"{root}/traces/{trace.name}", trace.read_bytes())
    gemma_trace.Store(tmp_path / "store").index(traces)
    for counts in ((2, 0), (0, 2)):
        assert main(["index", root, "--to", f"{root}/store", "--compact", "--jobs", "1", "--format", "json"]) == 0
        totals = json.loads(capsys.readouterr().out)["totals"]
        assert (totals["indexed"], totals["known"]) == counts, "its own files are no traces"
    assert content_of(f"{root}/store") == content_of(tmp_path / "store")


@pytest.mark.parametrize(("most_bytes", "times"), [(1 << 30, 1), (10, 2)])
def test_a_trace_behind_a_url_is_fetched_once_unless_it_is_huge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most_bytes: int, times: int
) -> None:
    fsspec = pytest.importorskip("fsspec", reason="needs the extra scale")
    url, fetched, real = f"memory://{uuid4().hex}/a.json", [], RemotePath.opened_at
    trace = built(tmp_path / "a.json")
    fsspec.filesystem("memory").pipe_file(url, trace.read_bytes())

    def counted(path: RemotePath, place: int) -> Any:
        fetched.append(place)
        return real(path, place)

    monkeypatch.setattr(RemotePath, "opened_at", counted)
    monkeypatch.setattr(opening, "MAX_FETCHED_BYTES", most_bytes)
    outcome = index_file(job_for(tmp_path / "store"), path_of(url))
    assert (outcome.status, outcome.run_id) == (Status.INDEXED, run_id_of(trace))
    assert len(fetched) == times
    gemma_trace.Store(tmp_path / "other").index(trace)
    assert content_of(tmp_path / "store") == content_of(tmp_path / "other")


def test_a_urls_secrets_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("fsspec", reason="needs the extra scale")
    store = f"memory://ann:password@{uuid4().hex}/store?X-Amz-Signature=signature"
    assert main(["index", str(SAMPLE), "--to", store, "--compact", "--jobs", "1"]) == 0
    said = capsys.readouterr()
    assert [word for word in ("ann", "password", "signature") if word in said.out + said.err] == []
