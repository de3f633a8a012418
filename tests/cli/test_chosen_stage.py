"""`--rule NAME=REGEX` defines a stage, and `-s NAME` shows one alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace import cli
from tests.trace_builder import TraceBuilder

MOE = "nn.Module: MoE_0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two kernels launched in an MoE layer, 10 and 20, and one of 400 outside of it, which ends at 1,500."""
    built = TraceBuilder().frame("forward", 0, 1000).frame(MOE, 100, 200)
    for correlation, (start, name, length) in enumerate(((110, "a", 10), (150, "b", 20), (500, "c", 400)), 1):
        built.op(f"aten::{name}", start, 30).launch(correlation, start + 5)
        built.kernel(f"kernel_{name}", start + 600, length, correlation=correlation, stream=correlation)
    return built.write(tmp_path / "in.json")


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code = cli.main([*arguments, "-f", "json"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.mark.parametrize(
    "rules",
    [["moe=nn.Module: MoE"], ["moe=nn.Module: MoE", "moe=Expert"], ["moe=nn.Module: MoE", "other=forward"]],
    ids=["one", "two of one stage", "two stages"],
)
def test_kernels_of_a_rules_stage(path: Path, rules: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "kernels", str(path), "-s", "moe", *(word for rule in rules for word in ("--rule", rule)))
    assert {row["name"]: row["sum_ns"] for row in found["rows"]} == {"kernel_b": 20, "kernel_a": 10}
    assert found["totals"]["device_sum_ns"] == 30
    assert shown(capsys, "kernels", str(path))["totals"]["device_sum_ns"] == 430


def test_tree_of_a_rules_stage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = shown(capsys, "tree", str(path), "-s", "moe", "--rule", "moe=nn.Module: MoE")["rows"]
    top = [row for row in rows if row["depth"] == rows[0]["depth"]]
    assert [(row["kind"], row["name"], row["device_ns"]) for row in top] == [("stage", "moe", 30)]
    assert "kernel_c" not in {row["name"] for row in rows}


def test_without_a_name_everything_is_shown(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(capsys, "kernels", str(path), "--rule", "moe=nn.Module: MoE")
    assert found["totals"]["device_sum_ns"] == 430


@pytest.mark.parametrize("command", ["kernels", "tree"])
def test_a_rule_is_no_stages_name(path: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, str(path), "-s", "moe=MoE"]) == 2
    said = "gemma-trace: --stage 'moe=MoE' is not the name of a stage; --rule 'moe=MoE' defines one\n"
    assert capsys.readouterr().err == said


def test_stages_of_one_stage_keep_the_totals(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = ("--rule", "moe=nn.Module: MoE")
    everything, alone = (shown(capsys, "stages", str(path), *rule, *more) for more in ((), ("-s", "moe")))
    assert [row["stage"] for row in alone["rows"]] == ["moe"]
    assert alone["rows"] == [row for row in everything["rows"] if row["stage"] == "moe"]
    assert alone["totals"]["wall_ns"] == everything["totals"]["wall_ns"] == 1500


def test_diff_of_one_stage(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = ("--rule", "moe=nn.Module: MoE")
    rows = shown(capsys, "diff", str(path), str(path), *rule, "-s", "moe")["rows"]
    assert {row["stage"] for row in rows} == {"moe"}


@pytest.mark.parametrize("command", [["stages", "FILE"], ["diff", "FILE", "FILE"]])
def test_a_stage_that_is_not_there_is_refused(
    path: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(path) if word == "FILE" else word for word in command]
    assert cli.main([*arguments, "-s", "prefil"]) == 1
    assert "has no stage 'prefil'; it has " in capsys.readouterr().err
