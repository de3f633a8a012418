"""A comparison as a comment on a pull request: the answer, then what is over its limit or changed; 60 lines at most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemma_trace.analysis.diff import Change, TraceDiff
from gemma_trace.analysis.gate import Held, Verdict
from gemma_trace.report.markdown import as_it_is, section_to_markdown
from gemma_trace.report.model import Column, Section
from gemma_trace.report.names import folded
from gemma_trace.report.numbers import ABSENT
from gemma_trace.report.views.diff import difference_cells, measured

MOST_LINES: Final = 60
_MOST_STAGES: Final = 16
_MOST_INSIDE: Final = 8

_ANSWERS: Final = {
    "ok": "Nothing is slower than allowed.",
    "exceeded": "Slower than allowed.",
    "inconclusive": "Inconclusive: too little is known to say whether anything is slower than allowed.",
}
_COLUMNS: Final = (
    Column("stage", align="left"),
    *map(Column, ("before ms", "after ms", "Δ ms", "Δ %", "95% interval of Δ ms")),
    Column("", align="left"),
)


def to_comment(
    found: Sequence[TraceDiff], verdicts: Sequence[Verdict], unmatched: Sequence[str], link: str | None
) -> str:
    """The comment, in Markdown.

    Args:
        verdicts: of a gate, one per comparison; none without one.
        unmatched: runs of one side only, each a line.
        link: where the full report is.
    """
    lines = [f"### gemma-trace: {_answer(verdicts, unmatched)}", ""]
    for place, pair in enumerate(found):
        held = {row.change.stage: row for row in verdicts[place].held} if verdicts else {}
        room = MOST_LINES - len(lines) - 6
        if room < 8:
            lines += [f"{len(found) - place} more comparisons are in the report.", ""]
            break
        lines += [*_stages(pair, held, room), ""]
        if len(found) == 1:
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
    rows = tuple(
        (
            row.stage,
            measured(row.before, row),
            measured(row.after, row),
            *difference_cells(row),
            _word(row, held.get(row.stage)),
        )
        for row in shown
    )
    left = len(pair.stages) - len(shown)
    notes = (f"{left} more stages are in the report.",) if left else ()
    return section_to_markdown(Section(pair.label, _COLUMNS, rows, notes=notes)).split("\n")


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
    columns = (Column("stage", align="left"), Column("what", align="left"), Column("Δ ms"), Column("Δ %"))
    rows = tuple(
        (
            row.stage,
            folded(row.name)[:80],
            f"{row.difference_ms:+.3f}",
            ABSENT if row.relative_pct is None else f"{row.relative_pct:+.1f}",
        )
        for row in changed[:_MOST_INSIDE]
    )
    table = section_to_markdown(Section("", columns, rows)).split("\n")[2:]
    return ["<details><summary>Inside of the stages</summary>", "", *table, "", "</details>", ""]


def _within(lines: Sequence[str]) -> list[str]:
    """No more lines than a comment should have; the link, which is the last, stays."""
    if len(lines) <= MOST_LINES:
        return list(lines)
    return [*lines[: MOST_LINES - 3], "", "…", lines[-1]]
