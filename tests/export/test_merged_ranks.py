"""Several ranks in one trace for viewers: on one clock, apart from each other, and nothing lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gemma_trace import cli
from gemma_trace.errors import ConfigError
from gemma_trace.export.chosen_ranks import parse_ranks, rank_files
from gemma_trace.export.merged_ranks import export_ranks
from gemma_trace.export.viewer import export_trace
from gemma_trace.trace.trace import load
from tests.benchmarks.rank_job import write_job
from tests.benchmarks.rank_plan import ClockOffset, Job
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder

Perfetto = Callable[..., list[list[dict[str, Any]]]]

JOB = Job(ranks=4, steps=2, kernels=5, base_step_ns=1_000_000, faults=(ClockOffset(3_000, rank=1),))
COUNTS = "select (select count(*) from slice) as slices, (select count(*) from flow) as flows"
BY_RANK = """
    select substr(process.name, 1, 6) as rank, count(*) as slices from slice
    join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid) group by 1
"""
COLLECTIVES = """
    select substr(process.name, 1, 6) as rank, max(slice.ts + slice.dur) as end_ns from slice
    join thread_track on slice.track_id = thread_track.id join thread using (utid) join process using (upid)
    where slice.name like 'ncclDevKernel%' group by 1
"""


def a_rank(folder: Path, base_ns: int | None) -> TraceBuilder:
    """A process with the ids, the launch and the arrow that every other rank has too."""
    built = TraceBuilder().op("aten::mm", 1_000, 500).launch(7, 1_100, 50).kernel("gemm", 2_000, 300, correlation=7)
    for phase, at_ns, pid, tid in (("s", 1_100, 1, 100), ("f", 2_000, 0, 7)):
        built.raw(ph=phase, id=7, cat="ac2g", name="ac2g", bp="e", pid=pid, tid=tid, ts=at_ns / 1000)
    built.names("process_name", "python", pid=1).names("process_labels", "GPU 0", pid=0)
    if base_ns is not None:
        built.header["baseTimeNanoseconds"] = base_ns
    folder.mkdir()
    return built


def merged(tmp_path: Path, bases_ns: dict[int, int | None], offsets_ns: dict[int, int]) -> dict[str, Any]:
    traces = {rank: a_rank(tmp_path / str(rank), base).load(tmp_path / str(rank)) for rank, base in bases_ns.items()}
    export_ranks(traces, tmp_path / "out.json", offsets_ns)
    content: dict[str, Any] = json.loads((tmp_path / "out.json").read_text(), parse_float=str)
    return content


def events_of(content: dict[str, Any], phase: str, name: str) -> list[dict[str, Any]]:
    return [event for event in content["traceEvents"] if (event["ph"], event["name"]) == (phase, name)]


def test_bases_and_offsets_are_folded_into_one_clock(tmp_path: Path) -> None:
    content = merged(tmp_path, {0: 10_000, 5: 12_000}, {5: -3_000})
    assert [event["ts"] for event in events_of(content, "X", "aten::mm")] == ["1.000", "0.000"]
    assert [event["ts"] for event in events_of(content, "X", "gemm")] == ["2.000", "1.000"]
    assert content["baseTimeNanoseconds"] == 10_000
    record = content["gemma_trace_export"]
    assert record["start_ns"] == 10_000
    assert [(rank["rank"], rank["offset_ns"], rank["trace"]["shift_ns"]) for rank in record["ranks"]] == [
        (0, 0, 0),
        (5, -3_000, 1_000),
    ]


def test_old_traces_without_a_base_are_on_their_own_clock(tmp_path: Path) -> None:
    content = merged(tmp_path, {0: None, 1: None}, {1: 4_000})
    assert [event["ts"] for event in events_of(content, "X", "aten::mm")] == ["0.000", "4.000"]
    assert "baseTimeNanoseconds" not in content


def test_ranks_are_apart_and_say_what_they_were(tmp_path: Path) -> None:
    content = merged(tmp_path, {0: 0, 5: 0}, {})
    tracks = [(event["pid"], event["tid"]) for name in ("aten::mm", "gemm") for event in events_of(content, "X", name)]
    assert len({pid for pid, _ in tracks}) == len({tid for _, tid in tracks}) == 4
    names = {event["pid"]: event["args"]["name"] for event in events_of(content, "M", "process_name")}
    labels = {event["pid"]: event["args"]["labels"] for event in events_of(content, "M", "process_labels")}
    places = {event["pid"]: event["args"]["sort_index"] for event in events_of(content, "M", "process_sort_index")}
    assert [names[pid] for pid in sorted(names, key=lambda pid: places[pid])] == [
        *("rank 0 stages", "rank 0 python", "rank 0 GPU 0"),
        *("rank 5 stages", "rank 5 python", "rank 5 GPU 0"),
    ]
    assert {names[pid]: label for pid, label in labels.items()} == {
        "rank 0 python": "rank 0: 1",
        "rank 0 GPU 0": "rank 0: 0",
        "rank 5 python": "rank 5: 1",
        "rank 5 GPU 0": "rank 5: 0",
    }
    launches = [event["args"]["correlation"] for event in events_of(content, "X", "cudaLaunchKernel")]
    assert launches == [7, 50_000_000_007]
    assert [event["args"]["correlation"] for event in events_of(content, "X", "gemm")] == launches
    assert [event["id"] for phase in "sf" for event in events_of(content, phase, "ac2g")] == launches * 2


def test_the_engine_loses_no_slice_of_any_rank(perfetto: Perfetto, tmp_path: Path) -> None:
    traces = {rank: load(path) for rank, path in enumerate(write_job(tmp_path / "job", JOB)) if rank != 2}
    alone = {}
    for rank, trace in traces.items():
        export_trace(trace, tmp_path / f"{rank}.json.gz")
        _, ((alone[rank]),) = perfetto(tmp_path / f"{rank}.json.gz", COUNTS)
    results = export_ranks(traces, tmp_path / "all.json.gz", {1: -3_000})
    lost, ((counts),), by_rank, collectives = perfetto(tmp_path / "all.json.gz", COUNTS, BY_RANK, COLLECTIVES)
    assert lost == []
    assert {row["rank"]: row["slices"] for row in by_rank} == {f"rank {rank}": alone[rank]["slices"] for rank in traces}
    assert counts["flows"] == sum(each["flows"] for each in alone.values())
    assert {rank: result.written["X"] for rank, result in results.items()} == {
        r: len(t.spans) for r, t in traces.items()
    }
    assert len({row["end_ns"] for row in collectives}) == 1, "all ranks leave the last collective together"


def test_the_ranks_of_a_capture_of_ours_lose_nothing(
    perfetto: Perfetto, torchrun_traces: Callable[[int], list[Path]], tmp_path: Path
) -> None:
    traces = {rank: real_trace(path) for rank, path in enumerate(torchrun_traces(2))}
    alone = 0
    for rank, trace in traces.items():
        export_trace(trace, tmp_path / f"{rank}.json.gz")
        _, ((counts),) = perfetto(tmp_path / f"{rank}.json.gz", COUNTS)
        alone += counts["slices"]
    export_ranks(traces, tmp_path / "all.json.gz")
    lost, ((counts),) = perfetto(tmp_path / "all.json.gz", COUNTS)
    assert (lost, counts["slices"]) == ([], alone)


def test_the_command_line_finds_the_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_job(tmp_path / "job", JOB)
    out = tmp_path / "out.json"
    assert cli.main(["export", str(tmp_path / "job"), "--ranks", "3,0", "-o", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out)
    assert [line[:7] for line in printed.err.splitlines()[:2]] == ["rank 0:", "rank 3:"]
    assert [rank["rank"] for rank in json.loads(out.read_text())["gemma_trace_export"]["ranks"]] == [0, 3]
    assert cli.main(["export", str(tmp_path / "job"), "--ranks", "0,9", "-o", str(tmp_path / "no.json")]) == 1
    assert "rank 9 not found: there are traces of ranks 0, 1, 2, 3" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "a", "0,", "3-1", "-1", "0-", "99999999", "²"])
def test_what_is_no_list_of_ranks_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^ranks="):
        parse_ranks(text)


def test_of_two_files_of_one_rank_the_first_counts(tmp_path: Path) -> None:
    paths = [*write_job(tmp_path / "a", JOB), *write_job(tmp_path / "b", JOB)]
    assert rank_files(paths, [1]) == {1: paths[1]}


def test_a_file_that_cant_be_read_costs_nobody_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = write_job(tmp_path / "job", JOB)[2]
    broken.write_bytes(b"no gzip")
    out = str(tmp_path / "out.json")
    assert cli.main(["export", str(tmp_path / "job"), "--ranks", "0,1", "-o", out]) == 0
    assert cli.main(["export", str(tmp_path / "job"), "--ranks", "0,2", "-o", out, "--force"]) == 4
    assert broken.name in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("group_size", "chosen"), [(0, "1,9"), (8, "1,10")], ids=["one group", "groups apart"])
def test_the_command_line_puts_the_ranks_on_one_clock(tmp_path: Path, group_size: int, chosen: str) -> None:
    faults = (ClockOffset(2_000_000, host=0), ClockOffset(-9_000_000, host=1))
    write_job(tmp_path / "job", Job(ranks=16, steps=2, kernels=2, group_size=group_size, faults=faults))
    assert cli.main(["export", str(tmp_path / "job"), "--ranks", chosen, "-o", str(tmp_path / "out.json")]) == 0
    record = json.loads((tmp_path / "out.json").read_text())["gemma_trace_export"]
    offsets_ns = [rank["offset_ns"] for rank in record["ranks"]]
    assert offsets_ns[1] - offsets_ns[0] == 11_000_000
