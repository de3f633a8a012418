"""`--rule NAME=REGEX` defines a stage, and `-s NAME` shows one alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace import cli
from tests.report.html.reading import Element, read
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


def test_summarize_of_one_stage_has_its_time_beside_ttft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run, prefill in (("a", 300), ("b", 500)):
        built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, prefill)
        built.range("sampling", 700, 100).write(tmp_path / f"{run}.json")
    rows = shown(capsys, "summarize", str(tmp_path), "-s", "prefill")["rows"]
    assert [(row["run"], row["stage"], row["stage_ms"]["median"]) for row in rows] == [
        ("a", "prefill", 300e-6),
        ("b", "prefill", 500e-6),
    ]
    assert [row["ttft_ms"]["median"] for row in rows] == [800e-6, 800e-6]
    assert "sampling_ms" not in rows[0]
    assert cli.main(["summarize", str(tmp_path), "-s", "prefill"]) == 0
    assert "The stage prefill" in capsys.readouterr().out


def test_summarize_of_a_rules_stage_has_its_share_of_the_wall(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rule = ("--rule", "moe=nn.Module: MoE")
    (row,) = shown(capsys, "summarize", str(path), *rule, "-s", "moe")["rows"]
    of_stages = shown(capsys, "stages", str(path), *rule, "-s", "moe")["rows"]
    assert row["stage_ms"]["values"] == [each["time_ns"] / 1e6 for each in of_stages]


def test_summarize_refuses_a_stage_that_no_run_has(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summarize", str(path), "-s", "prefil", "--rule", "moe=nn.Module: MoE"]) == 1
    assert capsys.readouterr().err == "gemma-trace: no run has a stage 'prefil'; they have moe\n"
    assert cli.main(["summarize", str(path), "-s", "moe", "--style", "study"]) == 2
    assert "leave out --stage moe or --style study" in capsys.readouterr().err


def page_of(tmp_path: Path, *arguments: str) -> Element:
    page = tmp_path / "page.html"
    assert cli.main(["report", *arguments, "--rule", "moe=nn.Module: MoE", "-o", str(page), "--force"]) == 0
    return read(page.read_bytes())


def test_report_of_one_stage_shows_its_kernels_alone(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "kernel_c" in page_of(tmp_path, str(path)).text
    page = page_of(tmp_path, str(path), "-s", "moe")
    assert "kernel_c" not in page.text
    assert "2 device activities of moe in" in page.text
    assert "show the stage moe alone (--stage)" in page.text
    assert "Nothing ran on a device" not in page.text
    assert cli.main(["report", str(path), "-s", "prefil", "-o", str(tmp_path / "none.html")]) == 1
    assert "has no stage 'prefil'; it has " in capsys.readouterr().err


def test_report_of_one_stage_of_two_sides_keeps_the_whole_request(path: Path, tmp_path: Path) -> None:
    page = page_of(tmp_path, str(path), str(path), "-s", "moe")
    stages = next(table for table in page.all("table") if "before" in table.text)
    assert [row.all("th")[0].text for row in stages.all("tr")[1:]] == ["wall", "moe"]
