from __future__ import annotations

import pytest

from gemma_trace.analysis.bindings import BoundBy, Doubt, binding
from gemma_trace.analysis.longest import LongCall
from gemma_trace.analysis.reasons import Kind, Part, StageReason
from gemma_trace.report.verdicts import sentence


def reason(longest: LongCall | None = None, cold_ns: int = 0, **parts_ns: int) -> StageReason:
    """A stage of these kinds of time, e.g. host=60; its one request launched 4 activities of 6 µs."""
    parts = tuple(Part(Kind(kind), "gemm", ns) for kind, ns in parts_ns.items())
    return StageReason("prefill", sum(parts_ns.values()), parts, 4, 4, 6e3, 1, cold_ns, longest)


def test_the_kind_with_half_of_the_time_binds_and_below_that_it_is_mixed() -> None:
    half = binding(reason(device=50, host=50 - 1, sync=1))
    assert (half.bound, half.kind, half.share_pct) == (BoundBy.KIND, Kind.DEVICE, 50.0)
    assert half.shares == (
        *((50.0, Kind.DEVICE), (49.0, Kind.HOST), (1.0, Kind.SYNC)),
        *((0.0, Kind.TRANSFER), (0.0, Kind.PROFILER), (0.0, Kind.LAUNCH)),
    )
    mixed = binding(reason(device=49, host=48, sync=3))
    assert mixed.bound is BoundBy.MIXED
    assert sentence(mixed) == "mixed: 49% device compute, 48% host work"


@pytest.mark.parametrize(("doubt", "said"), [(Doubt.NO_ACTIVITIES, "missing"), (Doubt.CLOCKS, "disagree")])
def test_a_doubt_comes_before_everything_but_no_time(doubt: Doubt, said: str) -> None:
    found = binding(reason(device=100), doubt)
    assert (found.bound, found.shares) == (BoundBy.UNKNOWN, ())
    assert said in sentence(found)
    nothing = binding(reason(), doubt)
    assert (nothing.bound, sentence(nothing)) == (BoundBy.NOTHING, "")


@pytest.mark.parametrize(
    ("call_ns", "is_cold", "cold_ns", "bound", "is_one"),
    [
        (24, False, 0, BoundBy.KIND, None),  # too short to be spoken of
        (25, False, 0, BoundBy.KIND, True),
        (50, False, 0, BoundBy.CALLS, True),
        (20, True, 24, BoundBy.KIND, None),
        (20, True, 25, BoundBy.KIND, False),  # several first calls together
        (40, True, 50, BoundBy.KIND, True),  # one of them is 80% of the cold start, and under half of the stage
        (39, True, 50, BoundBy.CALLS, False),
    ],
)
def test_calls_that_stand_out(call_ns: int, is_cold: bool, cold_ns: int, bound: BoundBy, is_one: bool | None) -> None:
    found = binding(reason(LongCall("cudaMalloc", call_ns, is_cold, None), cold_ns, host=100))
    assert found.bound is bound
    assert (found.calls.is_one if found.calls else None) is is_one
    if found.calls:
        assert found.calls.is_cold is is_cold
        assert found.calls.share_pct == (call_ns if is_one else cold_ns)


def test_a_large_call_takes_the_place_of_the_number_of_launches() -> None:
    call = LongCall("cudaGraphLaunch", 30, False, None)
    assert sentence(binding(reason(launch=100))).endswith("the launches of 4 activities of 6.0 µs (median)")
    assert sentence(binding(reason(call, launch=100))) == (
        "host-bound: 100% of the time the device waits for the host; "
        "30% is one call of cudaGraphLaunch, 0.000 ms, while the device is idle"
    )
