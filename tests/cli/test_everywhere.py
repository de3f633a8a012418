"""Options that every command has, a trace where a command is expected, and what `main` leaves as it was."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.cli.everywhere import Everywhere, taken_out
from tests.trace_builder import TraceBuilder


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 400).op("aten::mm", 150, 100)
    return built.write(tmp_path / "in.json")


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("flag", ["--no-color", "--quiet", "-q", "--verbose", "-v", "--debug"])
def test_global_options_stand_before_or_after_the_command(
    trace: Path, flag: str, before: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stages", str(trace), "-f", "csv"]
    assert cli.main([flag, *command] if before else [*command, flag]) == 0
    assert capsys.readouterr().out.startswith("request,stage,")


def test_what_stands_behind_two_dashes_is_no_option() -> None:
    assert taken_out(["-q", "stages", "--", "-v"]) == (["stages", "--", "-v"], Everywhere(quiet=True))


def test_verbose_says_time_and_memory_on_stderr(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["stages", str(trace), "-v", "-f", "json"])
    assert capsys.readouterr().err.endswith(" MB of memory at most\n")


def test_quiet_leaves_out_remarks(trace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["export", str(trace), "-o", str(tmp_path / "a.json")]) == 0
    assert "open it at" in capsys.readouterr().err
    assert cli.main(["export", str(trace), "-o", str(tmp_path / "b.json"), "--quiet"]) == 0
    assert capsys.readouterr() == (f"{tmp_path / 'b.json'}\n", "")


def test_debug_prints_the_traceback_of_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stages", str(tmp_path / "none.json"), "--debug"]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].startswith("gemma_trace.errors.UnreadableError: no file")
    assert not any("\\n" in line for line in lines), "its lines are lines"


def test_a_trace_alone_shows_its_stages(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(trace), "-f", "csv"]) == 0
    short = capsys.readouterr().out
    assert cli.main(["stages", str(trace), "-f", "csv"]) == 0
    assert short == capsys.readouterr().out


def test_a_trace_that_is_not_there_is_said_to_be_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([str(tmp_path / "gone.json.gz")]) == 4
    assert "no file or folder at" in capsys.readouterr().err


def test_what_is_neither_a_command_nor_a_trace_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stage"]) == 2
    assert "No such command 'stage'" in capsys.readouterr().err


def test_main_changes_nothing_of_its_callers_process(trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENBLAS_NUM_THREADS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    gc.enable()
    before = dict(os.environ)
    cli.main(["stages", str(trace), "--no-color"])
    assert gc.isenabled()
    assert dict(os.environ) == before


def test_help_shows_square_brackets_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "--help"]) == 0
    assert 'tables "matrix" and "options"' in " ".join(capsys.readouterr().out.split())
    assert cli.main(["capture", "--help"]) == 0
    text = capsys.readouterr().out
    for choices in ("float32|bfloat16|float16", "torchvision|pil", "stage|layer|module", "off|stages"):
        assert choices in text


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("images=2", "give image for the files to send, or images_per_request for how many each request has"),
        ("imge=x.jpg", "give image"),
        ("--nothing=1", "give one of adapter, assistant, attn, batch,"),
    ],
)
def test_a_sweeps_options_are_those_of_capture(option: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sweep", "--set", option, "--dry-run"]) == 2
    assert said in capsys.readouterr().err
