"""A `Report` as Markdown: every column, fit for a pull request's comment."""

from __future__ import annotations

import re
from typing import Final

from gemma_trace.health.merge import in_few_lines
from gemma_trace.printable import printable
from gemma_trace.report.table import Report
from gemma_trace.report.text_table import TextTable

_APART: Final = "<!-- -->"
"""Stands between two characters that GitHub would make something of even where they are escaped; it shows nothing."""

_LINKS: Final = re.compile(
    r"@(?=[\w-])|#(?=\d)|\bGH-(?=\d)|:(?=//)|\b(?:mailto|xmpp):|\bwww(?=\.)|(?<!:):(?=(?!\d+:)[\w+-]+:(?!:)|100:)",
    re.IGNORECASE,
)
"""What is linked by its text alone: mentions, issues, addresses; and what becomes an emoji."""
_MARKUP: Final = re.compile(r"[\\`*\[\]~|]|_(?![^\W_])|(?<![^\W_])_|#|!(?=\[)")
_UNIT: Final = re.compile(r"\\\[(%|\w{1,3})\\\](?![(\[:])")
"""A unit in a header, which reads better without escapes, and links to nothing."""
_ENTITY: Final = re.compile(r"&(?=#?\w+;)")
_LINE_START: Final = re.compile(r"(?P<mark>[-+=>])|(?P<number>\d{1,9})(?=[.)](?:\s|$))")


def to_markdown(report: Report) -> str:
    """The tables, each under its title, and what is wrong with the trace as a list."""
    parts = [table_to_markdown(table.as_text()) for table in report.tables]
    findings = [
        f"- **{finding.severity.value}**: {as_it_is(finding.line)}" for finding in in_few_lines(report.health.findings)
    ]
    return "\n\n".join([*parts, *(["\n".join(findings)] if findings else [])]) + "\n"


def table_to_markdown(shown: TextTable) -> str:
    """One table, padded so that it reads as text too."""
    shown = shown.mapped(as_it_is)
    rows = [tuple(_UNIT.sub(r"[\1]", column.header) for column in shown.columns), *shown.rows]
    rows += [tuple(f"**{cell}**" if cell else "" for cell in shown.footer)] if shown.footer else []
    widths = [max(3, *(len(row[index]) for row in rows)) for index in range(len(shown.columns))]
    rule = "|".join(
        f":{'-' * (width + 1)}" if column.align == "left" else f"{'-' * (width + 1)}:"
        for column, width in zip(shown.columns, widths, strict=True)
    )
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if column.align == "left" else cell.rjust(width)
            for cell, width, column in zip(row, widths, shown.columns, strict=True)
        )
        + " |"
        for row in rows
    ]
    table = "\n".join([lines[0], f"|{rule}|", *lines[1:]])
    return "\n\n".join([f"## {shown.title}", table, *map(_at_line_start, shown.notes)])


def as_it_is(text: str) -> str:
    """A text in Markdown that GitHub shows as the text itself: no link, image, heading, code, mention or HTML.

    >>> as_it_is("vision_tower [x](y) @me #1 <b>")
    'vision_tower \\\\[x\\\\](y) @<!-- -->me \\\\#<!-- -->1 &lt;b>'
    """
    shown = printable(text.replace("\n", " "))
    shown = _ENTITY.sub("&amp;", shown)
    parts: list[str] = []
    done = 0
    for link in _LINKS.finditer(shown):
        parts += [_escaped(shown[done : link.end()]), _APART]
        done = link.end()
    return "".join([*parts, _escaped(shown[done:])])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text).replace("<", "&lt;").replace("$", "<span>$</span>")


def _at_line_start(text: str) -> str:
    """A text, escaped already, that is a paragraph and neither a list, a quotation, code nor a line's underline."""
    text = text.strip()
    marker = _LINE_START.match(text)
    if marker is None:
        return text
    return text[: marker.end()] + "\\" + text[marker.end() :] if marker["number"] else f"\\{text}"
