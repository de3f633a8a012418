from __future__ import annotations

from pathlib import Path

import numpy as np

from gemma_trace.analysis.counters import MOST_WINDOWS, Series, allocated_bytes, busy_pct, queue_depth
from gemma_trace.analysis.devices import devices_of
from tests.conftest import real_trace
from tests.trace_builder import TraceBuilder


def test_busy_in_windows_by_hand(tmp_path: Path) -> None:
    # 10 µs in 1000 windows: 10 ns each. Two streams run at once in the second half of the first window.
    built = TraceBuilder().kernel("a", 0, 5).kernel("b", 3, 4, stream=8).kernel("c", 9_995, 5)
    found = busy_pct(built.load(tmp_path), 0)
    assert (found.ts_ns[0], found.ts_ns[1], found.ts_ns[-1]) == (0, 10, 10_000)
    assert (found.value[0], found.value[1], found.value[-2], found.value[-1]) == (70.0, 0.0, 50.0, 0.0)


def test_busy_adds_up_on_a_real_trace(corpus: Path) -> None:
    trace = real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz")
    (device,) = devices_of(trace)
    found = busy_pct(trace, device)
    window = int(found.ts_ns[1] - found.ts_ns[0])
    assert len(found.ts_ns) <= MOST_WINDOWS + 2
    assert round(float((found.value[:-1] * window / 100).sum())) == 566_759_477, "the corpus table's device busy"
    assert found.value.max() <= 100


def test_the_queue_by_hand(tmp_path: Path) -> None:
    built = TraceBuilder().launch(1, 0).launch(2, 10).launch(3, 500)
    built.kernel("a", 10, 100, correlation=1).kernel("b", 110, 10, correlation=2).kernel(
        "early", 400, 10, correlation=3
    )
    found = queue_depth(built.kernel("unlinked", 600, 5).load(tmp_path), 0)
    # At 10 the first starts and the second is launched: nothing changes.
    assert list(zip(found.ts_ns.tolist(), found.value.tolist(), strict=True)) == [(0, 1), (110, 0)]


def test_a_queue_is_never_below_nothing_and_ends_empty(corpus: Path) -> None:
    trace = real_trace(corpus / "a100_train_legacy_flows.json.gz")
    found = queue_depth(trace, devices_of(trace)[0])
    assert found.value.min() >= 0
    assert found.value[-1] == 0
    assert (np.diff(found.ts_ns) > 0).all()


def test_memory_by_device(corpus: Path) -> None:
    trace = real_trace(corpus / "h100_bert_small.json.gz")
    allocated, reserved = allocated_bytes(trace, 0)
    assert (allocated.value[0], reserved.value[0]) == (91505152, 121634816)
    assert (np.diff(allocated.ts_ns) >= 0).all()


def test_a_series_changes_where_its_value_does_and_ends_where_it_ends() -> None:
    series = Series(np.array([0, 10, 20, 30, 40, 50]), np.array([1.0, 1.0, 2.0, 2.0, 0.0, 0.0]))
    changes = series.changes()
    assert changes.ts_ns.tolist() == [0, 20, 40, 50]
    assert changes.value.tolist() == [1.0, 2.0, 0.0, 0.0]
    nothing = Series(np.zeros(0, np.int64), np.zeros(0)).changes()
    assert len(nothing.ts_ns) == 0
