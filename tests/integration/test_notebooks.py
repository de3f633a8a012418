"""The notebooks in analysis/ run from the top, and print what they printed when they were committed."""

from __future__ import annotations

import gzip
import importlib
import importlib.util
import re
import runpy
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gemma_trace
from tests import foreign_trace
from tests.conftest import ROOT, thorough

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("nbformat", "nbclient", "matplotlib"))), reason="needs the notebooks extra"
)

ANALYSIS = ROOT / "analysis"
NOTEBOOKS = sorted(ANALYSIS.glob("*.ipynb"))
MAX_BYTES = 200_000


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request: pytest.FixtureRequest) -> Path:
    found: Path = request.param
    return found


def nbformat() -> ModuleType:
    """What reads notebooks: importing it takes seconds, which each process of the tests would take at its begin."""
    return importlib.import_module("nbformat")


def read(path: Path) -> Any:
    return nbformat().read(path, as_version=4)


def texts(notebook: Any) -> list[tuple[str, str, str]]:
    """Cell, kind and text of every output; of a figure only that there is one."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            text = output.text if output.output_type == "stream" else output.data["text/plain"]
            found.append((cell.id, output.get("name", output.output_type), text))
    return found


def code(path: Path) -> str:
    return "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "code")


def test_there_are_five() -> None:
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


def test_it_uses_what_the_package_exports_and_nothing_else(path: Path) -> None:
    used = set(re.findall(r"\bgemma_trace\.(\w+)", code(path)))
    assert used - set(gemma_trace.__all__) == set()
    assert not re.search(r"\._[a-z]|import gemma_trace\.|from gemma_trace", code(path))


def test_the_foreign_one_imports_nothing_but_the_package_pathlib_and_matplotlib() -> None:
    lines = re.findall(r"^(?:import|from) .+$", code(NOTEBOOKS[4]), re.M)
    assert lines == ["from pathlib import Path", "import matplotlib.pyplot as plt", "import gemma_trace"]


def test_its_foreign_trace_is_as_it_is_built_and_has_nothing_of_ours() -> None:
    stored = gzip.decompress(foreign_trace.PATH.read_bytes())
    assert stored == gzip.decompress(foreign_trace.content()), "run: python -m tests.foreign_trace"
    assert b"gemma_trace" not in stored
    assert len(foreign_trace.PATH.read_bytes()) < 20_000


@pytest.mark.parametrize("path", [NOTEBOOKS[0], *thorough(NOTEBOOKS[1:])], ids=lambda path: path.stem)
def test_it_runs_and_says_what_is_stored(path: Path) -> None:
    stored = read(path)
    fresh = runpy.run_path(str(ANALYSIS / "execute_notebooks.py"))["execute"](path)
    assert len(texts(stored)) >= 5
    assert texts(fresh) == texts(stored), "run: make notebooks"


def test_it_is_stored_as_it_ran_with_nothing_of_the_machine(path: Path) -> None:
    script = runpy.run_path(str(ANALYSIS / "execute_notebooks.py"))
    written = path.read_text()
    stored = read(path)
    assert written == nbformat().writes(script["bare"](read(path))) + "\n"
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "in one go, from the top"
    assert not any(output.get("name") == "stderr" for cell in code for output in cell.outputs)
    assert len(written) < MAX_BYTES
    said = "".join(text for *_, text in texts(stored))
    sources = "\n".join(cell.source for cell in stored.cells)
    assert not re.search(r"/(?:home|root|Users|tmp|usr|mnt|var)/", said + sources)
    assert str(ROOT) not in said + sources
    assert socket.gethostname() not in said


def test_its_figures_are_drawn_and_its_links_lead_somewhere(path: Path) -> None:
    stored = read(path)
    pictures = [
        output for cell in stored.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 2
    prose = "\n".join(cell.source for cell in stored.cells if cell.cell_type == "markdown")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", prose)
    assert "study.md" in targets, "where the figures of real models stand"
    assert [target for target in targets if not (ANALYSIS / target).exists()] == []
    assert "random weights" in prose
