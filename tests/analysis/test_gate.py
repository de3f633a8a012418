"""The gate beside what exists on one side only, and beside what was nothing before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.changes import Change
from gemma_trace.analysis.diff import diff
from gemma_trace.analysis.gate import parse_gate
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder


def request(
    folder: Path, name: str, wall_ns: int, *, token: bool, stages: dict[str, int] | None = None, requests: int = 1
) -> Trace:
    """Requests with these stages one after the other, a sampling of 100 behind them if there is a token."""
    built = TraceBuilder()
    for index in range(requests):
        at = index * 10 * wall_ns
        built.range("request", at, wall_ns)
        for stage, length in (stages or {"prefill": 5000}).items():
            built.range(stage, at, length)
            at += length
        if token:
            built.range("sampling", at, 100)
    return built.load(folder / name)


def names(gate: str, before: Trace, after: Trace) -> list[str]:
    return [row.change.stage for row in parse_gate(gate).judge(diff(before, after)).exceeded]


@pytest.mark.parametrize("missing", ["before", "after"])
def test_a_first_token_of_one_side_alone_exceeds_and_the_walls_are_compared(tmp_path: Path, missing: str) -> None:
    before = request(tmp_path, "a", 10_000, token=missing != "before")
    after = request(tmp_path, "b", 90_000, token=missing != "after")
    found = diff(before, after)
    rows = {change.stage: change for change in found.stages}
    assert rows["ttft"].status == ("new" if missing == "before" else "vanished")
    assert rows["wall"].status == "slower"
    assert rows["wall"].relative_pct == pytest.approx(800)
    assert {"ttft", "wall", "sampling"} <= set(names("5%", before, after))
    assert names("ttft:5%", before, after) == ["ttft"]
    assert names("wall:900%", before, after) == []


@pytest.mark.parametrize("missing", ["before", "after"])
def test_that_is_so_for_one_and_the_same_length_too(tmp_path: Path, missing: str) -> None:
    before = request(tmp_path, "a", 10_000, token=missing != "before")
    after = request(tmp_path, "b", 10_000, token=missing != "after")
    assert names("5%", before, after) == ["ttft", "sampling"]
    assert names("1000%", before, after) == ["ttft", "sampling"], "no limit is wide enough for what can't be compared"
    assert names("prefill:5%", before, after) == []


def test_where_both_sides_have_a_first_token_there_is_no_wall(tmp_path: Path) -> None:
    sides = [request(tmp_path, name, 10_000, token=True) for name in "ab"]
    assert [change.stage for change in diff(*sides).stages][:1] == ["ttft"]
    assert "wall" not in [change.stage for change in diff(*sides).stages]


@pytest.mark.parametrize(("length", "over"), [(4000, ["decode"]), (60, ["decode"]), (40, [])])
def test_a_stage_of_one_side_alone_exceeds_where_it_is_a_percent_of_the_whole(
    tmp_path: Path, length: int, over: list[str]
) -> None:
    # TTFT is 5100 on both sides: 51 is a percent of it.
    without = request(tmp_path, "a", 10_000, token=True)
    built = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 5000).range("sampling", 5000, 100)
    with_it = built.range("decode", 5200, length).load(tmp_path / "b")
    found = names("900%", without, with_it), names("900%", with_it, without)
    assert found == (over, over)
    assert names("decode:5%", without, with_it) == names("decode:5%", with_it, without) == ["decode"]


def test_what_was_nothing_before_is_more_than_any_share_of_it(tmp_path: Path) -> None:
    trace = request(tmp_path, "a", 10_000, token=True)
    nothing, something = Distribution((0.0,), "ms"), Distribution((3.0,), "ms")
    row = Change("stage", "decode", "", nothing, something, None, None, 3.0, None, None, (1, 1), "slower")
    found = diff(trace, trace)
    rose = replace(found, stages=(*found.stages, row))
    gone = replace(row, before=something, after=nothing, difference_ms=-3.0)
    fell = replace(found, stages=(*found.stages, gone))
    assert [held.change.stage for held in parse_gate("1000%").judge(rose).exceeded] == ["decode"]
    assert parse_gate("1000%").judge(fell).exceeded == ()


def test_the_message_says_what_is_on_one_side_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = request(tmp_path, "a", 10_000, token=True).path
    after = request(tmp_path, "b", 90_000, token=False).path
    code = cli.main(["diff", str(before), str(after), "--fail-on", "ttft:5%,wall:5%"])
    _, err = capsys.readouterr()
    assert code == 3
    assert err == (
        "gemma-trace: slower than allowed: ttft exists on one side only, so it can't be compared, 0.005 ms before "
        "(limit 5%); wall +800.0% (limit 5%)\n"
    )


@pytest.mark.parametrize("lost", ["before", "after"])
def test_a_run_of_one_side_alone_exceeds(lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("before", "after"):
        for run in ("x", "y") if side != lost else ("x",):
            TraceBuilder().range("request", 0, 10_000).write(tmp_path / side / f"{run}.json")
    sides = [str(tmp_path / "before"), str(tmp_path / "after")]
    kept = sides[1 if lost == "before" else 0]
    assert cli.main(["diff", *sides]) == 0
    assert cli.main(["diff", *sides, "--fail-on", "5%"]) == 3
    _, err = capsys.readouterr()
    assert err.endswith(f"slower than allowed: y, only in {kept}, so it can't be compared\n")


@pytest.mark.parametrize("limit", ["", " ", "5%,6%", "ttft:5%,prefill:1%,ttft:50%"])
def test_no_limit_and_two_for_one_measure_are_refused(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty variable in a script must not be a gate that lets everything through."""
    assert cli.main(["diff", "a", "b", "--fail-on", limit]) == 2
    assert capsys.readouterr().err.count("\n") == 1
