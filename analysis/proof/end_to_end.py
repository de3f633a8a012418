"""What a user does: capture, ask for advice, and run the commands that it prints, as they are printed."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from analysis.proof.cases import FAULTS, Fault, Model

MODEL: Final = Model(side=448, patches=32, hidden=256)
FASTER: Final = ("--rounds", "3", "--set", "warmup=1", "--set", "runs=4", "--set", "profile_runs=1")
"""What is added to a printed command, so that it takes seconds."""
_PROGRAM: Final = (sys.executable, "-m", "gemma_trace")
_SAVE: Final = "import sys; from pathlib import Path; from analysis.proof import bench; from analysis.proof.end_to_end "


@dataclass(frozen=True)
class Checked:
    """A command that advice printed, and what it said.

    Attributes:
        command: as it was printed; "" where the rule found nothing.
        ceiling_ms: of the finding, up to the first token.
        saved_ms: TTFT less by so much, with the ends of its interval, of requests without the profiler.
        error: why there is no such figure.
    """

    fault: Fault
    command: str
    ceiling_ms: float
    saved_ms: tuple[float, float | None, float | None] | None
    error: str = ""


def run_checks(folder: Path, ends_s: float, said: Callable[[str], None]) -> list[Checked]:
    """Capture requests with all faults that options make, and run what their advice prints.

    Args:
        ends_s: what still runs then, by `time.monotonic`, is ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said("saving a model and capturing it")
    save = f"{_SAVE}import MODEL; bench.save_model(MODEL, Path(sys.argv[1]))"
    options = {fault.option[0]: fault.option[1] for fault in FAULTS.values() if fault.option}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    sizes = ["--image-size", "1024x768", "--warmup", "1", "--runs", "3", "--profile-runs", "3", "--out-dir", "traces"]
    for command in (
        [sys.executable, "-c", save, str(folder / "model")],
        [*_PROGRAM, "capture", "--model", "model", "--device", "cpu", "--name", "slow", "--force", *words, *sizes],
    ):
        if (done := _run(command, folder, ends_s)).returncode:
            return [Checked(fault, "", 0.0, None, _last_line(done.stderr)) for fault in FAULTS.values() if fault.option]
    advised = _run([*_PROGRAM, "advise", "traces/slow", "--format", "json"], folder, ends_s)
    rows = {row["rule"]: row for row in json.loads(advised.stdout)["rows"]} if not advised.returncode else {}
    return [_checked(fault, rows.get(fault.rule), folder, ends_s, said) for fault in FAULTS.values() if fault.option]


def _checked(
    fault: Fault, row: dict[str, Any] | None, folder: Path, ends_s: float, said: Callable[[str], None]
) -> Checked:
    if row is None:
        return Checked(fault, "", 0.0, None, "the rule found nothing, or abstained")
    command = row["check"].rpartition(": ")[2] if row["check"].startswith("with the whole path") else row["check"]
    ceiling_ms = row["ttft_ceiling_ns"] / 1e6
    said(f"running {command}")
    added = [*FASTER, "--out-dir", fault.name, "--format", "json"]
    done = _run([*_PROGRAM, *shlex.split(command)[1:], *added], folder, ends_s)
    if done.returncode:
        return Checked(fault, command, ceiling_ms, None, _last_line(done.stderr))
    return Checked(fault, command, ceiling_ms, saved_by(json.loads(done.stdout)))


def saved_by(answer: dict[str, Any]) -> tuple[float, float | None, float | None] | None:
    """By how much TTFT is less after than before, by what `compare` answers, with its interval."""
    for row in answer["rows"]:
        if row["level"] == "stage" and row["stage"] == "ttft" and row["timing"] == "timed":
            low, high = row["interval_low_ms"], row["interval_high_ms"]
            return -row["difference_ms"], None if high is None else -high, None if low is None else -low
    return None


def _run(command: Sequence[str], folder: Path, ends_s: float) -> subprocess.CompletedProcess[str]:
    left_s = max(1.0, ends_s - time.monotonic())
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=left_s)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", "it wasn't done in time")


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def checked_table(checks: Sequence[Checked]) -> str:
    """The commands as Markdown."""
    lines = ["| rule | command | TTFT saved, ms | ceiling ms |", "|---|---|---|---|"]
    for each in checks:
        if each.saved_ms is None:
            saved = each.error
        else:
            mean, low, high = each.saved_ms
            saved = f"{mean:,.1f}" + (f" ({low:,.1f} to {high:,.1f})" if low is not None and high is not None else "")
        ceiling = f"{each.ceiling_ms:,.1f}" if each.command else "–"
        lines.append(f"| `{each.fault.rule}` | {f'`{each.command}`' if each.command else '–'} | {saved} | {ceiling} |")
    return "\n".join(lines) + "\n"
