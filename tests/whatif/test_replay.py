"""The replay: values worked out by hand, and identities on random graphs and real traces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.analysis.critical_path import PathKind, critical_path
from gemma_trace.analysis.timeline import ttft_ns
from gemma_trace.trace.trace import Trace
from gemma_trace.whatif.engine import Change, Engine, what_if
from tests.conftest import SAMPLES, SHARED, real_trace, tries
from tests.trace_builder import TraceBuilder


def assert_identities(trace: Trace) -> None:
    """The unchanged graph gives the measured times, also without what isn't on its path; gains are bounded."""
    engine = Engine(trace, trace.requests)
    for request in trace.requests:
        replay = engine.replay(request)
        graph = replay.graph
        assert replay.as_measured.wall_ns == request.wall_ns
        assert replay.as_measured.ttft_ns == ttft_ns(trace, request)
        assert replay._times(graph.work_ns, None)[1:] == graph.cuts.at_ns[graph.order].tolist()
        on_path = replay.critical()
        assert replay.run(np.where(on_path, graph.work_ns, 0), ~on_path).wall_ns == request.wall_ns
        nothing, everything = np.zeros_like(graph.work_ns), np.ones(len(graph.work_ns), dtype=bool)
        assert 0 <= replay.run(nothing, everything).wall_ns <= request.wall_ns


def saved(trace: Trace, **change: object) -> int:
    (row,) = what_if(trace, Change.of(**change)).requests  # type: ignore[arg-type]
    assert row.wall_ns == row.new_wall_ns + row.saved_ns
    return row.saved_ns


def device_bound() -> TraceBuilder:
    # The host launches both kernels at once and waits; the second kernel waits for the first.
    built = TraceBuilder().range("request", 0, 100_000).range("vision_tower", 1000, 2000)
    built.op("aten::one", 1000, 900).launch(1, 1000, 500).kernel("a", 4000, 30_000, correlation=1)
    built.op("aten::two", 2000, 900).launch(2, 2000, 500).kernel("b", 34_500, 20_000, correlation=2)
    built.range("sampling", 10_000, 50_000)
    return built.span("cuda_runtime", "cudaStreamSynchronize", 10_000, 46_000)


def test_a_kernel_on_the_path_is_shortened(tmp_path: Path) -> None:
    trace = device_bound().load(tmp_path)
    assert_identities(trace)
    # a from 30,000 to 15,000: b, the wait and all after it come 15,000 earlier.
    assert saved(trace, scale={"kernel:a": 0.5}) == 15_000
    assert saved(trace, scale={"kernel:a": 2}) == -30_000
    # Without b also the gap before it (500) is gone.
    assert saved(trace, remove="kernel:b") == 20_500
    # Without both nothing is waited for from 10,000 to 54,500: the host's own time is all there is.
    assert saved(trace, remove=["kernel:a", "kernel:b"]) == 44_500


def test_work_of_the_host_that_the_device_hides_brings_nothing(tmp_path: Path) -> None:
    trace = device_bound().load(tmp_path)
    # Sampling begins with the wait. On the path are the 1,500 that the call takes to return, and 4,000 behind it.
    assert saved(trace, scale={"stage:sampling": 0}) == 5500
    # If the wait isn't there either, the last 40,000 run beside the device, until 50,000; the device until 54,500.
    assert saved(trace, remove="stage:sampling") == 45_500
    assert saved(trace, remove="span:gemma_trace::sampling") == 45_500
    # aten::two's own time lies after its launch began, and the device is busy until long after it.
    trace = device_bound().op("aten::hidden", 4000, 5000).load(tmp_path)
    assert saved(trace, remove="op:aten::hidden") == 0


def test_a_kernel_waits_for_its_launch_once_the_device_is_fast(tmp_path: Path) -> None:
    trace = device_bound().load(tmp_path)
    # Without a, b could start at 2,000, when its launch is called, and 500 later for its gap: 20,000 long it ends at
    # 24,500 at the latest; a's own end is at its arrival, 4,000 - 3,000 (the delay is a's) = 1,500.
    # b: max(1,500 + 500, 2,000) = 2,000 → 22,000; measured 54,500.
    assert saved(trace, remove="kernel:a") == 54_500 - 22_000


def test_an_op_is_what_lies_in_it_and_what_it_launches(tmp_path: Path) -> None:
    trace = device_bound().load(tmp_path)
    # Without aten::two its 900 of the host are gone too, but they are hidden: as b alone.
    assert saved(trace, remove="op:aten::two") == 20_500


def test_what_is_beside_all_else_bounds_the_request(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).op("aten::load", 10, 60)
    trace = built.load(tmp_path)
    # Without the 60 there are 40 left, but the op itself takes 60 beside them.
    assert saved(trace, overlap="op:aten::load") == 40
    assert saved(trace, remove="op:aten::load") == 60
    assert saved(trace, scale={"op:aten::*": 0.25}) == 45


def test_an_activity_that_starts_before_the_one_before_it_ends_waits_for_that_part(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000).launch(1, 100, 10).launch(2, 200, 10)
    built.kernel("first", 1000, 4000, correlation=1).kernel("second", 3000, 3000, correlation=2)
    built.span("cuda_runtime", "cudaDeviceSynchronize", 300, 6700)
    trace = built.load(tmp_path)
    assert_identities(trace)
    # second started when first had run 2,000 of its 4,000: at half the length that is 1,000 earlier.
    assert saved(trace, scale={"kernel:first": 0.5}) == 1000


def test_a_wait_for_the_whole_device_waits_for_the_other_stream(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 50_000).launch(1, 100, 10).launch(2, 200, 10)
    built.kernel("long", 1000, 30_000, correlation=1).kernel("short", 1200, 20_000, correlation=2, stream=8)
    trace = built.span("cuda_runtime", "cudaDeviceSynchronize", 300, 30_800).load(tmp_path)
    assert_identities(trace)
    # Without long the wait is over with short: 31,000 → 21,200.
    assert saved(trace, remove="kernel:long") == 9800


def test_a_call_that_is_not_there_does_not_wait(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 50_000).launch(1, 100, 10).kernel("k", 1000, 20_000, correlation=1)
    built.span("cuda_runtime", "cudaStreamSynchronize", 300, 21_700).op("aten::mm", 22_000, 10_000)
    trace = built.span("cuda_runtime", "cudaDeviceSynchronize", 40_000, 1000).load(tmp_path)
    assert_identities(trace)
    # The host goes on at 300 instead of 22,000 and is at the second wait, which it makes at 18,300, before the kernel
    # is done at 21,000: measured it made that at 40,000.
    assert saved(trace, remove="span:cudaStreamSynchronize") == 21_700


def test_another_thread_launches_from_where_the_request_had_got_to(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000).op("aten::before", 0, 15_000)
    built.op("autograd::engine", 20_000, 30_000, tid=101).launch(1, 40_000, 500, tid=101)
    built.kernel("grad", 43_000, 20_000, correlation=1)
    trace = built.span("cuda_runtime", "cudaDeviceSynchronize", 45_000, 25_000).load(tmp_path)
    assert_identities(trace)
    assert saved(trace, remove="op:aten::before") == 15_000
    # The other thread's op launches at its own start then: 20,000 + 3,000 for the kernel's delay, but it isn't there.
    assert saved(trace, remove="op:autograd*") == 63_000 - 45_000


def test_a_whole_trace_ends_with_its_last_activity(tmp_path: Path) -> None:
    trace = TraceBuilder().op("aten::mm", 0, 100).launch(1, 10, 5).kernel("k", 200, 800, correlation=1).load(tmp_path)
    assert_identities(trace)
    assert saved(trace, scale={"kernel:k": 0.5}) == 400


def test_the_first_token_is_told_apart_from_the_end(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 1000).range("image_load", 0, 100).range("prefill", 100, 300)
    trace = built.range("sampling", 400, 100).range("decode", 500, 400).load(tmp_path)
    (row,) = what_if(
        trace, Change.of(remove=["stage:decode", "stage:image_load"], scale={"stage:prefill": 0.5})
    ).requests
    assert (row.wall_ns, row.new_wall_ns) == (1000, 1000 - 400 - 100 - 150)
    assert (row.ttft_ns, row.new_ttft_ns) == (400, 250)  # TTFT leaves image_load out either way


def test_figures_are_exact_where_floats_would_not_be(tmp_path: Path) -> None:
    long = 2**54 + 1
    trace = TraceBuilder().range("request", 0, long + 10).op("aten::mm", 5, long).load(tmp_path)
    assert saved(trace, remove="op:aten::mm") == long
    assert saved(trace, scale={"op:aten::mm": 0.999999}) == long - (long * 999_999) // 1_000_000


@st.composite
def random_traces(draw: st.DrawFn) -> TraceBuilder:
    """Threads, streams, launches and waits with small times, so that many fall together."""
    built = TraceBuilder()
    times, lengths = st.integers(0, 60), st.integers(0, 25)
    for _ in range(draw(st.integers(0, 2))):
        built.range(draw(st.sampled_from(("request", "prefill", "sampling", "image_load"))), draw(times), draw(lengths))
    for correlation in range(1, draw(st.integers(1, 9))):
        called = draw(times)
        names = ("cudaLaunchKernel", "cudaMemcpyAsync", "cudaDeviceSynchronize")
        built.launch(
            correlation, called, draw(lengths), name=draw(st.sampled_from(names)), tid=draw(st.sampled_from((100, 101)))
        )
        if draw(st.booleans()):
            start = max(0, called + draw(st.integers(-3, 30)))
            built.kernel("k", start, draw(lengths), correlation=correlation, stream=draw(st.sampled_from((7, 8))))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from(("cudaStreamSynchronize", "cudaDeviceSynchronize")))
        built.span("cuda_runtime", name, draw(times), draw(lengths), tid=draw(st.sampled_from((100, 101))))
    return built.op("aten::mm", draw(times), draw(lengths) + 1).op("aten::add", draw(times), draw(lengths), tid=101)


@settings(max_examples=tries(60))
@given(random_traces(), st.data())
def test_identities_hold_on_random_graphs(
    tmp_path_factory: pytest.TempPathFactory, built: TraceBuilder, data: st.DataObject
) -> None:
    trace = built.load(tmp_path_factory.mktemp("random"))
    assert_identities(trace)
    engine = Engine(trace, trace.requests)
    for request in trace.requests:
        replay = engine.replay(request)
        work = replay.graph.work_ns
        factors = st.lists(st.integers(0, 4), min_size=len(work), max_size=len(work))
        fewer = work * np.array(data.draw(factors), dtype=np.int64) // 4
        walls = [replay.run(each).wall_ns for each in (fewer // 2, fewer, work)]
        assert walls == sorted(walls)  # less work never takes longer


CORPORA = (
    "h100_bert_small",
    "h100_owlv2_vlm_proxy",
    "a100_event_sync_multi_stream",
    "mi300x_vllm_decode_graph",
    "a100_triton_culaunchkernel",
    "h100_qwen15_0.5b_unlinked",
    "multirank_rank0_no_flows",
)


@pytest.mark.parametrize("name", CORPORA)
def test_identities_hold_on_real_traces(corpus: Path, name: str) -> None:
    trace = real_trace(corpus / f"{name}.json.gz")
    assert_identities(trace)
    engine = Engine(trace, trace.requests)
    path = critical_path(trace, 0)
    graph, on_path = engine.replay(path.request).graph, engine.replay(path.request).critical()
    on_device = set(graph.span[on_path & graph.is_device].tolist())
    if path.request.label.startswith("Profiler"):  # a whole trace ends where an activity does
        walked = set(path.span[path.kind == list(PathKind).index(PathKind.DEVICE)].tolist())
        assert walked <= on_device


@pytest.mark.parametrize("folder", sorted(path.name for path in SAMPLES.iterdir() if path.is_dir()))
def test_identities_hold_on_our_own_captures(folder: str) -> None:
    (path,) = (SAMPLES / folder).glob("*.json.gz")
    assert_identities(real_trace(path))


def test_owlv2s_softmax_is_what_the_corpus_says() -> None:
    if not SHARED.is_dir():
        pytest.skip("needs ../shared/corpus, real traces that this project reads but does not ship")
    trace = real_trace(SHARED / "corpus" / "h100_owlv2_vlm_proxy.json.gz")
    # The device is what the request waits for while the towers run, so without its softmax kernels (262,538,215 ns) and
    # the gaps before them (at most a few µs each) the request is that much shorter.
    (row,) = what_if(trace, Change.of(remove="family:softmax")).requests
    assert row.selected_ns == 262_538_215
    assert 262_538_215 <= row.saved_ns < 262_538_215 + 500_000
