"""What real traces are advised: `python -m analysis.advice_alarms FOLDER...`, a minute or two.

Writes the table into `analysis/advice.md`: of each rule the traces that it speaks of, and what it would gain there at
most. Which of them are false alarms nobody can count but a person; the page says what was looked up.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
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
    spoken: dict[str, dict[str, list[float]]] = {rule.name: {} for rule in RULES}
    lacking: Counter[str] = Counter()
    read = 0
    for path in paths:
        try:
            advice = advise(load(path))
        except InputError:
            continue
        read += 1
        for finding in advice.findings:
            spoken[finding.rule].setdefault(name_of(path), []).append(finding.ceiling.pct)
        lacking.update({each.rule for each in advice.abstentions})
    lines = [
        f"| rule | of {read} traces | which, and what they would gain at most | abstains in |",
        "|---|---|---|---|",
        *(f"| `{rule}` | {_count(of)} | {_which(of)} | {lacking[rule] or '–'} |" for rule, of in spoken.items()),
        *(f"| {rule} | – | – | {lacking[rule]} |" for rule in ("all", "all but cold_start")),
    ]
    return "\n".join(lines) + "\n"


def _count(spoken: Mapping[str, Sequence[float]]) -> int:
    return sum(map(len, spoken.values()))


def _which(spoken: Mapping[str, Sequence[float]]) -> str:
    """The traces, those of one job as one: `job × 2 (3 to 8%)`."""
    texts = []
    for name, pcts in spoken.items():
        span = f"{min(pcts):.0f} to {max(pcts):.0f}%" if len(pcts) > 1 else f"{pcts[0]:.0f}%"
        texts.append(f"{name}{f' × {len(pcts)}' if len(pcts) > 1 else ''} ({span})")
    return ", ".join(texts) or "–"


def main(arguments: Sequence[str]) -> None:
    """Read all traces below some folders but for those that were damaged on purpose, and write the table."""
    whole = [path for path in find_traces([Path(argument) for argument in arguments]) if path.parent.name != "bad"]
    made = table(whole)
    text = PAGE.read_text()
    before, after = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:before] + made + text[after:])


if __name__ == "__main__":
    main(sys.argv[1:])
