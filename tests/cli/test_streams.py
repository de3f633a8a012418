"""How the program ends, whatever becomes of what it prints."""

from __future__ import annotations

import os
import pstats
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace_builder import TraceBuilder

FULL = Path("/dev/full")
ROOT = Path(__file__).resolve().parents[2]
ENDING = """
import atexit, sys, threading, time
import gemma_trace.cli as cli

atexit.register(print, "said at the end")
def main(arguments):
    if arguments:
        threading.Thread(target=lambda: (time.sleep(0.2), print("said by a thread"))).start()
    print("said by a command")
    return 3
cli.main = main
sys.exit(cli.entry())
"""


@pytest.fixture
def built(tmp_path: Path) -> Path:
    trace = TraceBuilder().range("ProfilerStep#1", 0, 1000).op("aten::mm", 10, 100)
    trace.launch(7, 20).kernel("gemm", 50, 200, correlation=7)
    return trace.write(tmp_path / "trace.json")


def shell(line: str, trace: Path) -> tuple[int, str, str]:
    """Run a line of the shell in which GT is the program and TRACE a trace: exit code, output, errors."""
    program = f'"{sys.executable}" -m gemma_trace'
    line = line.replace("GT", program).replace("TRACE", f'"{trace}"')
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["GT kernels TRACE", "GT kernels TRACE -f json", "GT kernels TRACE -f csv"])
def test_a_full_disk_is_no_bug_of_ours(command: str, built: Path) -> None:
    code, _, errors = shell(f"{command} > {FULL}", built)
    assert code == 1
    assert errors == (
        "gemma-trace: no space is left on the disk that this writes to; make room there, or write to another\n"
    )


def test_closed_streams_are_written_to_by_nobody(built: Path) -> None:
    assert shell("GT kernels TRACE --no-cache >&-", built) == (0, "", "")
    assert shell("GT kernels TRACE >&- 2>&- <&-", built) == (0, "", "")
    assert shell("GT kernels nowhere.json 2>&-", built) == (4, "", "")
    code, table, errors = shell("GT kernels TRACE -f csv <&-", built)
    assert (code, errors) == (0, "")
    assert table.startswith("name,family,")


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ((), ["said by a command", "said at the end"]),
        (("with a thread",), ["said by a command", "said by a thread", "said at the end"]),
    ],
)
def test_the_program_ends_with_all_that_was_to_be_done(arguments: tuple[str, ...], printed: list[str]) -> None:
    done = subprocess.run([sys.executable, "-c", ENDING, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (3, printed, "")


def test_a_profiler_that_watches_the_program_writes_what_it_saw(built: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "cProfile",
        "-o",
        str(tmp_path / "seen"),
        "-m",
        "gemma_trace",
        "kernels",
        str(built),
    ]
    assert subprocess.run(command, capture_output=True).returncode == 0
    functions = {name for _, _, name in pstats.Stats(str(tmp_path / "seen")).stats}  # type: ignore[attr-defined]
    assert "kernel_table" in functions


@pytest.mark.parametrize("is_ignored", [False, True])
def test_ctrl_c_while_the_program_is_imported_is_no_traceback(tmp_path: Path, is_ignored: bool) -> None:
    (tmp_path / "typer.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT); raise SystemExit(7)")
    code = "import runpy, signal; runpy.run_module('gemma_trace', run_name='__main__')"
    if is_ignored:
        code = code.replace("; ", "; signal.signal(signal.SIGINT, signal.SIG_IGN); ", 1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (7 if is_ignored else -signal.SIGINT, "")
