"""Traces in which nothing ran that the profiler saw end in one line, whatever the command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.errors import TraceFormatError
from gemma_trace.trace.trace import load
from tests.conftest import SHARED
from tests.trace_builder import TraceBuilder

COMMANDS = (
    ["check"],
    ["summarize"],
    ["summarize", "--style", "study"],
    ["stages", "--why"],
    ["kernels", "--roofline"],
    ["tree"],
    ["report", "-o", "out.html"],
    ["export", "-o", "out.json.gz"],
    ["export", "--speedscope", "-o", "out.json"],
    ["view", "--no-browser", "--online"],
)
MARKS = {
    "gpu_user_annotation": ("gpu_user_annotation", "prefill"),
    "overhead": ("overhead", "Activity Buffer Request"),
    "trace": ("trace", "PyTorch Profiler (0)"),
    "cuda_sync": ("cuda_sync", "Event Sync"),
}
NOTHING = {
    "instants": {"ph": "i", "ts": 1.0, "pid": 1, "tid": 1, "name": "mark", "s": "t"},
    "counters": {"ph": "C", "ts": 1.0, "pid": 1, "tid": 1, "name": "busy", "args": {"value": 1}},
    "metadata": {"ph": "M", "ts": 1.0, "pid": 1, "tid": 1, "name": "process_name", "args": {"name": "python"}},
}


def marks(name: str) -> TraceBuilder:
    return TraceBuilder().span(*MARKS[name], 1000, 500)


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_trace_of_the_profilers_own_marks_is_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    built = TraceBuilder()
    for cat, name in MARKS.values():
        built.span(cat, name, 1000, 500)
    built.write(tmp_path / "marks.json")
    code = cli.main([*arguments, "marks.json"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (4, "", 1)
    assert "marks.json has no spans of the host or of a device" in err
    assert "profile_all_threads=True" in err
    assert [path.name for path in tmp_path.iterdir()] == ["marks.json"]


@pytest.mark.parametrize("name", MARKS)
def test_any_mark_alone_is_no_span(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceFormatError, match="has no spans of the host or of a device"):
        marks(name).load(tmp_path)


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_span_at_all_is_none(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceFormatError, match="no span"):
        TraceBuilder().raw(**NOTHING[name]).load(tmp_path)


@pytest.mark.parametrize(
    ("name", "held"),
    [("instants", "events of other phases (1 of i)"), ("counters", "1 counter"), ("metadata", "meta")],
)
def test_it_is_said_what_there_is_instead(name: str, held: str, tmp_path: Path) -> None:
    with pytest.raises(TraceFormatError, match=f"holds {re.escape(held)}"):
        TraceBuilder().raw(**NOTHING[name]).load(tmp_path)


def test_spans_whose_time_cannot_be_are_not_called_the_profilers_marks(tmp_path: Path) -> None:
    built = TraceBuilder().kernel("k", 0, 500, correlation=1).span(*MARKS["overhead"], 1700 * 10**15, 500)
    with pytest.raises(TraceFormatError, match="with possible times: they lie at time zero"):
        built.load(tmp_path)


def test_among_several_such_a_trace_costs_only_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marks("overhead").write(tmp_path / "in" / "marks.json")
    TraceBuilder().op("aten::mm", 0, 1000).write(tmp_path / "in" / "work.json")
    for arguments in (["summarize", "-f", "csv"], ["report", "-o", str(tmp_path / "out.html")]):
        code = cli.main([*arguments, str(tmp_path / "in")])
        _, err = capsys.readouterr()
        assert (code, err.count("\n")) == (4, 1)
        assert "marks.json has no spans" in err
    assert "work" in (tmp_path / "out.html").read_text(encoding="utf-8")


def test_a_front_end_whose_threads_were_not_recorded() -> None:
    path = SHARED / "corpus_2" / "vllm032_no_stacks" / "front_end.json.gz"
    if not path.is_file():
        pytest.skip("needs ../shared/corpus_2, real traces that this project reads but does not ship")
    with pytest.raises(TraceFormatError, match="profile_all_threads=True"):
        load(path)
