"""Times of many events are read as each by itself."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.trace import source
from gemma_trace.trace.clock import time_ns
from gemma_trace.trace.reader import read_trace
from gemma_trace.trace.times import _plain_times_ns, times_of
from tests.conftest import tries
from tests.trace.test_reader import event, read, spans_of, text_of

WHOLE = st.integers(-(10**17), 10**17).map(lambda value: b"%d" % value)
DECIMAL = st.builds(
    lambda whole, text: whole + b"." + text.encode(), WHOLE, st.text("0123456789", min_size=1, max_size=5)
)
OTHER = st.sampled_from(
    [b"", b"null", b"1e3", b'"5"', b'" 7.5 "', b'"soon"', b"true", b"[1,2]", b'"1,2"', b"-0", b"0.000"]
)


@settings(max_examples=tries(300))
@given(st.lists(WHOLE, max_size=6) | st.lists(DECIMAL, max_size=6) | st.lists(WHOLE | DECIMAL | OTHER, max_size=6))
def test_many_times_are_read_as_one_by_one(values: list[bytes]) -> None:
    each = [time_ns(value) for value in values]
    found = times_of(values)
    assert found.ns.tolist() == [time or 0 for time in each]
    assert found.absent.tolist() == [time is None for time in each]
    assert found.is_text.tolist() == [value.startswith(b'"') for value in values]
    assert found.unreadable.tolist() == [
        time is None and value not in (b"", b"null") for time, value in zip(each, values, strict=True)
    ]


@pytest.mark.parametrize(
    ("values", "ns"),
    [
        ([b"1600000000000000", b"0", b"-3"], [1_600_000_000_000_000_000, 0, -3000]),
        ([b"1600000000000000.001", b"0.050", b"-0.001"], [1_600_000_000_000_000_001, 50, -1]),
        ([b"1600000000000000.5", b"7", b"-0.25"], [1_600_000_000_000_000_500, 7000, -250]),
        ([b"3999999999999999.999"], [3_999_999_999_999_999_999]),
    ],
)
def test_times_as_profilers_write_them_are_read_at_once(values: list[bytes], ns: list[int]) -> None:
    found = _plain_times_ns(values)
    assert found is not None
    assert found.dtype == np.int64
    assert found.tolist() == ns


@pytest.mark.parametrize("value", [b"4000000000000000", b"1.2345", b"1e3", b"+1", b".5", b"1.", b"", b"1 ", b'"1"'])
def test_other_times_are_left_to_whoever_reads_each(value: bytes) -> None:
    assert _plain_times_ns([b"1", value]) is None


@pytest.mark.parametrize("decimals", ["", ".003", ".5"])
def test_epoch_times_in_chunks_are_those_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decimals: str
) -> None:
    events = [event(name=f"{index}", ts=f"{1_700_000_000_000_000 + index}{decimals}".encode()) for index in range(200)]
    events[50:50] = [event(name="small", ts=b"0.001"), event(name="text", ts=" 8 "), '{"ph": "M", "name": "x"}']
    path = tmp_path / "trace.json.gz"
    path.write_bytes(gzip.compress(text_of(*events).encode()))
    whole = read_trace(path)
    monkeypatch.setattr(source, "CHUNK_BYTES", 1000)
    parts = read_trace(path)
    assert spans_of(parts) == spans_of(whole)
    assert spans_of(whole)[:2] == [("small", 1, 3000), ("text", 8000, 3000)]
    fraction = {"": 0, ".003": 3, ".5": 500}[decimals]
    assert spans_of(whole)[-1] == ("199", 1_700_000_000_000_199_000 + fraction, 3000)
    assert parts.report == whole.report


def test_small_times_behind_epoch_times_are_read_as_before_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More decimals than three: a float rounds 1.0015 another way than the decimal, whatever stood before in the file.
    monkeypatch.setattr(source, "CHUNK_BYTES", 200)
    small = [event(name=f"{index}", ts=b"1.0015") for index in range(10)]
    large = [event(name="epoch", ts=b"1700000000000000") for _ in range(10)]
    alone = read(tmp_path, text_of(*small))
    after = read(tmp_path, text_of(*large, *small))
    assert len({start for _, start, _ in spans_of(alone)}) == 1
    found = [start for name, start, _ in spans_of(after) if name != "epoch"]
    assert found[-5:] == [start for _, start, _ in spans_of(alone)][-5:]


def test_texts_of_times_count_once_whatever_is_missing(tmp_path: Path) -> None:
    data = json.loads(text_of(event(ts="1700000000000000", dur="1"), event(ts="soon", dur="2"), event(dur="3")))
    file = read(tmp_path, json.dumps(data))
    assert file.report.repairs == {"text_numbers": 4, "undecodable_events": 1}
