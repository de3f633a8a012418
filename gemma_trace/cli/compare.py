"""`gemma-trace compare`."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.diff import OnInconclusive, gate_record, hold
from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import (
    ForceOption,
    FormatOption,
    OutputOption,
    RawOption,
    format_for,
    refuse_binary,
    say,
)
from gemma_trace.errors import ConfigError

if TYPE_CHECKING:
    from gemma_trace.analysis.changes import TraceDiff
    from gemma_trace.analysis.sides import Side
    from gemma_trace.capture.compare.run import Trial

_WIDTH = re.compile(r"(\d+(?:\.\d+)?)\s*%")


def compare(
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="OPTION=A,B",
            help="An option of capture and the values to compare. A single value applies to all. A value with a comma "
            "is written in a JSON list: 'prompt=[\"Hello, you\"]'. Repeatable.",
        ),
    ] = None,
    python: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PYTHON", help="Capture with this Python, e.g. that of another virtual environment. Repeatable."
        ),
    ] = None,
    command: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COMMAND", help="Run this command, which must write a trace into the folder {out}. Repeatable."
        ),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The names of the configurations, in order. Repeatable.")
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=2, metavar="N", help="Run every configuration N times, once per round.")
    ] = 5,
    until_width: Annotated[
        str | None,
        typer.Option(
            metavar="PCT",
            help="Stop as soon as the interval of every TTFT difference is this narrow, e.g. 2%.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The seed of the order within the rounds.")] = 0,
    fail_on: Annotated[
        str | None, typer.Option(metavar="LIMIT", help="Exit with code 3 if something is slower than this, as in diff.")
    ] = None,
    inconclusive: Annotated[
        OnInconclusive,
        typer.Option(help="Whether a gate that can't decide exits with code 5 (fail) or 0 (ok), as in diff."),
    ] = OnInconclusive.FAIL,
    out_dir: Annotated[
        Path, typer.Option("--out-dir", metavar="FOLDER", help="Write the traces into this folder.")
    ] = Path("traces/compare"),
    top: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Show N families, ops and kernels; 0 shows all. By default a table shows 10; CSV, JSON and "
            "Parquet have all.",
        ),
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Run configurations in turns, and show what differs.

    Each round runs every configuration once, each in a process of its own, in a random order. So whatever else the
    machine does affects all of them alike, and the variation between processes is measured. The first configuration
    is the one that the others are compared with. Run the same command again to continue where it stopped.

    Example: gemma-trace compare --set image_backend=torchvision,pil --rounds 5
    """
    from gemma_trace.analysis.gate import parse_gate
    from gemma_trace.capture.compare.arms import plan_arms, varied_options
    from gemma_trace.capture.compare.conditions import remarks
    from gemma_trace.capture.compare.run import plan_trials, require_enough, run_trials
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.cli.output import emit
    from gemma_trace.report.tables.diff import diff_report

    format_for(form, output)
    refuse_binary(form, output)
    arms = plan_arms(CaptureConfig(), change or (), python or (), command or (), label or ())
    gate = None if fail_on is None else parse_gate(fail_on, differing(varied_options(arms), python or ()))
    width_pct = parsed_width(until_width)
    if not command and not python:
        from gemma_trace.capture import require_capture_extra

        require_capture_extra()
    taken: dict[Path, Side] = {}

    def is_enough(done: Sequence[Trial]) -> bool:
        if width_pct is None or len({trial.round for trial in done}) < 3:
            return False
        return all(map(narrower_than(width_pct), comparisons(done, taken)))

    with watching(quiet=asked().quiet) as watch:
        trials = run_trials(
            plan_trials(arms, rounds, out_dir, seed), out_dir, seed, on_change=watch, is_enough=is_enough
        )
    require_enough(trials)
    pairs = comparisons(trials, taken)
    said = [*remarks([t.conditions for t in trials if t.seconds], os.cpu_count() or 1), *trial_remarks(trials, taken)]
    report = diff_report(pairs, (), [str(out_dir)], top, remarks=said)
    verdicts = [gate.judge(pair) for pair in pairs] if gate else []
    if gate:
        report = report.extended((), {"gate": gate_record(verdicts, ())})
    emit(report, form, output, force=force, raw=raw)
    if gate:
        hold(pairs, verdicts, (), lenient=inconclusive is OnInconclusive.OK)


def differing(varied: Sequence[str], pythons: Sequence[str]) -> list[str]:
    """The settings that the comparison itself is about, as a gate has them."""
    from gemma_trace.analysis.gate import SETTINGS

    versions = ["torch", "torchvision", "transformers", "python"] if pythons else []
    devices = ["device_name"] if "device" in varied else []
    return [*(name for name in varied if name in SETTINGS), *devices, *versions]


def parsed_width(text: str | None) -> float | None:
    """`--until-width` as a number of percent.

    Raises:
        ConfigError: it is no share.
    """
    if text is None:
        return None
    match = _WIDTH.fullmatch(text.strip())
    if match is None or not float(match[1]):
        raise ConfigError(f"--until-width {text!r} is not a percentage; write it like 2%")
    return float(match[1])


def comparisons(trials: Sequence[Trial], taken: dict[Path, Side]) -> list[TraceDiff]:
    """Every arm against the first, over the rounds in which both were done.

    Args:
        taken: what was taken of traces already, which grows.
    """
    from gemma_trace.analysis.diff import diff_sides

    done: dict[str, dict[int, Path]] = defaultdict(dict)
    for trial in trials:
        if trial.state == "done" and trial.trace:
            done[trial.arm.label][trial.round] = trial.trace
    labels = [trial.arm.label for trial in sorted(trials, key=lambda trial: trial.arm.order)]
    first, *others = dict.fromkeys(labels)
    diffs = []
    for other in others:
        both = [number for number in done[first] if number in done[other]]
        sides = [[side_at(done[label][number], taken) for number in both] for label in (first, other)]
        if both:
            diffs.append(diff_sides(*sides, paired=True, names=(first, other)))
    return diffs


def side_at(path: Path, taken: dict[Path, Side]) -> Side:
    """What a comparison needs of a trace, which is read once."""
    from gemma_trace.analysis.sides import side_of
    from gemma_trace.trace.trace import load

    if path not in taken:
        taken[path] = side_of(load(path))
    return taken[path]


def narrower_than(width_pct: float) -> Callable[[TraceDiff], bool]:
    """Whether the interval of a comparison's TTFT, or of its wall time, is so narrow."""

    def is_narrow(diff: TraceDiff) -> bool:
        whole = next((row for row in diff.stages if row.stage in ("ttft", "wall") and row.interval_ms), None)
        if whole is None or whole.interval_ms is None or not whole.before_ms:
            return False
        return 100 * (whole.interval_ms[1] - whole.interval_ms[0]) / whole.before_ms <= width_pct

    return is_narrow


def trial_remarks(trials: Sequence[Trial], taken: dict[Path, Side]) -> Iterator[str]:
    """What speaks against a comparison's figures: rounds that were lost, drift, machines that differ."""
    from gemma_trace.capture.compare.conditions import drift_remark

    for trial in trials:
        if trial.state == "failed":
            yield f"round {trial.round} is left out, because {trial.arm.label} failed: {trial.error}"
    times: dict[str, list[tuple[int, float]]] = defaultdict(list)
    hosts = set()
    for trial in trials:
        side = taken.get(trial.trace) if trial.trace else None
        if side is None:
            continue
        run = side.run.measures.get("ttft_ms")
        if run is not None:
            times[trial.arm.label].append((trial.place, run.median))
        if side.metadata:
            environment = side.metadata.environment
            hosts.add((environment.host_cpu, environment.host_cores, environment.device_name, environment.driver))
    if len(hosts) > 1:
        yield f"the trials ran on {len(hosts)} different machines, by their processors, devices and drivers"
    if remark := drift_remark(times):
        yield remark


@contextmanager
def watching(*, quiet: bool) -> Iterator[Callable[[Sequence[Trial]], None]]:
    """Progress on stderr: a bar on a terminal, elsewhere a line per trial."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    said: set[int] = set()

    def print_lines(trials: Sequence[Trial]) -> None:
        for trial in trials:
            if trial.state in ("done", "failed") and trial.place not in said:
                said.add(trial.place)
                after = f" in {trial.seconds:.0f} s" if trial.seconds else " before"
                failure = f": {trial.error}" if trial.error else ""
                say(f"round {trial.round}, {trial.arm.label}: {trial.state}{after}{failure}")

    if quiet:
        yield lambda trials: None
    elif not console.is_terminal:
        yield print_lines
    else:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console) as bars:
            task = bars.add_task("starting")

            def show(trials: Sequence[Trial]) -> None:
                running = next((trial for trial in trials if trial.state == "running"), None)
                name = f"round {running.round}, {running.arm.label}" if running else "done"
                ended = sum(trial.state in ("done", "failed") for trial in trials)
                bars.update(task, description=name, completed=ended, total=len(trials))

            yield show
