"""How processes of our own are started."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def test_none_runs_a_module_of_the_folder_that_a_command_is_given_in() -> None:
    """`python -m` looks there first, unless `-P` says not to: a `json.py` beside a trace would be run."""
    starts = [
        (path.name, before)
        for path in sorted((ROOT / "gemma_trace").rglob("*.py"))
        for before in re.findall(r'("[^"]*"), "-m", "gemma_trace', path.read_text("utf-8"))
    ]
    assert {name for name, _ in starts} >= {"sweep.py", "run.py", "child_process.py", "asking.py"}
    assert [(name, before) for name, before in starts if before != '"-P"'] == []
