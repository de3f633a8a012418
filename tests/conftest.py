from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SAMPLES = ROOT / "traces" / "samples"

HUNG_S = 3600
"""What takes longer than this hangs. No test's result rests on a time: a machine that does other things is slow."""


def pytest_configure() -> None:
    """Tables are as wide as they need to be in a pipe, whatever the runner of the tests says of its own terminal."""
    os.environ.pop("COLUMNS", None)


@cache
def real_trace(path: Path) -> Trace:
    """A real trace, read once per process of the tests; what is derived from it is kept too."""
    from gemma_trace.trace.trace import load

    return load(path)


@pytest.fixture
def corpus() -> Path:
    """The folder of real traces with independently counted figures."""
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus, real traces that this project reads but does not ship")
    return folder


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of `tiny` on the CPU: 2 timed and 2 profiled requests of 3 tokens each."""
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.session import profile

    folder = tmp_path_factory.mktemp("captured")
    config = CaptureConfig(device="cpu", warmup=1, runs=2, profile_runs=2, new_tokens=3, output=folder)
    return profile(config).path
