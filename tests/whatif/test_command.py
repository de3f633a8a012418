"""`gemma-trace what-if`, `trace.what_if`, and what patterns select."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gemma_trace
from gemma_trace import cli
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.whatif.selection import By, Pattern, pattern_of
from tests.trace_builder import TraceBuilder


def written(folder: Path) -> str:
    built = TraceBuilder().range("request", 0, 10_000_000).range("prefill", 0, 6_000_000)
    built.op("aten::mm", 1_000_000, 2_000_000).op("aten::[odd]*", 4_000_000, 1_000_000)
    return str(built.range("request", 20_000_000, 10_000_000).write(folder / "t.json"))


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = cli.main(["what-if", *arguments])
    printed = capsys.readouterr()
    return code, printed.out + printed.err


def test_a_row_per_request_and_their_mean(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    code, text = said(capsys, path, "--scale", "op:aten::mm=0.5", "--format", "json")
    found = json.loads(text)
    assert code == 0
    assert [(row["wall_ns"], row["new_wall_ns"]) for row in found["rows"]] == [
        (10_000_000, 9_000_000),
        (10_000_000, 10_000_000),
    ]
    assert found["totals"] == {"requests": 2, "mean_saved_ns": 500_000.0}
    code, text = said(capsys, path, "--remove", "stage:prefill")
    assert (code, "Mean of 2 requests: 3.000 ms saved, 30.0% of the wall time." in text) == (0, True)
    assert "What if stage:prefill were not there" in text


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        ([], 2, "nothing would change; give --scale"),
        (["--scale", "op:aten::mm"], 2, "is not PATTERN=X"),
        (["--scale", "op:aten::mm=-1"], 2, "the factor must be from 0 to 1,000"),
        (["--scale", "op:aten::mm=inf"], 2, "the factor must be from 0 to 1,000"),
        (["--remove", "ops:aten::mm"], 2, "begin it with one of family:, kernel:, stage:, op:, span:"),
        (["--remove", "op:"], 2, "selects nothing"),
        (["--remove", "op:aten::mmm"], 1, "has no op 'aten::mmm'; the nearest are 'aten::mm'"),
        (["--remove", "stage:decode"], 1, "has no stage 'decode'"),
        (["--remove", "kernel:*"], 1, "has no kernel '*'"),
        (["--remove", "family:\x1b[31m"], 1, "has no family"),
        (["--remove", "op:*", "--request", "7"], 1, "request 7 not found"),
    ],
    ids=lambda value: str(value)[:30].replace("\x1b", "ESC"),
)
def test_what_makes_no_sense_is_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, expected: str
) -> None:
    found, text = said(capsys, written(tmp_path), *arguments)
    assert found == code
    assert expected in text
    assert text.count("\n") == 1
    assert "\x1b" not in text


def test_python_takes_one_pattern_or_several(tmp_path: Path) -> None:
    trace = gemma_trace.load(written(tmp_path))
    assert trace.what_if(remove="op:aten::*", request=0).saved_ns == 3_000_000
    assert trace.what_if(remove=["op:aten::mm", "op:aten::[odd]?"], request=0).saved_ns == 3_000_000
    assert trace.what_if(scale={"family:gemm": 0}, request=0).saved_ns == 2_000_000
    assert trace.what_if(request=0).saved_ns == 0
    with pytest.raises(ConfigError, match="selects nothing"):
        trace.what_if(remove="mm")
    with pytest.raises(InputError, match="no op"):
        trace.what_if(overlap="op:nothing")


def test_a_pattern_is_a_name_with_stars() -> None:
    assert pattern_of("kernel:void at::*<4, *>") == Pattern(By.KERNEL, "void at::*<4, *>")
    names = ["aten::mm", "aten::addmm", "aten::[odd]", "ATEN::MM"]
    assert Pattern(By.OP, "aten::mm").matches(names) == [True, False, False, True]
    assert Pattern(By.OP, "*mm").matches(names) == [True, True, False, True]
    assert Pattern(By.OP, "aten::[odd]").matches(names) == [False, False, True, False]
    assert Pattern(By.OP, "*" * 50 + "x").matches(["a" * 5000]) == [False]  # takes no time, however many stars
