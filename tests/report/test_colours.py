"""What a terminal gets that a pipe doesn't: colours, and the width to choose columns by."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.summary import summarize
from gemma_trace.report.markdown import to_markdown
from gemma_trace.report.tables.stages import stages_report
from gemma_trace.report.terminal import column_widths
from gemma_trace.report.units import BAR_WIDTH, bar
from tests.conftest import SAMPLES, real_trace
from tests.trace_builder import TraceBuilder

RUNS = SAMPLES / "sample-tiny-cpu-torchvision", SAMPLES / "sample-tiny-cpu-pil"
COMMANDS = {
    "stages": ["stages", str(RUNS[1])],
    "summarize": ["summarize", str(SAMPLES)],
    "diff": ["diff", *map(str, RUNS)],
    "check": ["check", str(RUNS[0])],
}
CYAN, YELLOW, RED = "\x1b[36m", "\x1b[33m", "\x1b[31m"
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;m]")
NOISY = re.compile(rf"{re.escape(YELLOW)} *[\d.,]+ ±[\d.,]+!\x1b\[0m")


def environment(**changes: str) -> dict[str, str]:
    """This process's, less all that says something about terminals."""
    about_terminals = re.compile(r"TERM|COLORTERM|.*COLOR.*|TTY_.*|COLUMNS|LINES|PYTHONIOENCODING")
    kept = {name: value for name, value in os.environ.items() if not about_terminals.fullmatch(name)}
    return kept | {"PYTHONUTF8": "1", "TERM": "xterm-256color"} | changes


def on_a_terminal(python: str, arguments: list[str], columns: int = 120, **changes: str) -> str:
    """What a command writes where stdout and stderr are a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    command = [python, "-m", "gemma_trace", *arguments]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(**changes))
    os.close(theirs)
    written = bytearray()
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait() == 0, written.decode()
    return written.decode().replace("\r\n", "\n")


def piped(python: str, arguments: list[str], **changes: str) -> str:
    command = [python, "-m", "gemma_trace", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**changes), check=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_pipe_gets_no_escape_codes(quick_python: str, command: str) -> None:
    assert "\x1b" not in piped(quick_python, COMMANDS[command])


def test_a_pipe_gets_colours_where_they_are_forced(quick_python: str) -> None:
    assert CYAN in piped(quick_python, COMMANDS["stages"], FORCE_COLOR="1")


def test_a_terminal_shows_bars_noise_and_changes_in_colour(quick_python: str) -> None:
    written = on_a_terminal(quick_python, COMMANDS["stages"])
    assert re.search(rf"{re.escape(CYAN)}█+[▏▎▍▌▋▊▉]? *\x1b\[0m", written)
    assert NOISY.search(written)
    summary = on_a_terminal(quick_python, COMMANDS["summarize"], columns=300)
    marked = len(re.findall(r"\d!", summary))
    assert marked == len(NOISY.findall(summary)) > 0, "every noisy cell, and no other"
    assert f"{RED}slower" in on_a_terminal(quick_python, COMMANDS["diff"])


@pytest.mark.parametrize("command", COMMANDS)
def test_no_color_leaves_no_colour_on_a_terminal(quick_python: str, command: str) -> None:
    for written in (
        on_a_terminal(quick_python, COMMANDS[command], NO_COLOR="1"),
        on_a_terminal(quick_python, ["--no-color", *COMMANDS[command]]),
    ):
        assert not COLOUR.search(written)
        assert "\x1b[1m" in written, "bold is no colour, and it was a terminal"


def test_a_dumb_terminal_gets_no_escape_codes(quick_python: str) -> None:
    assert "\x1b" not in on_a_terminal(quick_python, COMMANDS["stages"], TERM="dumb")


@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_the_bars_are_there_on_every_usual_terminal(quick_python: str, columns: int) -> None:
    written = on_a_terminal(quick_python, COMMANDS["stages"], columns=columns)
    assert "█" * 10 in written
    plain = re.sub(r"\x1b\[[\d;]*m", "", written)
    assert max(map(len, plain.splitlines())) <= columns


def test_bars_give_way_only_after_the_columns_of_the_device(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000)
    trace.op("aten::mm", 2000, 30_000).launch(1, 3000).kernel("gemm", 8000, 20_000, correlation=1)
    loaded = trace.load(tmp_path)
    report = stages_report(breakdown(loaded), summarize(loaded), stage_reasons(loaded))
    section = report.tables[0].as_text()
    bars = next(index for index, column in enumerate(section.columns) if column.holds == "bar")
    device = next(index for index, column in enumerate(section.columns) if column.header == "device ms")
    kept = [list(column_widths(section, room)) for room in range(30, 200)]
    assert bars in kept[-1]
    assert any(bars in columns and device not in columns for columns in kept)
    assert not any(device in columns and bars not in columns for columns in kept)


def test_a_bar_is_as_long_as_its_share() -> None:
    eighths = " ▏▎▍▌▋▊▉█"
    for share in (0.0, 0.001, 0.05, 0.25, 1 / 3, 0.709, 0.999, 1.0):
        drawn = sum(eighths.index(cell) for cell in bar(share))
        assert drawn == round(share * BAR_WIDTH * 8)
    assert bar(0.25) == "█" * 5
    assert (bar(-0.5), bar(2.0)) == ("", bar(1.0))


def test_markdown_has_the_bars_and_no_escape_codes() -> None:
    (path,) = RUNS[0].glob("*.json.gz")
    loaded = real_trace(path)
    written = to_markdown(stages_report(breakdown(loaded), summarize(loaded), stage_reasons(loaded)))
    assert "█" * 10 in written
    assert "\x1b" not in written
