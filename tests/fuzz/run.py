"""`make fuzz`: any number of cases in several processes; ends with 1 where something happened that must not.

A case is made of the seed and its number alone, so that `--seed 1 --first 4711 --cases 1 --keep FOLDER` makes it again.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.exercise import Exercise, Problem, limit_memory
from tests.fuzz.mutate import case
from tests.fuzz.seeds import ours_on_a_device

_AT_ONCE: Final = 50


@dataclass(frozen=True)
class Found:
    """What some cases came to.

    Attributes:
        runs: commands that were run.
        problems: with the number of their case.
    """

    cases: int
    runs: int
    problems: list[tuple[int, Problem]]


@cache
def _exercise() -> Exercise:
    folder = Path(tempfile.mkdtemp(prefix="gemma-trace-fuzz-"))
    sound = ours_on_a_device().write(folder / "sound.json")
    limit_memory()
    return Exercise(folder, sound)


def fuzz(seed: int, numbers: range) -> Found:
    """The cases of these numbers."""
    exercise = _exercise()
    before = exercise.runs
    problems = [(number, problem) for number in numbers for problem in exercise.run(case(seed, number))]
    return Found(len(numbers), exercise.runs - before, problems)


def _parts(seed: int, numbers: range, processes: int, until: float) -> Iterator[Found]:
    parts = [numbers[place : place + _AT_ONCE] for place in range(0, len(numbers), _AT_ONCE)]
    with ProcessPoolExecutor(processes) as pool:
        for place in range(0, len(parts), processes):
            if time.monotonic() > until:
                return
            yield from pool.map(fuzz, [seed] * processes, parts[place : place + processes])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first case's number, to go on where a run ended")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="a folder for one case of each kind that was found")
    parser.add_argument("--corpus", metavar="I/N", help="instead, every N-th case of what was found before")
    given = parser.parse_args()
    if given.corpus:
        return _run_corpus(*map(int, given.corpus.split("/")))
    begun = time.monotonic()
    numbers = range(given.first, given.first + given.cases)
    cases = runs = 0
    kinds: Counter[str] = Counter()
    first: dict[str, tuple[int, Problem]] = {}
    for found in _parts(given.seed, numbers, given.processes, begun + given.seconds):
        cases, runs = cases + found.cases, runs + found.runs
        for number, problem in found.problems:
            kinds[problem.kind] += 1
            if problem.kind not in first:
                first[problem.kind] = number, problem
                print(f"\ncase {number}: {problem.kind}\n  {problem.command}", file=sys.stderr, flush=True)
                if given.keep:
                    _keep(given.keep, given.seed, number, problem)
        spent = time.monotonic() - begun
        print(f"\r{cases:,} cases, {runs:,} runs, {kinds.total():,} problems, {spent:,.0f} s", end="", file=sys.stderr)
    print(file=sys.stderr)
    print(f"{cases:,} cases from seed {given.seed}, {runs:,} runs of commands, {kinds.total():,} problems")
    for kind, count in kinds.most_common():
        print(f"{count:8,}  {kind}  (case {first[kind][0]})")
    return 1 if kinds else 0


def _run_corpus(part: int, parts: int) -> int:
    """Cases of what was found before."""
    chosen = list(corpus.cases())[part::parts]
    exercise = _exercise()
    problems = [(name, problem) for name, made in chosen for problem in exercise.run(made)]
    print(f"{len(chosen):,} cases of the corpus, {exercise.runs:,} runs of commands, {len(problems):,} problems")
    for name, problem in problems:
        print(f"{name}: {problem.kind}\n  {problem.command}\n{problem.detail[-1000:]}")
    return 1 if problems else 0


def _keep(folder: Path, seed: int, number: int, problem: Problem) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = case(seed, number)
    for name, content in (("json", made.trace), ("rules.toml", made.rules), ("peaks.toml", made.peaks)):
        if content is not None:
            (folder / f"{number}.{name}").write_bytes(content)
    (folder / f"{number}.{len(problem.kind)}.txt").write_text(
        f"{problem.kind}\n{problem.command}\noptions {made.options}\n\n{problem.detail}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
