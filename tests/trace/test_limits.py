"""Numbers and nestings that no profiler writes, and a file may hold all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trace.test_reader import event, names_of, read, spans_of, text_of


@pytest.mark.parametrize(
    ("key", "number"),
    [
        *((key, number) for key in ("ts", "dur") for number in (b"1e30", b"1e300", b"1e999", b"1e99999", b"1e9999999")),
        ("ts", b"9223372036854775.808"),
    ],
)
def test_a_time_too_large_for_64_bits_is_left_out_and_counted(tmp_path: Path, key: str, number: bytes) -> None:
    file = read(tmp_path, text_of(event(name="huge", **{key: number}), event(ts=6)))
    assert ("op", 6000, 3000) in spans_of(file)
    assert sum(file.report.repairs.values()) == 1


def test_an_end_too_large_for_64_bits_is_left_out_and_counted(tmp_path: Path) -> None:
    # Start and length fit, their sum doesn't.
    big = b"9000000000000000"
    file = read(tmp_path, text_of(event(name="huge", ts=big, dur=big), event(ts=6)))
    assert (file.events.end_ns >= file.events.ts_ns).all()
    assert sum(file.report.repairs.values()) == 1


def test_a_long_length_is_exact_next_to_a_small_start(tmp_path: Path) -> None:
    # 2**50 µs in a float64 are good to 250 ns.
    file = read(tmp_path, text_of(event(ts=1, dur=b"1125899906842624.003")))
    assert file.events.dur_ns.tolist() == [1_125_899_906_842_624_003]


@pytest.mark.parametrize("text", ["--5", "9" * 5000])
def test_a_correlation_that_is_nearly_a_number_is_none(tmp_path: Path, text: str) -> None:
    file = read(tmp_path, text_of(event(args={"correlation": text})))
    assert file.events.correlation.tolist() == [-1]


def test_arguments_nested_too_deep_lose_their_event_only(tmp_path: Path) -> None:
    deep = b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    file = read(tmp_path, text_of(event(name="deep", args=deep), event(ts=6)))
    assert names_of(file.events) == ["op"]
    assert file.report.repairs == {"undecodable_events": 1}
