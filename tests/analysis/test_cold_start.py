from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.cold_start import ColdPart, cold_parts
from gemma_trace.metadata import ColdStart, RunMetadata
from tests.analysis.test_summary import metadata, sample
from tests.trace_builder import TraceBuilder

MS = 1_000_000
LATER = 100
"""The TTFT of the timed requests in ms."""


def begun(*ttfts_ms: int, import_ms: int | None = 4000, load_ms: int | None = 900) -> RunMetadata:
    """A run whose first requests took so long; each takes 20 ms after its first token."""
    cold = ColdStart(
        None if import_ms is None else import_ms * MS,
        None if load_ms is None else load_ms * MS,
        tuple(sample(ttft, 10) for ttft in ttfts_ms),
    )
    return replace(metadata([sample(LATER - 1, 10), sample(LATER, 10), sample(LATER + 9, 10)]), cold_start=cold)


def test_it_is_steady_after_the_last_slow_request() -> None:
    assert cold_parts(begun(700, 105, 140, 104)) == (
        ColdPart("import", 4000 * MS),
        ColdPart("load", 900 * MS),
        ColdPart("first request", 700 * MS, 100 * MS),
        ColdPart("until steady", (4900 + 720 + 125 + 160) * MS, None, 3),
    )
    assert cold_parts(begun(700, 105))[2].factor == 7


def test_what_is_not_known_has_no_row() -> None:
    assert [part.part for part in cold_parts(begun(700, 300))] == ["import", "load", "first request"], "never steady"
    assert cold_parts(begun(105, import_ms=None, load_ms=None)) == (
        ColdPart("first request", 105 * MS, 100 * MS),
        ColdPart("until steady", 0, None, 0),
    )
    assert cold_parts(None) == cold_parts(metadata([])) == ()
    untimed = replace(begun(700), timed_requests=())
    assert cold_parts(untimed)[2:] == (ColdPart("first request", 700 * MS),)


def test_it_is_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    traces = [
        TraceBuilder().range("request", 0, 100_000).metadata(described).write(tmp_path / f"{name}.pt.trace.json.gz")
        for name, described in (("cold", begun(700, 105)), ("warm", metadata([sample(100, 10)])))
    ]
    assert cli.main(["summarize", str(traces[0]), "--per", "cold", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["part"], row["time_ns"] // MS, row["factor"], row["requests"]) for row in rows] == [
        ("import", 4000, None, None),
        ("load", 900, None, None),
        ("first request", 700, 7.0, None),
        ("until steady", 5620, None, 1),
    ]
    assert cli.main(["summarize", str(traces[1]), "--per", "cold"]) == 1
    assert "no cold start was captured; capture with --cold" in capsys.readouterr().err
