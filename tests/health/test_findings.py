"""What a finding says fits into two sentences: what is wrong, and what to do about it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from gemma_trace import health, load, ranks
from gemma_trace.health.findings import NOTHING_TO_DO, Finding, Severity
from tests.conftest import SHARED

SOURCES = [*sorted(Path(health.__path__[0]).glob("*.py")), Path(ranks.__path__[0]) / "findings.py"]


def written(node: ast.AST) -> list[str]:
    """The texts below a node that are passed to something, so no docstrings."""
    docs = {id(each.value) for each in ast.walk(node) if isinstance(each, ast.Expr)}
    constants = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and id(each) not in docs]
    return [each.value for each in constants if isinstance(each.value, str)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_message_and_no_advice_has_a_third_part(path: Path) -> None:
    texts = written(ast.parse(path.read_text(encoding="utf-8")))
    assert [text for text in texts if "; " in text or ". " in text[:-2]] == []


@pytest.mark.parametrize(
    ("message", "advice", "line"),
    [
        ("the file ends early", "copy it again", "the file ends early. Copy it again"),
        ("the file ends early", NOTHING_TO_DO, "the file ends early"),
        ("slow", "--runs 10 says more", "slow. --runs 10 says more"),
        ("slow", "gemma-trace tree shows where", "slow. gemma-trace tree shows where"),
        ("slow", "ProfilerStep#2 is not", "slow. ProfilerStep#2 is not"),
        ("slow", "TTFT is not", "slow. TTFT is not"),
    ],
)
def test_a_line_is_the_message_and_the_advice(message: str, advice: str, line: str) -> None:
    finding = Finding("code", Severity.INFO, 1, message, advice)
    assert finding.line == line
    assert Finding("code", Severity.INFO, 1, message, advice, ("a", "b")).line == f"2 traces (a, b): {line}"


def test_lines_about_odd_traces_are_short() -> None:
    """At most five lines of 80 columns, the names of kernels and steps included."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/cases, traces that tools of others choke on")
    lines = [
        finding.line for path in sorted((SHARED / "cases").glob("*.json")) for finding in load(path).check().findings
    ]
    assert len(lines) > 10
    assert [line for line in lines if len(f"warning: {line}") > 5 * 80] == []
