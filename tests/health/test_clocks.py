"""Clocks of host and device that disagree. Values are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.health.examine import examine
from gemma_trace.trace.trace import Trace
from tests.trace_builder import TraceBuilder

US = 1_000


def codes(trace: Trace) -> list[tuple[str, str, int]]:
    return [(each.code, each.severity.value, each.count) for each in examine(trace).findings]


def shifted(shift_ns: int, *, count: int = 10, wait: str = "cudaDeviceSynchronize") -> TraceBuilder:
    """A launch every 100 µs from 10 µs on, its kernel of 40 µs after 20 µs, and a wait that returns 10 µs after all.

    The device's times are shifted.
    """
    end = 100 * count * US
    built = TraceBuilder().span("user_annotation", "ProfilerStep#1", 0, end + 50 * US)
    for place in range(count):
        at = (10 + 100 * place) * US
        built.op("aten::mm", at, 20 * US).launch(place + 1, at + 2 * US, 5 * US)
        built.kernel("gemm", at + 22 * US + shift_ns, 40 * US, correlation=place + 1)
    # The last kernel ends 28 µs before the end of the last period.
    last = end - 28 * US
    return built.span("cuda_runtime", wait, last - 30 * US, 40 * US)


def message(trace: Trace, code: str = "clock_shift") -> str:
    return next(each.message for each in examine(trace).findings if each.code == code)


@pytest.mark.parametrize("shift_us", [-20, -10, 0, 10, 19])
def test_clocks_that_agree_but_for_a_few_microseconds_are_sound(tmp_path: Path, shift_us: int) -> None:
    assert codes(shifted(shift_us * US).load(tmp_path)) == []


def test_a_device_clock_that_is_ahead_shows_in_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # 5 ms late: all ten kernels end behind the return of the call that waited for them; the last ends 4.99 ms after.
    trace = shifted(5_000 * US).load(tmp_path)
    assert codes(trace) == [("clock_shift", "error", 10)]
    assert "the device's clock is ahead of the host's by at least 4.990 ms" in message(trace)
    assert "of 10 device activities, 10 end after a call that waited for them had returned" in message(trace)
    assert cli.main(["stages", str(tmp_path / "built.json")]) == 0
    printed = capsys.readouterr().out
    assert "no verdict: the clocks of host and device disagree" in printed
    assert "The split of the time can't be trusted: the clocks of host and device disagree." in printed
    assert cli.main(["check", str(tmp_path / "built.json")]) == 1
    assert cli.main(["kernels", str(tmp_path / "built.json")]) == 0
    assert "error: the device's clock is ahead of the host's" in capsys.readouterr().out


def test_a_device_clock_that_is_behind_shows_in_launches(tmp_path: Path) -> None:
    # 520 µs early: each kernel starts 500 µs before its launch does.
    trace = shifted(-520 * US).load(tmp_path)
    assert codes(trace) == [("clock_shift", "error", 10)]
    assert "the device's clock is behind the host's by at least 0.500 ms" in message(trace)
    assert "of 10 device activities, 10 start before the call that launched them" in message(trace)


def test_the_least_shift_is_given_where_only_some_activities_show_it(tmp_path: Path) -> None:
    # 120 µs late: the last kernel ends 110 µs behind the wait's return, the one before 10 µs, which is tolerated.
    trace = shifted(120 * US).load(tmp_path)
    assert codes(trace) == [("clock_shift", "error", 1)]
    assert "by at least 0.110 ms" in message(trace)


def test_a_shift_that_is_small_beside_the_requests_leaves_their_shares(tmp_path: Path) -> None:
    # Of a step of 20.05 ms; the last kernel ends 30 µs too late, 0.15% of it.
    trace = shifted(40 * US, count=200).load(tmp_path)
    assert codes(trace) == [("clock_shift", "warning", 1)]


def test_a_clock_that_drifts_is_mended_by_no_one_shift(tmp_path: Path) -> None:
    built = shifted(5_000 * US)
    built.op("aten::mm", 900 * US, 20 * US).launch(77, 902 * US).kernel("early", 300 * US, 5, correlation=77, stream=8)
    text = message(built.load(tmp_path))
    assert "by 0.602 ms one way and 4.990 ms the other" in text


def test_one_activity_that_is_far_off_doesnt_set_the_shift(tmp_path: Path) -> None:
    built = shifted(-520 * US)
    built.launch(50, 995 * US, 1).kernel("stray", -(10**12), 5, correlation=50, stream=8)
    trace = built.load(tmp_path)
    assert codes(trace)[0] == ("clock_shift", "error", 11)
    assert "by at least 0.500 ms" in message(trace)


@pytest.mark.parametrize("wait", ["hipDeviceSynchronize", "cuCtxSynchronize", "cudaStreamSynchronize"])
def test_all_calls_that_wait_for_the_device_or_its_only_stream_count(tmp_path: Path, wait: str) -> None:
    assert codes(shifted(5_000 * US, wait=wait).load(tmp_path)) == [("clock_shift", "error", 10)]


@pytest.mark.parametrize("wait", ["cudaEventSynchronize", "cudaStreamWaitEvent"])
def test_calls_of_which_nobody_knows_what_they_wait_for_dont(tmp_path: Path, wait: str) -> None:
    assert codes(shifted(5_000 * US, wait=wait).load(tmp_path)) == []


def test_a_wait_for_another_stream_says_nothing(tmp_path: Path) -> None:
    built = shifted(5_000 * US, wait="cudaStreamSynchronize")
    built.launch(70, 0, 1).kernel("other", 100 * US, 5, correlation=70, stream=9)
    assert codes(built.load(tmp_path)) == []  # of two streams it isn't known which
    built.events[-3]["args"] = {"stream": 9}
    assert built.events[-3]["name"] == "cudaStreamSynchronize"
    assert codes(built.load(tmp_path)) == []
    built.events[-3]["args"] = {"stream": 7}
    assert codes(built.load(tmp_path)) == [("clock_shift", "error", 10)]


def test_the_stream_of_a_wait_is_found_by_its_span_on_the_device(tmp_path: Path) -> None:
    built = shifted(5_000 * US, wait="cudaStreamSynchronize")
    built.launch(70, 0, 1).kernel("other", 100 * US, 5, correlation=70, stream=9)
    built.events[-3]["args"] = {"correlation": 300}
    built.span("cuda_sync", "Stream Sync", 950 * US, 20 * US, pid=0, tid=7, correlation=300, stream=7, device=0)
    assert ("clock_shift", "error", 10) in codes(built.load(tmp_path))


def test_a_short_wait_for_a_stream_without_a_name_may_be_for_an_idle_one(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 900 * US).launch(1, 10 * US)
    built.kernel("gemm", 40 * US, 400 * US, correlation=1)
    built.span("cuda_runtime", "cudaStreamSynchronize", 60 * US, 5 * US)
    assert codes(built.load(tmp_path)) == []


def test_a_wait_for_one_of_two_devices_says_nothing_of_the_other(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 900 * US).launch(1, 10 * US).launch(2, 20 * US)
    built.kernel("gemm", 40 * US, 20 * US, correlation=1)
    built.span("kernel", "gemm", 40 * US, 500 * US, pid=1, tid=7, device=1, stream=7, correlation=2)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 50 * US, 30 * US)
    assert codes(built.load(tmp_path)) == []


def test_another_process_waits_for_its_own_work_only(tmp_path: Path) -> None:
    built = TraceBuilder().op("aten::mm", 0, 900 * US).launch(1, 10 * US)
    built.kernel("gemm", 40 * US, 500 * US, correlation=1)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 50 * US, 30 * US, pid=2, tid=200)
    assert codes(built.load(tmp_path)) == []


@pytest.mark.parametrize(
    ("call", "copy", "expected"),
    [
        ("cudaMemcpyAsync", "Memcpy DtoH (Device -> Pageable)", [("clock_shift", "error", 1)]),
        ("hipMemcpyWithStream", "Memcpy DtoH (Device -> Host)", [("clock_shift", "error", 1)]),
        ("cudaMemcpy", "Memcpy DtoH (Device -> Pinned)", [("clock_shift", "error", 1)]),
        ("cudaMemcpyAsync", "Memcpy DtoH (Device -> Pinned)", []),
        ("cudaMemcpyAsync", "Memcpy HtoD (Pageable -> Device)", []),
    ],
)
def test_a_copy_to_the_host_that_blocks_ends_before_its_call(
    tmp_path: Path, call: str, copy: str, expected: list[tuple[str, str, int]]
) -> None:
    built = TraceBuilder().op("aten::item", 0, 900 * US).launch(1, 10 * US, 20 * US, name=call)
    built.kernel(copy, 500 * US, 5 * US, correlation=1, cat="gpu_memcpy")
    assert codes(built.load(tmp_path)) == expected
