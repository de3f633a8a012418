"""The steps of the CI snippets, run as a shell runs them, and the comment that they post."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.trace_builder import TraceBuilder

yaml = pytest.importorskip("yaml", reason="PyYAML comes with transformers; without it the snippets can't be read")

CI = ROOT / "analysis" / "ci"


@pytest.fixture
def sides(quick_python: str, tmp_path: Path) -> dict[str, str]:
    """Traces of 6 requests a side, whose prefill rises from 50 to 90 µs; and the environment of a CI's shell."""
    for name, length in (("before", 50_000), ("after", 90_000)):
        built = TraceBuilder()
        for request in range(6):
            at = 300_000 * request
            built.range("request", at, 200_000).range("prefill", at + 1000, length + 10 * request)
            built.op("aten::mm [x](http://evil.example)", at + 2000, length // 2)
        built.write(tmp_path / name / "run.pt.trace.json")
    program = tmp_path / "bin" / "gemma-trace"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{quick_python}" -m gemma_trace "$@"\n')
    program.chmod(0o700)
    return {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "BEFORE": "before",
        "AFTER": "after",
        "FAIL_ON": "prefill:30%",
        "INCONCLUSIVE": "fail",
        "OUT": "gate",
        "REPORT_URL": "https://ci.example/report.html",
        "GITHUB_OUTPUT": str(tmp_path / "output"),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
    }


def steps() -> list[dict[str, Any]]:
    action = yaml.safe_load((CI / "action.yml").read_text())
    return list(action["runs"]["steps"])


def run(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_github_action_exits_3_and_leaves_an_answer_a_comment_and_junit(
    tmp_path: Path, sides: dict[str, str]
) -> None:
    gate = steps()[-1]
    assert set(gate["env"]) < set(sides), "the step reads what the test sets"
    done = run(gate["run"], tmp_path, sides)
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "output").read_text() == "answer=exceeded\n"
    comment = (tmp_path / "gate/comment.md").read_text()
    assert (tmp_path / "summary").read_text() == comment
    assert comment.startswith("### gemma-trace: Slower than allowed.\n")
    assert comment.count("\n") <= 60
    assert "exceeded (30%)" in comment
    assert comment.rstrip().endswith("[The whole report](https://ci.example/report.html)")
    assert "](http://evil.example)" not in comment
    suite = ElementTree.parse(tmp_path / "gate/junit.xml").getroot()[0]
    assert (suite.get("failures"), suite.get("tests")) == ("1", "1")
    assert (tmp_path / "gate/report.html").stat().st_size > 10_000


def test_the_action_knows_ok_and_inconclusive_and_stops_at_a_missing_side(
    tmp_path: Path, sides: dict[str, str]
) -> None:
    script = steps()[-1]["run"]
    assert run(script, tmp_path, sides | {"FAIL_ON": "prefill:200%"}).returncode == 0
    assert run(script, tmp_path, sides | {"AFTER": "before", "FAIL_ON": "1%"}).returncode == 5
    assert run(script, tmp_path, sides | {"AFTER": "before", "FAIL_ON": "1%", "INCONCLUSIVE": "ok"}).returncode == 0
    (tmp_path / "empty").mkdir()
    assert run(script, tmp_path, sides | {"AFTER": "empty"}).returncode == 4
    answers = (tmp_path / "output").read_text().splitlines()
    assert answers == ["answer=ok", "answer=inconclusive", "answer=inconclusive"]


def test_the_gitlab_job_exits_3(tmp_path: Path, sides: dict[str, str]) -> None:
    job = yaml.safe_load((CI / "gitlab.yml").read_text())[".gemma-trace-gate"]
    done = run("\n".join(job["script"]), tmp_path, sides | job["variables"] | {"FAIL_ON": "prefill:30%"})
    assert done.returncode == 3, done.stderr
    assert (tmp_path / "gemma-trace-gate/junit.xml").exists()
    assert job["artifacts"]["when"] == "always"
