"""Notes under tables say what holds for the trace that was read, and nothing that doesn't."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.cli import main
from gemma_trace.report.tables.summary import timing_notes
from tests.conftest import SAMPLES
from tests.trace_builder import TraceBuilder


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (
            [("a", "profiled", 1), ("b", "profiled", 1)],
            ["The figures are those of one profiled request per run; no run has a timed pass."],
        ),
        (
            [("a", "profiled", 2), ("b", "profiled", 1)],
            ["Medians ± half the interquartile range over the profiled requests; no run has a timed pass."],
        ),
        (
            [("a", "timed", 10), ("b", "profiled", 2)],
            [
                "Medians ± half the interquartile range over the requests that ran without the profiler; only the "
                "profiled TTFT is under it.",
                "These runs have no timed pass, so their figures are under the profiler: b.",
            ],
        ),
        (
            [("a", "timed", 1)],
            [
                "The figures are those of one request per run that ran without the profiler; only the profiled TTFT is "
                "under it."
            ],
        ),
    ],
)
def test_no_spread_is_promised_of_one_request_and_no_timed_pass_where_there_is_none(
    runs: list[tuple[str, str, int]], expected: list[str]
) -> None:
    assert list(timing_notes(runs)) == expected


def test_a_summary_has_no_column_without_a_value(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = TraceBuilder().op("aten::mm", 0, 900).write(tmp_path / "foreign.json")
    assert main(["summarize", str(path)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[2].split() == ["run", "unattr.", "ms", "n"]
    assert "–" not in out


def test_a_trace_without_stages_is_told_how_to_define_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = TraceBuilder().op("aten::mm", 0, 900).frame("experts(3)", 100, 400).write(tmp_path / "foreign.json")
    assert main(["stages", str(path)]) == 0
    assert "--rule NAME=REGEX defines stages" in capsys.readouterr().out
    assert main(["stages", str(path), "--rule", "moe=experts"]) == 0
    out = capsys.readouterr().out
    assert "--rule" not in out
    assert "preprocessing" not in out, "there is none, so nothing is said of what lies in it"
    assert main(["stages", str(SAMPLES / "sample-tiny-cpu-pil"), "--stage", "unattributed"]) == 0
    assert "--rule" not in capsys.readouterr().out, "it has stages, though this one alone is shown"


def test_advice_is_shown_where_there_is_some_and_before_the_count_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    crossing = TraceBuilder().op("aten::a", 0, 500).op("aten::b", 300, 900).write(tmp_path / "crossing.json")
    assert main(["stages", str(crossing)]) == 0
    said = capsys.readouterr()
    assert "and were clipped" in said.out + said.err
    assert "nothing to do" not in said.out + said.err
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["check", str(crossing)]) == 0
    assert "what to do" in capsys.readouterr().out.split("Hidden columns")[0]
