"""The numbers of a store are those of the analysis: stages, samples and kernels, to the nanosecond."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gemma_trace
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.summary import summarize
from gemma_trace.cli import main
from gemma_trace.store import kernels
from tests.conftest import SAMPLES, real_trace
from tests.store.traces import built, rows, run_id_of

SAMPLE = next((SAMPLES / "sample-tiny-cpu-pil").glob("*.gz"))


def same_as_stages(store: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stages", str(trace), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert rows(store, "stages", run_id_of(trace)) == found["rows"]
    (run,) = rows(store, "runs", run_id_of(trace))
    assert run["wall_ns"] == found["totals"]["wall_ns"]
    assert run["requests"] == found["totals"]["requests"]
    assert run["verdict"] == found["health"]["verdict"]


@pytest.mark.parametrize("timed", [True, False])
def test_numbers_are_those_of_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str], timed: bool) -> None:
    trace = built(tmp_path / "a.json", timed=timed)
    assert main(["index", str(trace), "--to", str(tmp_path / "store")]) == 0
    capsys.readouterr()
    same_as_stages(tmp_path / "store", trace, capsys)
    found = rows(tmp_path / "store", "kernels", run_id_of(trace))
    assert [(row["stage"], row["kernel"], row["count"], row["sum_ns"], row["median_ns"]) for row in found] == [
        ("vision_tower", "conv", 1, 100, 100),
        ("prefill", "gemm", 2, 130, 65),
        ("prefill", "softmax", 1, 30, 30),
        ("decode", "gemm", 1, 20, 20),
    ]


def test_numbers_of_a_capture_and_of_real_traces(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], corpus: Path
) -> None:
    traces = [SAMPLE, corpus / "mi300x_vllm_decode_graph.json.gz", corpus / "h100_bert_small.json.gz"]
    assert main(["index", *map(str, traces), "--to", str(tmp_path)]) == 0
    capsys.readouterr()
    for trace in traces:
        same_as_stages(tmp_path, trace, capsys)


def test_samples_are_those_of_summarize(tmp_path: Path) -> None:
    gemma_trace.Store(tmp_path).index(SAMPLE)
    run = summarize(real_trace(SAMPLE))
    found = rows(tmp_path, "samples", run_id_of(SAMPLE))
    for measure, values_ms in (("ttft", "ttft_ms"), ("prefill", "prefill_ms"), ("tpot", "tpot_ms")):
        told = run.measures[values_ms]
        mine = [row["value_ns"] for row in found if (row["timing"], row["measure"]) == ("timed", measure)]
        assert told
        assert [value / 1e6 for value in mine] == list(told.values)
    profiled = [row["value_ns"] for row in found if (row["timing"], row["measure"]) == ("profiled", "ttft")]
    told = run.measures["profiled_ttft_ms"]
    assert told
    assert [value / 1e6 for value in profiled] == list(told.values)
    (row,) = rows(tmp_path, "runs", run_id_of(SAMPLE))
    assert (row["model"], row["dtype"], row["image_backend"]) == ("tiny", "float32", "pil")
    assert row["ttft_samples"] == run.runs
    assert run.measures["ttft_ms"]
    assert row["ttft_ns"] == pytest.approx(run.measures["ttft_ms"].median * 1e6, abs=1)


def test_kernels_of_all_stages_add_up_to_those_of_the_trace(tmp_path: Path) -> None:
    trace = gemma_trace.load(built(tmp_path / "a.json"))
    whole = kernel_table(trace)
    for most in (500, 2):
        found = kernels.stage_kernels(trace, most)
        assert sum(row.sum_ns for row in found) == whole.totals.device_sum_ns
        assert sum(row.count for row in found) == whole.totals.activities
        assert sum(row.kernel != kernels.OTHERS for row in found) <= most
    for stage in ("vision_tower", "prefill", "decode"):
        mine = [row for row in kernels.stage_kernels(trace) if row.stage == stage]
        theirs = {row.name: row for row in kernel_table(trace, stage).rows}
        assert {row.kernel for row in mine} == set(theirs)
        for row in mine:
            told = theirs[row.kernel]
            assert (row.count, row.sum_ns, row.min_ns, row.max_ns) == (
                told.count,
                told.sum_ns,
                told.min_ns,
                told.max_ns,
            )
            assert (row.median_ns, row.family) == (int(told.median_ns), told.family)


def test_ops_stand_in_where_there_is_no_device(tmp_path: Path) -> None:
    whole = kernel_table(real_trace(SAMPLE))
    found = kernels.stage_kernels(real_trace(SAMPLE))
    assert {row.side for row in found} == {"host"}
    assert sum(row.sum_ns for row in found) == whole.totals.host_self_ns
    prefill = {row.name: (row.count, row.sum_ns) for row in kernel_table(real_trace(SAMPLE), "prefill").rows}
    assert {row.kernel: (row.count, row.sum_ns) for row in found if row.stage == "prefill"} == prefill
