"""`make fuzz`: any number of cases in several processes; ends with 1 where something happened that must not.

A case, and which commands it is put through, is made of the seed, its number and `--few` alone, so that
`--seed 1 --first 4711 --cases 1 --keep FOLDER` makes it again.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

from tests.fuzz import corpus
from tests.fuzz.exercise import FEW, Exercise, Problem, limit_memory
from tests.fuzz.mutate import case
from tests.fuzz.seeds import ours_on_a_device

_AT_ONCE: Final = 25
_TELL_EVERY_S: Final = 30.0


@dataclass(frozen=True)
class Found:
    """What some cases came to.

    Attributes:
        runs: how often each command was run.
        problems: with the number of their case.
    """

    cases: int
    runs: Counter[str]
    problems: list[tuple[int, Problem]]


@dataclass
class Tally:
    """What all cases came to until now."""

    cases: int = 0
    runs: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, int] = field(default_factory=dict)

    def add(self, found: Found) -> list[tuple[int, Problem]]:
        """Add what some cases came to, and return the problems of a kind that there was none of before."""
        self.cases += found.cases
        self.runs += found.runs
        new = []
        for number, problem in found.problems:
            self.kinds[problem.kind] += 1
            if problem.kind not in self.first:
                new.append((number, problem))
            self.first[problem.kind] = min(number, self.first.get(problem.kind, number))
        return new

    def line(self, spent_s: float) -> str:
        """How far it is."""
        rate = self.cases / spent_s if spent_s else 0.0
        counts = f"{self.cases:,} cases, {self.runs.total():,} runs of commands, {self.kinds.total():,} problems"
        return f"{counts}, {spent_s:,.0f} s, {rate:.1f} cases/s"

    def tables(self) -> str:
        """The runs of each command, and the problems of each kind."""
        lines = [f"{'runs':>10}  command", *(f"{count:10,}  {name}" for name, count in self.runs.most_common())]
        if self.kinds:
            lines += ["", f"{'problems':>10}  {'first case':>10}  kind"]
            lines += [f"{count:10,}  {self.first[kind]:10}  {kind}" for kind, count in self.kinds.most_common()]
        return "\n".join(lines)


@cache
def _exercise(folder: Path, few: int = FEW) -> Exercise:
    """What this process runs its cases with."""
    own = folder / str(os.getpid())
    own.mkdir()
    sound = ours_on_a_device().write(own / "sound.json")
    exercise = Exercise(own, sound, few=few)
    gc.freeze()  # or each collection would go through all that was imported
    limit_memory()
    return exercise


def fuzz(folder: Path, seed: int, numbers: range, few: int) -> Found:
    """The cases of these numbers, each through `few` commands besides those of every case."""
    exercise = _exercise(folder, few)
    before = exercise.runs.copy()
    problems = [(number, problem) for number in numbers for problem in exercise.run(case(seed, number))]
    gc.collect()  # the commands switch it off
    return Found(len(numbers), exercise.runs - before, problems)


def _parts(folder: Path, seed: int, numbers: range, jobs: int, few: int, until: float) -> Iterator[Found]:
    """A few cases at a time, in the order in which they end."""
    parts = iter([numbers[place : place + _AT_ONCE] for place in range(0, len(numbers), _AT_ONCE)])
    running: dict[Future[Found], range] = {}
    with ProcessPoolExecutor(jobs) as pool:
        while True:
            if time.monotonic() < until:
                for part in islice(parts, 2 * jobs - len(running)):
                    running[pool.submit(fuzz, folder, seed, part, few)] = part
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    yield done.result()
                except BrokenProcessPool:
                    yield _died(list(running.values()))
                    return
                del running[done]


def _died(parts: list[range]) -> Found:
    """A process of the pool is gone: which case it was nobody can tell."""
    cases = ", ".join(f"{part.start} to {part.stop - 1}" for part in parts)
    return Found(0, Counter(), [(parts[0].start, Problem("a process died", "", f"in one of the cases {cases}"))])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first case's number, to go on where a run ended")
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no case after this")
    parser.add_argument("--jobs", type=int, default=2, help="the number of processes")
    parser.add_argument(
        "--few", type=int, help=f"how many commands are drawn for a case: {FEW}, of the corpus all of them"
    )
    parser.add_argument("--keep", type=Path, help="a folder for one case of each kind that was found")
    parser.add_argument("--corpus", metavar="I/N", help="instead, every N-th case of what was found before")
    return parser.parse_args()


def main() -> int:
    """Run the command line."""
    given = _arguments()
    with tempfile.TemporaryDirectory(prefix="gemma-trace-fuzz-") as folder:
        if given.corpus:
            part, parts = map(int, given.corpus.split("/"))
            return _run_corpus(Path(folder), part, parts, given.few)
        return _run_cases(Path(folder), given)


def _run_cases(folder: Path, given: argparse.Namespace) -> int:
    """Cases of a seed, with a line on stderr every half minute and tables at the end."""
    numbers = range(given.first, given.first + given.cases)
    tally = Tally()
    begun = told = time.monotonic()
    for found in _parts(folder, given.seed, numbers, given.jobs, given.few or FEW, begun + given.seconds):
        for number, problem in tally.add(found):
            print(f"case {number}: {problem.kind}\n  {problem.command}", file=sys.stderr, flush=True)
            if given.keep:
                _keep(given.keep, given.seed, number, problem)
        if time.monotonic() - told >= _TELL_EVERY_S:
            told = time.monotonic()
            print(tally.line(told - begun), file=sys.stderr, flush=True)
    print(f"seed {given.seed}: {tally.line(time.monotonic() - begun)}")
    print(tally.tables())
    return 1 if tally.kinds else 0


def _run_corpus(folder: Path, part: int, parts: int, few: int | None) -> int:
    """Cases of what was found before, each through every command, or through those of every case and so many more."""
    chosen = list(corpus.cases())[part::parts]
    exercise = _exercise(folder, few or FEW)
    if few:
        chosen = [(name, replace(made, draw=name)) for name, made in chosen]
    problems = [(name, problem) for name, made in chosen for problem in exercise.run(made)]
    print(
        f"{len(chosen):,} cases of the corpus, {exercise.runs.total():,} runs of commands, {len(problems):,} problems"
    )
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
