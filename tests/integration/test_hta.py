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
from gemma_trace.cli import main
from gemma_trace.hta.answers import OF_A_CUT, Analysis, HtaResult, Parts, Scope
from gemma_trace.hta.run import Wanted, run_hta
from gemma_trace.trace.trace import Trace
from tests.conftest import real_trace, thorough
from tests.trace_builder import TraceBuilder

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
        *thorough(["h100_qwen15_0.5b_unlinked", "mi300x_sglang_prefill_decode", "mi300x_vllm_decode_graph"]),
    ],
)
def test_kernel_totals_busy_and_idle_agree_where_hta_is_right(corpus: Path, hta: Any, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    analysis = hta(path)
    sums, busy, idle = ours(real_trace(path))
    theirs = kernel_sums_ns(analysis)
    assert theirs.keys() == sums.keys()
    assert theirs == pytest.approx(sums, rel=WITHIN)
    assert busy_and_idle_ns(analysis) == pytest.approx((busy, idle), rel=WITHIN)


def test_hta_has_less_where_it_drops_the_last_step(corpus: Path, hta: Any) -> None:
    path = corpus / "multirank_rank0_no_flows.json.gz"
    trace = real_trace(path)
    steps = Counter(n for n in trace.spans.names if n.startswith("ProfilerStep"))
    assert len(steps) > 1
    sums, busy, _ = ours(trace)
    analysis = hta(path)
    assert sum(kernel_sums_ns(analysis).values()) < sum(sums.values())
    assert busy_and_idle_ns(analysis)[0] < busy


@pytest.mark.parametrize("name", ["a100_event_sync_multi_stream", *thorough(["a100_alexnet_cuda_sync"])])
def test_hta_has_more_where_it_takes_waiting_for_work(corpus: Path, hta: Any, name: str) -> None:
    path = corpus / f"{name}.json.gz"
    trace = real_trace(path)
    sums, busy, _ = ours(trace)
    waits = {n for n in trace.spans.names if n.endswith("Sync") or "Synchronize" in n or "Wait" in n}
    analysis = hta(path)
    more = kernel_sums_ns(analysis).keys() - sums.keys()  # none from traceinsight, which still times them
    assert more <= waits, "spans of the category cuda_sync, in which the device does nothing"
    assert busy_and_idle_ns(analysis)[0] > busy


def test_hta_has_more_where_an_op_names_a_stream(corpus: Path, hta: Any) -> None:
    path = corpus / "a100_triton_culaunchkernel.json.gz"
    sums, busy, _ = ours(real_trace(path))
    assert (sums, busy) == ({"triton_poi_fused_add_cos_sin_0": 1760}, 1760)
    assert kernel_sums_ns(hta(path))["triton_poi_fused_add_cos_sin_0"] > 1760, "the op on the host is counted in"


LARGE = ("h100_owlv2_vlm_proxy",)
"""Of these the dearest analyses, sequences and critical path, are left out."""

SMALL = ("a100_event_sync_multi_stream", "a100_triton_culaunchkernel", "cpu_only", "mi300x_vllm_decode_graph")

OTHERS = (
    *("a100_alexnet_cuda_sync", "h100_bert_small", "h100_qwen15_0.5b_unlinked", "mi300x_sglang_prefill_decode"),
    "multirank_rank0_no_flows",
)


def declined(result: HtaResult) -> dict[str, str]:
    """What doesn't run on the whole trace or on a request, and why."""
    return {str(one.analysis or "all"): one.reason for one in result.declined if one.scope.stage is None}


@pytest.mark.parametrize("name", [*SMALL, *thorough([*OTHERS, *LARGE])])
@pytest.mark.usefixtures("hta_imported")
def test_hta_runs_or_declines_in_a_line_and_agrees_with_us(corpus: Path, name: str) -> None:
    analyses = OF_A_CUT if name in LARGE else tuple(Analysis)
    result = run_hta(real_trace(corpus / f"{name}.json.gz"), Wanted(analyses=analyses, by=Parts.STAGE))
    for one in result.declined:
        assert one.reason
        assert "\n" not in one.reason
        assert "failed" not in one.reason, "what HTA can't do is known before it raises"
    compared = [figure for figure in result.figures if figure.ours is not None]
    for figure in compared:
        if figure.analysis in (Analysis.TEMPORAL, Analysis.KERNELS, Analysis.IDLE, Analysis.LAUNCHES):
            assert figure.agrees, figure
        assert figure.agrees or figure.cause != "unknown", figure
    gone = declined(result)
    ran = {figure.analysis for figure in result.figures}
    assert "all" in gone or ran | {Analysis(analysis) for analysis in gone} == set(analyses)
    assert ("all" in gone) == (name == "cpu_only")
    assert "nothing to tell" not in "".join(gone.values())


@pytest.mark.usefixtures("hta_imported")
def test_what_is_declined_on_which_trace(corpus: Path) -> None:
    wanted = Wanted(analyses=(Analysis.OVERLAP, Analysis.SEQUENCES, Analysis.CRITICAL_PATH), by=Parts.TRACE)
    replay = declined(run_hta(real_trace(corpus / "mi300x_vllm_decode_graph.json.gz"), wanted))
    assert "can't hold a call that launches several activities" in replay["critical_path"]
    assert "no communication kernel" in replay["overlap"]
    assert "no op launches 3 activities or more" in replay["sequences"]


@pytest.mark.thorough
@pytest.mark.usefixtures("hta_imported")
def test_stages_have_rows_of_their_own(corpus: Path) -> None:
    wanted = Wanted(analyses=(Analysis.TEMPORAL, Analysis.KERNELS), stage="vision_tower")
    result = run_hta(real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz"), wanted)
    tower = {(f.analysis, f.measure): f.hta for f in result.figures if f.scope == Scope(0, "vision_tower") and not f.of}
    assert tower[Analysis.TEMPORAL, "busy_ns"] == pytest.approx(545.592e6, rel=1e-6), "by launch, not by time window"
    assert tower[Analysis.KERNELS, "count"] == 3295


@pytest.mark.parametrize(
    ("name", "analysis", "cause"),
    [
        *thorough([("a100_alexnet_cuda_sync", Analysis.TEMPORAL, "HTA takes cuda_sync spans (41)")]),
        ("a100_triton_culaunchkernel", Analysis.KERNELS, "HTA takes spans of the host that name a stream (1)"),
        *thorough([("h100_bert_small", Analysis.LAUNCHES, "HTA doesn't know cuLaunchKernel")]),
        ("mi300x_vllm_decode_graph", Analysis.QUEUE, "HTA doesn't know hipGraphLaunch"),
    ],
)
@pytest.mark.usefixtures("hta_imported")
def test_on_the_file_itself_causes_are_named(corpus: Path, name: str, analysis: Analysis, cause: str) -> None:
    result = run_hta(real_trace(corpus / f"{name}.json.gz"), Wanted(analyses=(analysis,), as_is=True))
    differing = [figure for figure in result.figures if figure.cause]
    assert differing
    assert all(cause in figure.cause for figure in differing)


@pytest.mark.parametrize(
    "name", ["a100_event_sync_multi_stream", *thorough(["h100_bert_small", "multirank_rank1_no_flows"])]
)
@pytest.mark.usefixtures("hta_imported")
def test_a_copy_changes_no_critical_path(corpus: Path, name: str) -> None:
    trace = real_trace(corpus / f"{name}.json.gz")
    lengths = []
    for as_is in (False, True):
        result = run_hta(trace, Wanted(analyses=(Analysis.CRITICAL_PATH,), by=Parts.TRACE, as_is=as_is))
        lengths.append({f"{figure.measure} {figure.scope.label}": figure.hta for figure in result.figures})
    assert lengths[0]["length_ns request 0"] > 0
    assert lengths[0] == pytest.approx(lengths[1], rel=1e-6, abs=1)


@pytest.mark.parametrize("name", ["badutf8", *thorough(["listform", "nan", "strts"])])
@pytest.mark.usefixtures("hta_imported")
def test_a_damaged_trace_is_mended_for_hta(corpus: Path, name: str) -> None:
    whole = Wanted(analyses=(Analysis.TEMPORAL,), by=Parts.TRACE)
    busy = {f.measure: f.hta for f in run_hta(real_trace(corpus / "bad" / f"{name}.json"), whole).figures}["busy_ns"]
    assert busy == 309_437


@pytest.mark.usefixtures("hta_imported")
def test_the_page_has_htas_figures_where_they_are_asked_for(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1_000_000).range("prefill", 0, 500_000)
    built.launch(1, 1000).kernel("gemm", 10_000, 200_000, correlation=1)
    trace = built.launch(2, 5000).kernel("norm", 300_000, 50_000, correlation=2).write(tmp_path / "built.json")
    assert main(["report", str(trace), "--hta", "-o", str(tmp_path / "with.html")]) == 0
    assert main(["report", str(trace), "-o", str(tmp_path / "without.html")]) == 0
    page = (tmp_path / "with.html").read_text()
    assert '<h2 id="hta">Holistic Trace Analysis</h2>' in page
    assert '<tr><th scope="row">device busy, ms</th><td>0.250</td><td>0.250</td>' in page
    assert "Holistic" not in (tmp_path / "without.html").read_text()
