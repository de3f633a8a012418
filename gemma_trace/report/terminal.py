"""A `Report` on a terminal, and as plain text."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Final

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gemma_trace.health.findings import Severity
from gemma_trace.health.merge import in_few_lines
from gemma_trace.printable import printable
from gemma_trace.report.number_text import NOISY_MARK
from gemma_trace.report.table import Report
from gemma_trace.report.text_table import TextColumn, TextTable

LEAST_WIDTH = {"fold": 18, "ellipsis": 32}
"""What a column keeps whose cells may be folded or cut."""

LONGEST_WORD = 40
"""Words up to this are in one line wherever there is room: commands and options, which are copied."""

_UNBROKEN = re.compile(r"[^\s-]*-*")
"""What `textwrap` keeps in one line: it breaks at spaces and behind hyphens."""

GAP = 2
_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_BAR_STYLE = "cyan"
_NOISY_STYLE = "yellow"
_STATUS_STYLES = {severity.value: style for severity, style in _STYLES.items()} | {
    "slower": "red",
    "new": "red",
    "faster": "green",
    "vanished": "green",
    "ok": "green",
    "missing": "bold red",
    "absent": "dim",
}


def print_report(report: Report, console: Console) -> None:
    """Print the tables and what is wrong with the trace. Columns that a narrow terminal has no room for are dropped."""
    for table in report.tables:
        print_table(table.as_text(), console)
    for finding in in_few_lines(report.health.findings) if report.command != "check" else ():
        text = Text(f"{finding.severity.value}: ", style=_STYLES[finding.severity])
        console.print(text.append(printable(finding.line), style="default"))


NOTHING: Final = "None."
"""What stands under the title of a table that has neither rows nor notes."""


def print_table(shown: TextTable, console: Console) -> None:
    """Print one table."""
    shown = shown.mapped(printable)
    widths = column_widths(shown, console.width)
    table = Table(box=box.SIMPLE_HEAD, show_footer=shown.footer is not None, padding=(0, 1, 0, 0), pad_edge=False)
    for index, width in widths.items():
        column = shown.columns[index]
        table.add_column(
            Text(column.header),
            Text(shown.footer[index], style="bold") if shown.footer else "",
            justify=column.align,
            width=width,
            no_wrap=column.overflow == "ellipsis",
            overflow="fold" if column.overflow == "fold" else "ellipsis",
        )
    for row in shown.rows:
        table.add_row(*(_cell(row[index], shown.columns[index], width) for index, width in widths.items()))
    console.print(Text(shown.title, style="bold"))
    if shown.rows:
        console.print(table)
    dropped = [column.header for index, column in enumerate(shown.columns) if index not in widths and column.header]
    hidden = [f"Hidden columns: {', '.join(dropped)}."] if dropped and shown.rows else []
    nothing = [] if shown.rows or shown.notes else [NOTHING]
    for note in (*shown.notes_beside(widths), *hidden, *nothing):
        console.print(Text(note, style="dim"))


def _cell(cell: str, column: TextColumn, width: int) -> Text:
    """A cell in its colour; one that may go on in the next line is broken at its spaces and hyphens."""
    folded = "\n".join(textwrap.wrap(cell, width)) if column.overflow == "fold" else cell
    return Text(folded, style=_style(cell, column))


def _style(cell: str, column: TextColumn) -> str:
    if column.holds == "bar":
        return _BAR_STYLE
    if column.holds == "measure" and cell.endswith(NOISY_MARK):
        return _NOISY_STYLE
    return _STATUS_STYLES.get(cell, "") if column.holds == "status" else ""


def column_widths(shown: TextTable, room: int) -> dict[int, int]:
    """The columns that fit, by index, with their widths.

    Where room is short headers take several lines, then the columns of the highest priority go, the last of equals
    first. What room is left goes to the columns that were cut short, then to the headers.
    """
    kept = list(range(len(shown.columns)))
    widths = {index: _least_width(shown, index) for index in kept}
    while _total(widths) > room and any(shown.columns[index].priority for index in widths):
        del widths[max(widths, key=lambda index: (shown.columns[index].priority, index))]
    if _total(widths) > room:  # words are broken where nothing else gives way
        widths = {index: _least_width(shown, index, longest_word=0) for index in widths}
        _narrow(widths, [index for index in widths if shown.columns[index].overflow == "fold"], room)
        _narrow(widths, [index for index in widths if shown.columns[index].align == "left"], room)  # numbers never
    _widen(widths, {index: _longest_cell(shown, index) for index in widths}, room)
    _widen(widths, {index: len(shown.columns[index].header) for index in widths}, room)
    return widths


def _narrow(widths: dict[int, int], yielding: Sequence[int], room: int) -> None:
    """Take what is still too much from some columns, the widest first; rich would take it from any."""
    while _total(widths) > room and (wide := [index for index in yielding if widths[index] > 1]):
        widths[max(wide, key=widths.__getitem__)] -= 1


def _widen(widths: dict[int, int], wishes: Mapping[int, int], room: int) -> None:
    """Share the room that is left among the columns that wish for it, a cell at a time."""
    left = room - _total(widths)
    while left > 0 and (wanting := [index for index, wish in wishes.items() if widths[index] < wish]):
        for index in wanting[:left]:
            widths[index] += 1
        left -= len(wanting[:left])


def _total(widths: Mapping[int, int]) -> int:
    return sum(width + GAP for width in widths.values())


def _least_width(shown: TextTable, index: int, longest_word: int = LONGEST_WORD) -> int:
    """What a column can't do without: its cells, unless they may be cut, and the longest word of its header.

    Args:
        longest_word: of cells that may be folded, words up to this length stay whole.
    """
    cells = _longest_cell(shown, index)
    least = LEAST_WIDTH.get(shown.columns[index].overflow, cells)
    if shown.columns[index].overflow == "fold":
        words = (cell_len(word) for row in shown.rows for word in _UNBROKEN.findall(row[index]))
        least = max(least, min(longest_word, max(words, default=0)))
    cells = min(cells, least)
    return max([cells, *map(len, shown.columns[index].header.split())])


def _longest_cell(shown: TextTable, index: int) -> int:
    footer = [shown.footer] if shown.footer else []
    return max((cell_len(row[index]) for row in (*shown.rows, *footer)), default=0)
