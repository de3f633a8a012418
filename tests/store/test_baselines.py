from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.sides import side_of
from gemma_trace.store.baselines import baselines, set_baseline
from gemma_trace.store.sides import stored_sides
from gemma_trace.store.store import Store
from gemma_trace.trace.trace import load
from tests.conftest import SAMPLES, thorough
from tests.store.traces import built, run_ids
from tests.trace_builder import TraceBuilder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    built(tmp_path / "old" / "a.json.gz")
    built(tmp_path / "old" / "b.json.gz", 7)
    Store(tmp_path / "store").index(tmp_path / "old", jobs=1)
    return tmp_path / "store"


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_baseline_is_set_listed_shown_and_removed(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted(run_ids(store))
    assert run(capsys, "baseline", "set", "main", first[:8], tmp_path / "old" / "b.json.gz", "--store", store)[0] == 0
    for action in (("list",), ("show", "main")):
        code, out, _ = run(capsys, "baseline", *action, "--store", store, "-f", "json")
        (row,) = json.loads(out)["rows"]
        assert (code, row["baseline"]) == (0, "main")
        assert set(row["run_ids"].split()) <= {first, second}
    assert run(capsys, "baseline", "set", "main", second, "--store", store)[0] == 1
    assert run(capsys, "baseline", "set", "main", second, "--store", store, "--force")[0] == 0
    assert [each.runs for each in baselines(store)] == [(second,)]
    assert run(capsys, "baseline", "remove", "main", "--store", store)[0] == 0
    assert baselines(store) == []


def test_nothing_but_ids_is_kept(store: Path, tmp_path: Path) -> None:
    set_baseline(store, "main", [str(tmp_path / "old" / "a.json.gz")])
    (file,) = (store / "v1" / "baselines").iterdir()
    assert set(json.loads(file.read_bytes())) == {"name", "runs", "created_ns", "schema_version"}
    assert b"old" not in file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("set", "main"), 2, "RUN"),
        (("set", "../x", "abc"), 2, "no name"),
        (("set", "main", "ffffffffffff"), 1, "no run"),
        (("show", "other"), 1, "no baseline"),
        (("remove", "other"), 1, "no baseline"),
        (("list", "main"), 2, "no NAME"),
        (("show",), 2, "NAME"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: tuple[str, ...], code: int, said: str, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out, err = run(capsys, "baseline", *arguments, "--store", store)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_a_rank_of_several_is_no_baseline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = TraceBuilder().op("aten::mm", 0, 10)
    trace.header["distributedInfo"] = {"rank": 0, "world_size": 2}
    path = trace.write(tmp_path / "rank0.json.gz")
    Store(tmp_path / "store").index(path, jobs=1)
    code, _, err = run(capsys, "baseline", "set", "main", path, "--store", tmp_path / "store")
    assert (code, "one rank of a job" in err) == (1, True)


@pytest.mark.parametrize("name", ["sample-tiny-cpu-torchvision", *thorough(["sample-tiny-cpu-pil"])])
def test_a_runs_stages_are_those_of_its_trace(name: str, tmp_path: Path) -> None:
    (path,) = (SAMPLES / name).glob("*.json.gz")
    Store(tmp_path / "store").index(path, jobs=1)
    set_baseline(tmp_path / "store", "main", [str(path)])
    (stored,) = stored_sides(tmp_path / "store", "main")
    side = side_of(load(path))
    assert stored.side.timed_ms == side.timed_ms
    assert stored.side.profiled_ms == side.profiled_ms
    assert list(stored.side.timed_ms) == list(side.timed_ms)
    assert stored.side.requests == side.requests
    assert stored.side.wall_ms == pytest.approx(side.wall_ms)
    assert stored.side.run.measures["ttft_ms"] == side.run.measures["ttft_ms"]


def test_traces_are_compared_with_a_baseline_whose_traces_are_gone(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = sorted(run_ids(store))
    new = tmp_path / "new"
    built(new / "c.json.gz", 50)
    _, plain, _ = run(capsys, "diff", tmp_path / "old", new, "--repeats", "-f", "json")
    set_baseline(store, "main", ids)
    for path in (tmp_path / "old").iterdir():
        path.unlink()
    code, out, _ = run(capsys, "diff", "baseline:main", new, "--store", store, "-f", "json")
    rows, expected = json.loads(out)["rows"], json.loads(plain)["rows"]
    assert code == 0
    assert {row["level"] for row in rows} == {"stage"}
    means = {row["stage"]: (row["before_ms"], row["after_ms"]) for row in expected if row["level"] == "stage"}
    assert {row["stage"]: (row["before_ms"], row["after_ms"]) for row in rows} == means
    assert run(capsys, "diff", new, "baseline:main", "--store", store)[0] == 0


def test_what_is_configured_otherwise_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pil, torchvision = (
        next((SAMPLES / f"sample-tiny-cpu-{kind}").glob("*.json.gz")) for kind in ("pil", "torchvision")
    )
    Store(tmp_path / "store").index(pil, jobs=1)
    set_baseline(tmp_path / "store", "main", [str(pil)])
    _, out, _ = run(capsys, "diff", "baseline:main", torchvision, "--store", tmp_path / "store")
    assert "image_backend: pil → torchvision" in out


def test_there_is_no_baseline_where_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "baseline", "list", "--store", tmp_path / "nowhere")
    assert (code, out, "no store at" in err) == (4, "", True)
    assert not (tmp_path / "nowhere").exists()


def test_a_baseline_needs_its_store_and_its_runs(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "diff", "baseline:main", store)
    assert (code, "give --store STORE" in err) == (2, True)
    code, _, err = run(capsys, "diff", "baseline:main", store, "--store", store)
    assert (code, "no baseline 'main'" in err) == (1, True)
