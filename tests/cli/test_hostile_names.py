"""Names that would steer a terminal, a spreadsheet or a pull request's page, through every command and form."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gemma_trace import cli
from gemma_trace.printable import printable
from tests.cli.test_commands import run
from tests.trace_builder import TraceBuilder

HOSTILE = "\x1b]0;pwn\x07\x1b[31m\x9b31m\u202egnp.exe\u2028\u2066\x00\x7f\r\n\u200b\U000e0041[red]x[/red]模型"
RAW = set(HOSTILE) - set(printable(HOSTILE)) - {"\n"}
READING = ["stages", "kernels", "tree", "check", "summarize", "diff"]
TEXTS = ["table", "markdown", "csv", "json", "html"]


def built(path: Path) -> Path:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000)
    trace.op(f"aten::mm{HOSTILE}", 2000, 30_000).launch(5, 3000)
    trace.kernel(f"gemm{HOSTILE}", 4000, 5000, correlation=5).kernel("=cmd|x", 9500, 400, correlation=5)
    trace.counter(f"load{HOSTILE}", 10, 5).counter(f"load{HOSTILE}", 10_000, 7)
    trace.header["deviceProperties"] = [{"id": 0, "name": f"GPU {HOSTILE}"}]
    return trace.write(path)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("hostile") / "name\x1b[31m[red]\u202e.json")


@pytest.fixture(scope="module")
def no_utf8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if sys.platform in ("darwin", "win32"):
        pytest.skip("file names are UTF-8 on this system")
    folder = tmp_path_factory.mktemp("no_utf8") / os.fsdecode(b"folder-\xff")
    return built(folder / os.fsdecode(b"trace-\xff.json"))


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("command", READING)
def test_nothing_raw_reaches_the_terminal(
    hostile: Path, command: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [hostile] * (2 if command == "diff" else 1)
    _, out, err = run(capsys, command, *paths, "-f", form)
    assert out
    assert not RAW & set(out.replace("\r\n", "\n") + err)


@pytest.mark.parametrize("by", ["kernel", "op", "module"])
def test_names_are_there_to_be_read(hostile: Path, by: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "kernels", hostile, "--by", by, "--full-names")
    assert printable(HOSTILE) in out or by == "module"
    _, out, _ = run(capsys, "kernels", hostile, "--by", "kernel", "-f", "json")
    assert f"gemm{HOSTILE}" in {row["name"] for row in json.loads(out)["rows"]}, "JSON has the name itself"


@pytest.mark.parametrize("wrong", ["missing-{}.json", "--format={}", "--{}", "--stage={}=x"])
def test_what_is_wrong_is_said_without_it(hostile: Path, wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = HOSTILE.replace("\x00", "")
    given = [wrong.format(name)] if wrong.startswith("missing") else [str(hostile), wrong.format(name)]
    code, out, err = run(capsys, "stages", *given)
    assert code in (2, 4)
    assert err
    assert not RAW & set(out + err)


def test_csv_has_no_formula_unless_it_is_wanted(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "kernels", hostile, "-f", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert "'=cmd|x" in {row["name"] for row in rows}
    assert {row["sum_ns"] for row in rows} == {"5000", "400"}
    _, out, _ = run(capsys, "kernels", hostile, "-f", "csv", "--raw")
    assert "=cmd|x" in {row["name"] for row in csv.DictReader(io.StringIO(out))}


@pytest.mark.parametrize("form", [*TEXTS, "parquet"])
@pytest.mark.parametrize("command", READING)
def test_a_file_whose_name_is_no_utf8_is_read(
    no_utf8: Path, tmp_path: Path, command: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [no_utf8] * (2 if command == "diff" else 1)
    output = tmp_path / os.fsdecode(b"out-\xff")
    code, _, err = run(capsys, command, *paths, "-f", form, "-o", output)
    assert (code, err) == (0, "")
    if form == "parquet":
        assert pq.read_table(io.BytesIO(output.read_bytes())).num_rows
    else:
        text = output.read_bytes().decode()
        assert form == "csv" or "trace-\\" in text
    if form == "json":
        assert json.loads(text)["source"][0].endswith(r"trace-\xff.json")


@pytest.mark.parametrize("options", [["export"], ["export", "--speedscope"], ["export", "--redact"], ["report"]])
def test_it_is_exported_under_a_name_that_is(
    no_utf8: Path,
    tmp_path: Path,
    options: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main([options[0], str(no_utf8), *options[1:]]) == 0
    (written,) = tmp_path.iterdir()
    assert written.name.startswith("trace-_xff")
    assert capsys.readouterr().out.strip() == written.name


def test_progress_shows_names_as_they_are() -> None:
    from rich.text import Text

    from gemma_trace.cli.progress import _label

    assert Text.from_markup(_label("reading [red]x\x1b[/red]")).plain == r"reading [red]x\x1b[/red]"
