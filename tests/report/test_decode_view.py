from __future__ import annotations

from gemma_trace.analysis.decode import DecodeRequest, DecodeStatistics
from gemma_trace.report.tables.decode import decode_record, decode_table, token_table

MS = 1_000_000


def statistics(*intervals_ms: int, batch: int = 1, requests: int = 1) -> DecodeStatistics:
    one = DecodeRequest(tuple(value * MS for value in intervals_ms))
    return DecodeStatistics("timed", batch, (one,) * requests)


def test_few_tokens_have_no_slope_and_it_is_said() -> None:
    section = decode_table(statistics(20, 10)).as_text()
    assert section.rows == (("15.00", "66.67", "–", "–", "–", "3", "1"),)
    assert section.notes[-1] == "Slope and jitter require 6 tokens per request."


def test_the_table_by_hand() -> None:
    section = decode_table(statistics(*range(10, 22), batch=2, requests=3)).as_text()
    headers = [column.header for column in section.columns]
    assert headers[2] == "tokens per second, batch of 2"
    expected = ("15.50 ±0.00", "64.52 ±0.00", "129.0 ±0.0", "+1,000", "+1,000 to +1,000", "0.000", "13", "3")
    assert section.rows == (expected,)
    assert not any(note.startswith(("No ", "The interval")) for note in section.notes)
    flat = decode_table(statistics(*[10, 11, 10, 11, 10, 11, 10, 11, 10, 11])).as_text()
    assert any(note.startswith("The interval includes 0") for note in flat.notes)
    assert any(
        note.startswith("The interval of the slope requires")
        for note in decode_table(statistics(1, 2, 3, 4, 5)).as_text().notes
    )


def test_the_series_has_a_row_a_token_or_a_stretch() -> None:
    few = token_table(statistics(20, 10)).as_text()
    assert few.rows == (("2", "20.00", "█" * 20, "20.00"), ("3", "10.00", "█" * 10, "10.00"))
    many = token_table(statistics(*[10] * 32, 30)).as_text()
    assert len(many.rows) == 11
    assert many.rows[0] == ("2 to 4", "10.00 ±0.00", "█" * 20, "10.00")
    assert many.rows[-1][0] == "32 to 34"
    assert many.rows[-1][3] == "30.00"


def test_the_record_has_every_token() -> None:
    record = decode_record(statistics(20, 10))
    assert [(row["token"], row["interval_ms"].median) for row in record["series"]] == [(2, 20.0), (3, 10.0)]
    assert (record["decode_slope_us"], record["slope_interval_us"], record["decode_jitter_pct"]) == (None, None, None)
