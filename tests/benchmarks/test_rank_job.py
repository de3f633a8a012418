"""Made traces of a job of many ranks: what is planted in them is in them, to the nanosecond."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gemma_trace
from gemma_trace.trace.events import IntArray
from tests.benchmarks.rank_job import main, sized, write_job
from tests.benchmarks.rank_plan import ClockOffset, CutFile, Job, LateLaunch, LostRank, SlowLink, SlowRank
from tests.benchmarks.rank_schedule import all_groups, clock_ns, simulate

SMALL = Job(ranks=4, steps=2, kernels=3)
STAGES = [stage.name for stage in SMALL.stages]


def loaded(folder: Path, job: Job) -> list[gemma_trace.Trace]:
    return [gemma_trace.load(path) for path in write_job(folder, job)]


def kernels(trace: gemma_trace.Trace, stage: str, *, collectives: bool) -> IntArray:
    """The indices of a stage's kernels that compute, or of its collectives', by start."""
    launched_by = trace.stage_at(trace.launch) == trace.stage_names.index(stage)
    names = np.array([name.startswith("ncclDevKernel") for name in trace.spans.names])
    found: IntArray = trace.activities[launched_by & (names[trace.spans.name[trace.activities]] == collectives)]
    return found


@pytest.mark.parametrize(
    "job",
    [
        SMALL,
        replace(SMALL, ranks=8, group_size=4, alltoall_skew=1.0),
        replace(SMALL, overlap=True, jitter_pct=5.0),
        replace(SMALL, steps_only=True, sequence_numbers=False, distributed_info=False),
        replace(SMALL, stages=tuple(replace(stage, segments=2) for stage in SMALL.stages)),
    ],
    ids=["plain", "groups", "overlap", "steps", "segments"],
)
def test_a_rank_reads_without_a_finding_and_its_stages_fill_the_wall(tmp_path: Path, job: Job) -> None:
    for rank, trace in enumerate(loaded(tmp_path, job)):
        assert [finding.code for finding in trace.check().findings] == []
        assert len(trace.requests) == job.steps
        assert sum(stage.time_ns for stage in trace.stages().rows) == sum(each.wall_ns for each in trace.requests)
        schedule = simulate(job).of(rank)
        assert [each.start_ns for each in trace.requests] == schedule.step_start_ns.tolist()
        assert [each.end_ns for each in trace.requests] == schedule.step_end_ns.tolist()


@pytest.mark.parametrize("stage", STAGES[1:])
def test_a_slow_rank_has_the_delay_in_its_kernels_and_the_others_in_their_wait(tmp_path: Path, stage: str) -> None:
    delay_ns = 123_457
    plain = loaded(tmp_path / "plain", SMALL)
    slow = loaded(tmp_path / "slow", replace(SMALL, faults=(SlowRank(2, stage, delay_ns, steps=(1,)),)))
    for rank, (before, after) in enumerate(zip(plain, slow, strict=True)):
        gained = {
            collectives: after.spans.dur_ns[kernels(after, stage, collectives=collectives)].sum()
            - before.spans.dur_ns[kernels(before, stage, collectives=collectives)].sum()
            for collectives in (False, True)
        }
        assert gained[False] == (delay_ns if rank == 2 else 0)
        assert (gained[True] > 0) == (rank != 2)


def test_a_late_launch_is_in_its_stages_range_and_in_no_kernel(tmp_path: Path) -> None:
    plain, late = simulate(SMALL), simulate(replace(SMALL, faults=(LateLaunch(1, "prefill", 400_000, steps=(0,)),)))
    place = STAGES.index("prefill")
    range_ns = [(each.host_end_ns - each.range_ns)[0, place].tolist() for each in (plain, late)]
    assert np.subtract(range_ns[1], range_ns[0]).tolist() == [0, 400_000, 0, 0]
    lead_ns = plain.collective_start_ns[0, place, 1] - late.collective_start_ns[0, place, 1] + 400_000
    waits = (late.collective_end_ns - late.collective_start_ns)[0, place]
    assert 0 <= lead_ns < 400_000
    assert waits[0] - waits[1] == 400_000 - lead_ns
    trace = loaded(tmp_path, replace(SMALL, faults=(LateLaunch(1, "prefill", 400_000),)))[1]
    assert set(trace.spans.dur_ns[kernels(trace, "prefill", collectives=False)].tolist()) == {16_000}


def test_all_ranks_leave_a_collective_together_whatever_their_clocks_say(tmp_path: Path) -> None:
    faults = (ClockOffset(1_500_000, host=0), ClockOffset(-7_000, 20.0, rank=3), SlowRank(0, "projector", 50_000))
    job = replace(SMALL, faults=faults)
    schedule = simulate(job)
    truth = schedule.collective_end_ns[:, 1:]
    assert (truth == truth[..., :1]).all()
    for rank, trace in enumerate(loaded(tmp_path, job)):
        spans, found = trace.spans, np.concatenate([kernels(trace, stage, collectives=True) for stage in STAGES])
        ends = np.sort(spans.ts_ns[found] + spans.dur_ns[found])
        assert ends.tolist() == clock_ns(job, rank, truth[..., rank]).ravel().tolist()
        drifted = 1_500_000 - 7_000 * (rank == 3)
        gained = clock_ns(job, rank, truth[..., rank]) - truth[..., rank] - drifted
        assert (gained.max() > 0) == (rank == 3)


def test_a_slow_link_slows_only_the_groups_that_have_it() -> None:
    job = replace(SMALL, group_size=2, faults=(SlowLink((2, 3), 3.0),))
    assert [groups.members.tolist() for groups in all_groups(job)] == [
        [[0, 1, 2, 3]],
        [[0, 1], [2, 3]],
        [[0, 2], [1, 3]],
    ]
    transfer = (lambda found: found.collective_end_ns - found.collective_start_ns)(simulate(job))
    within, across = STAGES.index("projector"), STAGES.index("vision_tower")
    assert transfer[0, within, 2:].min() == 3 * transfer[0, within, :2].min()
    assert transfer[0, across, 2:].min() == transfer[0, across, :2].min()


def test_a_lost_rank_has_no_file_and_a_cut_one_a_part_of_it(tmp_path: Path) -> None:
    whole = write_job(tmp_path / "whole", SMALL)
    faulty = write_job(tmp_path / "faulty", replace(SMALL, faults=(LostRank(1), CutFile(2, 0.5))))
    assert [path.name for path in faulty] == [whole[rank].name for rank in (0, 2, 3)]
    assert faulty[0].read_bytes() == whole[0].read_bytes()
    assert faulty[1].read_bytes() == whole[2].read_bytes()[: whole[2].stat().st_size // 2]


def test_the_command_line_writes_the_same_job_on_any_number_of_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--ranks 4 --steps 2 --kernels 3 --jitter-pct 2 --slow-rank 1:decode:5000:0,1 --late-launch 0:prefill:7"
    faults = (SlowRank(1, "decode", 5000, (0, 1)), LateLaunch(0, "prefill", 7), ClockOffset(-4, 1.5, host=0))
    more = (SlowLink((0, 1), 2.5), LostRank(3), CutFile(2, 0.5))
    write = [*arguments.split(), "--clock", "host=0:-4:1.5", "--slow-link", "0,1:2.5", "--lost-rank", "3"]
    assert main([str(tmp_path / "cli"), *write, "--cut-file", "2:0.5", "--processes", "2"]) == 0
    expected = write_job(tmp_path / "api", replace(SMALL, jitter_pct=2.0, faults=(*faults, *more)))
    written = sorted((tmp_path / "cli").iterdir())
    assert [path.name for path in written] == [path.name for path in expected]
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in expected]
    assert '"files": 3' in capsys.readouterr().out
    other = write_job(tmp_path / "seed", replace(SMALL, jitter_pct=2.0, seed=1, faults=(*faults, *more)))
    assert other[0].read_bytes() != expected[0].read_bytes()


def test_a_rank_is_as_large_as_asked_for(tmp_path: Path) -> None:
    job = sized(replace(SMALL, names="{rank}.json"), 1.5)
    assert write_job(tmp_path, job)[0].stat().st_size == pytest.approx(1.5e6, rel=0.03)
