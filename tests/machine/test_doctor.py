from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from gemma_trace.machine import doctor
from gemma_trace.machine.doctor import Check, CheckStatus, examine_machine, is_capable
from tests.conftest import HUNG_S, ROOT

TOKEN = "hf_madeUpForTheDoctor0123456789"


def test_a_machine_with_everything_can_capture() -> None:
    checks = {check.name: check for check in examine_machine()}
    assert {"python", "extra capture", "cpu", "profiler", "models that fit", "hub"} <= set(checks)
    assert f"torch {metadata.version('torch')}" in checks["extra capture"].found
    assert "tiny" in checks["models that fit"].found
    assert is_capable(list(checks.values()))


def test_it_knows_every_extra_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: {re.split(r"[\[<>=~]", requirement)[0] for requirement in requirements}
        for extra, requirements in project["optional-dependencies"].items()
        if extra not in ("dev", "docs", "all")  # those for working on gemma-trace, and the sum
    }
    assert {extra: set(packages) for extra, packages in doctor.EXTRAS.items()} == declared


def without(*missing: str) -> Callable[[str], str | None]:
    return lambda package: None if package in missing else "1.0"


def test_what_is_missing_has_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", without("torch", "duckdb"))
    checks = {check.name: check for check in doctor._extras()}
    assert checks["extra capture"] == Check(
        "extra capture", CheckStatus.MISSING, "not installed: torch", 'pip install "gemma-trace[capture]"'
    )
    assert checks["extra scale"].status is CheckStatus.ABSENT
    assert checks["extra hta"].status is CheckStatus.OK
    assert not is_capable(list(checks.values()))


TWICE = """
import os, sys
from gemma_trace.cli import main
assert main(["doctor", "--format", "json", "-o", "without.json"]) == 0
os.environ["HF_TOKEN"] = sys.stdin.read()
assert main(["doctor", "--format", "json", "-o", "with.json"]) == 0
"""


def test_the_token_is_a_yes_or_no(warm_python: str, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [warm_python, "-c", TWICE],
        input=TOKEN,
        cwd=tmp_path,
        env=kept,
        capture_output=True,
        text=True,
        timeout=HUNG_S,
    )
    assert done.returncode == 0, done.stderr
    answers = {}
    for name in ("without", "with"):
        said = (tmp_path / f"{name}.json").read_text()
        assert TOKEN not in said + done.stdout + done.stderr
        answers[name] = next(row["found"] for row in json.loads(said)["rows"] if row["name"] == "hub")
    assert answers["without"].startswith("no token")
    assert answers["with"].startswith("there is a token")
