"""Numbers and nestings that no profiler writes, and a file may hold all the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemma_trace.analysis.critical_path import critical_path
from gemma_trace.analysis.dependencies import activity_before
from gemma_trace.analysis.devices import devices_of
from gemma_trace.analysis.timeline import partition
from gemma_trace.errors import TraceFormatError
from gemma_trace.trace.events import Track
from tests.trace.owned_nesting import self_ns
from tests.trace.test_reader import event, names_of, read, spans_of, text_of
from tests.trace_builder import TraceBuilder, memory_of


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


@pytest.mark.parametrize("large", [2**31, 2**32, 2**32 + 5, 2**53 + 1, 2**63 - 1])
def test_large_ids_are_kept_to_the_last_digit(tmp_path: Path, large: int) -> None:
    args = dict.fromkeys(("device", "stream", "correlation", "External id", "bytes"), large)
    events = read(tmp_path, text_of(event(pid=large, tid=large, args=args), event(ts=6))).events
    for column in (events.device, events.stream, events.correlation, events.external_id, events.bytes):
        assert column.dtype == np.int64
        assert column.tolist() == [large, -1]
    assert events.tracks[events.track[0]] == Track(str(large), str(large))


@pytest.mark.parametrize("percent", [b"4294967346", b"1e300", b"-7", b'"9999999999999999999999"', b"101"])
def test_an_occupancy_that_is_no_share_is_none(tmp_path: Path, percent: bytes) -> None:
    args = b'{"est. achieved occupancy %": ' + percent + b"}"
    events = read(tmp_path, text_of(event(args=args), event(ts=6, args={"est. achieved occupancy %": 50}))).events
    assert events.occupancy_pct.tolist() == [-1, 50]


def test_a_memory_events_device_is_kept_to_the_last_digit(tmp_path: Path) -> None:
    args = {"Device Type": 1, "Device Id": 2**32, "Addr": 1, "Bytes": 512, "Total Allocated": 512}
    file = read(tmp_path, text_of(event(ph="i", name="[memory]", args=args), event(ts=6)))
    assert memory_of(file).device.tolist() == [2**32]


def test_streams_and_devices_that_differ_above_32_bits_are_apart(tmp_path: Path) -> None:
    # Each runs one activity; were two taken for one stream, the later would have waited for the earlier.
    builder = TraceBuilder().launch(1, 0).launch(2, 10)
    builder.kernel("a", 3, 40, correlation=1, device=0, stream=2**32).kernel(
        "b", 12, 5, correlation=2, device=1, stream=0
    )
    trace = builder.load(tmp_path)
    assert activity_before(trace).tolist() == [-1, -1]
    assert devices_of(trace) == [0, 1]


@pytest.mark.parametrize(
    ("start_ns", "length_ns"), [(0, 2**60 + 1000), (-(2**59), 2**60 + 1000), (2**61, 2**61), (0, 2**62 - 1000)]
)
def test_spans_too_long_to_be_added_up_are_refused_in_one_line(tmp_path: Path, start_ns: int, length_ns: int) -> None:
    with pytest.raises(
        TraceFormatError, match="they are over 36 years apart, or their lengths sum up to over 146"
    ) as caught:
        TraceBuilder().op("long", start_ns, length_ns).load(tmp_path)
    assert "\n" not in str(caught.value)


def test_lengths_that_sum_up_to_too_much_are_refused(tmp_path: Path) -> None:
    builder = TraceBuilder()
    for place in range(5):
        builder.op("long", place, 2**60 - 2000)
    with pytest.raises(TraceFormatError, match="lengths sum up to over 146"):
        builder.load(tmp_path)


@pytest.mark.parametrize("start_ns", [0, -(2**61), 2**62 - 2**60 - 1])
def test_up_to_the_stated_range_the_parts_of_a_request_add_up_to_it(tmp_path: Path, start_ns: int) -> None:
    wall = 2**60 - 1000  # all are longer than a year, so none is left out for it
    builder = TraceBuilder().range("request", start_ns, wall).range("prefill", start_ns + 1000, wall // 2)
    builder.launch(1, start_ns + 2000, wall // 8).kernel("k", start_ns + 3000, wall // 4, correlation=1)
    trace = builder.load(tmp_path)
    request = trace.requests[0]
    assert request.wall_ns == wall
    rows = partition(trace, request)
    assert sum(row.time_ns for row in rows) == wall
    assert all(row.time_ns >= 0 and row.host_ns >= 0 for row in rows)
    assert critical_path(trace, request).length_ns == wall
    assert (self_ns(trace.spans.ts_ns[trace.host], trace.nesting) >= 0).all()
