"""A comparison as a comment on a pull request: the answer, then what is over its limit or changed; 60 lines at most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from gemma_trace.analysis.changes import Change, TraceDiff
from gemma_trace.analysis.gate import Held, Verdict
from gemma_trace.report.markdown import as_it_is, table_to_markdown
from gemma_trace.report.short_names import folded
from gemma_trace.report.table import Col, Table
from gemma_trace.report.tables.diff import DIFFERENCE, INTERVAL, RELATIVE, SIDES, STAGE_NAME, WHAT
from gemma_trace.report.units import TEXT

MOST_LINES: Final = 60
_MOST_STAGES: Final = 16
_MOST_INSIDE: Final = 8

_ANSWERS: Final = {
    "ok": "Nothing is slower than allowed.",
    "exceeded": "Slower than allowed.",
    "inconclusive": "Inconclusive: there is too little data to say whether anything is slower than allowed.",
}


def _short(name: str) -> str:
    return folded(name)[:80]


@dataclass(frozen=True)
class _Line:
    """A stage, and what is said of it."""

    change: Change
    word: str


_STAGE_COLS: Final = (
    replace(STAGE_NAME, unit=TEXT).within("change"),
    *(col.within("change") for col in (*SIDES, DIFFERENCE, RELATIVE, INTERVAL)),
    Col("word"),
)
_INSIDE_COLS: Final = (replace(STAGE_NAME, unit=TEXT), replace(WHAT, show=_short), DIFFERENCE, RELATIVE)


def to_comment(
    diffs: Sequence[TraceDiff], verdicts: Sequence[Verdict], unmatched: Sequence[str], link: str | None
) -> str:
    """The comment, in Markdown.

    Args:
        verdicts: of a gate, one per comparison; none without one.
        unmatched: runs of one side only, each a line.
        link: where the full report is.
    """
    lines = [f"### gemma-trace: {_answer(verdicts, unmatched)}", ""]
    for place, pair in enumerate(diffs):
        held = {row.change.stage: row for row in verdicts[place].held} if verdicts else {}
        room = MOST_LINES - len(lines) - 6
        if room < 8:
            lines += [f"{len(diffs) - place} more comparisons are in the report.", ""]
            break
        lines += [*_stages(pair, held, room), ""]
        if len(diffs) == 1:
            lines += _inside(pair)
    reasons = list(dict.fromkeys(reason for verdict in verdicts for reason in verdict.reasons))
    lines += [f"* {as_it_is(text)}" for text in [*reasons, *(f"not compared: {line}" for line in unmatched)][:4]]
    if link:
        lines += ["", f"[The whole report]({link})"]
    return "\n".join(_within(lines)) + "\n"


def _answer(verdicts: Sequence[Verdict], unmatched: Sequence[str]) -> str:
    answers = {verdict.answer for verdict in verdicts} | ({"exceeded"} if verdicts and unmatched else set())
    answer = next((each for each in ("exceeded", "inconclusive", "ok") if each in answers), None)
    return _ANSWERS[answer] if answer else "what changed"


def _stages(pair: TraceDiff, held: dict[str, Held], room: int) -> list[str]:
    """TTFT, then what is over its limit or changed, the largest differences first."""
    heads = [row for row in pair.stages if row.stage in ("ttft", "wall")]
    others = [row for row in pair.stages if row not in heads]
    others.sort(key=lambda row: (_rank(row, held), -abs(row.difference_ms)))
    shown = [*heads, *others][: min(_MOST_STAGES, room - 6)]
    rows = [_Line(row, _word(row, held.get(row.stage))) for row in shown]
    left = len(pair.stages) - len(shown)
    notes = (f"{left} more stages are in the report.",) if left else ()
    return table_to_markdown(Table(pair.label, _STAGE_COLS, rows, notes=notes).as_text()).split("\n")


def _rank(row: Change, held: dict[str, Held]) -> int:
    answer = held[row.stage].answer if row.stage in held else ""
    return 0 if answer == "exceeded" else 1 if row.status != "same" else 2 if answer == "inconclusive" else 3


def _word(row: Change, held: Held | None) -> str:
    if held and held.answer != "ok":
        return f"{held.answer} ({held.limit})"
    return "" if row.status == "same" else row.status


def _inside(pair: TraceDiff) -> list[str]:
    """The largest changes inside of the stages."""
    changed = [row for row in pair.inside if row.level in ("family", "kernel") and row.status != "same"]
    changed.sort(key=lambda row: -abs(row.difference_ms))
    if not changed:
        return []
    shown = Table("", _INSIDE_COLS, changed[:_MOST_INSIDE]).as_text()
    table = table_to_markdown(shown).split("\n")[2:]
    return ["<details><summary>Inside of the stages</summary>", "", *table, "", "</details>", ""]


def _within(lines: Sequence[str]) -> list[str]:
    """No more lines than a comment should have; the link, which is the last, stays."""
    if len(lines) <= MOST_LINES:
        return list(lines)
    return [*lines[: MOST_LINES - 3], "", "…", lines[-1]]
