"""A short fuzz, always of the same cases; `make fuzz` runs a long one. What was found before is in `corpus.py`: here it
is put through some of the commands, by `make fuzz` through all.

Each runs in a process of its own, whose memory is bounded.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import HUNG_S, ROOT, thorough, tries
from tests.fuzz.corpus import cases
from tests.fuzz.exercise import ALWAYS, FEW, Exercise, Problem, commands
from tests.fuzz.mutate import case
from tests.fuzz.run import Found, Tally
from tests.fuzz.seeds import ours_on_a_device

PARTS = 4
CASES = 15


def fuzzed(python: str, *arguments: str) -> str:
    command = [python, "-m", "tests.fuzz.run", "--jobs", "1", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HUNG_S)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("part", [0, *thorough(range(1, PARTS))])
def test_nothing_escapes_from_damaged_traces(quick_python: str, part: int) -> None:
    said = fuzzed(quick_python, "--seed", "14", "--first", str(CASES * part), "--cases", str(CASES))
    assert said.startswith(f"seed 14: {CASES} cases, ")
    assert ", 0 problems, " in said
    runs = {name: int(count) for count, name in re.findall(r"^ *(\d+)  (\w+)$", said, re.MULTILINE)}
    assert runs.keys() <= {command[0] for command in commands("", "", "")}
    assert CASES <= runs["check"] <= 2 * CASES, "once, and once more with the options that a case has"
    assert sum(runs.values()) > 3 * CASES


@pytest.mark.parametrize("part", range(2))
def test_nothing_escapes_from_what_was_found_before(quick_python: str, part: int) -> None:
    count = len(list(cases())[part::2])
    said = fuzzed(quick_python, "--corpus", f"{part}/2", "--few", str(tries(4)))
    assert said.startswith(f"{count} cases of the corpus")
    assert "0 problems" in said


def test_a_case_is_always_the_same_and_no_two_are() -> None:
    made = [case(1, number) for number in range(50)]
    assert made == [case(1, number) for number in range(50)]
    assert len({each.trace for each in made}) > 45
    assert made[0] != case(2, 0)


def test_a_case_is_put_through_a_few_commands_and_always_the_same_ones(tmp_path: Path) -> None:
    exercise = Exercise(tmp_path, ours_on_a_device().write(tmp_path / "sound.json"))
    drawn: list[list[str]] = []

    def note(command: list[str]) -> None:
        drawn[-1].append(" ".join(command))

    exercise._command = note  # type: ignore[method-assign, assignment]
    for number in (*range(40), *range(40)):
        drawn.append([])
        exercise.run(case(1, number))
    assert drawn[:40] == drawn[40:]
    assert {len(commands) for commands in drawn} >= {ALWAYS + FEW}
    assert {commands[0].split()[0] for commands in drawn} == {"check"}
    ran = Counter(command.split()[0] for commands in drawn for command in commands)
    assert ran.keys() == {command[0] for command in commands("", "", "")}, "each has its turn"


def test_problems_are_counted_by_kind_and_the_first_case_of_each_is_named() -> None:
    tally = Tally()
    odd, other = Problem("odd", "stages x", ""), Problem("other", "tree x", "")
    assert tally.add(Found(25, Counter(check=25), [(60, odd), (61, odd)])) == [(60, odd)]
    assert tally.add(Found(25, Counter(check=25, tree=3), [(7, odd), (8, other)])) == [(8, other)]
    assert tally.line(10.0) == "50 cases, 53 runs of commands, 4 problems, 10 s, 5.0 cases/s"
    assert tally.tables().splitlines() == [
        "      runs  command",
        "        50  check",
        "         3  tree",
        "",
        "  problems  first case  kind",
        "         3           7  odd",
        "         1           8  other",
    ]
