"""Real traces against figures that were counted by independent means."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from gemma_trace.analysis.intervals import union_ns
from tests.conftest import real_trace
from tests.trace.owned_nesting import self_ns


class Figures(NamedTuple):
    """What a trace is known to hold."""

    spans: int
    activities: int
    unlinked: int
    device_sum_ns: int
    device_busy_ns: int


FIGURES = {
    "a100_alexnet_cuda_sync": Figures(868, 98, 0, 66203000, 66141000),
    "a100_event_sync_multi_stream": Figures(57, 6, 0, 372000, 372000),
    "a100_train_legacy_flows": Figures(74937, 9450, 0, 501567000, 388587000),
    "a100_triton_culaunchkernel": Figures(8, 1, 0, 1760, 1760),
    "cpu_only": Figures(16, 0, 0, 0, 0),
    "h100_bert_small": Figures(2060, 61, 0, 309437, 309437),
    "h100_owlv2_vlm_proxy": Figures(104159, 5165, 0, 566759477, 566759477),
    "h100_qwen15_0.5b_unlinked": Figures(12080, 1707, 509, 45647300, 45647300),
    "mi300x_sglang_prefill_decode": Figures(58712, 534, 0, 492811563, 492806877),
    "mi300x_vllm_decode_graph": Figures(1539, 434, 0, 10717708, 10717708),
    "multirank_rank0_no_flows": Figures(4811, 1204, 0, 607844000, 547656000),
    "multirank_rank1_no_flows": Figures(4676, 1154, 0, 667530000, 580050000),
    "v100_epoch_timestamps": Figures(45420, 6095, 0, 472454441, 472454441),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_real_trace_has_the_figures_that_were_counted(corpus: Path, name: str) -> None:
    trace = real_trace(corpus / f"{name}.json.gz")
    spans, activities = trace.spans, trace.activities
    figures = Figures(
        len(spans),
        len(activities),
        int((trace.launch < 0).sum()),
        int(spans.dur_ns[activities].sum()),
        union_ns(spans.ts_ns[activities], spans.end_ns[activities]),
    )
    assert figures == FIGURES[name]
    assert (trace.read_report.truncated, trace.read_report.damaged) == (False, False)


@pytest.mark.parametrize("name", FIGURES)
def test_a_real_traces_host_time_is_owned_exactly_once(corpus: Path, name: str) -> None:
    trace = real_trace(corpus / f"{name}.json.gz")
    host, nesting, segments = trace.host, trace.nesting, trace.segments
    kept = self_ns(trace.spans.ts_ns[host], nesting)
    assert (kept >= 0).all()
    owned = np.zeros(len(trace.spans), dtype=np.int64)
    np.add.at(owned, segments.owner, segments.end_ns - segments.start_ns)
    assert owned[host].tolist() == kept.tolist()
    roots = nesting.parent < 0
    start, end, track = trace.spans.ts_ns[host], nesting.end_ns, trace.spans.track[host]
    covered = sum(union_ns(start[roots & on], end[roots & on]) for on in (track == one for one in np.unique(track)))
    assert int(kept.sum()) == covered


def test_every_trace_of_the_corpus_is_in_the_table(corpus: Path) -> None:
    assert {path.name.removesuffix(".json.gz") for path in corpus.glob("*.json.gz")} == set(FIGURES)
