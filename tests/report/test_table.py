from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.report.html.build import view_of
from gemma_trace.report.html.cells import html_table
from gemma_trace.report.number_text import NOISY_NOTE
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import BAR, COUNT, MEASURE_MS, MS, NAME, STAGE, STATUS, is_part
from tests.trace_builder import TraceBuilder


@dataclass(frozen=True)
class Inner:
    time_ns: int


@dataclass(frozen=True)
class Line:
    stage: str
    count: int
    inner: Inner | None


TIME = Col("time_ns", "time", MS, is_sum=True).within("inner")
COLS = (
    Col("stage", "stage", STAGE),
    Col("count", "", COUNT, when="counted", priority=2, is_sum=True),
    TIME,
    Col("twice", "twice", COUNT, value=lambda line: 2 * line.count),
)
LINES = (Line("preprocessing", 4, Inner(3_000_000)), Line("tokenization", 5, None))


def test_people_see_means_and_files_the_sums() -> None:
    table = Table("T", COLS, LINES, {"stage": "all", "time_ns": 3_000_000}, per=2, conditions=frozenset({"counted"}))
    text = table.as_text()
    assert [column.header for column in text.columns] == ["stage", "", "time ms", "twice"]
    assert text.rows == (("preprocessing", "2", "1.500", "8"), ("  tokenization", "2.500", "–", "10"))
    assert text.footer == ("all", "", "1.500", "")
    assert table.records() == [
        {"stage": "preprocessing", "count": 4, "time_ns": 3_000_000, "twice": 8},
        {"stage": "tokenization", "count": 5, "time_ns": None, "twice": 10},
    ]


def test_a_column_is_shown_where_its_condition_holds_and_always_in_files() -> None:
    table = Table("T", COLS, LINES)
    assert [col.key for col in table.shown] == ["stage", "time_ns", "twice"]
    assert "count" in table.records()[0]
    assert COLS[1].at(7, when="").when == ""


def test_a_cut_counts_what_it_leaves_out() -> None:
    table = Table("T", COLS, LINES, notes=("N.",))
    cut = table.cut(1)
    assert (len(cut.rows), cut.rows_total, cut.left_out) == (1, 2, 1)
    assert cut.notes == ("1 more rows: --top 0 shows all.", "N.")
    assert table.cut(0) is table.cut(2) is table
    assert table.left_out == 0


def test_a_total_of_no_column_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="totals of columns that the table 'T' doesn't have: nothing"):
        Table("T", COLS, LINES, {"nothing": 1})


def test_grouped_cells_are_blank_where_they_are_like_those_above() -> None:
    cols = tuple(
        Col(str(place), value=pair, is_grouped=place < 2) for place, pair in enumerate((_first, _second, _third))
    )
    rows = [("a", "x", "1"), ("a", "x", "1"), ("a", "y", "2"), ("b", "y", "2")]
    assert Table("T", cols, rows).as_text().rows == (("a", "x", "1"), ("", "", "1"), ("", "y", "2"), ("b", "y", "2"))


def _first(row: tuple[str, ...]) -> str:
    return row[0]


def _second(row: tuple[str, ...]) -> str:
    return row[1]


def _third(row: tuple[str, ...]) -> str:
    return row[2]


def test_a_noisy_measure_is_explained_once() -> None:
    cols = (Col("a", "a", MEASURE_MS, value=_itself), Col("b", "b", MEASURE_MS, value=_itself))
    quiet, noisy = Distribution((10.0, 10.1, 10.2), "ms"), Distribution((10.0, 20.0, 30.0), "ms")
    assert Table("T", cols, [quiet], notes=("N.",)).as_text().notes == ("N.",)
    assert Table("T", cols, [quiet, noisy], notes=("N.",)).as_text().notes == ("N.", NOISY_NOTE)


def _itself(row: Distribution) -> Distribution:
    return row


def test_the_page_sorts_by_raw_values_and_draws_bars() -> None:
    cols = (
        Col("stage", "stage", STAGE),
        Col("name", "name", NAME, value="stage"),
        Col("share", "", BAR, value=_half),
        replace(TIME, is_sum=False),
        Col("status", "", STATUS, value=_slower),
    )
    table = html_table(Table("T", cols, LINES))
    assert [head.classes for head in table.heads] == ["text", "text", "text", "", "text"]
    first, second = table.rows
    assert (first.classes, second.classes) == ("", "sub")
    stage, name, bar, time, status = first.cells
    assert (stage.text, stage.swatch, name.title) == ("preprocessing", "s-preprocessing", "preprocessing")
    assert bar.chart
    assert [(rect.width_pct, rect.classes) for rect in bar.chart.rects] == [(50.0, "s-preprocessing")]
    assert (time.text, time.value, second.cells[3].value) == ("3.000", "3000000", "NaN")
    assert (status.text, status.word) == ("slower", "slower")
    assert (second.cells[0].text, is_part("tokenization")) == ("tokenization", True)


def _half(_: Line) -> float:
    return 0.5


def _slower(_: Line) -> str:
    return "slower"


def test_views_of_the_page_pass_between_processes(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 0, 20).launch(1, 5)
    view = view_of(built.kernel("gemm", 10, 30, correlation=1).load(tmp_path))
    again = pickle.loads(pickle.dumps(view))
    assert [table.as_text() for table in again.tables] == [table.as_text() for table in view.tables]
    assert again.stage_table.as_text() == view.stage_table.as_text()
    assert html_table(again.kernels.table) == html_table(view.kernels.table)
