"""The tests that are left out of the coverage, since they reach what quicker tests reach too.

Counting takes a third of the tests' time. Which of them add nothing is measured now and then, in half an hour:

    python -m pytest --cov --cov-context=test --cov-report= --junitxml build/tests.xml
    python -m tests.uncounted .coverage build/tests.xml

What isn't in the list, as a new test, is counted.
"""

from __future__ import annotations

import sqlite3
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

LIST = Path(__file__).with_suffix(".txt")

QUICK_S = 0.05
"""What takes less is always counted."""

LEAST_PER_S = 10
"""Branches that nothing else reaches, by which a second of a test is worth counting."""

Branch = tuple[int, int, int]
"""File, line that is left, line that is reached."""


def uncounted() -> frozenset[str]:
    """Node ids of the tests that are left out."""
    return frozenset(LIST.read_text().splitlines())


def branches_by_test(data: Path) -> dict[str, set[Branch]]:
    """What each test reached, by its node id; an empty id is what was reached before the first of them.

    Args:
        data: a file of coverage's, with a context per test.
    """
    found: dict[str, set[Branch]] = defaultdict(set)
    with closing(sqlite3.connect(f"{data.resolve().as_uri()}?mode=ro", uri=True)) as database:
        contexts = dict(database.execute("SELECT id, context FROM context"))
        for context, *branch in database.execute("SELECT context_id, file_id, fromno, tono FROM arc"):
            found[contexts[context].rpartition("|")[0]].add((branch[0], branch[1], branch[2]))
    return dict(found)


def seconds_by_test(report: Path) -> dict[str, float]:
    """How long each test took, by its node id, of a report in JUnit's form."""
    found = {}
    for case in ElementTree.parse(report).iter("testcase"):
        *folders, last = case.attrib["classname"].split(".")
        inside = f"::{last}" if folders and folders[-1].startswith("test_") else ""
        file = "/".join(folders if inside else [*folders, last])
        found[f"{file}.py{inside}::{case.attrib['name']}"] = float(case.attrib["time"])
    return found


def adding_nothing(branches: Mapping[str, set[Branch]], seconds: Mapping[str, float]) -> list[str]:
    """The slow tests without which as good as the same is reached: those that add most in a second are kept first."""
    slow = {test for test in branches if seconds.get(test, 0.0) >= QUICK_S}
    reached = set[Branch]().union(*(found for test, found in branches.items() if test not in slow))
    missing = {test: branches[test] - reached for test in slow}
    while missing:
        best = max(sorted(missing), key=lambda test: len(missing[test]) / seconds[test])
        if len(missing[best]) < LEAST_PER_S * seconds[best]:
            break
        gained = missing.pop(best)
        missing = {test: found - gained for test, found in missing.items()}
    return sorted(missing)


if __name__ == "__main__":
    measured, took = map(Path, sys.argv[1:])
    left_out = adding_nothing(branches_by_test(measured), seconds_by_test(took))
    LIST.write_text("".join(f"{test}\n" for test in left_out))
    print(f"{len(left_out)} tests are left out of the coverage")
