"""Folders of ranks that something is wrong with: each gives an answer, or one clear line."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gemma_trace
from gemma_trace.cli import main
from gemma_trace.ranks.folders import is_job, jobs_among
from gemma_trace.ranks.identity import identity_of
from gemma_trace.ranks.split import split
from gemma_trace.trace.header import DistributedInfo
from gemma_trace.trace.trace import load
from tests.benchmarks.rank_job import write_job
from tests.benchmarks.rank_plan import ClockOffset, CutFile, Job, LostRank, SlowRank

FOUR = Job(ranks=4, steps=3, kernels=3, faults=(SlowRank(2, "prefill", 300_000),))


def codes(job: gemma_trace.Job) -> dict[str, int]:
    return {finding.code: finding.count for finding in job.health.findings}


def with_fault(*more: object) -> Job:
    return replace(FOUR, faults=(*FOUR.faults, *more))  # type: ignore[arg-type]


def late(job: gemma_trace.Job) -> list[tuple[int, str, int]]:
    return [(job.numbers[each.rank], each.stage, each.excess_ns) for each in job.stragglers]


def test_a_missing_rank_is_said_and_the_rest_still_tells(tmp_path: Path) -> None:
    job = gemma_trace.load_ranks(write_job(tmp_path, with_fault(LostRank(1))))
    assert job.members.missing == (1,)
    assert codes(job)["missing_ranks"] == 1
    assert late(job) == [(2, "prefill", 300_000)]


def test_a_file_that_is_cut_has_the_requests_before_the_cut(tmp_path: Path) -> None:
    job = gemma_trace.load_ranks(write_job(tmp_path, with_fault(CutFile(3, 0.6))))
    assert len(job.ranks) == 4
    assert {"truncated", "unmatched_collectives"} & set(codes(job))
    assert late(job)[0][:2] == (2, "prefill")


def test_a_file_that_is_no_trace_costs_itself_alone(tmp_path: Path) -> None:
    paths = write_job(tmp_path, FOUR)
    paths[1].write_bytes(gzip.compress(b'{"traceEvents": 7}'))
    job = gemma_trace.load_ranks(paths)
    assert job.numbers == (0, 2, 3)
    assert codes(job)["unreadable_rank"] == 1
    assert late(job) == [(2, "prefill", 300_000)]


def test_a_rank_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    paths = write_job(tmp_path, FOUR)
    again = tmp_path / f"zz-{paths[2].name}"
    shutil.copy(paths[2], again)
    job = gemma_trace.load_ranks([*paths, again])
    assert codes(job)["duplicate_ranks"] == 1
    assert job.members.duplicates == (again.name,)
    assert late(job) == [(2, "prefill", 300_000)]


def test_a_rank_of_a_job_of_another_size_is_left_out(tmp_path: Path) -> None:
    paths = write_job(tmp_path / "job", FOUR)
    (stranger, *_) = write_job(tmp_path / "other", replace(FOUR, ranks=2, faults=()))
    job = gemma_trace.load_ranks([*paths, stranger])
    assert job.members.strangers == (stranger.name,)
    assert codes(job)["other_jobs"] == 1


def test_a_rank_of_another_run_has_a_clock_that_does_not_fit(tmp_path: Path) -> None:
    """The same job an hour later, with other times: its collectives match by number and don't end together."""
    paths = write_job(tmp_path / "job", replace(FOUR, steps=6))
    noisy = replace(FOUR, steps=6, seed=9, jitter_pct=40.0, faults=(ClockOffset(3_600_000_000_000, host=0),))
    others = write_job(tmp_path / "other", noisy)
    job = gemma_trace.load_ranks([*paths[:3], others[3]])
    assert codes(job)["clocks_do_not_fit"] == 1


def test_files_without_any_rank_are_numbered_by_name(tmp_path: Path) -> None:
    plan = replace(FOUR, distributed_info=False, names="part-{rank}x.json.gz")
    job = gemma_trace.load_ranks(write_job(tmp_path, plan))
    assert job.numbers == (0, 1, 2, 3)
    assert codes(job)["unnamed_ranks"] == 4
    assert late(job) == [(2, "prefill", 300_000)]


def test_one_file_of_all_ranks_is_split(tmp_path: Path) -> None:
    merged: list[dict[str, object]] = []
    for rank, path in enumerate(write_job(tmp_path, FOUR)):
        for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]:
            own_process = event.get("cat") not in ("kernel", "gpu_memcpy", "gpu_memset", "gpu_user_annotation")
            if own_process and event.get("ph") != "f":
                event["pid"] = f"{rank}-{event['pid']}"
            if event.get("ph") != "M":
                merged.append(event)
        pids = {event["pid"] for event in merged if str(event.get("pid")).startswith(f"{rank}-")}
        merged += [
            {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": f"rank {rank} python"}} for pid in pids
        ]
    file = tmp_path / "merged.json"
    file.write_text(json.dumps({"traceEvents": merged}))
    job = gemma_trace.load_ranks(file)
    assert job.numbers == (0, 1, 2, 3)
    assert late(job) == [(2, "prefill", 300_000)]
    parts, _ = split(load(file, detailed=False))
    whole = load(file)
    for part in parts:
        assert part.rows is not None
        assert part.details.spans.ts_ns.tolist() == part.spans.ts_ns.tolist() == whole.spans.ts_ns[part.rows].tolist()
        assert part.details.spans.name.tolist() == part.spans.name.tolist() == whole.spans.name[part.rows].tolist()


def test_a_folder_without_a_trace_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ranks", str(tmp_path)]) == 4
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_single_trace_is_a_job_of_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (path, *_) = write_job(tmp_path, FOUR)
    assert main(["ranks", str(path)]) == 0
    assert "A single rank can't be compared with others." in capsys.readouterr().out


def test_ranks_of_one_folder_are_one_job_and_other_traces_are_not(tmp_path: Path) -> None:
    first, second = write_job(tmp_path / "a", FOUR), write_job(tmp_path / "b", FOUR)
    assert is_job(first)
    assert sorted(map(len, jobs_among([*first, *second]))) == [4, 4]
    plain = tmp_path / "a" / "plain.json"
    plain.write_text('{"traceEvents": [{"ph": "X", "name": "x", "ts": 1, "dur": 1, "pid": 1, "tid": 1}]}')
    assert sorted(map(len, jobs_among([*first, plain]))) == [1, 4]
    assert not is_job([*first, plain])


def test_a_job_is_one_too_by_names_by_folders_and_with_a_file_that_is_broken(tmp_path: Path) -> None:
    named = write_job(tmp_path / "named", replace(FOUR, distributed_info=False))
    assert is_job(named)
    in_folders = []
    for rank, path in enumerate(write_job(tmp_path / "x", replace(FOUR, names="{rank}.json.gz"))):
        in_folders.append(tmp_path / "folders" / f"rank{rank}" / "trace.json.gz")
        in_folders[-1].parent.mkdir(parents=True)
        path.rename(in_folders[-1])
    assert is_job(in_folders)
    named[1].write_bytes(b"no trace")
    assert is_job(named)
    assert not is_job(named[:2])


@pytest.mark.parametrize(
    ("distributed", "name", "rank", "world_size"),
    [
        (DistributedInfo(3, 8, "nccl", ()), "rank1.json", 3, 8),
        (DistributedInfo(-1, 8, "nccl", ()), "rank1.json", 1, 8),
        (None, "rank12.1700000000.pt.trace.json.gz", 12, -1),
        (None, "job_rank-7.json", 7, -1),
        (None, "trace.json", -1, -1),
    ],
)
def test_the_header_says_the_rank_before_the_name_does(
    distributed: DistributedInfo | None, name: str, rank: int, world_size: int
) -> None:
    identity = identity_of(distributed, Path("x") / name)
    assert (identity.rank, identity.world_size) == (rank, world_size)


@pytest.fixture
def job8(tmp_path: Path) -> Path:
    write_job(tmp_path / "job", FOUR)
    return tmp_path / "job"


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main([*arguments, "--format", "json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_stages_of_a_folder_are_over_its_ranks(job8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = run_json(capsys, "stages", str(job8))
    rows = {row["stage"]: row for row in answer["rows"]}
    assert rows["prefill"]["own_max_rank"] == 2
    assert rows["prefill"]["own_max_ns"] - rows["decode"]["own_max_ns"] > 300_000
    assert rows["prefill"]["wait_ns"] == 300_000 * 3 / 4
    assert sum(row["mean_ns"] for row in rows.values()) == pytest.approx(
        sum(request.wall_ns for request in gemma_trace.load(next(job8.iterdir())).requests) / FOUR.steps
    )


def test_the_ranks_of_a_job_are_one_row_of_a_summary(job8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = run_json(capsys, "summarize", str(job8))["rows"]
    assert row["ranks"] == 4


def test_two_jobs_are_one_comparison(tmp_path: Path, job8: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_job(tmp_path / "plain", replace(FOUR, faults=()))
    answer = run_json(capsys, "diff", str(tmp_path / "plain"), str(job8))
    rows = [row for row in answer["rows"] if row["level"] == "stage"]
    changed = {row["stage"] for row in rows if abs(row["after_ms"]["median"] - row["before_ms"]["median"]) > 0.1}
    assert changed == {"wall", "prefill"}
