"""The captures that the project ships: the core identities, without torch and without anything outside the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.summary import summarize
from gemma_trace.stages import OF_OTHER_MODALITIES, Stage
from gemma_trace.trace.trace import load_metadata
from tests.conftest import SAMPLES, real_trace

TRACES = sorted(SAMPLES.glob("*/*.pt.trace.json.gz"))


@pytest.fixture(params=TRACES, ids=lambda path: path.parent.name)
def sample(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_there_is_one_of_each_image_backend() -> None:
    described = [load_metadata(path) for path in TRACES]
    assert {metadata.run.image_backend for metadata in described if metadata} == {"torchvision", "pil"}


def test_stages_add_up_to_the_wall_and_timings_to_ttft(sample: Path) -> None:
    trace = real_trace(sample)
    found = breakdown(trace)
    assert len(found.requests) == 2
    for window in found.requests:
        rows = [row for row in found.rows if row.request == window.index]
        assert {row.stage for row in rows} == {stage.value for stage in Stage if stage not in OF_OTHER_MODALITIES} - {
            "request"
        }
        assert sum(row.time_ns for row in rows) == window.wall_ns
    for request in summarize(trace, found).requests:
        inside = sum(ns for stage, ns in request.stages_ns.items() if stage not in ("image_load", "decode"))
        assert inside + (request.unattributed_ns or 0) == request.ttft_ns


def test_ops_of_a_stage_add_up_to_its_host_time(sample: Path) -> None:
    trace = real_trace(sample)
    rows = breakdown(trace).summed()
    for row in rows:
        table = kernel_table(trace, row.stage)
        assert table.totals.host_self_ns == row.host_ns, row.stage


def test_nothing_is_wrong_with_it(sample: Path) -> None:
    run = summarize(real_trace(sample))
    assert [finding.code for finding in run.health.findings] == ["random_weights"], "which is no fault"
    assert (run.timing, run.runs, run.weights) == ("timed", 10, "random")
    assert run.inflation is not None
    assert 0.9 < run.inflation < 1.25


def test_pillow_takes_longer_than_torchvision_and_only_there() -> None:
    found: dict[str, list[float]] = {}
    for path in TRACES:
        run = summarize(real_trace(path))
        for name in ("image_processing_ms", "prefill_ms"):
            measure = run.measures[name]
            assert measure is not None
            found.setdefault(run.image_backend, []).append(measure.median)
    (pil_processing, pil_prefill), (processing, prefill) = found["pil"], found["torchvision"]
    assert pil_processing > 2 * processing
    assert pil_prefill == pytest.approx(prefill, rel=0.1)
