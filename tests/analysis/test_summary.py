from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.study import study_sections
from gemma_trace.analysis.summary import RunSummary, profiled_requests, summarize
from gemma_trace.metadata import Environment, RequestSample, RunIdentity, RunMetadata, StageSample, Workload
from tests.trace_builder import TraceBuilder

MS = 1_000_000


def sample(
    ttft_ms: int, processing_ms: int, image: str = "a", device_ms: int | None = None, **more: Any
) -> RequestSample:
    """A request: image_load, template, rest of preprocessing 1 ms each, tower 20, projector 5, prefill 30."""

    def stage(ms: int, on_device: bool = False) -> StageSample:
        return StageSample(ms * MS, None if device_ms is None else (device_ms if on_device else 0) * MS, 1)

    stages = {
        "image_load": stage(1),
        "preprocessing": stage(1),
        "chat_template": stage(1),
        "image_processing": stage(processing_ms),
        "vision_tower": stage(20, True),
        "projector": stage(5, True),
        "prefill": stage(30, True),
    }
    return RequestSample(
        wall_ns=(ttft_ms + 20) * MS,
        ttft_ns=ttft_ms * MS,
        token_ns=(ttft_ms * MS, (ttft_ms + 4) * MS, (ttft_ms + 10) * MS),
        image=image,
        ttft_stages=stages,
        stages=stages | {"decode": StageSample(8 * MS, None if device_ms is None else 6 * MS, 2)},
    )


def metadata(
    samples: list[RequestSample], device: str = "cpu", backend: str = "torchvision", **config: Any
) -> RunMetadata:
    return RunMetadata(
        schema_version=1,
        created_utc="",
        run=RunIdentity("run", "27b", "random", "bfloat16", device, backend),
        workload=Workload((), (), 3),
        environment=Environment("0", "3", "2", None, "5", "", "", 1, 1, 1, "A GPU"),
        config=config,
        timed_requests=tuple(samples),
        profiled_images=("a", "b"),
    )


def run_of(described: RunMetadata, folder: Path) -> RunSummary:
    built = TraceBuilder().metadata(described)
    for start in (0, 1000 * MS):
        built.range("request", start, 200 * MS).range("prefill", start, 100 * MS).range(
            "sampling", start + 100 * MS, 20 * MS
        )
    return summarize(built.load(folder))


def test_measures_are_those_of_the_timed_pass(tmp_path: Path) -> None:
    run = run_of(metadata([sample(100, 10), sample(110, 12), sample(120, 30)]), tmp_path)
    medians = {name: measure.median for name, measure in run.measures.items() if measure}
    assert medians["ttft_ms"] == 110
    assert medians["image_processing_ms"] == 12
    assert medians["preprocessing_ms"] == 1 + 1 + 12
    assert medians["vision_tower_ms"] == 20
    assert medians["decode_ms"] == 4
    assert medians["tpot_ms"] == 5
    assert medians["image_processing_share_pct"] == pytest.approx(100 * 12 / 110)
    assert medians["unattributed_ms"] == 33, "of 100 - 67, 110 - 69 and 120 - 87"
    assert medians["profiled_ttft_ms"] == 120
    assert run.measures["tokenization_ms"] is None
    assert (run.timing, run.runs) == ("timed", 3)


def test_inflation_compares_requests_with_the_same_image(tmp_path: Path) -> None:
    run = run_of(metadata([sample(100, 1, "a"), sample(80, 1, "b"), sample(60, 1, "b"), sample(999, 1, "c")]), tmp_path)
    assert run.inflation == pytest.approx((120 / 100 + 120 / 70) / 2)


def test_a_profiled_request_that_takes_no_time_has_no_inflation(tmp_path: Path) -> None:
    built = TraceBuilder().metadata(metadata([sample(100, 1, "a")]))
    for start in (0, 1000 * MS):
        built.range("request", start, 200 * MS).range("image_load", start, 120 * MS).range("sampling", start, 120 * MS)
    run = summarize(built.load(tmp_path))
    assert [request.ttft_ns for request in profiled_requests(breakdown(built.load(tmp_path)))] == [0, 0]
    assert run.inflation is None
    assert not [each for each in run.health.findings if each.code in ("profiler_inflation", "slower_without_profiler")]


def test_on_a_gpu_the_devices_stages_are_on_the_devices_clock(tmp_path: Path) -> None:
    run = run_of(metadata([sample(100, 10, device_ms=7)], device="cuda"), tmp_path)
    medians = {name: measure.median for name, measure in run.measures.items() if measure}
    assert medians["vision_tower_ms"] == 7
    assert medians["image_processing_ms"] == 10, "a stage of the host"
    assert medians["decode_ms"] == 3
    assert "unattributed_ms" not in medians, "two clocks have no difference"


def test_with_synchronised_stages_the_hosts_clock_holds(tmp_path: Path) -> None:
    run = run_of(metadata([sample(100, 10, device_ms=7)], device="cuda", sync_stages=True), tmp_path)
    tower, unattributed = run.measures["vision_tower_ms"], run.measures["unattributed_ms"]
    assert tower is not None
    assert unattributed is not None
    assert (tower.median, unattributed.median) == (20, 100 - 67)


def test_a_trace_that_is_not_ours_gives_its_profiled_requests(tmp_path: Path) -> None:
    trace = TraceBuilder().range("ProfilerStep#1", 0, 10 * MS).op("aten::mm", 1, 5).load(tmp_path)
    run = summarize(trace)
    assert (run.run, run.timing, run.model, run.inflation) == ("built", "profiled", "", None)


def test_the_study_has_its_sections_columns_and_cells(tmp_path: Path) -> None:
    runs = [
        run_of(
            metadata([sample(100, 10), sample(110, 12), sample(150, 30)], device="cuda", sync_stages=True), tmp_path
        ),
        run_of(metadata([sample(100, 10)], backend="pil"), tmp_path),
    ]
    (section,) = study_sections(runs)
    assert section.title == "27b bfloat16"
    assert [config for config, _ in section.rows] == ["cuda use_fast=True", "cpu use_fast=False"]
    cells = section.rows[0][1]
    assert cells == (
        "0.11 0.0216 0.04",  # 100, 110, 150: population std sqrt(1400 / 3)
        "0.012 0.00899 0.018",
        "0.025 0 0",
        "0.03 0 0",
        "10.9 4.52 9.09",
        "0.02 0 0",
        "0.005 0 0",
        "85.7 4.46 8.04",
    )


def test_runs_that_the_study_can_not_tell_apart_have_their_names(tmp_path: Path) -> None:
    run = run_of(metadata([sample(100, 10)]), tmp_path)
    runs = [replace(run, run="eager"), replace(run, run="sdpa"), replace(run, run="pil", image_backend="pil")]
    (section,) = study_sections(runs)
    assert [config for config, _ in section.rows] == [
        "cpu use_fast=True (eager)",
        "cpu use_fast=True (sdpa)",
        "cpu use_fast=False",
    ]


def test_the_loads_of_a_configuration_are_one_row(tmp_path: Path) -> None:
    runs = [
        run_of(metadata([sample(ttft, 10)], requests="requests.jsonl", shuffle=seed), tmp_path)
        for seed, ttft in enumerate((100, 110, 150))
    ]
    (section,) = study_sections(runs)
    ((config, cells),) = section.rows
    assert (config, cells[0]) == ("cpu use_fast=True", "0.11 0.0216 0.04")
    others = [replace(run, drawn_from="others.jsonl") for run in runs[:1]]
    (section,) = study_sections([*runs, *others])
    assert [cells[0] for _, cells in section.rows] == ["0.11 0.0216 0.04", "0.1 0 0"]


def test_images_that_a_gpu_processes_are_timed_on_its_clock(tmp_path: Path) -> None:
    launched = sample(100, 0, device_ms=20)
    stages = launched.ttft_stages | {"image_processing": StageSample(160_000, 20 * MS, 1)}
    launched = replace(launched, ttft_stages=stages)
    for where, median in (("cuda", 20), ("cuda:1", 20), (None, 0.16), ("cpu", 0.16)):
        run = run_of(metadata([launched], device="cuda", image_device=where), tmp_path)
        processing = run.measures["image_processing_ms"]
        assert processing is not None
        assert processing.median == median, where
    waited = replace(launched, ttft_stages=stages | {"image_processing": StageSample(20 * MS, 160_000, 1)})
    run = run_of(metadata([waited], device="cuda", image_device="cuda:1", images_waited_for=True), tmp_path)
    processing = run.measures["image_processing_ms"]
    assert processing is not None
    assert processing.median == 20, "the events were on the model's device, which did nothing"
    synchronized = run_of(metadata([launched], device="cuda", image_device="cuda", sync_stages=True), tmp_path)
    processing = synchronized.measures["image_processing_ms"]
    assert processing is not None
    assert processing.median == 0.16, "where the host waits, its own clock says it"
