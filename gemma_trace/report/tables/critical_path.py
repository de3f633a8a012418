"""The critical paths of a trace's requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from gemma_trace.analysis.critical_path import CriticalPath, PathKind
from gemma_trace.analysis.path_stages import PathStage, path_stages, summed_path_stages
from gemma_trace.report.table import Col, Table, holding
from gemma_trace.report.units import MS, PCT
from gemma_trace.store import columns

FIRST_TOKENS: Final = "the first token of every request is known"

_KINDS: Final = {
    PathKind.HOST: "the host works",
    PathKind.LAUNCH: "from the start of a launching call to the start of its activity, if nothing else held that up",
    PathKind.DEVICE: "activities",
    PathKind.GAP: (
        "the device runs no activity although one is ready: between two activities of a stream, or for a reason "
        "that isn't recorded"
    ),
    PathKind.SYNC: "what a waiting call takes to return after what it waited for",
}

STAGE: Final = Col.stored(columns.STAGE, "stage")
PATH: Final = Col("path_ns", "path", MS, definition="Σ of the five below", is_sum=True)
TO_FIRST_TOKEN: Final = Col(
    "to_first_token_ns",
    "to first token",
    MS,
    definition=("the part of `path_ns` up to the first token on the host; less `image_load` these add up to TTFT"),
    priority=2,
    when=FIRST_TOKENS,
    is_sum=True,
)
KINDS: Final = tuple(
    Col(f"{kind.value}_ns", kind.value, MS, definition=definition, priority=3, is_sum=True)
    for kind, definition in _KINDS.items()
)

PATH_FILE: Final = (Col.stored(columns.REQUEST), STAGE, PATH, TO_FIRST_TOKEN, *KINDS)
"""A row per request and stage on its path."""

_WHEN: Final = {kind: f"the path is not of one kind alone, and has {kind.value} in it" for kind in PathKind}

PATH_COLS: Final = (
    STAGE,
    PATH,
    Col("share_pct", "", PCT, priority=1),
    TO_FIRST_TOKEN,
    *(replace(col, when=_WHEN[kind]) for kind, col in zip(_KINDS, KINDS, strict=True)),
)
"""A row per stage, the mean over the requests."""

_NOTE: Final = "The chain of work that determines how long the requests take; it adds up to the wall time."
_KIND_NOTES: Final = {
    PathKind.HOST: "the host works",
    PathKind.LAUNCH: "an idle device waits for an activity that was launched",
    PathKind.DEVICE: "activities run",
    PathKind.GAP: "the device runs none although one is ready",
    PathKind.SYNC: "a call returns after what it waited for",
}


def critical_path_table(paths: Sequence[CriticalPath], first_tokens_ns: Sequence[int | None]) -> Table[PathStage]:
    """How much of each stage lies on the path, the mean over the requests.

    Args:
        paths: one per request.
        first_tokens_ns: when each request had its first token; where all are known there is a column of what of the
            path lies before. Kinds of work that no path has are left out.
    """
    rows = summed_path_stages(path_stages(paths, first_tokens_ns), paths)
    kinds = [kind for kind, col in zip(_KINDS, KINDS, strict=True) if any(col.raw(row) for row in rows)]
    shown = kinds if len(kinds) > 1 else []
    note = " ".join((_NOTE, *(f"{kind.value}: {_KIND_NOTES[kind]}." for kind in shown)))
    conditions = holding({FIRST_TOKENS: None not in first_tokens_ns} | {_WHEN[kind]: True for kind in shown})
    return Table("Critical path", PATH_COLS, rows, notes=(note,), conditions=conditions, per=len(paths))


def critical_path_data(paths: Sequence[CriticalPath], first_tokens_ns: Sequence[int | None]) -> Table[PathStage]:
    """For files: a row per request and stage on its path; `path_ns` adds up to the request's wall time."""
    return Table("Critical path", PATH_FILE, path_stages(paths, first_tokens_ns))
