"""How often a comparison cries wolf, and how small a change it finds: the tables of analysis/comparing.md.

python analysis/comparing/measure.py traces/comparing

Captures 40 times the very same thing, then with a planted slowdown of 2, 5 and 10% of the vision tower, interleaved
with captures without. What is there already isn't captured again. On two cores it is about half an hour.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gemma_trace.analysis.changes import TraceDiff
from gemma_trace.analysis.diff import diff_sides
from gemma_trace.analysis.noise import NoiseFloor
from gemma_trace.analysis.sides import Side, side_of
from gemma_trace.trace.trace import load

CAPTURES = 40
ROUNDS = 5
SIMULATED = 200
PLANTED_PCT = (2, 5, 10)
SIMULATED_ROUNDS = (5, 20)
SCATTERS = (1.0, 0.25)
OPTIONS = ("--device", "cpu", "--warmup", "5", "--runs", "10", "--profile-runs", "1", "--quiet")
SLOWED = Path(__file__).with_name("slowed_capture.py")


@dataclass(frozen=True)
class Rate:
    """How many of how many."""

    hits: int
    of: int

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits} of {self.of} = {100 * self.hits / self.of:.1f}% ({100 * low:.1f} to {100 * high:.1f})"

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95%, by Wilson's score (1927)."""
        z, n, p = 1.959964, self.of, self.hits / self.of
        center = (p + z * z / 2 / n) / (1 + z * z / n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n) / (1 + z * z / n)
        return max(0.0, center - reach), min(1.0, center + reach)


def main(folder: Path) -> None:
    """Capture what isn't there yet, and print the tables."""
    same = captured(folder / "same")
    print_table("The very same thing, compared with itself", same_rows(same))
    tower_ms = float(np.median([np.median(side.timed_ms["vision_tower"]) for side in same]))
    print_table("A planted slowdown of the vision tower", planted_rows(folder, tower_ms, same))


def captured(folder: Path) -> list[Side]:
    """So many captures of one configuration, a process each."""
    sides = []
    for number in range(CAPTURES):
        run = folder / f"r{number + 1:03d}"
        found = list(run.glob("*.pt.trace.json.gz"))
        if not found:
            command = [sys.executable, "-m", "gemma_trace", "capture", "--name", run.name, "--out-dir", str(folder)]
            subprocess.run([*command, *OPTIONS], check=True)
            found = list(run.glob("*.pt.trace.json.gz"))
        sides.append(side_of(load(found[0])))
    return sides


def same_rows(same: Sequence[Side]) -> Iterator[tuple[str, ...]]:
    """False alarms: pairs of captures, pairs of five, and simulated ones."""
    pairs = [([same[place]], [same[place + 1]]) for place in range(0, len(same) - 1, 2)]
    yield row("one process per side, default floor", [diff_sides(*pair) for pair in pairs])
    yield row("one process per side, no floor (as it was)", [diff_sides(*pair, noise=NOTHING) for pair in pairs])
    groups = [same[place : place + ROUNDS] for place in range(0, len(same), ROUNDS)]
    fives = [(groups[place], groups[place + 1]) for place in range(0, len(groups) - 1, 2)]
    yield row(f"{ROUNDS} processes per side", [diff_sides(*pair) for pair in fives])
    draw = Simulation(same)
    random = np.random.default_rng(7)
    sides = [(draw.side(random, ROUNDS), draw.side(random, ROUNDS)) for _ in range(SIMULATED)]
    yield row(f"{ROUNDS} simulated processes per side, paired", [diff_sides(*pair, paired=True) for pair in sides])
    yield row(f"{ROUNDS} simulated processes per side, not paired", [diff_sides(*pair) for pair in sides])
    ones = [(draw.side(random, 1), draw.side(random, 1)) for _ in range(SIMULATED)]
    yield row("one simulated process per side, default floor", [diff_sides(*pair) for pair in ones])


NOTHING = NoiseFloor({}, 0.0, "nothing")


def row(what: str, found: Sequence[TraceDiff]) -> tuple[str, ...]:
    """A line of the table: rows that were called slower or faster, and comparisons with any such row."""
    rows = [change for each in found for change in each.stages]
    called = sum(change.status in ("slower", "faster") for change in rows)
    any_called = sum(any(change.status in ("slower", "faster") for change in each.stages) for each in found)
    return what, str(Rate(called, len(rows))), str(Rate(any_called, len(found)))


class Simulation:
    """Processes that scatter like those that were captured.

    A process's medians come from a normal distribution of the logarithms with the captures' covariance over the stages,
    its requests from the residuals of one of the captures, in their own order, begun anywhere: so both the stages and
    requests in a row stay correlated.

    Args:
        scatter: how much processes scatter, in times what the captures do.
    """

    def __init__(self, same: Sequence[Side], scatter: float = 1.0) -> None:
        self._template = same[0]
        self._names = [name for name in same[0].timed_ms if all(len(s.timed_ms.get(name, ())) == 10 for s in same)]
        logs = np.log([[side.timed_ms[name] for name in self._names] for side in same])
        medians = np.median(logs, axis=2)
        self._residuals = logs - medians[:, :, None]
        self._mean = medians.mean(axis=0)
        self._covariance = scatter**2 * np.cov(medians.T)

    def side(self, random: np.random.Generator, processes: int) -> list[Side]:
        """Some processes."""
        medians = random.multivariate_normal(self._mean, self._covariance, processes)
        return [self._process(random, median) for median in medians]

    def _process(self, random: np.random.Generator, median: np.ndarray) -> Side:
        rests = np.roll(self._residuals[random.integers(len(self._residuals))], random.integers(10), axis=1)
        values = np.exp(median[:, None] + rests)
        timed = {name: tuple(values[place].tolist()) for place, name in enumerate(self._names)}
        return replace(self._template, timed_ms=timed, device={}, host={})


def planted_rows(folder: Path, tower_ms: float, same: Sequence[Side]) -> Iterator[tuple[str, ...]]:
    """What is found of slowdowns: once for real, and among simulated comparisons."""
    for percent in PLANTED_PCT:
        yield f"{percent}%", "for real, 5 rounds", real(folder / f"planted{percent}", tower_ms * percent / 100), ""
    random = np.random.default_rng(8)
    for percent in PLANTED_PCT:
        for scatter in SCATTERS:
            draw = Simulation(same, scatter)
            for rounds in SIMULATED_ROUNDS:
                hits, elsewhere = simulated(draw, random, 1 + percent / 100, rounds)
                what = f"{rounds} simulated rounds, {scatter:g} times the captures' scatter"
                yield f"{percent}%", what, str(Rate(hits, SIMULATED)), str(Rate(elsewhere, SIMULATED))


def simulated(draw: Simulation, random: np.random.Generator, factor: float, rounds: int) -> tuple[int, int]:
    """In how many simulated comparisons the slowdown was found in its stage, and in how many in another one."""
    hits = elsewhere = 0
    for _ in range(SIMULATED):
        before, after = draw.side(random, rounds), draw.side(random, rounds)
        found = diff_sides(before, [slowed(side, factor) for side in after], paired=True)
        called = {change.stage for change in found.stages if change.status in ("slower", "faster")}
        hits += "vision_tower" in called
        elsewhere += bool(called - {"vision_tower", "ttft"})
    return hits, elsewhere


def slowed(side: Side, factor: float) -> Side:
    """A simulated process whose vision tower takes longer."""
    more = [(factor - 1) * value for value in side.timed_ms["vision_tower"]]
    changed = {
        name: tuple(value + extra for value, extra in zip(side.timed_ms[name], more, strict=True))
        for name in ("ttft", "vision_tower")
    }
    return replace(side, timed_ms={**side.timed_ms, **changed})


def real(folder: Path, pause_ms: float) -> str:
    """A comparison of captures without and with a pause in the vision tower: what `compare` calls."""
    commands = [f"{sys.executable} {SLOWED} {{out}} {pause}" for pause in (0, pause_ms)]
    given = [word for command in commands for word in ("--command", command)]
    names = ["--label", "plain", "--label", "slowed"]
    command = [sys.executable, "-m", "gemma_trace", "compare", *given, *names, "--rounds", str(ROUNDS)]
    done = subprocess.run([*command, "--out-dir", str(folder), "-f", "json", "-q"], check=True, capture_output=True)
    rows = [row for row in json.loads(done.stdout)["rows"] if row["level"] == "stage"]
    called = [f"{row['stage']} {row['relative_pct']:+.1f}%" for row in rows if row["status"] in ("slower", "faster")]
    tower = next(row for row in rows if row["stage"] == "vision_tower")
    low, high = (100 * tower[end] / tower["before_ms"]["mean"] for end in ("interval_low_ms", "interval_high_ms"))
    return f"vision_tower {tower['relative_pct']:+.1f}% ({low:+.1f} to {high:+.1f}); called: {', '.join(called) or '–'}"


def print_table(title: str, rows: Iterator[tuple[str, ...]]) -> None:
    """Rows as they come."""
    print(f"\n{title}\n", flush=True)
    for cells in rows:
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
