"""`gemma-trace view` in a browser: the UI opens the trace, stages pinned, and reaches nobody else."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.browser.conftest import OpenWindow, Window
from tests.conftest import HUNG_S, SAMPLES


@pytest.fixture
def view(tmp_path: Path) -> Iterator[Callable[[Path], tuple[str, subprocess.Popen[str]]]]:
    """Starts the command and gives the address that it prints."""
    running: list[subprocess.Popen[str]] = []

    def start(trace: Path) -> tuple[str, subprocess.Popen[str]]:
        command = [sys.executable, "-m", "gemma_trace", "view", str(trace), "--no-browser"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        running.append(process)
        assert process.stdout is not None
        return process.stdout.readline().strip(), process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def wait_for(window: Window, script: str) -> None:
    """Wait until a piece of JavaScript says yes."""
    until = time.monotonic() + HUNG_S
    while not window.run(script):
        assert time.monotonic() < until, f"never true: {script}"
        time.sleep(0.2)


def test_the_ui_shows_the_trace_with_its_stages_pinned(
    browser: OpenWindow, view: Callable[[Path], tuple[str, subprocess.Popen[str]]]
) -> None:
    address, process = view(SAMPLES / "sample-tiny-cpu-torchvision")
    window = browser()
    window.open(address)
    wait_for(window, "return document.title.includes('trace.perfetto.json.gz')")
    for track in ("host", "time"):  # once in its process, and once pinned above all
        wait_for(window, f"return document.body.innerText.match(/^{track} \\d+$/gm)?.length >= 2")
    own = urlsplit(address).netloc
    foreign = [asked for asked in window.requests() if asked.startswith("http") and urlsplit(asked).netloc != own]
    loaded = window.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert any(name.endswith("/trace.perfetto.json.gz") for name in loaded)
    assert all("google" in asked or "9001" in asked for asked in foreign), foreign
    refused = " ".join(window.console())
    assert all(urlsplit(asked).netloc in refused for asked in foreign), "the policy refuses what the UI asks of others"
    window.open("about:blank")
    assert process.wait(HUNG_S) == 0, "it stops when the tab is closed"
