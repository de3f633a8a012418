from __future__ import annotations

import io
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.report.markdown import table_to_markdown
from gemma_trace.report.number_text import NOISY_NOTE
from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.terminal import column_widths, print_report, print_table
from gemma_trace.report.text_table import TextColumn, TextTable
from gemma_trace.report.units import MEASURE_MS

TABLE = TextTable(
    "Title",
    (
        TextColumn("name", align="left", overflow="ellipsis"),
        TextColumn("sum ms"),
        TextColumn("count", 2),
        TextColumn("rare thing", 5),
    ),
    (("x" * 60, "1.000", "10", "12345678"), ("short", "22.00", "7", "1")),
    footer=("all", "23.00", "17", ""),
)


def printed(table: TextTable, width: int) -> list[str]:
    out = io.StringIO()
    print_table(table, Console(file=out, width=width))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 80, 120, 400])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    assert max(len(line) for line in printed(TABLE, width)) <= width


def test_columns_go_by_priority_and_are_named() -> None:
    assert list(column_widths(TABLE, 400)) == [0, 1, 2, 3]
    assert list(column_widths(TABLE, 52)) == [0, 1, 2]
    assert list(column_widths(TABLE, 44)) == [0, 1]
    assert list(column_widths(TABLE, 10)) == [0, 1], "what has no priority stays"
    assert "Hidden columns: count, rare thing." in printed(TABLE, 44)
    assert not any("Hidden" in line for line in printed(TABLE, 400))
    assert not any("Hidden" in line for line in printed(replace(TABLE, rows=()), 44)), "nothing is hidden"


def test_a_note_about_columns_alone_goes_with_the_last_of_them() -> None:
    noted = replace(TABLE, notes=("of all", "of two"), about={"of two": frozenset({1, 3}), "unsaid": frozenset()})
    assert "of two" in printed(noted, 44), "sum is there"
    noted = replace(noted, about={"of two": frozenset({2, 3})})
    assert [line for line in printed(noted, 44) if line.startswith("of ")] == ["of all"]
    assert [line for line in printed(noted, 52) if line.startswith("of ")] == ["of all", "of two"]


def test_a_mark_is_explained_where_it_is_seen() -> None:
    cols = (Col("name", "name"), Col("measured", "measured", MEASURE_MS, priority=1, value="distribution"))
    row = SimpleNamespace(name="prefill", distribution=Distribution((1e6, 2e6, 9e6), "ns"))
    table = Table("T", cols, [row]).as_text()
    assert table.notes == (NOISY_NOTE,)
    assert any("noisy" in line for line in printed(table, 40))
    assert not any("noisy" in line for line in printed(table, 12))


SENTENCES = TextTable(
    "",
    (
        TextColumn("rule", align="left"),
        TextColumn("check", align="left", overflow="fold"),
        TextColumn("why", 1, align="left", overflow="fold"),
    ),
    (("image_processor", "compare --set image_backend=pil,torchvision", "it takes most of the time of each request"),),
)


@pytest.mark.parametrize("width", [50, 80, 100])
def test_words_of_sentences_stay_whole_where_there_is_room(width: int) -> None:
    lines = printed(SENTENCES, width)
    assert any("image_backend=pil,torchvision" in line for line in lines)
    assert any("image_processor" in line for line in lines)


def test_where_nothing_else_gives_way_words_are_broken_before_names_are_cut() -> None:
    widths = column_widths(SENTENCES, 36)
    assert (list(widths), widths[0]) == ([0, 1], len("image_processor"))
    lines = printed(SENTENCES, 36)
    assert max(map(len, lines)) <= 36
    assert any("image_processor" in line for line in lines)


@pytest.mark.parametrize("width", [20, 24, 30])
def test_where_nothing_gives_way_names_are_cut_before_numbers(width: int) -> None:
    columns = (TextColumn("stage", align="left"), TextColumn("what", align="left"), TextColumn("%"), TextColumn("ms"))
    lines = printed(TextTable("", columns, (("vision_tower", "(host work outside ops)", "100.0", "12.34"),)), width)
    assert max(map(len, lines)) <= width
    assert any("100.0  12.34" in line for line in lines)


def test_long_names_are_cut_and_numbers_never() -> None:
    lines = printed(TABLE, 60)
    row = next(line for line in lines if "xxx" in line)
    assert "…" in row
    assert "1.000" in row
    assert "12345678" not in row or row.rstrip().endswith("12345678")


def test_names_that_look_like_markup_are_shown_as_they_are() -> None:
    table = TextTable("[bold]T[/]", (TextColumn("name", align="left"),), (("[red]kernel[/red]",),))
    assert any("[red]kernel[/red]" in line for line in printed(table, 80))
    assert "[bold]T[/]" in printed(table, 80)


def test_a_table_without_rows_and_notes_says_that_there_are_none() -> None:
    empty = TextTable("Why", (TextColumn("stage", align="left"),), ())
    assert printed(empty, 80) == ["Why", "None."]
    assert printed(replace(empty, notes=("No stage is known.",)), 80) == ["Why", "No stage is known."]


def test_findings_are_printed_under_the_tables() -> None:
    finding = Finding("truncated", Severity.ERROR, 1, "the file ends early", "copy it again")
    table = Table("T", (Col("name", "name", value=str),), ["a"])
    report = Report("stages", ["x"], (table,), table, health=Health((finding,)))
    out = io.StringIO()
    print_report(report, Console(file=out, width=100))
    assert "error: the file ends early. Copy it again" in out.getvalue()


def test_markdown_escapes_what_would_break_it() -> None:
    table = TextTable(
        "T", (TextColumn("name", align="left"), TextColumn("n")), (("a|b <img src=x>\n", "1"),), notes=("N.",)
    )
    assert table_to_markdown(table).splitlines() == [
        "## T",
        "",
        "| name                 |   n |",
        "|:---------------------|----:|",
        "| a\\|b &lt;img src=x>  |   1 |",
        "",
        "N.",
    ]


def test_a_row_that_does_not_fit_its_columns_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        TextTable("T", (TextColumn("a"), TextColumn("b")), (("1",),))
