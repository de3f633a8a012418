"""Decode statistics, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemma_trace.analysis.decode import DecodeRequest, DecodeStatistics, decode_statistics
from gemma_trace.analysis.summary import summarize
from tests.analysis.test_summary import MS, metadata, sample
from tests.conftest import SAMPLES, real_trace, tries
from tests.trace_builder import TraceBuilder

GROWING = tuple(10_000 + 500 * token for token in range(12))


def statistics(*requests: tuple[int, ...], batch: int = 1) -> DecodeStatistics:
    return DecodeStatistics("timed", batch, tuple(DecodeRequest(request) for request in requests))


def test_one_request_by_hand() -> None:
    request = DecodeRequest((10, 20, 33))
    assert request.tpot_ns == 21
    assert request.tokens_per_second == pytest.approx(1e9 / 21)
    assert (request.slope_ns, request.jitter_pct) == (None, None), "three points are no line"


def test_the_slope_is_the_median_of_all_pairs() -> None:
    # 5 points: slopes 1, 1, 1, -1 of neighbours, 1, 1, 0 two apart, 1, 1/3 three apart, 1/2 four apart.
    request = DecodeRequest((100, 101, 102, 103, 102))
    assert request.slope_ns == 1
    # The line leaves 100, 100, 100, 100, 98: their median deviation is 0.
    assert request.jitter_pct == 0


def test_a_slow_first_step_and_a_stall_do_not_set_the_slope() -> None:
    values = list(GROWING)
    values[0], values[7] = 900_000, 500_000
    request = DecodeRequest(tuple(values))
    assert request.slope_ns == 500
    assert request.jitter_pct == 0
    least_squares = np.polyfit(np.arange(12), values, 1)[0]
    assert least_squares < -10_000, "which would have said that tokens get faster"


def test_jitter_is_the_spread_around_the_line() -> None:
    # ±10 around 1000 in turn. 30 pairs of equal parity have slope 0, 18 from low to high, 18 from high to low.
    request = DecodeRequest((990, 1010) * 6)
    assert request.slope_ns == 0
    assert request.jitter_pct == pytest.approx(100 * 1.4826 * 10 / 1000)


def test_a_long_series_is_fitted_by_stretches() -> None:
    request = DecodeRequest(tuple(1_000_000 + 70 * token for token in range(511)))
    assert request.slope_ns == pytest.approx(70)
    assert request.jitter_pct == pytest.approx(0, abs=1e-9)


def test_over_requests() -> None:
    found = statistics((10, 20, 30), (20, 40), batch=4)
    assert (found.tokens, found.tpot.values) == (4, (20e-6, 30e-6))
    assert found.throughput.values == pytest.approx([4e9 / 20, 4e9 / 30])
    assert [(step.first, step.last, step.intervals.values) for step in found.token_by_token()] == [
        (2, 2, (10e-6, 20e-6)),
        (3, 3, (20e-6, 40e-6)),
        (4, 4, (30e-6,)),
    ]
    assert [(step.first, step.last, step.intervals.values) for step in found.token_by_token(most=2)] == [
        (2, 3, (10e-6, 20e-6, 20e-6, 40e-6)),
        (4, 4, (30e-6,)),
    ]
    assert (found.slope, found.jitter, found.slope_interval_us) == (None, None, None)


def test_the_interval_of_an_exact_line_is_the_line() -> None:
    assert statistics(GROWING).slope_interval_us == pytest.approx((0.5, 0.5))
    assert statistics(GROWING[:9]).slope_interval_us is None


def test_the_interval_is_as_wide_as_the_requests_differ() -> None:
    steep = tuple(10_000 + 900 * token for token in range(12))
    assert statistics(GROWING, steep).slope_interval_us == pytest.approx((0.5, 0.9))


def test_the_interval_holds_the_true_slope_as_often_as_it_says() -> None:
    random, held, count = np.random.default_rng(1), 0, tries(100)
    for _ in range(count):
        noise = random.normal(0, 2_000, (3, 24))
        requests = [tuple((100_000 + 100 * np.arange(24) + row).astype(int).tolist()) for row in noise]
        interval = statistics(*requests).slope_interval_us
        assert interval is not None
        held += interval[0] <= 0.1 <= interval[1]
    assert 0.88 * count <= held <= count


def test_the_timed_pass_comes_first(tmp_path: Path) -> None:
    built = TraceBuilder().metadata(metadata([sample(100, 10), sample(110, 10)], batch=8)).range("request", 0, 1000)
    built.range("sampling", 100, 10).range("sampling", 200, 10)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert (found.source, found.batch) == ("timed", 8)
    assert [request.intervals_ns for request in found.requests] == [(4 * MS, 6 * MS)] * 2


def test_without_one_the_ends_of_sampling_are_the_tokens(tmp_path: Path) -> None:
    built = TraceBuilder()
    for start in (0, 1000):
        built.range("request", start, 500).range("sampling", start + 100, 10).range("decode", start + 110, 30)
        built.range("sampling", start + 140, 20).range("decode", start + 160, 30).range("sampling", start + 190, 5)
    trace = built.range("request", 2000, 100).range("sampling", 2010, 10).load(tmp_path)
    found = decode_statistics(trace)
    assert found is not None
    assert (found.source, found.batch) == ("profiled", 1)
    assert [request.intervals_ns for request in found.requests] == [(50, 35), (50, 35)], "and none of one token"
    tpot = summarize(trace).measures["tpot_ms"]
    assert tpot is not None
    assert tpot.values == (42e-6, 42e-6)


def test_steps_of_a_serving_engine(tmp_path: Path) -> None:
    built = TraceBuilder().span("user_annotation", "step[EXTEND bs=1 toks=9]", 0, 90)
    for start in (100, 150, 220, 330):
        built.span("user_annotation", "step[DECODE bs=8]", start, 40)
        built.span("user_annotation", "step[DECODE bs=8]", start + 5, 20)
    built.span("user_annotation", "step[DECODE bs=8]", 500, 5, tid=7)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert found.source == "steps"
    assert [request.intervals_ns for request in found.requests] == [(50, 70, 110)]


def test_steps_that_each_have_a_profiler_step_of_their_own(tmp_path: Path) -> None:
    built = TraceBuilder()
    for index, start in enumerate((0, 100, 300)):
        built.range(f"ProfilerStep#{index}", start, 90)
        built.span("user_annotation", "execute_1_context_0(a)_generation_1(b)", start + 5, 50)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert [request.intervals_ns for request in found.requests] == [(100, 200)]


def test_one_token_or_one_step_is_no_series(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("sampling", 50, 10)
    assert decode_statistics(built.load(tmp_path)) is None
    assert decode_statistics(TraceBuilder().span("user_annotation", "step[DECODE bs=8]", 0, 40).load(tmp_path)) is None
    assert decode_statistics(TraceBuilder().op("aten::mm", 0, 40).load(tmp_path)) is None


def test_a_real_capture() -> None:
    trace = real_trace(next((SAMPLES / "sample-tiny-cpu-pil").glob("*.json.gz")))
    found, metadata = decode_statistics(trace), trace.metadata
    assert found is not None
    assert metadata is not None
    tokens = [sample.token_ns for sample in metadata.timed_requests]
    assert found.tpot.values == tuple((t[-1] - t[0]) // (len(t) - 1) / 1e6 for t in tokens)
    assert found.tpot == summarize(trace).measures["tpot_ms"]
    assert found.tokens == metadata.workload.new_tokens


def served(built: TraceBuilder, at: int, steps: int, length: int, gap: int = 10) -> int:
    """A request as vLLM's worker shows it: a prefill of 100 ns and decode steps; gives its end."""
    built.span("user_annotation", "execute_context_1(296)_generation_0(0)", at, 100)
    for step in range(steps):
        start = at + 110 + step * (length + gap)
        built.span("user_annotation", "execute_context_0(0)_generation_1(1)", start, length)
    return at + 110 + steps * (length + gap)


def test_a_series_of_steps_ends_at_each_prefill(tmp_path: Path) -> None:
    built = TraceBuilder()
    second = served(built, 0, 5, 40) + 5000
    served(built, second, 3, 90)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert [series.intervals_ns for series in found.series] == [(50,) * 4, (100,) * 2]
    # One window without requests: its TPOT is the mean of all six intervals.
    assert [request.tpot_ns for request in found.requests] == [(4 * 50 + 2 * 100) // 6]
    assert next(step.intervals.values for step in found.token_by_token()) == pytest.approx((50 / MS, 100 / MS))


def test_a_series_of_steps_ends_where_nothing_was_to_be_done(tmp_path: Path) -> None:
    built = TraceBuilder()
    for start in (0, 50, 100, 1000, 1050):
        built.span("user_annotation", "step[DECODE bs=8]", start, 40)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert [series.intervals_ns for series in found.series] == [(50, 50), (50,)]
    # A stall in which the thread works is in the series.
    busy = decode_statistics(built.op("aten::mm", 150, 840).load(tmp_path))
    assert busy is not None
    assert [series.intervals_ns for series in busy.series] == [(50, 50, 900, 50)]


def test_waiting_for_the_next_request_is_nothing_to_do(tmp_path: Path) -> None:
    built = TraceBuilder()
    for start in (0, 50, 100, 1000, 1050):
        built.span("user_annotation", "step[DECODE bs=8]", start, 40)
    built.frame("vllm/distributed/device_communicators/shm_broadcast.py(961): dequeue", 145, 850)
    found = decode_statistics(built.load(tmp_path))
    assert found is not None
    assert [series.intervals_ns for series in found.series] == [(50, 50), (50,)]
