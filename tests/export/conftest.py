from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED

Rows = list[dict[str, Any]]


@pytest.fixture
def perfetto() -> Callable[..., list[Rows]]:
    """Load a file into Perfetto's engine and run queries; the first answer is what the engine lost."""
    tool = SHARED / "tools" / "perfetto_engine.py"
    if not tool.is_file():
        pytest.skip("needs ../shared/tools/perfetto_engine.py, which hosts Perfetto's engine offline")
    pytest.importorskip("wasmtime", reason="needs the extra dev")
    script = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import perfetto_engine as p\n"
        "engine = p.PerfettoEngine(); engine.load(sys.argv[2])\n"
        "print(json.dumps([[vars(row) for row in engine.query(sql)] for sql in [p.LOST, *sys.argv[3:]]]))"
    )

    def ask(path: Path, *queries: str) -> list[Rows]:
        command = [sys.executable, "-W", "ignore", "-c", script, str(tool.parent), str(path), *queries]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        answers: list[Rows] = json.loads(done.stdout)
        return answers

    return ask
