"""More real traces, against figures that were counted by independent means."""

from __future__ import annotations

import numpy as np
import pytest

from gemma_trace.analysis.decode import decode_statistics
from gemma_trace.analysis.intervals import union_ns
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.stages import stage_rule
from gemma_trace.trace.events import IntArray
from gemma_trace.trace.trace import Trace, load
from tests.conftest import SHARED, real_trace
from tests.integration.test_attribution import by_stages


def _names(trace: Trace, spans: IntArray) -> list[str]:
    return [trace.spans.names[code] for code in trace.spans.name[spans].tolist()]


CORPUS_2 = SHARED / "corpus_2"


@pytest.mark.skipif(not CORPUS_2.is_dir(), reason="needs ../shared/corpus_2, real traces that are not shipped")
class TestRealTraces:
    """Against figures that were counted by independent means."""

    FIGURES = (
        ("resnet_dataloader_autograd_thread", 75548, 10113, 4733822000, 4733822000),
        ("a100_nccl_forward_backward", 26933, 3774, 165185838, 157500014),
        ("a100_particle_cold_start", 4462, 560, 91649050, 91649050),
        ("v100_resnet50_2021", 44666, 9096, 602145000, 602145000),
        ("norm_layers", 7452, 173, 1018632, 1018632),
        ("dlrm_8_ranks/rank0", 2460, 261, 6851000, 6590000),
    )

    @pytest.mark.parametrize("figures", FIGURES, ids=lambda figures: figures[0])
    def test_counts(self, figures: tuple[str, int, int, int, int]) -> None:
        trace = real_trace(CORPUS_2 / f"{figures[0]}.json.gz")
        spans, activities = trace.spans, trace.activities
        device_sum, busy = (
            int(spans.dur_ns[activities].sum()),
            union_ns(spans.ts_ns[activities], spans.end_ns[activities]),
        )
        assert (len(spans), len(activities), device_sum, busy) == figures[1:]
        assert not (trace.launch < 0).any()

    def test_backward_asked_for_what_the_autograd_thread_launched(self) -> None:
        rules = [stage_rule("fwd", "^## forward"), stage_rule("bwd", "^## backward")]
        found = by_stages(load(CORPUS_2 / "a100_nccl_forward_backward.json.gz", rules))
        assert (found["fwd"][2:], found["bwd"][2:]) == ((1356, 38768022), (2391, 124339538))

    def test_the_main_thread_waits_for_its_data(self) -> None:
        trace = real_trace(CORPUS_2 / "resnet_dataloader_autograd_thread.json.gz")
        found = by_stages(trace)["preprocessing"]
        wall_ns = trace.requests[0].wall_ns
        assert [round(ns / 1e6) for ns in (found.host_ns, found.time_ns, wall_ns)] == [8205, 6665, 16172]

    def test_a_served_worker(self) -> None:
        trace = real_trace(CORPUS_2 / "vllm032_sequential" / "worker.json.gz")
        found = {stage: round(figures.time_ns / 1e6, 1) for stage, figures in by_stages(trace).items()}
        found.pop("unattributed")
        assert found == {
            "vision_tower": 1534.0,
            "projector": 5.4,
            "prefill": 130.5,
            "decode": 149.9,
            "sampling": 7.1,
            "idle": 225.3,
        }
        assert round(kernel_table(trace, "prefill").totals.host_self_ns / 1e6, 1) == 130.5

    def test_a_served_front_end(self) -> None:
        found = by_stages(real_trace(CORPUS_2 / "vllm032_sequential" / "front_end.json.gz"))
        measured = {stage: round(figures.time_ns / 1e6, 1) for stage, figures in found.items()}
        # Two JPEGs of 11.4 and 10.8 ms, two images of 28.1 and 19.1 ms.
        assert (measured["image_load"], measured["image_processing"]) == (22.2, 47.2)
        trace = real_trace(CORPUS_2 / "vllm032_sequential" / "front_end.json.gz")
        applied = trace.stage_ranges[[name.endswith("): apply") for name in _names(trace, trace.stage_ranges)]]
        assert np.round(trace.spans.dur_ns[applied] / 1e6, 1).tolist() == [47.2, 30.6]

    def test_tokens_of_a_served_worker(self) -> None:
        trace = real_trace(CORPUS_2 / "vllm032_no_stacks" / "worker.json.gz")
        found = decode_statistics(trace)
        assert found is not None
        assert [len(series.intervals_ns) for series in found.series] == [4, 4, 4, 4]
        assert round(found.tpot.median) == 258
        assert set(by_stages(trace)) == {"prefill", "decode", "unattributed"}, "the encoder is inside the prefill"
