"""A `Report` as Markdown: every column, fit for a pull request's comment."""

from __future__ import annotations

from gemma_trace.health.merge import in_few_lines
from gemma_trace.report.model import Report, Section


def to_markdown(report: Report) -> str:
    """The sections, each under its title, and what is wrong with the trace as a list."""
    parts = [section_to_markdown(section) for section in report.sections]
    findings = [
        f"- **{finding.severity.value}**: {_escape(finding.said)}; {_escape(finding.advice)}"
        for finding in in_few_lines(report.health.findings)
    ]
    return "\n\n".join([*parts, *(["\n".join(findings)] if findings else [])]) + "\n"


def section_to_markdown(section: Section) -> str:
    """One table, padded so that it reads as text too."""
    rows = [tuple(column.header for column in section.columns), *section.rows]
    rows += [tuple(f"**{cell}**" if cell else "" for cell in section.footer)] if section.footer else []
    cells = [[_escape(cell) for cell in row] for row in rows]
    widths = [max(3, *(len(row[index]) for row in cells)) for index in range(len(section.columns))]
    rule = "|".join(
        f":{'-' * (width + 1)}" if column.align == "left" else f"{'-' * (width + 1)}:"
        for column, width in zip(section.columns, widths, strict=True)
    )
    lines = [
        "| "
        + " | ".join(
            cell.ljust(width) if column.align == "left" else cell.rjust(width)
            for cell, width, column in zip(row, widths, section.columns, strict=True)
        )
        + " |"
        for row in cells
    ]
    table = "\n".join([lines[0], f"|{rule}|", *lines[1:]])
    return "\n\n".join([f"## {_escape(section.title)}", table, *(_escape(note) for note in section.notes)])


def _escape(text: str) -> str:
    """Keep a cell a cell, and a kernel's name from being markup."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
