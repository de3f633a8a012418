"""A short fuzz, always of the same cases; `make fuzz` runs a long one. What was found before is in `corpus.py`.

Each runs in a process of its own, whose memory is bounded.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import HUNG_S, ROOT
from tests.fuzz.corpus import cases
from tests.fuzz.mutate import case

PARTS = 4


def fuzzed(*arguments: str) -> str:
    command = [sys.executable, "-m", "tests.fuzz.run", "--processes", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_S)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_escapes_from_damaged_traces(part: int) -> None:
    said = fuzzed("--seed", "14", "--first", str(25 * part), "--cases", "8")
    assert said.startswith("8 cases from seed 14")
    assert "0 problems" in said


@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_escapes_from_what_was_found_before(part: int) -> None:
    count = len(list(cases())[part::PARTS])
    said = fuzzed("--corpus", f"{part}/{PARTS}")
    assert said.startswith(f"{count} cases of the corpus")
    assert "0 problems" in said


def test_a_case_is_always_the_same_and_no_two_are() -> None:
    made = [case(1, number) for number in range(50)]
    assert made == [case(1, number) for number in range(50)]
    assert len({each.trace for each in made}) > 45
    assert made[0] != case(2, 0)
