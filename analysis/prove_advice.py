"""Puts advice to the test on captures of the tiny model: `python -m analysis.prove_advice`, some 10 minutes on 2 cores.

One configuration does six things slowly. Each other one leaves one of them out. All run in turns, in processes of their
own, as `gemma-trace compare` runs them; the slow one's traces are advised on. What a request saves without the profiler
is held against the ceiling of the rule that speaks of it: `analysis/advice.md` has the table, with what was missed.
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

from gemma_trace.advice.advise import advise
from gemma_trace.advice.findings import Advice
from gemma_trace.analysis.student_t import critical_value
from gemma_trace.capture.compare.arms import plan_arms
from gemma_trace.capture.compare.run import Trial, plan_trials, run_trials
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.trace.trace import Trace, load

PAGE: Final = Path(__file__).parent / "advice.md"
ROUNDS: Final = 3
SLEEP_S: Final = 0.2
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
        ceiling_ms, low_ms, high_ms: the ceiling, its mean and the ends of its interval over the requests of all rounds;
            None where the rule found nothing.
        place: the finding's place in the advice on the first round; None where it isn't among the seven.
    """

    case: Slowness
    saved_ms: tuple[float, ...]
    ceiling_ms: tuple[float, float, float] | None
    place: int | None

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
    def answer(self) -> str:
        """Whether the saving is at or under the upper end of the ceiling."""
        if self.ceiling_ms is None:
            return "**not found**"
        if self.mean_ms <= self.ceiling_ms[2]:
            return "yes"
        return "above, by less than its error" if self.mean_ms - self.margin_ms <= self.ceiling_ms[2] else "**no**"


def capture(label: str, folder: Path) -> None:
    """Capture one configuration: all slow but for what it is named after."""
    import transformers

    from gemma_trace.capture import sending
    from gemma_trace.capture.session import profile

    def slow(name: str) -> bool:
        return label != name

    with TemporaryDirectory() as kept, TemporaryDirectory() as model:
        save_model(Path(model))
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
        options = CaptureConfig(device="cpu", warmup=1, runs=6, profile_runs=3, new_tokens=1, stacks=True, force=True)
        profile(
            replace(options, model=model, output=folder.parent, name=folder.name),
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


def command(label: str) -> str:
    """What runs a configuration as a trial."""
    threads = 2 if label == "threads" else 1
    python = ["env", f"OMP_NUM_THREADS={threads}", sys.executable, "-m", "analysis.prove_advice", "capture", label]
    return f"{shlex.join(python)} {{out}}"


def run(folder: Path) -> list[Outcome]:
    """Capture everything, and hold advice against what came of it."""
    labels = [SLOW, *(case.label for case in CASES)]
    arms = plan_arms(CaptureConfig(), commands=list(map(command, labels)), labels=labels)
    trials = run_trials(
        plan_trials(arms, ROUNDS, folder, seed=0), folder, 0, on_change=_said, is_enough=lambda done: False
    )
    traces = {(trial.arm.label, trial.round): load(trial.trace) for trial in trials if trial.trace}
    rounds = [number for number in range(1, ROUNDS + 1) if all((label, number) in traces for label in labels)]
    advice = [advise(traces[SLOW, number]) for number in rounds]
    return [_outcome(case, traces, rounds, advice) for case in CASES]


def _outcome(
    case: Slowness, traces: dict[tuple[str, int], Trace], rounds: Sequence[int], advice: Sequence[Advice]
) -> Outcome:
    saved = [_request_ms(traces[SLOW, number]) - _request_ms(traces[case.label, number]) for number in rounds]
    found = [finding.ceiling for each in advice for finding in each.findings if finding.rule == case.rule]
    ceiling = None
    if found:
        low, high = (fmean(each.interval_ns[end] for each in found) / 1e6 for end in (0, 1))
        ceiling = fmean(each.mean_ns for each in found) / 1e6, low, high
    rules = [finding.rule for finding in advice[0].findings]
    return Outcome(case, tuple(saved), ceiling, rules.index(case.rule) + 1 if case.rule in rules else None)


def _request_ms(trace: Trace) -> float:
    """The fastest request without the profiler, image loading included: what else the machine does only adds."""
    assert trace.metadata is not None
    return min(sample.wall_ns for sample in trace.metadata.timed_requests) / 1e6


def _said(trials: Sequence[Trial]) -> None:
    done = sum(trial.state in ("done", "failed") for trial in trials)
    for trial in trials:
        if trial.state == "failed":
            print(f"{trial.arm.label}, round {trial.round}: {trial.error}", file=sys.stderr)
    print(f"{done} of {len(trials)}", file=sys.stderr, flush=True)


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
            f"| {found.case.what} | `{found.case.rule}` | {found.mean_ms:,.1f} ± {found.margin_ms:,.1f} | {ceiling} | "
            f"{interval} | {found.answer} | {place} | {found.place or '–'} |"
        )
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Capture one configuration (`capture LABEL FOLDER`), or all, and write the table."""
    if arguments[:1] == ["capture"]:
        capture(arguments[1], Path(arguments[2]))
        return
    began_s = time.perf_counter()
    with TemporaryDirectory() as scratch:
        outcomes = run(Path(arguments[0]) if arguments else Path(scratch))
    took_min = (time.perf_counter() - began_s) / 60
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    made = f"{table(outcomes)}\nIn {took_min:.0f} minutes, on {os.cpu_count()} cores, {ROUNDS} rounds.\n"
    PAGE.write_text(text[:before] + made + text[after:])


if __name__ == "__main__":
    main(sys.argv[1:])
