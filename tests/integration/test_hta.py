"""Agreement with Holistic Trace Analysis where it is right, and the reason where it isn't.

Right is: every activity linked, no synchronisation events, at most one `ProfilerStep`, its rounding to µs off.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.intervals import union_ns
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.trace.trace import Trace, load

pytestmark = pytest.mark.filterwarnings("ignore")  # of HTA's own use of pandas
WITHIN = 0.001


@pytest.fixture
def hta(monkeypatch: pytest.MonkeyPatch) -> Any:
    """HTA's entry point, without its rounding and its log."""
    monkeypatch.setenv("HTA_DISABLE_NS_ROUNDING", "1")
    from hta.trace_analysis import TraceAnalysis

    logging.disable(logging.CRITICAL)
    yield lambda path: TraceAnalysis(trace_files={0: str(path)}, trace_dir=str(path.parent))
    logging.disable(logging.NOTSET)


def kernel_sums_ns(analysis: Any) -> dict[str, float]:
    """HTA's kernel table. Above ten kernels only its sums mean anything, so only they are taken."""
    options = {"visualize": False, "num_kernels": 10_000, "duration_ratio": 1.0, "include_memory_kernels": True}
    _, table = analysis.get_gpu_kernel_breakdown(**options)
    return dict(zip(table["name"], table["sum (us)"] * 1000, strict=True))


def busy_and_idle_ns(analysis: Any) -> tuple[float, float]:
    row = analysis.get_temporal_breakdown(visualize=False).iloc[0]
    return 1000 * (row["compute_time(us)"] + row["non_compute_time(us)"]), 1000 * row["idle_time(us)"]


def ours(trace: Trace) -> tuple[dict[str, int], int, int]:
    """Sums by name, busy, and idle between the first and the last activity, all in ns."""
    spans, activities = trace.spans, trace.activities
    start, end = spans.ts_ns[activities], spans.end_ns[activities]
    busy = union_ns(start, end)
    return {row.name: row.sum_ns for row in kernel_table(trace).rows}, busy, int(end.max() - start.min()) - busy


@pytest.mark.parametrize(
    "name",
    [
        "h100_bert_small",
        "h100_owlv2_vlm_proxy",
        "h100_qwen15_0.5b_unlinked",
        "mi300x_sglang_prefill_decode",
        "mi300x_vllm_decode_graph",
    ],
)
def test_kernel_totals_busy_and_idle_agree_where_hta_is_right(corpus: Path, hta: Any, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    analysis = hta(path)
    sums, busy, idle = ours(load(path))
    theirs = kernel_sums_ns(analysis)
    assert theirs.keys() == sums.keys()
    assert theirs == pytest.approx(sums, rel=WITHIN)
    assert busy_and_idle_ns(analysis) == pytest.approx((busy, idle), rel=WITHIN)


@pytest.mark.parametrize("name", ["a100_train_legacy_flows", "multirank_rank0_no_flows", "v100_epoch_timestamps"])
def test_hta_has_less_where_it_drops_the_last_step(corpus: Path, hta: Any, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    trace = load(path)
    steps = Counter(n for n in trace.spans.names if n.startswith("ProfilerStep"))
    assert len(steps) > 1
    sums, busy, _ = ours(trace)
    assert sum(kernel_sums_ns(hta(path)).values()) < sum(sums.values())
    assert busy_and_idle_ns(hta(path))[0] < busy


@pytest.mark.parametrize("name", ["a100_alexnet_cuda_sync", "a100_event_sync_multi_stream"])
def test_hta_has_more_where_it_takes_waiting_for_work(corpus: Path, hta: Any, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    trace = load(path)
    sums, busy, _ = ours(trace)
    waits = {n for n in trace.spans.names if n.endswith("Sync") or "Synchronize" in n or "Wait" in n}
    more = kernel_sums_ns(hta(path)).keys() - sums.keys()
    assert more
    assert more <= waits, "spans of the category cuda_sync, in which the device does nothing"
    assert busy_and_idle_ns(hta(path))[0] > busy


def test_hta_has_more_where_an_op_names_a_stream(corpus: Path, hta: Any) -> None:
    path = corpus / "a100_triton_culaunchkernel.json.gz"
    sums, busy, _ = ours(load(path))
    assert (sums, busy) == ({"triton_poi_fused_add_cos_sin_0": 1760}, 1760)
    assert kernel_sums_ns(hta(path))["triton_poi_fused_add_cos_sin_0"] > 1760, "the op on the host is counted in"
