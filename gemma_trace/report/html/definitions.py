"""How each number of the page is defined. The page is mailed alone, so it can't link to analysis/README.md."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from gemma_trace.report.definitions import PAGE_TERMS
from gemma_trace.report.table import Col
from gemma_trace.report.tables import diff, kernels, rank_cols, stages, summary, tree


@dataclass(frozen=True)
class Definition:
    """A number: what the page calls it, and how it comes about."""

    shown: str
    text: str


@dataclass(frozen=True)
class DefinitionGroup:
    """The numbers of one part of the page."""

    title: str
    definitions: tuple[Definition, ...]


def _plain(markdown: str) -> str:
    return markdown.replace("`", "")


def _group(title: str, cols: Iterable[Col]) -> DefinitionGroup:
    return DefinitionGroup(title, tuple(Definition(col.head, _plain(col.definition)) for col in cols if col.definition))


DEFINITIONS: Final = (
    DefinitionGroup("The page", tuple(Definition(term.key, _plain(term.definition)) for term in PAGE_TERMS)),
    _group(
        "Time to first token",
        (summary.TTFT, summary.IMAGE_SHARE, summary.TPOT, summary.PROFILED_TTFT, summary.INFLATION),
    ),
    _group("Stages", stages.PAGE_COLS[1:]),
    _group("Kernels and ops", kernels.PAGE_COLS),
    _group("Tree", (tree.HOST, tree.DEVICE)),
)

DIFF_DEFINITIONS: Final = _group(
    "Comparison",
    (
        *(diff.BEFORE, diff.AFTER, diff.DIFFERENCE, diff.RELATIVE),
        replace(diff.INTERVAL, definition=diff.LOW.definition),
        replace(diff.CHANGED, header="change"),
    ),
)

JOB_DEFINITIONS: Final = tuple(
    _group(title, [col for col in cols if col.header and col.when != "never"])
    for title, cols in (
        ("Stages over the ranks", rank_cols.STAGE_COLS),
        ("Stragglers", rank_cols.STRAGGLER_COLS),
        ("Ranks", rank_cols.RANK_COLS),
        ("Collectives", rank_cols.COLLECTIVE_COLS),
        ("Imbalance of all-to-all", rank_cols.ALL_TO_ALL_COLS),
    )
)
"""Of the page of a job."""
