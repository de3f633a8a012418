"""Times that can't be. Values are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.export.viewer import export_trace
from gemma_trace.health.examine import examine
from gemma_trace.trace.plausible import YEAR_NS, Implausible, Overlong, overlaps
from gemma_trace.trace.trace import Trace, load
from tests.trace_builder import TraceBuilder

US, HOUR_NS = 1_000, 3600 * 10**9
EPOCH_NS = 1_615_207_264_505_000 * US
GEMM, ADD = "volta_sgemm_64x64_nt", "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>"


def codes(trace: Trace) -> list[tuple[str, str, int]]:
    return [(each.code, each.severity.value, each.count) for each in examine(trace).findings]


def launched(zero_ns: int, kernels: list[tuple[int, int]], names: dict[int, str] | None = None) -> TraceBuilder:
    """A launch every 50 µs from 12 µs on, and its kernel with this start and length."""
    built = TraceBuilder().span("user_annotation", "stage_a", zero_ns, 1000 * US)
    for place, (start, length) in enumerate(kernels):
        at = zero_ns + (10 + 50 * place) * US
        built.op("aten::mm", at, 20 * US).launch(place + 1, at + 2 * US, 5 * US)
        built.kernel((names or {}).get(place, GEMM), start, length, correlation=place + 1)
    return built


def sound(count: int, zero_ns: int = 0) -> list[tuple[int, int]]:
    """Kernels of 15 µs, each 28 µs after its launch."""
    return [(zero_ns + (40 + 50 * place) * US, 15 * US) for place in range(count)]


def test_kernels_at_time_zero_are_left_out_and_counted(tmp_path: Path) -> None:
    trace = launched(EPOCH_NS, [(0, 0)] * 5 + sound(10, EPOCH_NS)[5:]).load(tmp_path)
    assert trace.implausible == Implausible(displaced=5, displaced_activities=5)
    assert len(trace.activities) == 5
    (request,) = trace.requests
    assert request.wall_ns == 1000 * US
    assert trace.read_report.first_ns == EPOCH_NS
    finding = next(each for each in examine(trace).findings if each.code == "displaced_spans")
    assert (finding.severity.value, finding.count) == ("error", 5)
    assert "5, of them 5 device activities; no figure includes them" in finding.message


@pytest.mark.parametrize(
    "at_ns",
    [0, -EPOCH_NS, EPOCH_NS - 2 * YEAR_NS, EPOCH_NS + 2 * YEAR_NS, 2**61, -(2**61)],
)
@pytest.mark.parametrize("category", ["kernel", "cpu_op", "user_annotation", "cuda_runtime", "python_function"])
def test_a_span_decades_away_is_left_out_whatever_it_is(tmp_path: Path, at_ns: int, category: str) -> None:
    built = launched(EPOCH_NS, sound(4, EPOCH_NS)).span(category, "stray", at_ns, 5, tid=7, pid=0)
    trace = built.load(tmp_path)
    assert trace.implausible.displaced == 1
    assert trace.implausible.displaced_activities == (category == "kernel")
    assert len(trace.spans) == 13
    assert trace.requests[0].wall_ns == 1000 * US
    assert [finding for finding in codes(trace) if finding[1] == "error"] == [("displaced_spans", "error", 1)]


def test_a_span_that_lasts_for_decades_is_left_out(tmp_path: Path) -> None:
    built = launched(EPOCH_NS, sound(4, EPOCH_NS)).kernel("endless", EPOCH_NS + 5, 40 * YEAR_NS, stream=8)
    trace = built.load(tmp_path)
    assert (trace.implausible.displaced, len(trace.activities)) == (1, 4)


def test_the_bulk_is_where_the_hosts_spans_are(tmp_path: Path) -> None:
    # More spans at zero than elsewhere: kernels all, which don't outvote the host.
    built = launched(EPOCH_NS, [(0, 0)] * 3).kernel("a", 0, 0).kernel("b", 0, 0)
    for _ in range(10):
        built.kernel(GEMM, 0, 0)
    trace = built.load(tmp_path)
    assert (trace.implausible.displaced, len(trace.activities)) == (15, 0)
    assert trace.requests[0].wall_ns == 1000 * US


def test_times_that_begin_at_zero_are_sound(tmp_path: Path) -> None:
    assert launched(0, sound(4)).load(tmp_path).implausible == Implausible()


def test_a_second_session_hours_or_days_later_is_sound(tmp_path: Path) -> None:
    built = launched(0, sound(4)).range("prefill", 30 * HOUR_NS, 10 * US).op("a", 30 * HOUR_NS, 5 * US)
    assert built.load(tmp_path).implausible == Implausible()


def test_one_span_of_hours_is_sound(tmp_path: Path) -> None:
    built = TraceBuilder().op("training", 0, 30 * HOUR_NS).op("last", 29 * HOUR_NS, 5)
    assert built.load(tmp_path).implausible == Implausible()


def test_what_is_left_out_is_left_out_of_an_export_too(tmp_path: Path) -> None:
    path = launched(EPOCH_NS, [(0, 0)] * 2 + sound(6, EPOCH_NS)[2:]).write(tmp_path / "built.json")
    trace = load(path)
    done = export_trace(trace, tmp_path / "out.json")
    assert (done.left_out, done.record.shift_ns) == ({"displaced": 2}, EPOCH_NS)
    text = (tmp_path / "out.json").read_text()
    assert text.count(f'"{GEMM}"') == 4


def test_an_activity_that_runs_over_later_ones_is_cut_and_named(tmp_path: Path) -> None:
    # The fifth of ten kernels lasts a second; the five after it, of 15 µs each, lie in it.
    kernels = sound(10)
    kernels[4] = (kernels[4][0], 10**9)
    trace = launched(0, kernels, {4: ADD}).load(tmp_path)
    span = int(np.flatnonzero(np.array(trace.spans.names)[trace.spans.name] == ADD)[0])
    assert trace.implausible.overlong == (Overlong(span, 10**9, 50 * US, 5, 75 * US),)
    (finding,) = examine(trace).findings
    assert (finding.code, finding.severity.value, finding.count) == ("impossible_durations", "warning", 1)
    assert "1, by 0.075 ms into 5 later ones of their stream" in finding.message
    assert "vectorized_elementwise_kernel" in finding.message
    assert "is recorded with 1,000.000 ms and counts 0.050 ms" in finding.message
    rows = {row.name: (row.sum_ns, round(row.share_pct, 1)) for row in kernel_table(trace).rows}
    assert rows == {GEMM: (9 * 15 * US, 73.0), ADD: (50 * US, 27.0)}


def test_a_length_that_is_cut_is_cut_in_an_export_too(tmp_path: Path) -> None:
    kernels = sound(10)
    kernels[4] = (kernels[4][0], 10**9)
    done = export_trace(launched(0, kernels).load(tmp_path), tmp_path / "out.json")
    assert (done.record.cut_spans, done.record.moved_spans) == (1, 0)
    assert "1000000.000" not in (tmp_path / "out.json").read_text()


def test_an_activity_that_outlasts_a_call_that_waited_for_it_is_cut(tmp_path: Path) -> None:
    kernels = sound(4)
    kernels[3] = (kernels[3][0], 10**9)  # the last of its stream: nothing comes after it but the wait's end
    built = launched(0, kernels).span("cuda_runtime", "cudaDeviceSynchronize", 250 * US, 50 * US)
    trace = built.load(tmp_path)
    (overlong,) = trace.implausible.overlong
    assert (overlong.recorded_ns, overlong.counted_ns, overlong.over) == (10**9, 110 * US, 0)
    assert codes(trace) == [("impossible_durations", "warning", 1)]


def test_activities_of_other_streams_and_devices_may_overlap(tmp_path: Path) -> None:
    built = launched(0, sound(4)).kernel("long", 50 * US, 10**6, stream=8, correlation=1)
    built.span("kernel", "far", 50 * US, 10**6, pid=1, tid=7, device=1, stream=7, correlation=1)
    trace = built.load(tmp_path)
    assert trace.implausible == Implausible()
    assert codes(trace) == []


def queued(kernels: list[tuple[int, int]], names: dict[int, str] | None = None) -> TraceBuilder:
    """A launch every 10 ns from the start on, and its kernel with this start and length."""
    built = TraceBuilder().op("aten::mm", 0, 2000 * US)
    for place, (start, length) in enumerate(kernels):
        built.launch(place + 1, 10 * place, 5)
        built.kernel((names or {}).get(place, GEMM), start, length, correlation=place + 1)
    return built


def test_overlaps_of_less_than_a_microsecond_are_no_warning(tmp_path: Path) -> None:
    kernels = [(10 * US * (place + 1), 10 * US + 99) for place in range(11)]  # 10 times 99 ns
    assert examine(queued(kernels).load(tmp_path)).verdict == "ok"
    kernels.append((120 * US + 90, 10 * US))  # 9 more: 999
    assert examine(queued(kernels).load(tmp_path)).verdict == "ok"
    kernels.append((130 * US + 89, 10 * US))  # 1 more: 1000
    assert ("overlaps_on_a_stream", "warning", 12) in codes(queued(kernels).load(tmp_path))


def test_one_stream_that_runs_several_at_once_keeps_their_lengths(tmp_path: Path) -> None:
    # Every second kernel runs through the next: no fault of one, and no length is cut.
    kernels = [(100 * US * (place + 1) + 60 * US * (place % 2), [300, 20][place % 2] * US) for place in range(12)]
    trace = queued(kernels, dict.fromkeys(range(0, 12, 2), "long")).load(tmp_path)
    assert trace.implausible == Implausible()
    finding = next(each for each in examine(trace).findings if each.code == "overlaps_on_a_stream")
    assert "long of 0.300 ms" in finding.message


def test_every_activity_that_one_runs_over_is_counted(tmp_path: Path) -> None:
    trace = queued([(0, 100), (10, 20), (20, 5), (90, 20), (99, 1), (100, 5), (110, 5)]).load(tmp_path)
    found = overlaps(trace.spans, trace.activities)
    # The first runs over four; 10..30 over 20..25; 90..110 over 99 and 100; touching is no overlap.
    assert found.over.tolist() == [4, 1, 0, 2, 0, 0, 0]
    assert found.covered_ns.tolist() == [0, 20, 5, 10, 1, 5, 0]


def test_a_kernel_that_overlaps_its_neighbour_alone_keeps_its_length(tmp_path: Path) -> None:
    # As programmatic dependent launches do: the next one starts a little before the end.
    kernels = [(100 * US * (place + 1), 20 * US) for place in range(8)]
    kernels[3] = (400 * US, 102 * US)
    trace = queued(kernels).load(tmp_path)
    assert trace.implausible == Implausible()
    assert ("overlaps_on_a_stream", "warning", 1) in codes(trace)


def test_two_lengths_of_ten_that_overflow_are_both_cut(tmp_path: Path) -> None:
    kernels = [(100 * US * (place + 1), 20 * US) for place in range(10)]
    kernels[2], kernels[3] = (300 * US, 10**9), (400 * US, 10**9)
    trace = queued(kernels).load(tmp_path)
    found = trace.implausible.overlong
    # Over seven later ones: one of 1 s less 0.1 ms, and six of 20 µs; and over the six.
    assert [(each.over, each.overlap_ns, each.counted_ns) for each in found] == [
        (7, 10**9 - 100 * US + 6 * 20 * US, 100 * US),
        (6, 6 * 20 * US, 100 * US),
    ]
    assert int(trace.spans.dur_ns[trace.activities].sum()) == 2 * 100 * US + 8 * 20 * US
