from __future__ import annotations

import inspect
import subprocess
import sys

import pytest
import typer

from gemma_trace import cli
from gemma_trace.cli.summaries import SUMMARIES
from tests.benchmarks.measure import ROOT

FOR_SOME = (
    *("gemma_trace.capture", "gemma_trace.metadata", "gemma_trace.hta"),
    *("msgspec", "numpy", "rich", "tempfile", "tomllib"),
)
"""What the help of all commands has no use for."""


@pytest.mark.parametrize("command", SUMMARIES)
def test_a_summary_is_the_first_sentence_of_its_command(command: str) -> None:
    said = " ".join((inspect.getdoc(cli._function_of(command)) or "").split("\n\n")[0].split())
    assert said.partition(". ")[0].removesuffix(".") + "." == SUMMARIES[command]


def test_no_summary_is_cut_on_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {command: text for command, text in SUMMARIES.items() if not any(text in line for line in lines)} == {}
    assert max(map(len, lines)) <= 80


def test_help_without_the_commands_is_the_help_with_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    monkeypatch.setattr(cli, "_completes", lambda: True)
    assert cli.main(["--help"]) == 0
    assert shown == capsys.readouterr().out


def test_a_shell_that_asks_how_a_command_goes_on_hears_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def options() -> set[str]:
        stages = typer.main.get_command(cli.build_app([])).commands["stages"]  # type: ignore[attr-defined]
        return {option for parameter in stages.params for option in parameter.opts}

    assert "--format" not in options()
    monkeypatch.setenv("_GEMMA_TRACE_COMPLETE", "complete_bash")
    assert "--format" in options()


def test_help_imports_nothing_that_only_some_commands_use() -> None:
    script = (
        "import sys; from gemma_trace.cli import main; code = main(['--help']); "
        "print('imported', *sorted(name for name in sys.argv[1:] if name in sys.modules)); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *FOR_SOME],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "imported"


def test_without_a_command_the_help_is_shown_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("Usage: ")
    assert any(line.split()[:1] == ["stages"] for line in lines)
