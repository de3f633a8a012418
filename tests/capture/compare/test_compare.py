"""`compare` with commands that write traces: rounds, order, resuming, crashes, and what it says."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.capture.compare.arms import Arm, plan_arms
from gemma_trace.capture.compare.conditions import Conditions, drift_remark, remarks
from gemma_trace.capture.compare.run import plan_trials
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.errors import ConfigError

WRITER = """
import pathlib, sys
from tests.trace_builder import TraceBuilder
out, prefill_us, log = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
with log.open("a") as file:
    file.write(out.parent.name + " " + out.name + "\\n")
if len(sys.argv) > 4 and out.name == sys.argv[4]:
    sys.exit("out of memory")
number = int(out.name[1:])
built = TraceBuilder()
for request in range(6):
    at, length = 400_000 * request, 1000 * prefill_us + 100 * number + 37 * request
    built.range("request", at, 300_000).range("prefill", at + 1000, length).range("sampling", at + 1000 + length, 100)
built.write(out / "a.pt.trace.json.gz")
"""


@pytest.fixture
def writer(quick_python: str, tmp_path: Path) -> list[str]:
    """Commands that write a trace with a prefill of 100 and of 130 µs."""
    script = tmp_path / "write.py"
    script.write_text(WRITER)
    log = tmp_path / "log"
    return [shlex.join([quick_python, str(script), "{out}", str(length), str(log)]) for length in (100, 130)]


def compare(tmp_path: Path, commands: list[str], *more: str) -> int:
    given = [word for command in commands for word in ("--command", command)]
    return cli.main(["compare", *given, "--out-dir", str(tmp_path / "out"), "-f", "json", *more])


def test_rounds_are_interleaved_and_the_planted_change_is_found(
    tmp_path: Path, writer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code = compare(tmp_path, writer, "--rounds", "4", "--label", "base", "--label", "new", "--fail-on", "prefill:5%")
    out, err = capsys.readouterr()
    assert code == 3
    assert err.count(": done in ") == 8
    assert "slower than allowed: prefill +29.9% (limit 5%)" in err
    rows = {row["stage"]: row for row in json.loads(out)["rows"] if row["level"] == "stage"}
    assert (rows["prefill"]["status"], rows["prefill"]["before_processes"]) == ("slower", 4)
    assert rows["prefill"]["difference_ms"] == pytest.approx(0.030)
    assert rows["prefill"]["p_value"] < 0.05
    order = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert [name for _, name in order] == [f"r00{number}" for number in (1, 1, 2, 2, 3, 3, 4, 4)]
    assert sorted(label for label, _ in order[:2]) == ["base", "new"]
    record = json.loads((tmp_path / "out/compare.json").read_text())
    assert [[label, f"r{number:03d}"] for number, label in record["order"]] == order
    assert cli.main(["diff", str(tmp_path / "out/base"), str(tmp_path / "out/new"), "--repeats", "-f", "json"]) == 0
    again = {row["stage"]: row for row in json.loads(capsys.readouterr().out)["rows"] if row["level"] == "stage"}
    assert again["prefill"]["interval_low_ms"] == rows["prefill"]["interval_low_ms"], "diff reads what compare wrote"


def test_what_is_done_isnt_done_twice_and_a_crash_costs_its_round(
    tmp_path: Path, writer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    crashing = [writer[0], f"{writer[1]} r002"]
    assert compare(tmp_path, crashing, "--rounds", "3") == 0
    out, err = capsys.readouterr()
    assert "round 2, command-2: failed in " in err
    assert "exited with code 1: out of memory" in err
    assert {row["before_processes"] for row in json.loads(out)["rows"]} == {2}
    assert (
        "round 2 is left out, because command-2 failed: exited with code 1: out of memory"
        in json.loads(out)["totals"]["remarks"]
    )
    log = tmp_path / "log"
    log.write_text("")
    (tmp_path / "out/command-1/r003/a.pt.trace.json.gz").write_bytes(b"cut off")
    assert compare(tmp_path, writer, "--rounds", "4") == 0
    again = sorted(line.split() for line in log.read_text().splitlines())
    assert again == [["command-1", "r003"], ["command-1", "r004"], ["command-2", "r002"], ["command-2", "r004"]]


def test_it_stops_when_the_answer_is_clear(
    tmp_path: Path, writer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, writer, "--rounds", "9", "--until-width", "2%") == 0
    assert capsys.readouterr().err.count(": done in ") == 6, "three rounds are the least"
    assert compare(tmp_path, writer, "--until-width", "two") == 2
    assert "write it like 2%" in capsys.readouterr().err


def test_another_comparison_in_the_folder_is_refused(
    tmp_path: Path, writer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, writer, "--rounds", "2") == 0
    assert compare(tmp_path, writer, "--rounds", "2", "--label", "x", "--label", "y") == 1
    assert "has a comparison in it, of command-1, command-2 with seed 0" in capsys.readouterr().err


def test_a_command_that_writes_nothing_or_doesnt_exist_fails_in_a_line(
    tmp_path: Path, writer: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path, [writer[0], "true {out}"], "--rounds", "2", "-q") == 1
    assert capsys.readouterr().err == (
        "gemma-trace: every trial of command-2 failed: it exited with code 0 but wrote no trace into its "
        "folder; a command must write one into {out}\n"
    )
    assert compare(tmp_path / "b", [writer[0], "no-such-program {out}"], "--rounds", "2", "-q") == 1
    assert "exited with code 127: No such file or directory" in capsys.readouterr().err


def test_arms_are_every_combination_with_names_that_tell_them_apart() -> None:
    arms = plan_arms(CaptureConfig(), ["attn=eager,sdpa", "runs=3", "image_backend=pil,torchvision"])
    assert [arm.label for arm in arms] == [
        "attn-eager-image_backend-pil",
        "attn-eager-image_backend-torchvision",
        "attn-sdpa-image_backend-pil",
        "attn-sdpa-image_backend-torchvision",
    ]
    assert {arm.config.runs for arm in arms if arm.config} == {3}
    pythons = plan_arms(CaptureConfig(), pythons=[sys.executable, sys.executable])
    assert [arm.label for arm in pythons] == ["python-1", "python-2"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "two or more configurations"),
        ({"changes": ["runs=3"]}, "two or more configurations"),
        ({"changes": ["speed=1,2"]}, "no option 'speed'"),
        ({"changes": ["runs"]}, "not OPTION=VALUE,VALUE"),
        ({"changes": ["runs=1,x"]}, "'x' is not a whole number"),
        ({"changes": ["attn=a,b"], "labels": ["one"]}, "2 configurations and 1 labels"),
        ({"changes": ["attn=a,b"], "labels": ["x", "x"]}, "two configurations are called 'x'"),
        ({"changes": ["attn=a,b"], "labels": ["../x", "y"]}, "can't be the name of a folder"),
        ({"commands": ["a", "b {out}"]}, "has no {out}"),
        ({"commands": ["'a {out}", "b {out}"]}, "can't be split into words"),
        ({"commands": ["a {out}", "b {out}"], "changes": ["runs=3"]}, "run as it is"),
        ({"pythons": ["/nowhere/python", "python3"]}, "not a program that can be run"),
    ],
)
def test_what_makes_no_comparison_is_refused(given: dict[str, list[str]], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        plan_arms(CaptureConfig(), **given)
    assert said in str(error.value)


def test_the_order_is_drawn_by_lot_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    arms = [Arm(place, label, command=("x",)) for place, label in enumerate("abc")]
    orders = [[trial.arm.label for trial in plan_trials(arms, 6, tmp_path, seed)] for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    rounds = {tuple(orders[0][start : start + 3]) for start in range(0, 18, 3)}
    assert len(rounds) > 2, "no order stands for all rounds"
    assert all(sorted(order) == ["a", "b", "c"] for order in rounds)


def test_load_throttling_and_heat_are_said() -> None:
    cool, hot = Conditions(0.1, 3000, 60), Conditions(2.0, 2000, 95)
    assert list(remarks([cool, cool], 2)) == []
    assert list(remarks([hot, cool], 2)) == [
        "other processes were running, with a load of 2.0 on 2 cores before the first trial; this widens the intervals",
        "the cores' clock went from 3000 down to 2000 MHz between trials",
        "a sensor was at 95 °C, where processors slow down",
    ]
    assert list(remarks([Conditions()], 2)) == []


def test_drift_is_a_trend_over_the_trials_and_not_the_difference_of_the_arms() -> None:
    steady = {"a": [(0, 100.0), (3, 101.0), (4, 100.0)], "b": [(1, 150.0), (2, 151.0), (5, 150.0)]}
    assert drift_remark(steady) is None
    rising = {"a": [(place, 100 * 1.02**place) for place in (0, 3, 4)]}
    rising["b"] = [(place, 150 * 1.02**place) for place in (1, 2, 5)]
    said = drift_remark(rising)
    assert said is not None
    assert said.startswith("times drifted by +10.4% from the first trial to the last"), "1.02^5"
    assert drift_remark({"a": [(0, 100.0)], "b": [(1, 130.0)]}) is None
