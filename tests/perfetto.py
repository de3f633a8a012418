"""Perfetto's own engine, offline, in this process: it is imported once, and each trace gets an engine of its own."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED

Rows = list[dict[str, Any]]

_HOST = SHARED / "tools" / "perfetto_engine.py"


@cache
def _host() -> Any:
    spec = importlib.util.spec_from_file_location("perfetto_engine", _HOST)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def ask(path: Path, *queries: str) -> list[Rows]:
    """Load a file and run queries; the first answer is what the engine lost."""
    if not _HOST.is_file():
        pytest.skip("needs ../shared/tools/perfetto_engine.py, which hosts Perfetto's engine offline")
    pytest.importorskip("wasmtime", reason="needs the extra dev")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # protobuf's, on import
        host = _host()
        engine = host.PerfettoEngine()
        try:
            engine.load(path)
            return [[vars(row) for row in engine.query(sql)] for sql in [host.LOST, *queries]]
        finally:
            engine._store.close()  # the engine and what it calls hold each other, where no collector sees it
