"""Changes planted in made histories: how often they are found, and how often one is found where there is none.

python -m tests.benchmarks.planted_changes     # the tables of analysis/docs/history.md, a minute or two
"""

from __future__ import annotations

import numpy as np

from gemma_trace.history.change_points import shifts

NOISE = 0.02
SERIES = 200
BEFORE = 60
NEAR = 3
"""A change that is found so many runs from its place is the planted one."""


def noise(random: np.random.Generator, count: int, kind: str) -> np.ndarray:
    """Noise of one standard deviation, which is `NOISE`."""
    if kind == "heavy tails":
        return NOISE * random.standard_t(3, count) / 3**0.5
    steps = random.standard_normal(count)
    if kind == "drifting nights":  # each night is like the one before by 0.5
        for place in range(1, count):
            steps[place] = 0.5 * steps[place - 1] + 0.75**0.5 * steps[place]
    return NOISE * steps


def main() -> None:
    random = np.random.default_rng(1)
    print("| change | runs after it | found | at its very run | other changes per 100 series |")
    print("|---|---|---|---|---|")
    for size in (0.02, 0.05, 0.10):
        for after in (3, 5, 10, 30):
            found = exact = others = 0
            for _ in range(SERIES):
                values = 1 + noise(random, BEFORE + after, "normal")
                values[BEFORE:] *= 1 + size
                places = [shift.place for shift in shifts(values)]
                near = [place for place in places if abs(place - BEFORE) <= NEAR]
                found, exact = found + bool(near), exact + (BEFORE in places)
                others += len(places) - len(near)
            shares = " | ".join(f"{100 * count / SERIES:.1f}%" for count in (found, exact))
            print(f"| {100 * size:.0f}% | {after} | {shares} | {100 * others / SERIES:.1f} |")
    print()
    print("| noise | runs | series that show a change |")
    print("|---|---|---|")
    for kind in ("normal", "heavy tails", "drifting nights"):
        for runs in (30, 90, 365):
            alarms = sum(bool(shifts(1 + noise(random, runs, kind))) for _ in range(SERIES))
            print(f"| {kind} | {runs} | {100 * alarms / SERIES:.1f}% |")


if __name__ == "__main__":
    main()
