"""`gemma-trace index` and `Store`: what is in a store is what the analysis says, once, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gemma_trace
from gemma_trace.cli import main
from gemma_trace.errors import ConfigError
from gemma_trace.store import engine, indexing
from gemma_trace.store.indexing import Status, index_file, job_for
from gemma_trace.store.places import LocalPlace, open_place
from gemma_trace.store.schema import RUN_TABLES
from tests.capture.test_writer import METADATA
from tests.conftest import SAMPLES
from tests.store.traces import TIMED, built, content_of, files_of, run_id_of, run_ids
from tests.trace_builder import TraceBuilder

SAMPLE = next((SAMPLES / "sample-tiny-cpu-pil").glob("*.gz"))


def test_what_is_in_the_store_is_passed_over_and_a_new_trace_rewrites_nothing(tmp_path: Path) -> None:
    store = gemma_trace.Store(tmp_path / "store")
    first = built(tmp_path / "traces" / "a.json")
    assert store.index(tmp_path / "traces").counts == {Status.INDEXED: 1}
    before = {name: (tmp_path / "store" / name).stat() for name in files_of(store.path)}
    copied = tmp_path / "traces" / "of_another_name.json"
    copied.write_bytes(first.read_bytes())
    built(tmp_path / "traces" / "b.json", 1)
    found = store.index(tmp_path / "traces")
    assert found.counts == {Status.KNOWN: 2, Status.INDEXED: 1}
    assert len(store.runs()) == 2
    for name, stat in before.items():
        after = (tmp_path / "store" / name).stat()
        assert (after.st_ino, after.st_mtime_ns) == (stat.st_ino, stat.st_mtime_ns)


def test_a_bad_trace_costs_itself_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, store = tmp_path / "traces", tmp_path / "store"
    built(folder / "a.json")
    bad = folder / "b.json"
    bad.write_text("{}")
    (folder / "c.json").mkdir()
    assert main(["index", str(folder), str(tmp_path / "traces" / "b.json"), "--to", str(store)]) == 4
    assert "is not a trace" in capsys.readouterr().out
    assert len(run_ids(store)) == 1
    (failure,) = content_of(store)["failures"]
    assert (failure["run_id"], failure["error"], failure["file_bytes"]) == (run_id_of(bad), "TraceFormatError", 2)
    assert failure["file"] is None
    assert str(tmp_path) not in failure["message"]
    assert main(["index", str(folder), "--to", str(store), "--format", "json"]) == 4
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["indexed"], totals["known"], totals["failed"]) == (0, 1, 1)


def test_an_error_of_our_own_costs_its_trace_alone_and_goes_when_it_is_mended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(2)]
    store = gemma_trace.Store(tmp_path / "store")

    def broken(run_id: str, *rest: Any, **more: Any) -> Any:
        if run_id == run_id_of(traces[0]):
            raise ZeroDivisionError("of ours")
        return rows_of(run_id, *rest, **more)

    rows_of = vars(indexing)["rows_of"]
    monkeypatch.setattr(indexing, "rows_of", broken)
    assert store.index(traces).counts == {Status.FAILED: 1, Status.INDEXED: 1}
    assert "ZeroDivisionError: of ours" in store.failures().message[0]
    monkeypatch.setattr(indexing, "rows_of", rows_of)
    assert store.index(traces).counts == {Status.FAILED: 1, Status.KNOWN: 1}, "it isn't tried again"
    assert store.index(traces, retry=True).counts == {Status.INDEXED: 1, Status.KNOWN: 1}
    assert len(store.failures()) == 0
    assert len(store.runs()) == 2


def test_no_names_unless_they_are_to_be_kept(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 1000).range("prefill", 0, 900)
    trace.op("aten::mm", 10, 50).launch(1, 15).kernel("gemm of /home/annabel/kernels/mine.cu", 100, 50, correlation=1)
    trace.frame("/home/annabel/run.py(3): main", 0, 1000)
    trace.header |= {"host_name": "gpu-box-17", "username": "annabel", "vllm_version": "0.9.1 on gpu-box-17"}
    path = trace.write(tmp_path / "secret-folder" / "gpu-box-17_42.1700000000000000000.pt.trace.json")
    bad = tmp_path / "secret-folder" / "gpu-box-17_43.1700000000000000001.pt.trace.json"
    bad.write_text("[]")
    private = ("annabel", "gpu-box", "secret-folder", tmp_path.name, "mine-")
    gemma_trace.Store(tmp_path / "without").index(path.parent)
    without = repr(content_of(tmp_path / "without"))
    assert [word for word in private if word in without] == []
    assert "mine.cu" in without
    gemma_trace.Store(tmp_path / "with").index(path.parent, keep_names=True)
    kept = content_of(tmp_path / "with")
    assert kept["runs"][0]["file"] == str(path)
    assert kept["runs"][0]["name"] == "gpu-box-17_42.1700000000000000000"
    assert kept["failures"][0]["file"] == str(bad)


def test_rules_define_stages_of_what_is_new_and_of_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def foreign(mark: int) -> Path:
        trace = TraceBuilder().op("aten::mm", 0, 900 + mark).frame("experts(3)", 100, 400)
        return trace.write(tmp_path / f"{mark}.json")

    store, first, second = tmp_path / "store", foreign(0), foreign(1)
    rules = tmp_path / "rules.toml"
    rules.write_text('[stages]\nmoe = "experts"\n')
    assert main(["index", str(first), "--to", str(store)]) == 0
    assert "moe" not in set(gemma_trace.Store(store).stages().stage)
    assert main(["index", str(first), str(second), "--to", str(store), "--rules", str(rules)]) == 0
    assert "The rules don't change traces that the store has" in capsys.readouterr().out
    stages = gemma_trace.Store(store).stages()
    assert set(stages[stages.stage == "moe"].run_id) == {run_id_of(second)}
    assert main(["index", str(first), "--to", str(tmp_path / "new"), "--rule", "moe=experts"]) == 0
    assert "The rules" not in capsys.readouterr().out
    of_program = gemma_trace.Store(tmp_path / "third")
    of_program.index([first, second], [gemma_trace.stage_rule("moe", "experts")])
    assert list(of_program.stages().stage).count("moe") == 2
    assert list(gemma_trace.Store(tmp_path / "new").stages().stage).count("moe") == 1


def test_a_rule_that_takes_too_long_is_no_fault_of_the_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_long(*_: Any) -> None:
        raise ConfigError("the rule takes too long")

    monkeypatch.setattr("gemma_trace.trace.trace.match_rules", too_long)
    trace, store = built(tmp_path / "a.json"), tmp_path / "store"
    assert main(["index", str(trace), "--to", str(store), "--rule", "moe=(a+)+$"]) == 2
    assert capsys.readouterr().err == "gemma-trace: the rule takes too long\n"
    monkeypatch.undo()
    assert main(["index", str(trace), "--to", str(store)]) == 0


def test_a_full_disk_is_one_line_and_costs_nothing_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store, traces = tmp_path / "store", [built(tmp_path / f"{mark}.json", mark) for mark in range(3)]
    gemma_trace.Store(store).index(traces[0])
    before = content_of(store)
    write, left = LocalPlace.write, [4]

    def until_full(place: LocalPlace, name: str, data: bytes) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(place, name, data)

    monkeypatch.setattr(LocalPlace, "write", until_full)
    assert main(["index", *map(str, traces), "--to", str(store)]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "No space left on device" in said.err
    assert content_of(store) == before
    monkeypatch.undo()
    assert main(["index", *map(str, traces), "--to", str(store)]) == 0
    assert len(run_ids(store)) == 3


def test_two_indexers_of_one_store_make_what_one_makes(tmp_path: Path) -> None:
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(3)]
    gemma_trace.Store(tmp_path / "one").index(traces)
    jobs = [job_for(tmp_path / "both") for _ in range(2)]  # neither knows of the other's
    for trace in traces:
        assert [index_file(job, trace).status for job in jobs] == [Status.INDEXED] * 2
    assert content_of(tmp_path / "both") == content_of(tmp_path / "one")
    assert files_of(tmp_path / "both") == files_of(tmp_path / "one")


def test_many_processes_make_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(5)]
    gemma_trace.Store(tmp_path / "one").index(traces, jobs=1)
    monkeypatch.setattr(engine, "WORTHWHILE_BYTES", 1)
    gemma_trace.Store(tmp_path / "many").index(traces, jobs=2)
    for name in files_of(tmp_path / "one"):
        assert open_place(tmp_path / "many").read(name) == open_place(tmp_path / "one").read(name)


def test_a_process_that_is_killed_costs_its_trace_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traces = [built(tmp_path / f"{mark}.json", mark) for mark in range(4)]

    def dies(job: indexing.IndexJob, path: Path) -> indexing.Outcome:
        if path == traces[1]:
            os._exit(9)
        return index_file(job, path)

    monkeypatch.setattr(engine, "WORTHWHILE_BYTES", 1)
    monkeypatch.setattr(engine, "index_file", dies)
    store = gemma_trace.Store(tmp_path / "store")
    found = store.index(traces, jobs=2)
    assert found.counts == {Status.INDEXED: 3, Status.FAILED: 1}
    (failed,) = [outcome for outcome in found.shown if outcome.status is Status.FAILED]
    assert failed.path == traces[1]
    assert "was killed" in failed.message
    assert len(store.failures()) == 0, "it may be read elsewhere, or by itself"
    assert len(store.runs()) == 3


def test_a_trace_that_changes_while_it_is_read_is_not_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, read = built(tmp_path / "a.json"), vars(indexing)["read_trace"]

    def late(path: Path, **more: Any) -> Any:
        built(trace, 7)
        return read(path, **more)

    monkeypatch.setattr(indexing, "read_trace", late)
    store = gemma_trace.Store(tmp_path / "store")
    found = store.index(trace)
    assert found.counts == {Status.FAILED: 1}
    assert "changed while it was read" in found.shown[0].message
    assert len(store.runs()) == len(store.failures()) == 0


@pytest.mark.parametrize("name", ["a\x1b[2J\n.json", "%s{0}'\"$(id) .json", "day=2020-01-01.json", "b\udcff.json"])
def test_a_files_name_does_no_harm(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "traces"
    built(folder / name)
    (folder / f"bad{name}").write_text("{}")
    for keep in ([], ["--keep-names"]):
        assert main(["index", str(folder), "--to", str(tmp_path / f"store{len(keep)}"), *keep]) == 4
        said = capsys.readouterr()
        assert "\x1b" not in said.out + said.err
        found = content_of(tmp_path / f"store{len(keep)}")
        assert [len(found[table]) for table in ("runs", "failures")] == [1, 1]


def test_what_a_trace_claims_may_be_large(tmp_path: Path) -> None:
    metadata = replace(METADATA, timed_requests=TIMED, config={"batch": 2**63 - 1}, created_utc="9999-99-99")
    trace = TraceBuilder().range("request", 0, 1_000).range("prefill", 0, 900).metadata(metadata)
    trace.header |= {"baseTimeNanoseconds": 2**62 - 1, "distributedInfo": {"rank": 2**40, "world_size": 2**40}}
    store = gemma_trace.Store(tmp_path / "store")
    assert store.index(trace.write(tmp_path / "a.json")).counts == {Status.INDEXED: 1}
    assert set(store.table("decode").batch) == {2**63 - 1}
    assert store.runs().day[0] == "2116-02-20", "no capture was made on day 99"


def test_a_store_among_the_traces_is_not_indexed(tmp_path: Path) -> None:
    built(tmp_path / "a.json")
    store = gemma_trace.Store(tmp_path)
    for _ in range(2):
        store.index(tmp_path)
        store.compact()
    assert len(store.runs()) == 1
    assert len(store.failures()) == 0


def test_raw_traces_that_could_go_are_listed_and_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, bad = built(tmp_path / "old.json"), built(tmp_path / "new.json", 1), tmp_path / "bad.json"
    bad.write_text("{}")
    for path in (old, bad):
        os.utime(path, (time.time() - 31 * 86_400,) * 2)
    arguments = [
        "index",
        str(tmp_path),
        "--to",
        str(tmp_path / "store"),
        "--prune-raw-after",
        "30d",
        "--format",
        "json",
    ]
    for _ in range(2):
        assert main(arguments) == 4
        found = json.loads(capsys.readouterr().out)
        (row,) = found["rows"]
        assert (row["file"], row["run_id"], row["file_bytes"]) == (str(old), run_id_of(old), old.stat().st_size)
        assert 30.9 < row["age_days"] < 31.1
        assert (found["totals"]["prunable"], found["totals"]["prunable_bytes"]) == (1, old.stat().st_size)
    assert all(path.exists() for path in (old, new, bad))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["TRACE"], "give --to STORE"),
        (["TRACE", "--to", "TRACE"], "is a file; give a folder"),
        (["--to", "STORE"], "no traces; give PATH"),
        (["TRACE", "--to", "STORE", "--prune-raw-after", "30 days"], "is not an age"),
        (["TRACE", "--to", "STORE", "--jobs", "0"], "jobs"),
    ],
)
def test_what_makes_no_sense_is_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    named = {"TRACE": str(built(tmp_path / "a.json")), "STORE": str(tmp_path / "store")}
    assert main(["index", *(named.get(argument, argument) for argument in arguments)]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "store").exists()


def test_watching_indexes_what_comes_once_it_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, store = tmp_path / "traces", tmp_path / "store"
    folder.mkdir()
    whole = built(tmp_path / "elsewhere" / "a.json").read_bytes()
    half, seen = folder / "b.json", []
    steps: list[Callable[[], object]] = [
        lambda: half.write_bytes(whole[:200]),
        lambda: half.write_bytes(whole[:400]),
        lambda: half.write_bytes(whole),
        lambda: None,
        lambda: built(folder / "c.json", 1),
        lambda: None,
        lambda: None,
    ]

    def sleep(_: float) -> None:
        seen.append(len(run_ids(store)))
        if not steps:
            raise KeyboardInterrupt
        steps.pop(0)()

    monkeypatch.setattr("time.sleep", sleep)
    assert main(["index", str(folder), "--to", str(store), "--watch", "--format", "json"]) == 0
    assert seen == [0, 0, 0, 0, 1, 1, 2, 2]
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["indexed"], totals["known"], totals["failed"]) == (2, 0, 0)


def test_some_rows_of_a_table_are_those_of_all_of_them(tmp_path: Path) -> None:
    store = gemma_trace.Store(tmp_path / "store")
    store.index([built(tmp_path / f"{mark}.json", mark) for mark in range(3)])
    every = store.stages()
    some = store.table("stages", {"stage": "prefill"})
    assert len(some) == 3 < len(every)
    assert some.equals(every[every.stage == "prefill"].reset_index(drop=True))
    assert store.table("stages", {"stage": "none"}).empty


def test_tables_are_those_of_the_store(tmp_path: Path) -> None:
    store = gemma_trace.Store(tmp_path)
    assert len(store.runs()) == 0
    assert list(store.runs().columns)[-1] == "day"
    store.index(SAMPLE)
    assert store.stages().time_ns.sum() == store.runs().wall_ns.sum()
    assert {table: len(store.table(table)) > 0 for table in RUN_TABLES} == {
        "stages": True,
        "kernels": True,
        "collectives": False,
        "findings": True,
        "decode": True,
        "memory": False,
        "samples": True,
    }
    with pytest.raises(ConfigError, match="no table 'nothing'"):
        store.table("nothing")


def test_the_day_is_that_of_the_capture(tmp_path: Path) -> None:
    ours = built(tmp_path / "a.json")
    theirs = TraceBuilder().range("request", 0, 10)
    theirs.header |= {"baseTimeNanoseconds": 1_700_000_000 * 10**9}
    unknown = TraceBuilder().range("request", 5, 10)
    paths = [ours, theirs.write(tmp_path / "b.json"), unknown.write(tmp_path / "c.json")]
    store = gemma_trace.Store(tmp_path / "store")
    store.index(paths)
    day = dict(zip(store.runs().run_id, store.runs().day, strict=True))
    assert [day[run_id_of(path)] for path in paths] == ["2026-01-01", "2023-11-14", "1970-01-01"]
