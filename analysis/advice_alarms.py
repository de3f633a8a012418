"""What real traces are advised: `python -m analysis.advice_alarms FOLDER...`, a minute or two.

Writes the table into `analysis/advice.md`: of each rule the traces that it speaks of, and what it would gain there at
most. Which of them are false alarms nobody can count but a person; the page says what was looked up.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gemma_trace.advice.advise import advise
from gemma_trace.advice.registry import RULES
from gemma_trace.errors import InputError
from gemma_trace.trace.folders import find_traces
from gemma_trace.trace.trace import load

PAGE: Final = Path(__file__).parent / "advice.md"
BEGIN, END = "<!-- alarms -->\n", "<!-- end of alarms -->"


def name_of(path: Path) -> str:
    """What the table calls a trace: its file's name; of a capture its folder's."""
    name = path.name.split(".")[0]
    return path.parent.name if name.startswith(("rank", "worker")) else name


def table(paths: Sequence[Path]) -> str:
    """The table, as Markdown."""
    spoken: dict[str, list[str]] = {rule.name: [] for rule in RULES}
    lacking: dict[str, int] = {rule.name: 0 for rule in RULES} | {"all": 0}
    read = 0
    for path in paths:
        try:
            advice = advise(load(path))
        except InputError:
            continue
        read += 1
        for finding in advice.findings:
            spoken[finding.rule].append(f"{name_of(path)} ({finding.ceiling.pct:.0f}%)")
        for rule in {each.rule for each in advice.abstentions}:
            lacking[rule] += 1
    lines = [
        f"| rule | of {read} traces | which, and what they would gain at most | abstains in |",
        "|---|---|---|---|",
        *(f"| `{rule}` | {len(of)} | {', '.join(of) or '–'} | {lacking[rule] or '–'} |" for rule, of in spoken.items()),
    ]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Read all traces below some folders but for those that were damaged on purpose, and write the table."""
    whole = [path for path in find_traces([Path(argument) for argument in arguments]) if path.parent.name != "bad"]
    made = table(whole)
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:before] + made + text[after:])


if __name__ == "__main__":
    main(sys.argv[1:])
