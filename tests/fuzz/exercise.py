"""A case through commands and renderers, in this process: what must never happen, and did."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import resource
import shutil
import signal
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final

import numpy as np
import typer

from gemma_trace import cli
from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.cli import output
from gemma_trace.errors import GemmaTraceError
from gemma_trace.report.formats import Format
from gemma_trace.report.table import Report
from gemma_trace.stages import StageRule
from gemma_trace.trace import trace as tracing
from tests.fuzz.mutate import Case

LIMIT_S: Final = 20.0
"""How much processor time one command may take on a case of some 100 kB; most take a few milliseconds."""

LIMIT_BYTES: Final = 1 << 30
"""How much memory a process may take on top of what it has when it begins."""

ALWAYS: Final = 2
"""How many commands every case is put through: `check` and `stages`, which read all that a file has."""

FEW: Final = 4
"""How many of the others are drawn for a case, so that in a long run each gets thousands of cases."""

NO_NUMBER: Final = re.compile(r"(?<![\w.:/-])-?(?:nan|inf)(?![\w.:/-])")
UNPRINTABLE: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

_FORMS: Final = (Format.TABLE, Format.MARKDOWN, Format.CSV, Format.HTML)
"""These take turns, since tables cost more than all else together; JSON is always written."""


Known = dict[tuple[str, tuple[StageRule, ...]], tracing.Trace | GemmaTraceError]
"""What files were read as, by their path and the rules."""

_ALIKE: Final = frozenset({"kernels", "tree"})
"""Commands that read a file just as `stages` does, and print the same message where it can't be read."""


_ADVISING: Final = ("advise", "what-if")


class TooLongError(BaseException):
    """A command took more than `LIMIT_S`. No `Exception`, so that nothing takes it for something that it expected."""


@dataclass(frozen=True)
class Problem:
    """What must not happen.

    Attributes:
        kind: what problems are counted by: `escape: ValueError in columns.py:352`.
        command: what it happened in.
        detail: for a person who looks into it.
    """

    kind: str
    command: str
    detail: str


def commands(trace: str, sound: str, folder: str) -> list[list[str]]:
    """Every command with what it can be asked for; the first `ALWAYS` are those of every case.

    What they print is rendered in other formats than they ask for.
    """
    kernels = ["kernels", trace, "--full-names", "--top", "0", "--by"]
    return [
        ["check", trace],
        ["stages", trace, "--why"],
        *([*kernels, by, "--roofline"] for by in ("kernel", "op", "module", "layer", "family", "shape")),
        ["kernels", trace, "--sort", "latency", "--stage", "prefill"],
        ["tree", trace, "--depth", "0", "--min-pct", "0", "--layers"],
        ["advise", trace],
        ["what-if", trace, "--scale", "op:*=0.5", "--overlap", "span:*"],
        ["diff", sound, trace, "--fail-on", "5%"],
        ["diff", trace, trace, "--top", "0"],
        ["summarize", trace, sound],
        ["ranks", trace, sound],
        ["summarize", trace, "--style", "study"],
        ["report", trace, "--output", f"{folder}/report.html", "--force"],
        ["export", trace, "--output", f"{folder}/viewer.json", "--force"],
        ["export", trace, "--redact", "--output", f"{folder}/redacted.json", "--force"],
        ["index", trace, "--to", f"{folder}/store", "--retry", "--jobs", "1"],
        ["export", trace, "--speedscope", "--output", f"{folder}/speedscope.json", "--force"],
    ]


class Exercise:
    """Runs cases in one folder, and keeps what must not have happened with them.

    Args:
        folder: for the cases' files and what the commands write.
        sound: a trace to compare with.
        unprintable: look for control characters in what is printed.
        few: how many commands are drawn for a case, besides those of every case.
    """

    def __init__(self, folder: Path, sound: Path, *, unprintable: bool = True, few: int = FEW) -> None:
        self._folder, self._sound, self._unprintable, self._few = folder, sound, unprintable, few
        self._problems: list[Problem] = []
        self._kept: Known = {}
        self.runs: Counter[str] = Counter()
        self._reports = 0
        self._now, self._may_say_nan = "", False

    def run(self, case: Case) -> list[Problem]:
        """The commands that are to be run on a case: every one, or those that all cases are put through and a few."""
        self._problems = []
        trace = self._folder / ("case.json.gz" if case.trace.startswith(b"\x1f\x8b") else "case.json")
        trace.write_bytes(case.trace)
        more: list[str] = []
        for option, text in (("--rules", case.rules), ("--peaks", case.peaks)):
            if text is not None:
                (self._folder / f"{option[2:]}.toml").write_bytes(text)
                more += [option, str(self._folder / f"{option[2:]}.toml")]
        self._may_say_nan = _says_nan(case.trace)
        known: Known = {key: found for key, found in self._kept.items() if key == (str(self._sound), ())}
        self._kept = known
        every = commands(str(trace), str(self._sound), str(self._folder))
        always, others = every[:ALWAYS], every[ALWAYS:]
        beside_hta = True
        if case.draw is not None:
            random = Random(f"commands of {case.draw}")
            beside_hta = random.random() < self._few / len(others)
            others = random.sample(others, self._few)
            self._reports = random.randrange(len(_FORMS))
        with _loaded_once(known), _every_format(self._printed):
            for command in (*always, *others):
                if command[0] in _ALIKE and isinstance(known.get((str(trace), ())), GemmaTraceError):
                    continue
                options = _fitting(command[0], case.options)
                if not options or case.draw is None or command in always:
                    self._command([*command, *_fitting(command[0], more)])
                if options:
                    self._command([*command, *options])
        for (path, _), loaded in known.items():
            if path == str(trace) and isinstance(loaded, tracing.Trace):
                self._guarded(f"arithmetic on {path}", partial(self._arithmetic, loaded))
                if beside_hta:
                    self._guarded(f"figures beside HTA's of {path}", partial(self._beside_hta, loaded))
        for name in ("viewer", "redacted", "speedscope"):
            written = self._folder / f"{name}.json"
            if written.exists():
                self._guarded(f"what export wrote: {name}", partial(self._is_json_file, written))
                written.unlink()
        shutil.rmtree(self._folder / "store", ignore_errors=True)
        return self._problems

    def _command(self, command: Sequence[str]) -> None:
        self.runs[command[0]] += 1
        out, err = io.StringIO(), io.StringIO()

        def run() -> None:
            quiet = contextlib.suppress(SystemExit)
            with quiet, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                _parser(command[0])(args=list(command))

        self._guarded(" ".join(command), run)
        self._printable(err.getvalue())

    def _guarded(self, what: str, work: Callable[[], object]) -> None:
        self._now = what
        try:
            with _limited(LIMIT_S):
                work()
        except GemmaTraceError:
            pass
        except TooLongError as error:
            self._add(f"watchdog: {_place(error)}", traceback.format_exc())
        except Exception as error:
            self._add(f"escape: {type(error).__name__} in {_place(error)}", traceback.format_exc())

    def _add(self, kind: str, detail: str) -> None:
        self._problems.append(Problem(kind, self._now, detail[-4000:]))

    def _printed(self, report: Report) -> None:
        self._reports += 1
        for form in (Format.JSON, _FORMS[self._reports % len(_FORMS)]):
            content = output.render(report, form, to_terminal=False)
            text = (content or b"").decode()
            if form is Format.JSON:
                self._is_json(text)
            elif not self._may_say_nan and (found := NO_NUMBER.search(text)):
                self._add(f"no number in {form.value}: {found[0]}", text[max(found.start() - 300, 0) :][:600])
            self._printable(text)

    def _is_json(self, text: str) -> None:
        def refused(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        json.loads(text, parse_constant=refused, parse_int=str)

    def _is_json_file(self, file: Path) -> None:
        self._is_json(file.read_text())

    def _printable(self, text: str) -> None:
        if self._unprintable and (found := UNPRINTABLE.search(text)):
            self._add(f"control character {found[0]!r}", repr(text[max(found.start() - 100, 0) :][:200]))

    def _arithmetic(self, trace: tracing.Trace) -> None:
        """Stages add up to the wall."""
        found = breakdown(trace)
        for request in found.requests:
            summed = sum(row.time_ns for row in found.rows if row.request == request.index)
            if summed != request.wall_ns or any(row.time_ns < 0 for row in found.rows):
                self._add("the stages' sum is not the wall", f"{summed} of {request}")

    def _beside_hta(self, trace: tracing.Trace) -> None:
        """What we would set beside HTA's figures, without HTA."""
        from gemma_trace.hta.answers import Analysis, Figure, Scope
        from gemma_trace.hta.beside_ours import Causes, Own
        from gemma_trace.hta.copies import Copier
        from gemma_trace.hta.requirements import Requirements

        if not len(trace.activities):
            return
        every = np.ones(len(trace.activities), dtype=bool)
        requirements = Requirements(trace)
        requirements.unreadable()
        own, causes = Own(trace, every), Causes(trace, as_is=True)
        for analysis in Analysis:
            requirements.reason(analysis, every)
            measures = ("busy_ns", "idle_ns", "count", "sum_ns", "delay_max_ns", "overlapped_pct", "length_max")
            for measure, of in ((measure, of) for measure in measures for of in ("", "7")):
                causes.compared(Figure(analysis, Scope(), of, measure, hta=1.0), own)
        copy = self._folder / "copy.json"
        Copier(trace, trace.requests).write(copy, every, whole=True, syncs=True)
        self._is_json(copy.read_text())


def _says_nan(data: bytes) -> bool:
    """Whether a file has a text of its own that looks like no number."""
    held = _inflated(data)
    return (b"nan" in held or b"inf" in held) and bool(NO_NUMBER.search(held.decode("latin-1")))


@cache
def _parser(command: str) -> Any:
    """What reads a command's options, made once: it takes longer to make than most commands to run."""
    return typer.main.get_command(cli.build_app([command]))


def _inflated(data: bytes) -> bytes:
    """What a file holds, as far as it can be inflated."""
    if not data.startswith(b"\x1f\x8b"):
        return data
    found = b""
    inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)
    with contextlib.suppress(zlib.error):
        for place in range(0, len(data), 64):
            found += inflater.decompress(data[place : place + 64])
    return found


def _fitting(command: str, options: Sequence[str]) -> list[str]:
    """Those of the options that a command has."""
    without = {
        "--peaks": ("check", "tree", "diff", "summarize", "ranks", "report", "export", "index", *_ADVISING),
        "--rules": (),
        "--rule": (),
        "--stage": ("check", "summarize", "ranks", "report", "export", "index", *_ADVISING),
        "--request": ("check", "diff", "summarize", "ranks", "report", "export", "index"),
    }
    pairs = zip(options[::2], options[1::2], strict=True)
    return [part for name, value in pairs if command not in without[name] for part in (name, value)]


def _place(error: BaseException) -> str:
    """The innermost line of ours."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "gemma_trace" in f.filename]
    last = (frames or traceback.extract_tb(error.__traceback__))[-1]
    return f"{Path(last.filename).name}:{last.name}"


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Ends a block with `TooLongError` when it has had its processor time."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def limit_memory() -> None:
    """From here on this process may take `LIMIT_BYTES` more than it has; beyond that is a MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + LIMIT_BYTES, hard))


@contextlib.contextmanager
def _loaded_once(known: Known) -> Iterator[None]:
    """Commands that read the same file with the same rules get the same trace, or the same error."""
    load = tracing.load

    def remembered(path: str | Path, rules: Sequence[StageRule] = (), *_: Any, **__: Any) -> tracing.Trace:
        key = (str(path), tuple(rules))
        if key not in known:
            try:
                known[key] = load(path, rules)
            except GemmaTraceError as error:
                known[key] = error
        found = known[key]
        if isinstance(found, GemmaTraceError):
            raise found
        return found

    tracing.load = remembered
    try:
        yield
    finally:
        tracing.load = load


@contextlib.contextmanager
def _every_format(check: Callable[[Report], None]) -> Iterator[None]:
    emit = output.emit
    output.emit = lambda report, *_, **__: check(report)
    try:
        yield
    finally:
        output.emit = emit
