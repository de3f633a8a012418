"""The formats of a report: what a file of each is called, whether it is binary, and what writes it.

Every command imports this, so what writes a format is imported when it does.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gemma_trace.report.table import Report

WIDE: Final = 400
"""Characters per line of a table that isn't for a terminal, so that no column is dropped."""

COMPRESSED: Final = ".gz"


class Format(StrEnum):
    """What a report is written as."""

    TABLE = "table"
    MARKDOWN = "markdown"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"
    HTML = "html"


@dataclass(frozen=True)
class Renderer:
    """What writes a format.

    Attributes:
        extensions: what a file's name ends with, the usual one first.
        is_binary: whether it is no text, so that a terminal can't show it.
        render: a report as bytes; the second argument says whether CSV keeps texts as they are that a spreadsheet would
            take for formulas.
    """

    extensions: tuple[str, ...]
    is_binary: bool
    render: Callable[[Report, bool], bytes]


def _table(report: Report, raw: bool) -> bytes:
    from rich.console import Console

    from gemma_trace.report.terminal import print_report

    text = io.StringIO()
    print_report(report, Console(file=text, width=WIDE))
    return text.getvalue().encode()


def _markdown(report: Report, raw: bool) -> bytes:
    from gemma_trace.report.markdown import to_markdown

    return to_markdown(report).encode()


def _csv(report: Report, raw: bool) -> bytes:
    from gemma_trace.report.records import to_csv

    return to_csv(report, raw=raw).encode()


def _json(report: Report, raw: bool) -> bytes:
    from gemma_trace.report.records import to_json

    return to_json(report).encode()


def _parquet(report: Report, raw: bool) -> bytes:
    from gemma_trace.report.records import to_parquet

    return to_parquet(report)


def _html(report: Report, raw: bool) -> bytes:
    from gemma_trace.report.html.page import render_report

    return render_report(report)


RENDERERS: Final[Mapping[Format, Renderer]] = {
    Format.TABLE: Renderer((".txt",), False, _table),
    Format.MARKDOWN: Renderer((".md", ".markdown"), False, _markdown),
    Format.CSV: Renderer((".csv",), False, _csv),
    Format.JSON: Renderer((".json",), False, _json),
    Format.PARQUET: Renderer((".parquet",), True, _parquet),
    Format.HTML: Renderer((".html", ".htm"), False, _html),
}

EXTENSIONS: Final[Mapping[str, Format]] = {
    extension: form for form, renderer in RENDERERS.items() for extension in renderer.extensions
}


def format_of(path: Path) -> Format | None:
    """The format that a file's name ends with, which may be compressed; None where it tells none.

    >>> format_of(Path("k.CSV")), format_of(Path("k.json.gz")), format_of(Path("k.xlsx"))
    (<Format.CSV: 'csv'>, <Format.JSON: 'json'>, None)
    """
    name = path.name.lower().removesuffix(COMPRESSED)
    return EXTENSIONS.get(Path(name).suffix)
