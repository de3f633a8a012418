"""Faults planted in made jobs are found as exactly what they are; jobs without any have no straggler."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gemma_trace
from gemma_trace import Job as RanksJob
from gemma_trace.ranks.stragglers import Cause, Pattern
from tests.benchmarks.rank_job import write_job
from tests.benchmarks.rank_plan import ClockOffset, Job, LateLaunch, SlowLink, SlowRank
from tests.benchmarks.rank_schedule import clock_ns, simulate
from tests.conftest import thorough

EIGHT = Job(ranks=8, steps=4, kernels=3)

LONG = replace(EIGHT, stages=tuple(replace(stage, kernel_ns=5 * stage.kernel_ns) for stage in EIGHT.stages))
"""Its kernels are so long that the device never waits for a launch, which would take up a part of a delay."""


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Job], RanksJob]:
    def read(job: Job) -> RanksJob:
        return gemma_trace.load_ranks(write_job(tmp_path, job))

    return read


@pytest.mark.parametrize(
    ("stage", "rank", "delay_ns"),
    [
        *[("vision_tower", 0, 20_001), ("decode", 5, 200_003)],
        *thorough([("vision_tower", 5, 5_000_007), ("projector", 3, 200_003)]),
        *thorough([("prefill", 7, 20_001), ("prefill", 0, 5_000_007)]),
    ],
)
def test_a_slow_rank_is_named_with_its_stage_and_its_delay(
    read: Callable[[Job], RanksJob], stage: str, rank: int, delay_ns: int
) -> None:
    (late,) = read(replace(LONG, faults=(SlowRank(rank, stage, delay_ns),))).stragglers
    assert (late.rank, late.stage, late.excess_ns) == (rank, stage, delay_ns)
    assert (late.cause, late.pattern) == (Cause.COMPUTE, Pattern.REPEATED)
    assert late.compute_ns == delay_ns
    assert late.gain_ns == delay_ns


def test_two_ranks_are_told_apart(read: Callable[[Job], RanksJob]) -> None:
    """Of two ranks neither is the median: each is held against the other."""
    (late,) = read(replace(LONG, ranks=2, faults=(SlowRank(1, "prefill", 77_777),))).stragglers
    assert (late.rank, late.excess_ns) == (1, 77_777)


def test_a_slowdown_in_one_request_is_random(read: Callable[[Job], RanksJob]) -> None:
    (late,) = read(replace(EIGHT, faults=(SlowRank(3, "decode", 400_000, steps=(2,)),))).stragglers
    assert (late.rank, late.stage, late.excess_ns) == (3, "decode", 400_000)
    assert (late.pattern, late.requests, late.first_request) == (Pattern.RANDOM, 1, "request 2")


def test_each_request_has_its_slowest_rank(read: Callable[[Job], RanksJob]) -> None:
    faults = (SlowRank(3, "decode", 400_000, steps=(2,)), SlowRank(6, "decode", 150_000, steps=(2,)))
    lines = {(line.request, line.stage): line for line in read(replace(LONG, faults=faults)).request_lines}
    assert len(lines) == EIGHT.steps * 6
    late, plain = lines["request 2", "decode"], lines["request 1", "decode"]
    assert (late.slowest_rank, late.excess_ns, late.cause, late.ranks) == (3, 400_000, "compute late", 8)
    assert late.spread_ns == 400_000
    assert late.wall_ns - late.ceiling_ns == 250_000, "the next slowest rank is 150 µs late"
    assert (plain.excess_ns, plain.spread_ns, plain.cause) == (0, 0, "")
    assert late.wall_ns - plain.wall_ns == 400_000


def test_one_request_alone_repeats_nothing(read: Callable[[Job], RanksJob]) -> None:
    (late,) = read(replace(LONG, faults=(SlowRank(3, "decode", 400_000),))).of_request(1).stragglers
    assert (late.rank, late.excess_ns, late.pattern, late.first_request) == (3, 400_000, Pattern.RANDOM, "request 1")


def test_a_late_launch_is_told_from_slow_kernels(read: Callable[[Job], RanksJob]) -> None:
    job = replace(EIGHT, faults=(LateLaunch(3, "vision_tower", 300_000),))
    (late,) = read(job).stragglers
    assert (late.rank, late.stage, late.cause) == (3, "vision_tower", Cause.LAUNCH)
    # What the host is late by, less the lead that it has on the device anyway.
    plain, planted = simulate(EIGHT), simulate(job)
    place = [stage.name for stage in job.stages].index("vision_tower")
    starts = [each.collective_start_ns[0, place, 3] - each.step_start_ns[0, 3] for each in (plain, planted)]
    assert late.excess_ns == late.launch_ns == starts[1] - starts[0]


def test_a_slow_link_is_the_networks_fault_and_its_groups_alone(read: Callable[[Job], RanksJob]) -> None:
    job = read(replace(EIGHT, ranks=16, group_size=4, faults=(SlowLink((8, 9), 6.0),)))
    assert {late.cause for late in job.stragglers} == {Cause.NETWORK}
    assert {job.numbers[late.rank] for late in job.stragglers} <= {8, 9, 10, 11}
    rates = {line.group: line.bus_gb_per_s for line in job.collective_lines if line.kind == "all_reduce"}
    assert len(rates) > 1


@pytest.mark.parametrize("offset_ns", [1_500_000, -86_400_000_000_000])
def test_a_shifted_clock_is_found_to_the_ns_and_changes_no_other_answer(
    read: Callable[[Job], RanksJob], offset_ns: int
) -> None:
    faults = (ClockOffset(offset_ns=offset_ns, host=1), SlowRank(5, "prefill", 200_000))
    job = read(replace(EIGHT, ranks=16, faults=faults))
    assert list(job.offsets_ns().values()) == [0] * 8 + [offset_ns] * 8
    assert [clock.host for clock in job.clocks] == [0] * 8 + [1] * 8
    assert [(late.rank, late.excess_ns) for late in job.stragglers] == [(5, 200_000)]


def test_a_drifting_clock_is_a_line(read: Callable[[Job], RanksJob]) -> None:
    plan = replace(EIGHT, ranks=16, steps=8, faults=(ClockOffset(offset_ns=40_000, drift_ppm=150.0, host=1),))
    job = read(plan)
    schedule = simulate(plan)
    for rank in (8, 15):
        clock = job.clocks[rank]
        assert clock.drift_ppm == pytest.approx(150.0, rel=0.01)
        ends = schedule.collective_end_ns[:, -1, rank]
        ahead = clock_ns(plan, rank, ends) - clock_ns(plan, 0, ends)
        shown = clock.ahead_ns(clock_ns(plan, rank, ends) + job.ranks[rank].base_ns)
        assert np.abs(shown - ahead).max() <= max(clock.spread_ns, 2)


def test_a_shift_is_not_believed_where_ends_scatter_more(read: Callable[[Job], RanksJob]) -> None:
    """Of two ranks whose collectives have no common end, as noise on one of them makes it."""
    job = read(replace(EIGHT, jitter_pct=3.0))
    assert not any(clock.is_corrected for clock in job.clocks)


@pytest.mark.parametrize("seed", [0, *thorough(range(1, 20))])
def test_a_job_without_a_fault_names_nobody(read: Callable[[Job], RanksJob], seed: int) -> None:
    jittered = replace(EIGHT, seed=seed, jitter_pct=4.0, group_size=4 if seed % 2 else 0)
    assert read(jittered).stragglers == ()


@pytest.mark.parametrize("seed", [0, *thorough(range(1, 5))])
def test_a_fault_stands_out_from_noise(read: Callable[[Job], RanksJob], seed: int) -> None:
    job = read(replace(EIGHT, seed=seed, steps=8, jitter_pct=4.0, faults=(SlowRank(6, "prefill", 150_000),)))
    assert [(late.rank, late.stage, late.pattern) for late in job.stragglers] == [(6, "prefill", Pattern.REPEATED)]
    assert job.stragglers[0].excess_ns == pytest.approx(150_000, rel=0.1)


@pytest.mark.parametrize(
    "plan",
    [
        EIGHT,
        replace(EIGHT, group_size=4, overlap=True, jitter_pct=5.0, faults=(SlowRank(1, "decode", 90_000),)),
        replace(EIGHT, sequence_numbers=False, distributed_info=False, jitter_pct=5.0),
        replace(EIGHT, steps_only=True, alltoall_skew=2.0, faults=(LateLaunch(2, "prefill", 120_000),)),
    ],
    ids=["plain", "groups and overlap", "without numbers", "skewed"],
)
def test_the_parts_add_up_on_every_rank(read: Callable[[Job], RanksJob], plan: Job) -> None:
    job = read(plan)
    assert len(job.calls) == sum(len(rank.collectives) for rank in job.ranks) > 0
    assert job.calls.is_matched.all()
    for rank, line in zip(job.ranks, job.rank_lines, strict=True):
        assert line.latency_ns + line.wait_ns == line.collective_ns == int(rank.collectives.dur_ns.sum())
        assert line.exposed_ns + line.overlapped_ns == line.collective_ns
        assert 0 <= line.exposed_wait_ns <= min(line.wait_ns, line.exposed_ns)
    grid = job.grid
    parts = grid.compute_ns + grid.launch_ns + grid.network_ns + grid.wait_ns
    assert np.array_equal(parts, grid.time_ns)
    assert min(map(np.min, (grid.compute_ns, grid.launch_ns, grid.network_ns, grid.wait_ns))) >= 0
    assert np.array_equal(grid.time_ns.sum(axis=2), grid.wall_ns)


def test_an_unequal_all_to_all_is_shown_by_bytes_and_by_time(read: Callable[[Job], RanksJob]) -> None:
    equal, skewed = read(EIGHT).all_to_all_lines[0], read(replace(EIGHT, alltoall_skew=1.0)).all_to_all_lines[0]
    assert equal.bytes_imbalance == 1.0
    assert skewed.bytes_imbalance is not None
    assert skewed.bytes_imbalance > 1.2
    assert skewed.most_bytes_rank == 7
    assert (equal.split_imbalance, skewed.split_imbalance) == (None, 2.0)
