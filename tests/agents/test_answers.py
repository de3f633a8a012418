from __future__ import annotations

import json
from typing import Any

import pytest

from gemma_trace.agents.answers import TOKEN_BYTES, Found, Wanted, by_columns, key_of, page
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.report.table import Col, Table
from gemma_trace.report.units import COUNT, MS

COLS = (Col("name", value="name"), Col("sum_ns", unit=MS), Col("count", unit=COUNT))


class Row:
    def __init__(self, name: str, sum_ns: int, count: int) -> None:
        self.name, self.sum_ns, self.count = name, sum_ns, count


def found(rows: Any, **more: Any) -> Found:
    return Found(["a"], Table("Rows", COLS, rows), by_columns("name"), **more)


def wanted(cursor: str = "", *, tokens: int = 500, rows: int = 1_000) -> Wanted:
    return Wanted("kernels", tokens, rows, False, cursor, "abcd1234")


MANY = [Row(f"kernel {place}", place * 1_000_000, place) for place in range(300)]


def pages(of: Found, **how: int) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        text = page(of, wanted(cursor, **how))
        assert len(text.encode()) <= how.get("tokens", 500) * TOKEN_BYTES
        answers.append(json.loads(text))
        cursor = answers[-1]["next_cursor"]
    return answers


@pytest.mark.parametrize("how", [{"tokens": 500}, {"tokens": 600}, {"tokens": 10_000, "rows": 7}, {"tokens": 10_000}])
def test_pages_together_are_all_rows_in_order_and_each_keeps_to_its_budget(how: dict[str, int]) -> None:
    answers = pages(found(MANY), **how)
    rows = [row for answer in answers for row in answer["data"]["rows"]]
    assert [row[1:] for row in rows] == [[row.name, row.sum_ns // 1_000_000, row.count] for row in MANY]
    assert len({row[0] for row in rows}) == 300, "a key names one row"
    assert answers[0]["data"]["columns"] == ["key", "name", "sum_ms", "count"]
    assert {answer["rows_total"] for answer in answers} == {300}
    assert [answer["truncated"] for answer in answers] == [True] * (len(answers) - 1) + [False]
    assert answers[0]["rows"].startswith("1-")
    assert answers[-1]["rows"].endswith("-300")


def test_no_rows_is_an_answer_too() -> None:
    (answer,) = pages(found([]))
    assert (answer["rows_total"], answer["rows"], answer["truncated"]) == (0, "none", False)
    assert answer["data"]["rows"] == []


@pytest.mark.parametrize("cursor", ["20-ffffffff", "20", "x", "-abcd1234", "-1-abcd1234", "٣-abcd1234", "9" * 50])
def test_a_cursor_of_another_call_is_refused(cursor: str) -> None:
    with pytest.raises(ConfigError, match="call again without a cursor"):
        page(found(MANY), wanted(cursor))


def test_a_page_past_the_end_is_empty() -> None:
    answer = json.loads(page(found(MANY), wanted("300-abcd1234")))
    assert (answer["rows"], answer["next_cursor"]) == ("none", None)


def test_a_row_of_long_names_is_cut_to_fit_and_columns_that_do_not_are_an_error() -> None:
    wide = [Col(f"column_{place}", value="name") for place in range(24)]
    long = [Row("模" * 5_000, 1, 1), Row("b" * 5_000, 1, 1)]
    text = page(Found(["a"], Table("Rows", tuple(wide), long), by_columns("column_0")), wanted(tokens=800))
    assert len(text.encode()) <= 800 * TOKEN_BYTES
    assert json.loads(text)["data"]["rows"][0][1].startswith("模")
    with pytest.raises(InputError, match="fewer columns"):
        page(Found(["a"], Table("Rows", tuple(wide) * 20, long), by_columns("column_0")), wanted())
    with pytest.raises(InputError, match="fewer columns"):
        page(Found(["a"], Table("Rows", tuple(wide) * 20, []), by_columns("column_0")), wanted())


def test_notes_give_way_to_rows() -> None:
    (answer, *_) = pages(found(MANY, notes=["short", "x" * 250, "y" * 250, "z" * 250]))
    assert answer["data"]["notes"] == ["short", "x" * 250], "they have a quarter of the room at most"
    assert answer["data"]["rows"]


def test_a_page_whose_rows_have_to_be_read_ends_in_time() -> None:
    answer = json.loads(page(found(MANY), wanted(), seconds=-1.0))
    assert answer["rows"] == "1-1", "one row there is in any case"
    assert answer["next_cursor"] == "1-abcd1234"


def test_a_key_is_the_name_where_that_is_plain_and_no_name_is_taken_for_a_digest() -> None:
    assert key_of(["prefill"]) == "prefill"
    assert key_of(["prefill", "host", ""]) == "prefill/host"
    digest = key_of(["void gemm<4>()"])
    assert digest.startswith("#")
    assert key_of([digest]) != digest
    assert len({key_of([name]) for name in ("a\x1b", "a\x00", "a\ufffd")}) == 3, "of names as they are"


def test_rows_that_nothing_tells_apart_are_numbered_across_pages() -> None:
    alike = [Row(name, place, 1) for place, name in enumerate(["a", "b", "a", "a", "b"])]
    keys = [row[0] for answer in pages(found(alike), tokens=10_000, rows=2) for row in answer["data"]["rows"]]
    assert keys == ["a", "b", "a.2", "a.3", "b.2"]


def test_a_column_without_a_value_on_the_page_is_left_out() -> None:
    cols = (*COLS, Col("nothing", value="none"), Col("half", value="half"))
    rows = [Row("a", 1, 0), Row("b", 0, 0)]
    for row, half in zip(rows, (None, 0), strict=True):
        vars(row).update(none=None, half=half)
    (answer,) = pages(Found(["a"], Table("Rows", cols, rows), by_columns("name")))
    assert answer["data"]["columns"] == ["key", "name", "sum_ms", "count", "half"]
    assert [row[-1] for row in answer["data"]["rows"]] == [None, 0]
