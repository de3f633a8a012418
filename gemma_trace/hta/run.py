"""`run_hta`: Holistic Trace Analysis on a trace, on each of its stages or requests, beside our own figures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from gemma_trace.analysis.pieces import cut
from gemma_trace.analysis.timeline import Request, rows_in_order
from gemma_trace.errors import MissingExtraError
from gemma_trace.hta.answers import (
    MICROSECOND_NS,
    OF_A_CUT,
    Analysis,
    Answer,
    Call,
    Declined,
    Figure,
    HtaResult,
    Parts,
    Scope,
    Task,
)
from gemma_trace.hta.beside_ours import Causes, Own
from gemma_trace.hta.child_process import DEFAULT_TIMEOUT_S, run_tasks
from gemma_trace.hta.copies import UNIT_NS, WINDOW, Copier
from gemma_trace.hta.figures import figures_of
from gemma_trace.hta.requirements import SHORTEST, Requirements
from gemma_trace.stages import REQUEST_CODE, UNATTRIBUTED_CODE
from gemma_trace.trace.events import NONE, BoolArray, IntArray
from gemma_trace.trace.near_names import no_such_stage
from gemma_trace.trace.scratch import scratch_folder
from gemma_trace.trace.trace import Trace

MOST_CUTS: Final = 120
"""How many parts of a trace HTA reads at most; each costs it some 50 ms."""

MOST_PATHS: Final = 3
"""Of how many requests HTA's critical path is asked at most; it is by far its dearest analysis."""


@dataclass(frozen=True)
class Wanted:
    """What to run.

    Attributes:
        by: nothing but the whole trace, or also each request, or each stage of each request.
        stage, request: only these of them; None is all.
        as_is: give HTA the trace's own file, and nothing else.
        operator: whose kernel sequences are looked for: ops and ranges with this in their name; None chooses one.
    """

    analyses: tuple[Analysis, ...] = tuple(Analysis)
    by: Parts = Parts.STAGE
    stage: str | None = None
    request: int | None = None
    as_is: bool = False
    operator: str | None = None
    timeout_s: float = DEFAULT_TIMEOUT_S


def run_hta(trace: Trace, wanted: Wanted | None = None, on_step: Callable[[int, int], None] | None = None) -> HtaResult:
    """Run HTA on a trace. What it can't do is declined, with the reason.

    Args:
        on_step: hears how many of how many answers HTA has given.

    Raises:
        MissingExtraError: there is no HTA.
        InputError: there is no such request or stage.
    """
    require_hta()
    return _Run(trace, wanted or Wanted()).result(on_step)


def require_hta() -> None:
    """HTA is there, from either package that brings it.

    Raises:
        MissingExtraError: it isn't.
    """
    if importlib.util.find_spec("hta") is None:
        raise MissingExtraError("HolisticTraceAnalysis", "hta")


class _Run:
    """One run: what can be asked, the files to ask it of, the answers."""

    def __init__(self, trace: Trace, wanted: Wanted) -> None:
        self._trace, self._wanted = trace, wanted
        self._requests = trace.chosen(wanted.request)
        self._requirements = Requirements(trace)
        self._declined: list[Declined] = []
        self._remarks: list[str] = []
        self._tasks: list[Task] = []

    def result(self, on_step: Callable[[int, int], None] | None) -> HtaResult:
        trace, wanted = self._trace, self._wanted
        every = np.ones(len(trace.activities), dtype=bool)
        parts = [] if wanted.as_is else self._parts()
        scopes = [Scope(), *(scope for scope, _ in parts)]
        with scratch_folder() as folder:
            if self._can_start(every):
                self._add_whole(folder, every)
                self._add_parts(folder, parts)
            total, heard = sum(len(task.calls) for task in self._tasks), 0

            def step() -> None:
                nonlocal heard
                heard += 1
                if on_step:
                    on_step(heard, total)

            package, answers = run_tasks(self._tasks, wanted.timeout_s, step) if total else ("", [])
        figures = self._figures(answers)
        return HtaResult(
            package,
            wanted.as_is,
            tuple(scopes),
            {request.index: request.wall_ns for request in self._requests},
            tuple(figures),
            tuple(self._declined),
            tuple(self._remarks),
        )

    def _can_start(self, every: BoolArray) -> bool:
        reason = "" if every.size else "nothing ran on a device in this trace, and HTA looks at nothing else"
        if self._wanted.as_is and not reason:
            reason = self._requirements.unreadable()
        if reason:
            self._declined.append(Declined(None, Scope(), reason))
        return not reason

    def _parts(self) -> list[tuple[Scope, BoolArray]]:
        """The parts that HTA gets besides the whole, and which activities are in each."""
        wanted, parts = self._wanted, []
        if wanted.by is Parts.TRACE:
            return []
        # Without a stage, a request is all that there is to tell apart.
        by = wanted.by if _has_stages(self._trace) or wanted.stage is not None else Parts.REQUEST
        names = dict(rows_in_order(self._trace))
        present: dict[str, None] = {}
        for request in self._requests:
            pieces = cut(self._trace, request)
            if by is Parts.REQUEST:
                parts.append((Scope(request.index), self._chosen(pieces.activity[pieces.own])))
                continue
            ranges = set(pieces.stretch_row.tolist()) | set(pieces.device_row[pieces.own].tolist())
            for code, name in names.items():
                chosen = self._chosen(pieces.activity[pieces.own & (pieces.device_row == code)])
                if code not in ranges or (code == UNATTRIBUTED_CODE and not chosen.any()):
                    continue
                present[name] = None
                if wanted.stage in (None, name):
                    parts.append((Scope(request.index, name), chosen))
        if wanted.stage is not None and not parts:
            raise no_such_stage(self._trace, wanted.stage, present)
        if len(parts) > MOST_CUTS:
            self._remarks.append(f"HTA analysed the first {MOST_CUTS} of {len(parts)} parts; --request selects others.")
        return parts[:MOST_CUTS]

    def _chosen(self, places: IntArray) -> BoolArray:
        """bool, which of the trace's activities these are."""
        chosen = np.zeros(len(self._trace.activities), dtype=bool)
        chosen[places] = True
        return chosen

    def _add_whole(self, folder: Path, every: BoolArray) -> None:
        trace, wanted = self._trace, self._wanted
        calls = [call for analysis in wanted.analyses for call in self._whole_calls(analysis, folder, every)]
        if wanted.as_is:
            self._tasks.append(Task(trace.path.resolve(), MICROSECOND_NS, tuple(calls), {}, every))
            self._remarks.append("HTA read the file as it is, not gemma-trace's copy of it.")
            return
        copier = Copier(trace, self._requests)
        on_paths = [call for call in calls if call.analysis is Analysis.CRITICAL_PATH]
        if copier.syncs and on_paths:
            calls = [call for call in calls if call.analysis is not Analysis.CRITICAL_PATH]
        for name, some, syncs in (("whole", calls, False), ("waits", on_paths if copier.syncs else [], True)):
            if some:
                file = folder / f"{name}.json"
                copier.write(file, every, whole=True, syncs=syncs)
                self._tasks.append(Task(file, UNIT_NS, tuple(some), copier.streams, every))

    def _whole_calls(self, analysis: Analysis, folder: Path, every: BoolArray) -> list[Call]:
        """An analysis of everything; of each request where it is the critical path."""
        reason = self._requirements.reason(analysis, every)
        if reason:
            self._declined.append(Declined(analysis, Scope(), reason))
            return []
        if analysis is Analysis.SEQUENCES:
            asked = [self._wanted.operator] if self._wanted.operator else self._requirements.operators
            options = {"operators": asked, "shortest": SHORTEST, "folder": str(folder)}
            return [Call(analysis, Scope(), options)]
        if analysis is not Analysis.CRITICAL_PATH:
            return [Call(analysis, Scope())]
        shown = self._requests[:MOST_PATHS]
        if len(shown) < len(self._requests):
            text = (
                f"Critical paths of the first {len(shown)} of {len(self._requests)} requests; --request selects "
                f"another."
            )
            self._remarks.append(text)
        return [
            Call(analysis, Scope(request.index), self._window(place, request)) for place, request in enumerate(shown)
        ]

    def _window(self, place: int, request: Request) -> dict[str, object]:
        """How HTA's critical path finds a request."""
        if not self._wanted.as_is:
            return {"annotation": WINDOW, "instance": place}
        return {"annotation": self._requirements.annotation(), "instance": request.index}

    def _add_parts(self, folder: Path, parts: Iterable[tuple[Scope, BoolArray]]) -> None:
        copier = Copier(self._trace, self._requests)
        analyses = [analysis for analysis in OF_A_CUT if analysis in self._wanted.analyses]
        for number, (scope, chosen) in enumerate(parts):
            if not chosen.any():
                self._declined.append(Declined(None, scope, "it launched no device activity"))
                continue
            calls = []
            for analysis in analyses:
                if any(gone.analysis is analysis and gone.scope == Scope() for gone in self._declined):
                    continue  # what can't be done on the whole needn't be declined again
                reason = self._requirements.reason(analysis, chosen)
                if reason:
                    self._declined.append(Declined(analysis, scope, reason))
                else:
                    calls.append(Call(analysis, scope))
            if calls:
                file = folder / f"part-{number}.json"
                copier.write(file, chosen)
                self._tasks.append(Task(file, UNIT_NS, tuple(calls), copier.streams, chosen))

    def _figures(self, answers: Sequence[Answer]) -> list[Figure]:
        causes = Causes(self._trace, as_is=self._wanted.as_is)
        by_task: dict[int, Own] = {}
        figures: list[Figure] = []
        for answer in answers:
            analysis, scope = answer.call.analysis, answer.call.scope
            try:
                read = [] if answer.error else figures_of(answer)
                error = answer.error or ("" if read else _nothing(analysis))
            except (KeyError, IndexError, TypeError, ValueError) as problem:
                read, error = [], f"its answer can't be read: {type(problem).__name__} {problem}"
            if error:
                self._declined.append(
                    Declined(analysis, scope, self._requirements.explained(error, as_is=self._wanted.as_is))
                )
                continue
            ours = by_task.setdefault(id(answer.task), Own(self._trace, answer.task.chosen))
            figures += [causes.compared(figure, ours) for figure in read]
        return figures


def _nothing(analysis: Analysis) -> str:
    """Why an analysis may have come to nothing."""
    if analysis is Analysis.SEQUENCES:
        return f"nothing to tell: no such op launches {SHORTEST} kernels where its name is least deep; try --operator"
    return "it found nothing to tell"


def _has_stages(trace: Trace) -> bool:
    """Whether any range of the trace is a stage's, other than a request."""
    return bool(((trace.stage_range != NONE) & (trace.stage_range != REQUEST_CODE)).any())
