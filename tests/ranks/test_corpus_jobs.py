"""Real traces of several ranks: every collective is matched or counted, and sums are those of an independent count."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import gemma_trace
from tests.conftest import SHARED


@pytest.fixture(scope="module")
def dlrm() -> list[Path]:
    folder = SHARED / "corpus_2" / "dlrm_8_ranks"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus_2, real traces that this project reads but does not ship")
    return sorted(folder.glob("rank*.json.gz"))


def kernels(path: Path) -> list[dict[str, Any]]:
    events: Iterable[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return [event for event in events if event.get("cat") == "kernel"]


def nccl_us(path: Path) -> list[tuple[int, int]]:
    """Start and length of each NCCL kernel, in the µs of the file."""
    return sorted((event["ts"], event["dur"]) for event in kernels(path) if event["name"].startswith("nccl"))


def test_every_collective_of_eight_ranks_is_matched(dlrm: list[Path]) -> None:
    job = gemma_trace.load_ranks(dlrm)
    assert job.numbers == tuple(range(8))
    assert len(job.calls) == 8 * 8
    assert job.calls.is_matched.all()
    assert job.calls.parts.tolist() == [8] * 8


def test_time_in_collectives_and_latencies_are_those_of_a_count_by_hand(dlrm: list[Path]) -> None:
    job = gemma_trace.load_ranks(dlrm)
    counted = [nccl_us(path) for path in dlrm]
    shortest = [min(rank[place][1] for rank in counted) for place in range(8)]
    for line, own in zip(job.rank_lines, counted, strict=True):
        assert line.collective_ns == 1000 * sum(length for _, length in own)
        assert line.latency_ns == 1000 * sum(shortest)
        assert line.wait_ns == line.collective_ns - line.latency_ns


def test_exposed_communication_is_that_of_a_count_by_hand(dlrm: list[Path]) -> None:
    """Instant by instant: every µs in which a NCCL kernel runs and no other kernel does."""
    job = gemma_trace.load_ranks(dlrm)
    for line, path in zip(job.rank_lines, dlrm, strict=True):
        events: Iterable[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        work = [each for each in events if each.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
        talking: set[int] = set()
        computing: set[int] = set()
        for event in work:
            target = talking if event["name"].startswith("nccl") else computing
            target.update(range(event["ts"], event["ts"] + event["dur"]))
        assert line.exposed_ns == 1000 * len(talking - computing)


def test_ranks_that_lost_collectives_match_those_that_end_together(corpus: Path) -> None:
    """Each of the two traces lacks some of the other's kernels: five pairs end within half a millisecond."""
    job = gemma_trace.load_ranks([corpus / f"multirank_rank{rank}_no_flows.json.gz" for rank in (0, 1)])
    assert len(job.calls.parts) == 5
    assert int((~job.calls.is_matched).sum()) == 10
    codes = {finding.code: finding.count for finding in job.health.findings}
    assert codes["missing_ranks"] == 126
    assert codes["unmatched_collectives"] == 10
    ends: dict[int, list[int]] = {}
    for match, end in zip(job.calls.match.tolist(), job.calls.end_ns.tolist(), strict=True):
        ends.setdefault(match, []).append(end)
    assert all(max(pair) - min(pair) < 1_000_000 for match, pair in ends.items() if match >= 0)
