"""A `Table` as the page shows it: cells with their classes, their values to sort by, and their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gemma_trace.analysis.stage_splits import Split
from gemma_trace.report.html.charts import Rect, stacked_split
from gemma_trace.report.html.text import full_name, short_name, stage_class
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import Unit, is_part

MEASURES: Final = {"ttft": "TTFT", "tpot": "TPOT", "wall": "wall"}
"""What stands among stages and is none, as the page calls it."""

CHART_PX: Final = 12
PAIR_PX: Final = 18


def _no_text(_: Any) -> str:
    return ""


CHART: Final = Unit("", _no_text, "left", holds="bar")
"""What is drawn and has no text: a `Split`, as parts of a bar; or two lengths, in percent of the longest."""


@dataclass(frozen=True)
class Head:
    """A header cell of a table.

    Attributes:
        is_plain: whether nothing is sorted by the column.
    """

    key: str
    text: str
    classes: str
    is_plain: bool


@dataclass(frozen=True)
class Chart:
    """Bars in a cell.

    Attributes:
        label: what they are, for who doesn't see them; "" where another cell says it.
    """

    height_px: int
    rects: tuple[Rect, ...]
    rows: tuple[tuple[int, int], ...]
    label: str = ""

    @property
    def bars(self) -> list[tuple[Rect, int, int]]:
        """Each bar with its distance from the top and its height, in pixels."""
        return [(rect, *row) for rect, row in zip(self.rects, self.rows, strict=True)]


@dataclass(frozen=True)
class DrawnCell:
    """A cell of a table as the page draws it.

    Attributes:
        value: what it is sorted by; None where that is its text.
        title: a name in full.
        swatch: the class of a stage's colour; "" where it is no stage.
    """

    text: str
    classes: str = ""
    value: str | None = None
    title: str = ""
    swatch: str = ""
    word: str = ""
    chart: Chart | None = None


@dataclass(frozen=True)
class HtmlRow:
    """A row of a table as the page draws it.

    Attributes:
        stages: the names of the stages in its bar, to be filtered by.
    """

    cells: tuple[DrawnCell, ...]
    classes: str
    stages: str


@dataclass(frozen=True)
class HtmlTable:
    """A table of the page."""

    title: str
    heads: tuple[Head, ...]
    rows: tuple[HtmlRow, ...]
    footer: tuple[str, ...] | None
    notes: tuple[str, ...]


def html_table(table: Table[Any]) -> HtmlTable:
    """A table with its cells as the page shows them."""
    text = table.as_text()
    shown = table.shown
    longest = {col.key: _longest(col, table) for col in shown if col.unit == CHART}
    rows = [
        _row(shown, [col.raw(row) for col in shown], texts, longest)
        for row, texts in zip(table.rows, text.rows, strict=True)
    ]
    heads = [Head(col.key, col.head, _head_classes(col), col.unit.holds == "bar") for col in shown]
    notes = tuple(map(full_name, text.notes))
    return HtmlTable(table.title, tuple(heads), tuple(rows), text.footer, notes)


def _longest(col: Col, table: Table[Any]) -> int:
    return max((raw.sum_ns for raw in map(col.raw, table.rows) if isinstance(raw, Split)), default=0)


def _head_classes(col: Col) -> str:
    classes = ["text"] if col.unit.align == "left" else []
    return " ".join([*classes, *(["why"] if col.unit.overflow == "fold" and col.key == "binding" else [])])


def _row(cols: Sequence[Col], raws: Sequence[Any], texts: Sequence[str], longest: dict[str, int]) -> HtmlRow:
    stage = next((str(raw) for col, raw in zip(cols, raws, strict=True) if col.key == "stage"), "")
    cells = [_cell(col, raw, text, stage, longest) for col, raw, text in zip(cols, raws, texts, strict=True)]
    splits = [raw for raw in raws if isinstance(raw, Split)]
    stages = " ".join(name for split in splits for name, _ in split.by_stage_ns)
    return HtmlRow(tuple(cells), "sub" if is_part(stage) and cols[0].unit.holds == "stage" else "", stages)


def _cell(col: Col, raw: Any, text: str, stage: str, longest: dict[str, int]) -> DrawnCell:
    holds = col.unit.holds
    if holds == "bar":
        return DrawnCell("", "chart", chart=_chart(col, raw, stage, longest))
    if holds == "name":
        return DrawnCell(short_name(raw) if col.show is None else full_name(text), "name mono", title=full_name(raw))
    if holds == "stage":
        is_measure = raw in MEASURES
        return DrawnCell(MEASURES.get(raw, raw), "text", swatch="" if is_measure else stage_class(raw))
    if holds == "status":
        return DrawnCell(text, "text", word=text if text in ("slower", "faster") else "soft")
    if col.unit.align == "left":
        return DrawnCell(full_name(text), _head_classes(col) if col.key == "binding" else _text_classes(col))
    return DrawnCell(text, value=_sort_value(raw))


def _text_classes(col: Col) -> str:
    return "text wide" if col.unit.overflow == "fold" else "text"


def _sort_value(raw: Any) -> str | None:
    if raw is None:
        return "NaN"
    value = getattr(raw, "median", raw)
    return str(value) if isinstance(value, int | float) else None


def _chart(col: Col, raw: Any, stage: str, longest: dict[str, int]) -> Chart:
    if isinstance(raw, Split):
        rects = stacked_split(raw, longest[col.key])
        return Chart(CHART_PX, rects, ((0, CHART_PX),) * len(rects), ", ".join(rect.title for rect in rects))
    colour = stage_class(stage) if stage and stage not in MEASURES else ""
    if isinstance(raw, tuple):
        before, after = raw
        bars = Rect(0, before, f"before-bar {colour}".strip(), ""), Rect(0, after, colour, "")
        return Chart(PAIR_PX, bars, ((1, 7), (10, 7)))
    return Chart(CHART_PX, (Rect(0, 100 * (raw or 0.0), colour, ""),), ((0, CHART_PX),))
