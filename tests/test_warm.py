"""The Python that stands in for Python behaves as it does."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.capture


def test_a_program_has_its_arguments_environment_folder_and_streams(warm_python: str, tmp_path: Path) -> None:
    code = "import os, sys; print(sys.argv, os.environ['X'], os.getcwd(), sys.stdin.read()); sys.exit('no')"
    done = subprocess.run(
        [warm_python, "-c", code, "a b"], cwd=tmp_path, env={"X": "y"}, input="given", capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "no\n")
    assert done.stdout == f"['-c', 'a b'] y {tmp_path} given\n"


def test_modules_run_and_failures_are_told(warm_python: str) -> None:
    said = subprocess.run([warm_python, "-m", "gemma_trace", "--version"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("gemma-trace ")
    failed = subprocess.run([warm_python, "-c", "1 / 0"], capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.endswith("ZeroDivisionError: division by zero\n")
    assert subprocess.run([warm_python, "-c", "import sys; sys.exit(3)"], check=False).returncode == 3


def test_a_signal_reaches_the_program_and_ends_it(warm_python: str) -> None:
    code = "import sys, time; print('here', flush=True); time.sleep(3600)"
    with subprocess.Popen([warm_python, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM
