"""Puts advice to the test on small models on the CPU: `python -m analysis.prove_advice`, 15 minutes on 2 cores at most.

Requests do something slowly, and advice is given on their trace. What they really gain by doing it well is held against
what the advice says: `analysis/advice.md` has the tables, with what was missed. Each fault is tried alone and five are
tried at once, in a process per case in which requests with and without a fault alternate (`proof/bench.py`). Then the
commands that the advice on a real capture prints are run as they are printed (`proof/end_to_end.py`).

Two figures may be given: the seconds that all of it may take, and a folder to keep the traces in.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

from analysis.proof.bench import RESULT, Measured
from analysis.proof.cases import CASES, FAULTS, TOGETHER, Case
from analysis.proof.end_to_end import Checked, checked_table, run_checks
from analysis.proof.outcomes import Outcome, alone_table, outcomes_of, together_table, verdict
from gemma_trace.advice.advise import advise
from gemma_trace.trace.trace import load

PAGE: Final = Path(__file__).parent / "advice.md"
LONGEST_S: Final = 14 * 60.0
COMMANDS_SHARE: Final = 0.24
"""Of the time, for the commands that advice prints."""
SHORTEST_S: Final = 20.0
"""In less no case is begun."""
BEGIN, END = "<!-- proof -->\n", "<!-- end of proof -->"


@dataclass(frozen=True)
class Proof:
    """All that came of it.

    Attributes:
        failed: the cases whose process failed, or for which there was no time left.
    """

    outcomes: tuple[Outcome, ...]
    checks: tuple[Checked, ...]
    failed: tuple[str, ...]


def run(folder: Path, seconds: float) -> Proof:
    """Try everything.

    Args:
        seconds: how long all of it may take; each case has its share of what is left.
    """
    ends_s = time.monotonic() + seconds
    cases_end_s = ends_s - COMMANDS_SHARE * seconds
    outcomes: list[Outcome] = []
    failed: list[str] = []
    for place, case in enumerate(CASES):
        left_s = cases_end_s - time.monotonic()
        if left_s < SHORTEST_S:
            failed.append(case.name)
            continue
        case_s = left_s * case.share / sum(each.share for each in CASES[place:])
        _said(f"{case.name}: {case_s:.0f} of {left_s:.0f} s")
        measured = _measured(case, folder / case.name, case_s, left_s)
        if measured is None:
            failed.append(case.name)
            continue
        advice = advise(load(Path(measured.trace)))
        outcomes += outcomes_of(case, [FAULTS[name] for name in case.faults], measured.saved_ms, advice)
    checks = run_checks(folder / "end-to-end", ends_s, _said)
    return Proof(tuple(outcomes), tuple(checks), tuple(failed))


def _measured(case: Case, folder: Path, seconds: float, longest_s: float) -> Measured | None:
    """What a case's process finds; None where it fails, or isn't done in time.

    Args:
        seconds: how long it should take.
        longest_s: when it is ended.
    """
    given = msgspec.json.encode(case).decode()
    command = [sys.executable, "-m", "analysis.proof.bench", given, str(folder), str(seconds)]
    # A thread that waits for another gives its core back, so that a disturbed request takes little longer.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": str(case.cores)}
    try:
        if subprocess.run(command, env=environment, check=False, timeout=longest_s).returncode:
            return None
    except subprocess.TimeoutExpired:
        return None
    return msgspec.json.decode((folder / RESULT).read_bytes(), type=Measured)


def _said(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def tables(proof: Proof) -> str:
    """All of it as Markdown."""
    together = [outcome for outcome in proof.outcomes if outcome.case.name == TOGETHER]
    parts = [
        "Each in requests of its own:\n",
        alone_table([outcome for outcome in proof.outcomes if outcome.case.name != TOGETHER]),
    ]
    if together:
        passes = f"All at once, in {len(together[0].saved_ms)} passes:\n"
        parts += [passes, together_table(together), verdict(together)]
    parts += ["The commands that advice prints, run as they are printed:\n", checked_table(proof.checks)]
    if proof.failed:
        parts.append(f"**Failed, or not done in time**: {', '.join(proof.failed)}.\n")
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> None:
    """Try everything, and write the tables into the page."""
    seconds = float(arguments[0]) if arguments else LONGEST_S
    began_s = time.monotonic()
    with TemporaryDirectory() as scratch:
        proof = run(Path(arguments[1] if len(arguments) > 1 else scratch).resolve(), seconds)
        made = tables(proof)
    took_min = (time.monotonic() - began_s) / 60
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(f"{text[:before]}{made}\nIn {took_min:.0f} minutes, on {os.cpu_count()} cores.\n{text[after:]}")
    print(made)


if __name__ == "__main__":
    main(sys.argv[1:])
