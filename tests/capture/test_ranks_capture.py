"""A model that is split over 2 and over 4 ranks, captured over gloo on the CPU: each rank's collectives, by stage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace import load_ranks
from gemma_trace.cli import main
from gemma_trace.ranks.collectives import Collectives, collectives_of
from gemma_trace.ranks.host_calls import host_calls
from gemma_trace.ranks.kinds import COMMS
from gemma_trace.trace.trace import Trace
from tests.conftest import real_trace, thorough
from tests.trace_builder import TraceBuilder

PER_FORWARD = {"all_reduce": 13, "all_gather": 1}
"""The embedding, two all-reduces for each of 6 layers, and the logits."""

GLOO = 900
"""A thread of gloo's."""


def kinds(found: Collectives) -> list[str]:
    return [COMMS[code].value for code in found.kind.tolist()]


def by_stage(trace: Trace, found: Collectives) -> dict[str, dict[str, int]]:
    stages = [trace.stage_names[code] for code in found.stage.tolist()]
    counted = Counter(zip(stages, kinds(found), strict=True))
    return {stage: {kind: count for (of, kind), count in counted.items() if of == stage} for stage in set(stages)}


@pytest.mark.parametrize("ranks", [2, *thorough([4])])
def test_each_rank_has_the_same_collectives_in_prefill_and_decode(
    torchrun_traces: Callable[[int], list[Path]], ranks: int
) -> None:
    traces = [real_trace(path) for path in torchrun_traces(ranks)]
    assert [trace.distributed and (trace.distributed.rank, trace.distributed.world_size) for trace in traces] == [
        (rank, ranks) for rank in range(ranks)
    ]
    all_found = [collectives_of(trace) for trace in traces]
    for trace, found in zip(traces, all_found, strict=True):
        requests = len(trace.requests)
        assert by_stage(trace, found) == {
            "prefill": {kind: requests * count for kind, count in PER_FORWARD.items()},
            "decode": {kind: 2 * requests * count for kind, count in PER_FORWARD.items()},
        }
        assert (found.launch_ns <= found.start_ns).all()
    assert len({(tuple(kinds(found)), tuple(found.size_bytes.tolist())) for found in all_found}) == 1


@pytest.mark.parametrize("ranks", [2, *thorough([4])])
def test_the_layers_are_split(torchrun_traces: Callable[[int], list[Path]], ranks: int) -> None:
    for path in torchrun_traces(ranks):
        spans = real_trace(path).spans
        linears = spans.input_dims[spans.name == spans.names.index("aten::linear")]
        shapes = " ".join(spans.texts[code] for code in np.unique(linears).tolist())
        assert f"[{128 // ranks},128]" in shapes.replace(" ", ""), "a rank has its part of the rows"


@pytest.mark.parametrize("ranks", [2, *thorough([4])])
def test_a_job_accounts_for_all_of_its_collectives_time(
    torchrun_traces: Callable[[int], list[Path]], ranks: int
) -> None:
    job = load_ranks(torchrun_traces(ranks))
    assert job.numbers == tuple(range(ranks))
    for line in job.rank_lines:
        assert (line.unmatched, line.collectives) == (0, 84)
        assert line.latency_ns + line.wait_ns == line.collective_ns
    assert {line.stage for line in job.stage_lines if line.communication_ns} == {"prefill", "decode"}
    assert all(line.own_mean_ns >= 0 for line in job.stage_lines)


@pytest.mark.parametrize("ranks", [2, *thorough([4])])
def test_every_command_takes_a_capture_of_several_ranks_as_one_run(
    torchrun_traces: Callable[[int], list[Path]], ranks: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(*arguments: object) -> list[dict[str, Any]]:
        assert main([*map(str, arguments), "--format", "json"]) == 0
        answer: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["rows"]
        return answer

    folder = torchrun_traces(ranks)[0].parent
    stages = {row["stage"]: row for row in rows("stages", folder)}
    assert stages["prefill"]["ranks"] == ranks
    assert stages["prefill"]["communication_ns"] > stages["vision_tower"]["communication_ns"] == 0
    assert [row["ranks"] for row in rows("summarize", folder)] == [ranks]
    assert {row["status"] for row in rows("diff", folder, folder)} == {"same"}
    page = tmp_path / "job.html"
    assert main(["report", str(folder), "-o", str(page), "--ranks", f"0,{ranks - 1}"]) == 0
    assert f"{ranks} ranks" in page.read_text()


def test_a_range_of_gloo_belongs_to_the_call_of_its_kind(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 100, 3_000).range("decode", 4_000, 3_000)
    built.op("c10d::allreduce_", 200, 50).op("c10d::allgather_into_tensor_coalesced_", 1_000, 50)
    built.op("c10d::allreduce_", 4_100, 50)
    for name, start_ns, dur_ns, tid in (
        ("gloo:all_reduce", 260, 600, GLOO),
        ("gloo:all_gather", 1_020, 3_000, GLOO + 1),
        ("gloo:all_reduce", 4_160, 700, GLOO),
    ):
        built.span("user_annotation", name, start_ns, dur_ns, tid=tid)
    trace = built.load(tmp_path)
    found = collectives_of(trace)
    assert [trace.stage_names[code] for code in found.stage.tolist()] == ["prefill", "prefill", "decode"]
    assert found.launch_ns.tolist() == [200, 1_000, 4_100]
    assert found.dur_ns.tolist() == [600, 3_000, 700]


@pytest.mark.parametrize(
    ("calls_ns", "ranges_ns", "expected_ns"),
    [
        ([0, 10, 20], [15, 16, 25], [0, 10, 20]),
        ([0, 10, 20], [15, 25], [10, 20]),
        ([10], [5, 15], [5, 10]),
        ([], [5], [5]),
    ],
    ids=["in order", "the last one before", "none before the first", "no call"],
)
def test_calls_are_taken_in_their_order(
    tmp_path: Path, calls_ns: list[int], ranges_ns: list[int], expected_ns: list[int]
) -> None:
    built = TraceBuilder().op("aten::mm", 0, 1)
    for at_ns in calls_ns:
        built.op("c10d::allreduce_", at_ns, 3)
    for place, at_ns in enumerate(ranges_ns):
        built.span("user_annotation", "gloo:all_reduce", at_ns, 5, tid=GLOO + place)
    trace = built.load(tmp_path)
    ranges = np.flatnonzero(trace.spans.name == trace.spans.names.index("gloo:all_reduce"))
    assert trace.spans.ts_ns[host_calls(trace, ranges)].tolist() == expected_ns
