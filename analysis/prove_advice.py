"""Puts advice to the test on captures of the tiny model: `python -m analysis.prove_advice`, 14 minutes on 2 cores.

One configuration does six things slowly. Each other one leaves one of them out. All run in turns, in processes of their
own, as `gemma-trace compare` runs them, for as many rounds as fit into `LONGEST_S`; the slow one's traces are advised
on. What a request saves without the profiler is held against the ceiling of the rule that speaks of it:
`analysis/advice.md` has the table, with what was missed. With a folder as its argument it keeps the traces there, and
goes on with those that it has.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from tempfile import TemporaryDirectory
from typing import Any, Final

from gemma_trace.advice.advise import look
from gemma_trace.advice.findings import Advice
from gemma_trace.advice.merge import advice_of
from gemma_trace.analysis.student_t import critical_value
from gemma_trace.capture.compare.arms import plan_arms
from gemma_trace.capture.compare.run import Trial, plan_trials, run_trials
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.trace.trace import Trace, load

PAGE: Final = Path(__file__).parent / "advice.md"
ROUNDS: Final = 12
"""At most; so many are not reached where a round takes over a minute."""
FEWEST_ROUNDS: Final = 5
LONGEST_S: Final = 12.5 * 60
"""No round begins that would end later than this, if there are `FEWEST_ROUNDS`."""
SLEEP_S: Final = 0.2
IMAGE: Final = "1024x768"
"""All requests have one, so that the fastest of them is of the same work as the others."""
IMAGE_SIZE: Final = 448
SLOW: Final = "slow"
BEGIN, END = "<!-- proof -->\n", "<!-- end of proof -->"


@dataclass(frozen=True)
class Slowness:
    """One of the things that are done slowly, and the rule that should speak of it."""

    label: str
    rule: str
    what: str


CASES: Final = (
    Slowness("torchvision", "image_processor", "image processor on Pillow → torchvision"),
    Slowness("sdpa", "unfused_attention", "attention eager → sdpa"),
    Slowness("bfloat16", "low_precision", "float32 → bfloat16"),
    Slowness("threads", "cpu_threads", "one thread → two"),
    Slowness("loader", "image_load", f"an image loader that sleeps {SLEEP_S * 1e3:.0f} ms → none"),
    Slowness("processor", "processor_per_request", "processor and tokenizer made for every request → once"),
)


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Attributes:
        saved_ms: what a request saved, a value per round.
        ceiling_ms: the ceiling, its mean over all rounds and the ends of its interval over them; None where the rule
            found nothing.
        place: the finding's place in the advice on the slow traces of all rounds; None where it isn't among the seven.
        abstains: why the rule found nothing, where it says so.
    """

    case: Slowness
    saved_ms: tuple[float, ...]
    ceiling_ms: tuple[float, float, float] | None
    place: int | None
    abstains: str = ""

    @property
    def mean_ms(self) -> float:
        """The mean saving."""
        return fmean(self.saved_ms)

    @property
    def margin_ms(self) -> float:
        """Half of its 95% interval by Student's t over the rounds."""
        count = len(self.saved_ms)
        return critical_value(0.95, count - 1) * stdev(self.saved_ms) / count**0.5 if count > 1 else float("inf")

    @property
    def saved_text(self) -> str:
        """The saving with its error, of one round without."""
        return f"{self.mean_ms:,.1f} ± {self.margin_ms:,.1f}" if len(self.saved_ms) > 1 else f"{self.mean_ms:,.1f}"

    @property
    def answer(self) -> str:
        """Whether the saving is at or under the upper end of the ceiling."""
        if self.ceiling_ms is None:
            return f"abstains: {self.abstains}" if self.abstains else "**not found**"
        if self.mean_ms <= self.ceiling_ms[2]:
            return "yes"
        return "above, by less than its error" if self.mean_ms - self.margin_ms <= self.ceiling_ms[2] else "**no**"


def capture(label: str, model: Path, folder: Path) -> None:
    """Capture one configuration: all slow but for what it is named after."""
    import transformers

    from gemma_trace.capture import sending
    from gemma_trace.capture.session import profile

    def slow(name: str) -> bool:
        return label != name

    with TemporaryDirectory() as kept:
        decoded, make_inputs = sending._decoded, sending.Sender._inputs

        def sleeping(request: Any) -> Any:
            time.sleep(SLEEP_S)
            return decoded(request)

        def with_new_processor(self: Any, *arguments: Any) -> Any:
            if not any(Path(kept).iterdir()):
                self._loaded.processor.save_pretrained(kept)
            transformers.AutoProcessor.from_pretrained(kept)
            return make_inputs(self, *arguments)

        if slow("loader"):
            sending._decoded = sleeping
        if slow("processor"):
            sending.Sender._inputs = with_new_processor  # type: ignore[assignment, method-assign]
        options = CaptureConfig(device="cpu", warmup=1, runs=8, new_tokens=1, image_sizes=(IMAGE,), force=True)
        # What is saved is taken of the requests without the profiler; only the slow traces are advised on.
        options = replace(options, profile_runs=3 if label == SLOW else 1, stacks=label == SLOW)
        profile(
            replace(options, model=str(model), output=folder.parent, name=folder.name),
            image_backend="pil" if slow("torchvision") else "torchvision",
            attn="eager" if slow("sdpa") else "sdpa",
            dtype="float32" if slow("bfloat16") else "bfloat16",
        )


def save_model(folder: Path) -> None:
    """Save a model as `tiny`, with images of 448 × 448: a quarter of the patches, so that a request takes under 1 s."""
    import torch

    from gemma_trace.capture.gemma3 import gemma3_processor
    from gemma_trace.capture.random_weights import build_random
    from gemma_trace.capture.tiny import tiny_config

    config = tiny_config()
    config.vision_config.image_size = IMAGE_SIZE
    processor = gemma3_processor(config, "torchvision")
    processor.image_processor.size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    build_random(config, torch.device("cpu"), torch.float32, 0).save_pretrained(folder)
    processor.save_pretrained(folder)


def command(label: str, model: Path) -> str:
    """What runs a configuration as a trial."""
    threads = 2 if label == "threads" else 1
    python = [sys.executable, "-m", "analysis.prove_advice", "capture", label, str(model)]
    return f"{shlex.join(['env', f'OMP_NUM_THREADS={threads}', *python])} {{out}}"


def run(folder: Path) -> list[Outcome]:
    """Capture everything, and hold advice against what came of it."""
    model = folder / "model"
    if not (model / "config.json").exists():
        save_model(model)
    in_turns = [case for case in CASES if case.label != "bfloat16" or knows_bfloat16()]
    rounds = _captured(in_turns, ROUNDS, model, folder / "rounds")
    advice = advice_of([look(each[SLOW], label=f"round {number}") for number, each in enumerate(rounds, start=1)])
    outcomes = [_outcome(case, rounds, advice) for case in in_turns]
    for case in CASES:
        if case not in in_turns:  # its rule abstains: one round shows what following it would cost
            outcomes.append(_outcome(case, _captured([case], 1, model, folder / case.label), advice))
    return outcomes


def knows_bfloat16() -> bool:
    """Whether a capture on this machine says that its CPU multiplies bfloat16 by itself."""
    import torch

    from gemma_trace.capture.environment import describe_environment

    return bool(describe_environment(torch.device("cpu")).cpu_bfloat16)


def _captured(cases: Sequence[Slowness], rounds: int, model: Path, folder: Path) -> list[dict[str, Trace]]:
    """Each round's traces by label, of the slow configuration and those of some cases, as far as there is time.

    A round of which one failed is left out.
    """
    labels = [SLOW, *(case.label for case in cases)]
    arms = plan_arms(CaptureConfig(), commands=[command(label, model) for label in labels], labels=labels)
    clock = _Clock(time.monotonic(), len(labels))
    planned = plan_trials(arms, rounds, folder, seed=0)
    trials = run_trials(planned, folder, 0, on_change=clock.said, is_enough=clock.is_enough)
    found: dict[int, dict[str, Trace]] = {}
    for trial in trials:
        if trial.trace:
            found.setdefault(trial.round, {})[trial.arm.label] = load(trial.trace)
    return [traces for traces in found.values() if len(traces) == len(labels)]


@dataclass(frozen=True)
class _Clock:
    """Says how far the rounds are, and ends them in time.

    Attributes:
        began_s: when the first round began.
        arms: how many trials a round has.
    """

    began_s: float
    arms: int

    def is_enough(self, done: Sequence[Trial]) -> bool:
        """Whether there are rounds enough and another one would take too long."""
        rounds = len(done) // self.arms
        longest_s = max(
            sum(trial.seconds for trial in done if trial.round == number) for number in range(1, rounds + 1)
        )
        is_late = time.monotonic() - self.began_s + longest_s > LONGEST_S
        return rounds >= FEWEST_ROUNDS and is_late

    def said(self, trials: Sequence[Trial]) -> None:
        """A line for each trial that begins or fails."""
        for trial in trials:
            if trial.state == "running":
                done = sum(other.state in ("done", "failed") for other in trials)
                minutes = (time.monotonic() - self.began_s) / 60
                line = f"{minutes:5.1f} min, {done} done, round {trial.round}: {trial.arm.label}"
                print(line, file=sys.stderr, flush=True)
        failed = [trial for trial in trials if trial.state == "failed"]
        if failed:
            print(f"{failed[-1].arm.label}, round {failed[-1].round}: {failed[-1].error}", file=sys.stderr, flush=True)


def _outcome(case: Slowness, rounds: Sequence[dict[str, Trace]], advice: Advice) -> Outcome:
    saved = [_request_ms(traces[SLOW]) - _request_ms(traces[case.label]) for traces in rounds]
    ceiling = None
    for finding in advice.findings:
        if finding.rule == case.rule:
            low, high = finding.ceiling.interval_ns
            ceiling = finding.ceiling.mean_ns / 1e6, low / 1e6, high / 1e6
    rules = [finding.rule for finding in advice.findings]
    place = rules.index(case.rule) + 1 if case.rule in rules else None
    missing = next((each.missing for each in advice.abstentions if each.rule == case.rule), "")
    return Outcome(case, tuple(saved), ceiling, place, missing)


def _request_ms(trace: Trace) -> float:
    """The fastest request without the profiler, image loading included: what else the machine does only adds."""
    assert trace.metadata is not None
    return min(sample.wall_ns for sample in trace.metadata.timed_requests) / 1e6


def table(outcomes: Sequence[Outcome]) -> str:
    """The outcomes as Markdown, the largest saving first."""
    lines = [
        "| what was changed | rule | saved ms | ceiling ms | interval | within | place by saving | place in advice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for place, found in enumerate(sorted(outcomes, key=lambda each: -each.mean_ms), start=1):
        ceiling = "–" if found.ceiling_ms is None else f"{found.ceiling_ms[0]:,.1f}"
        interval = "–" if found.ceiling_ms is None else f"{found.ceiling_ms[1]:,.1f} to {found.ceiling_ms[2]:,.1f}"
        lines.append(
            f"| {found.case.what} | `{found.case.rule}` | {found.saved_text} | {ceiling} | "
            f"{interval} | {found.answer} | {place} | {found.place or '–'} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Capture one configuration (`capture LABEL MODEL FOLDER`), or all, and write the table."""
    if arguments[:1] == ["capture"]:
        capture(arguments[1], Path(arguments[2]), Path(arguments[3]))
        return
    began_s = time.perf_counter()
    with TemporaryDirectory() as scratch:
        outcomes = run(Path(arguments[0]) if arguments else Path(scratch))
    took_min = (time.perf_counter() - began_s) / 60
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    rounds = max(len(found.saved_ms) for found in outcomes)
    made = f"{table(outcomes)}\nIn {took_min:.0f} minutes, on {os.cpu_count()} cores, {rounds} rounds.\n"
    PAGE.write_text(text[:before] + made + text[after:])


if __name__ == "__main__":
    main(sys.argv[1:])
