"""`advise` on several traces: what is one finding, over what its ceiling is, and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gemma_trace
from gemma_trace import cli
from gemma_trace.advice.advise import look
from gemma_trace.advice.findings import Advice
from gemma_trace.advice.merge import advice_of
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def loading(*pairs: tuple[int, int]) -> TraceBuilder:
    """Requests of so many ms, which load images for so many."""
    built, now = TraceBuilder(), 0
    for wall, load in pairs:
        built.range("request", now, wall * MS).range("image_load", now, load * MS)
        now += (wall + 10) * MS
    return built


def advised(folder: Path, *traces: TraceBuilder) -> Advice:
    return advice_of([look(each.load(folder), label=f"t{place}") for place, each in enumerate(traces)])


def test_a_ceiling_is_over_the_requests_of_all_and_its_interval_over_the_traces(tmp_path: Path) -> None:
    advice = advised(tmp_path, loading((100, 10), (100, 20)), loading((100, 30), (100, 30)), loading((100, 60)))
    (finding,) = advice.findings
    assert finding.ceiling.values_ns == (10 * MS, 20 * MS, 30 * MS, 30 * MS, 60 * MS)
    assert finding.ceiling.mean_ns == 30 * MS
    assert finding.traces == advice.traces == ("t0", "t1", "t2")
    assert advice.requests == 5
    # Means of 15, 30 and 60 ms: s = 22.91, t = 4.3027, so 30 ± 56.9, of which nothing is under 0.
    low, high = finding.ceiling.interval_ns
    assert low == 0
    assert high == pytest.approx(86.9 * MS, rel=1e-3)
    # Of two traces it is from the one mean to the other.
    (finding,) = advised(tmp_path, loading((100, 10), (100, 20)), loading((100, 40))).findings
    assert finding.ceiling.interval_ns == (15 * MS, 40 * MS)


def test_a_trace_without_a_finding_gains_nothing_of_it(tmp_path: Path) -> None:
    without = TraceBuilder().range("request", 0, 300 * MS)
    (finding,) = advised(tmp_path, loading((100, 40)), without).findings
    assert (finding.ceiling.values_ns, finding.traces) == ((40 * MS, 0), ("t0",))
    assert (finding.ceiling.mean_ns, finding.ceiling.pct) == (20 * MS, 10)
    assert "40.000 ms" in finding.evidence  # of the trace in which it gains most


def test_noise_is_that_of_each_trace(tmp_path: Path) -> None:
    # 2 of 100 ms are over the noise of that trace, though not over that of all, which last 10 s.
    long = TraceBuilder().range("request", 0, 10_000 * MS)
    advice = advised(tmp_path, loading((100, 2)), long, long)
    assert [finding.traces for finding in advice.findings] == [("t0",)]
    assert advice.noise_ns == pytest.approx(0.01 * 20_100 / 3 * MS)
    # Of those that load images only those are named in which that matters.
    advice = advised(tmp_path, loading((100, 20)), loading((1000, 5)), loading((100, 10)))
    assert [finding.traces for finding in advice.findings] == [("t0", "t2")]
    assert advice.findings[0].ceiling.values_ns == (20 * MS, 5 * MS, 10 * MS)
    # Traces that differ are no noise; requests of one trace are. The standard error of (100, 300) is 100.
    assert advised(tmp_path, loading((100, 50)), loading((300, 50))).noise_ns == 2 * MS
    quiet = advised(tmp_path, loading((100, 50), (300, 50)), loading((200, 0)))
    assert (quiet.findings, quiet.under_noise) == ((), 1)


def test_what_lacks_the_same_is_said_once(tmp_path: Path) -> None:
    def unlinked() -> TraceBuilder:
        built = TraceBuilder().range("request", 0, 100 * MS).range("image_load", 0, 50 * MS)
        for place in range(40):
            built.launch(place + 1, (50 + place) * MS, 9000)
        return built

    advice = advised(tmp_path, unlinked(), loading((100, 40)), unlinked())
    (abstention,) = advice.abstentions
    assert (abstention.rule, abstention.traces) == ("all", ("t0", "t2"))
    assert [finding.traces for finding in advice.findings] == [("t1",)]


def test_the_command_takes_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loading((100, 40)).write(tmp_path / "runs" / "a" / "run.json")
    loading((100, 20), (100, 20)).write(tmp_path / "runs" / "b" / "run.json")
    assert cli.main(["advise", str(tmp_path / "runs"), "--no-cache"]) == 0
    text = capsys.readouterr().out
    assert "What to change: 1 finding in 2 traces" in text
    assert "run [a/run.json], run [b/run.json]" in text
    (tmp_path / "runs" / "broken.json").write_text('{"traceEvents": []}')
    assert cli.main(["advise", str(tmp_path / "runs"), "--no-cache", "--format", "json"]) == 4
    said = capsys.readouterr()
    answer = json.loads(said.out)
    (row,) = answer["rows"]
    assert answer["totals"]["traces"] == row["traces"]
    assert (row["ceilings_ns"], row["traces"]) == (
        [40 * MS, 20 * MS, 20 * MS],
        ["run [a/run.json]", "run [b/run.json]"],
    )
    assert "broken.json" in said.err
    assert cli.main(["advise", str(tmp_path / "runs" / "a"), str(tmp_path / "runs" / "b"), "--request", "1"]) == 1
    said = capsys.readouterr()
    assert "request 1 not found" in said.err
    assert "What to change: 1 finding" in said.out


def test_python_takes_a_folder(tmp_path: Path) -> None:
    loading((100, 40)).write(tmp_path / "a.json")
    loading((100, 20)).write(tmp_path / "b.json")
    advice = gemma_trace.advise_all(tmp_path)
    assert [row["traces"] for row in advice.records()] == [["a", "b"]]
    assert repr(advice).startswith("Advice: 1 finding over 2 requests of 2 traces")
