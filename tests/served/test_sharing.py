"""Three requests at once: what steps share is in full in the time of each, and once in all sums of the engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.cli import main
from gemma_trace.trace.trace import Trace
from tests.served.test_merge import MS, SAMPLE, TOWER, client, frames, merged
from tests.trace_builder import TraceBuilder

STEPS = (
    *(("execute_context_1(300)_generation_0(0)", 10, 40), (TOWER, 12, 30), (SAMPLE, 40, 42)),  # of the first alone
    *(("execute_context_2(600)_generation_1(1)", 50, 90), (TOWER, 52, 72), (SAMPLE, 90, 92)),  # of all three
    *(("execute_context_0(0)_generation_3(3)", 95, 105), (SAMPLE, 105, 107)),
    *(("execute_context_0(0)_generation_3(3)", 110, 120), (SAMPLE, 120, 122)),
)
CLIENTS = [
    client(0, 0, (43, 93, 108, 123), 125),
    client(1, 5, (89, 104, 119), 121),
    client(2, 6, (88, 103, 118), 120),
]
# Of the first request, the step that reads the prompts of the others is all `decode`.
SHARED_MS = [
    {"decode": 60, "sampling": 6},
    {"vision_tower": 20, "prefill": 20, "sampling": 6, "decode": 20},
    {"vision_tower": 20, "prefill": 20, "sampling": 6, "decode": 20},
]


def three(folder: Path, *, on_device: bool = False) -> Trace:
    worker = frames(TraceBuilder(), 22, *STEPS)
    if on_device:  # of each step one kernel, of all but its first ms and its last
        for number, (name, start_ms, end_ms) in enumerate(STEPS, 1):
            if not name.startswith("execute"):
                continue
            worker.launch(number, start_ms * MS + 1, MS // 2, tid=22, pid=22)
            worker.kernel(name, (start_ms + 1) * MS, (end_ms - start_ms - 2) * MS, correlation=number)
    return merged(folder, CLIENTS, worker)


def test_each_request_has_its_steps_in_full(tmp_path: Path) -> None:
    found = breakdown(three(tmp_path))
    for number, shared in enumerate(SHARED_MS):
        rows = [row for row in found.rows if row.request == number]
        assert sum(row.time_ns for row in rows) == CLIENTS[number].done_ns
        assert {row.stage: row.shared_ns / MS for row in rows if row.shared_ns} == shared


def test_the_engine_counts_each_step_once(tmp_path: Path) -> None:
    totals = breakdown(three(tmp_path)).totals
    assert totals.engine_ns == (32 + 42 + 12 + 12) * MS
    assert totals.shared_ns == 3 * (42 + 12 + 12) * MS
    assert totals.wall_ns == (125 + 121 + 120) * MS
    alone = breakdown(three(tmp_path / "again"), 1).totals
    assert (alone.engine_ns, alone.shared_ns) == (66 * MS, 66 * MS)


@pytest.mark.parametrize(
    ("stage", "which", "sum_ms", "shared_ms"),
    [
        (None, None, 98, 66),
        ("vision_tower", None, 38, 20),
        ("decode", None, 20, 20),
        (None, 0, 98, 66),
        (None, 1, 66, 66),
        ("vision_tower", 0, 18, 0),
        ("vision_tower", 2, 20, 20),
        ("decode", 0, 60, 60),
    ],
)
def test_work_counts_once_over_all_and_in_full_in_each(
    tmp_path: Path, stage: str | None, which: int | None, sum_ms: int, shared_ms: int
) -> None:
    totals = kernel_table(three(tmp_path), stage, which).totals
    assert (totals.host_self_ns / MS, totals.shared_ns / MS) == (sum_ms, shared_ms)


def test_a_device_works_for_all_of_a_step(tmp_path: Path) -> None:
    trace = three(tmp_path, on_device=True)
    found = [row for row in breakdown(trace).rows if row.activities]
    assert [(row.request, row.stage, row.activities, row.device_sum_ns / MS) for row in found] == [
        *((0, "prefill", 1, 28), (0, "decode", 3, 38 + 8 + 8)),
        *((1, "prefill", 1, 38), (1, "decode", 2, 16)),
        *((2, "prefill", 1, 38), (2, "decode", 2, 16)),
    ]
    everything, of_first = kernel_table(trace).totals, kernel_table(trace, "decode", 0).totals
    assert (everything.activities, everything.device_sum_ns / MS, everything.shared_ns / MS) == (4, 82, 54)
    assert (of_first.activities, of_first.device_sum_ns / MS) == (3, 54)


def test_engines_beside_each_other_share_nothing(tmp_path: Path) -> None:
    """Both work at once, each for one request."""
    steps = (("execute_context_1(300)_generation_0(0)", 10, 40), ("execute_context_0(0)_generation_1(1)", 50, 60))
    engines = [frames(TraceBuilder(), 22, *steps), frames(TraceBuilder(), 33, *steps, later_ms=20)]
    for number, engine in enumerate(engines):
        engine.launch(7, (31 + 20 * number) * MS, MS, tid=22 + 11 * number, pid=22 + 11 * number)
        engine.kernel("k", (33 + 20 * number) * MS, 5 * MS, correlation=7, stream=7 + number)
    trace = merged(tmp_path, [client(0, 0, (42, 62), 63), client(1, 1, (62, 82), 83)], *engines)
    found = breakdown(trace)
    assert (found.totals.shared_ns, found.totals.engine_ns) == (0, 80 * MS)
    assert [(row.request, row.activities) for row in found.rows if row.activities] == [(0, 1), (1, 1)]


def test_tables_say_what_is_shared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    three(tmp_path)
    assert main(["stages", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "shared ms" in shown
    assert "in full in the time of each. Counted once, the engine worked 98.00 ms for all of them." in shown
    assert main(["stages", str(tmp_path), "--format", "json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["totals"]["shared_ns"], answer["totals"]["engine_ns"]) == (198 * MS, 98 * MS)
    assert sum(row["shared_ns"] for row in answer["rows"]) == 198 * MS
    assert main(["kernels", str(tmp_path), "--request", "1"]) == 0
    assert "66.00 ms are in steps of the engine that several requests share; they are in full here." in " ".join(
        capsys.readouterr().out.split()
    )
