"""Why the stages take their time: the verdicts, and the parts that they rest on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

from gemma_trace.analysis.bindings import Binding
from gemma_trace.analysis.reasons import Kind, StageReason
from gemma_trace.analysis.stage_lines import StageLine
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import LABEL, MS, PCT, TEXT, WORDS
from gemma_trace.report.verdicts import sentence
from gemma_trace.store import columns

LEAST_SHARE: Final = 0.01
"""A stage below this share of the wall time gets no line, and a part below it of its stage no row."""

WHY: Final = Col("binding", "why", WORDS, show=sentence)
VERDICT: Final = Col(
    "verdict", "verdict", WORDS, definition="the line in which tables say what binds the stage", value=sentence
)
_SHARE: Final = Col("share_pct", "", PCT)


def _by_kind(kind: Kind, binding: Binding) -> int:
    return binding.reason.by_kind_ns(kind)


def _longest(binding: Binding) -> dict[str, Any] | None:
    return asdict(binding.reason.longest) if binding.reason.longest else None


def _parts(binding: Binding) -> list[dict[str, Any]]:
    return [asdict(part) for part in binding.reason.parts]


_KINDS: Final = {
    Kind.DEVICE: "the device computes",
    Kind.TRANSFER: "the device copies, or it is idle and the host is in a call that launched a copy",
    Kind.LAUNCH: (
        "the gap ends with an activity that the same stage launched, and the host is not in an op of its own: the "
        "device waits for the launch"
    ),
    Kind.SYNC: "the host is in a call named `…Synchronize…`",
    Kind.HOST: (
        "all else: Python, other libraries, ops that launch nothing (by family; ops that only make views or allocate "
        "count as part of launching)"
    ),
    Kind.PROFILER: (
        "the profiler itself holds the thread up, whatever the host is in: events of category `overhead` (Activity "
        "Buffer Request, Buffer Flush, Instrumentation …), but for those of another thread that has spans of its own"
    ),
}

KIND_COLS: Final = tuple(
    Col(f"{kind.value}_ns", definition=definition, value=partial(_by_kind, kind)) for kind, definition in _KINDS.items()
)
"""The parts of a stage's time by kind."""

REASON_FILE: Final = (
    Col.stored(columns.STAGE, value="reason.stage"),
    Col("time_ns", definition="its time, the sum of the six parts above", value="reason.time_ns"),
    *(next(col for col in KIND_COLS if col.key == f"{kind.value}_ns") for kind in Kind),
    Col.stored(columns.ACTIVITIES, value="reason.activities"),
    Col.stored(columns.LAUNCHES, value="reason.launches"),
    Col("median_activity_ns", definition="median of the activities' durations", value="reason.median_activity_ns"),
    VERDICT,
    Col(
        "cold_ns",
        definition=(
            "what of `launch_ns` and `host_ns` lies in calls that are the first of their kind, or that make memory, "
            "streams or code: a call of the runtime over 10 × the median of the others of its name, an op over 20 × "
            "the median of the later ones of its name and shape (where there is a device), each of at least 0.1 ms; "
            "frames and ranges that compile or tune"
        ),
        value="reason.cold_ns",
    ),
    Col(
        "longest",
        definition=(
            "the long call in which most of the stage's time lies: `name`, `time_ns`, whether it is `cold`, and "
            "`usual_ns`, the median of the others of its name"
        ),
        value=_longest,
    ),
    Col(
        "parts",
        definition=(
            "the parts, the largest first: `kind` (`device`, `transfer`, `launch`, `sync`, `host`, `profiler`), `name` "
            "(the family) and `time_ns`"
        ),
        value=_parts,
    ),
)
"""A row per stage, over the requests."""


def reasons_data(bindings: Sequence[Binding]) -> Table[Binding]:
    """For files: a row per stage."""
    return Table("Why", REASON_FILE, bindings)


def why_table(lines: Sequence[StageLine], wall_ns: int) -> Table[StageLine]:
    """A line per stage that matters, the costliest first."""
    shown = [line for line in lines if line.binding and line.row.time_ns >= LEAST_SHARE * wall_ns]
    cols = (Col("stage", "stage", value="row.stage"), _SHARE, WHY)
    return Table("Why", cols, sorted(shown, key=lambda line: -line.row.time_ns))


@dataclass(frozen=True)
class _PartLine:
    """A part of a stage's time.

    Attributes:
        time_ns: the mean over the requests.
        share_pct: of the stage's time.
    """

    stage: str
    kind: str
    name: str
    time_ns: float
    share_pct: float | None


_PART_COLS: Final = (
    Col("stage", "stage", TEXT, is_grouped=True),
    Col("kind", "kind"),
    Col("name", "what", LABEL),
    Col("time_ns", "time", MS),
    _SHARE,
)
_PART_NOTES: Final = {
    Kind.DEVICE: "what the device computes",
    Kind.TRANSFER: "copies, and calls that copy while the device is idle",
    Kind.LAUNCH: "the device waits for the host to launch",
    Kind.SYNC: "the host waits in a call although the device is idle",
    Kind.HOST: "other work on the host",
    Kind.PROFILER: "the profiler delays the host",
}


def split_table(reasons: Sequence[StageReason]) -> Table[_PartLine]:
    """The parts of every stage's time; those under 1% of it are one row. The kinds that occur are explained."""
    rows = [line for reason in reasons for line in _part_lines(reason)]
    kinds = {row.kind for row in rows}
    said = [f"{kind.value}: {text}." for kind, text in _PART_NOTES.items() if kind.value in kinds]
    return Table("Split of time", _PART_COLS, rows, notes=(" ".join(said),) if said else ())


def _part_lines(reason: StageReason) -> list[_PartLine]:
    large = [part for part in reason.parts if part.time_ns >= LEAST_SHARE * reason.time_ns]
    small = reason.parts[len(large) :]
    parts = [(part.kind.value, part.name, part.time_ns) for part in large]
    if small:
        parts.append(("", f"({len(small)} more)", sum(part.time_ns for part in small)))
    return [
        _PartLine(
            reason.stage,
            kind,
            name,
            time_ns / reason.requests,
            100 * time_ns / reason.time_ns if reason.time_ns else None,
        )
        for kind, name, time_ns in parts
    ]
