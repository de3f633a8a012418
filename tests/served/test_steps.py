"""Steps of engines: what their names say, and which ranges they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gemma_trace.cli import main
from gemma_trace.served.steps import StepCounts, engine_steps, step_counts
from tests.conftest import SHARED, real_trace
from tests.trace_builder import TraceBuilder


@pytest.mark.parametrize(
    ("name", "counts", "kind"),
    [
        ("execute_context_1(296)_generation_0(0)", (1, 296, 0, 0), "prefill"),
        ("execute_context_0(0)_generation_3(3)", (0, 0, 3, 3), "decode"),
        ("execute_new_2_context_2(512)_generation_3(3)", (2, 512, 3, 3), "mixed"),
        ("execute_context_0(0)_generation_0(0)", (0, 0, 0, 0), "empty"),
        ("execute_32_context_0(sq0sk0sqsq0sqsk0)_generation_32(sq32sk55086sqsq32sqsk55086)", (0, 0, 32, 32), "decode"),
        ("execute_9_context_1(sq8sk8sqsq64sqsk64)_generation_1(sq1sk90sqsq1sqsk90)", (1, 8, 1, 1), "mixed"),
        ("step[EXTEND bs=15 toks=15360]", (15, 15360, 0, 0), "prefill"),
        ("step[DECODE bs=8]", (0, 0, 8, 8), "decode"),
        ("step[MIXED bs=4 toks=70]", (4, 70, None, None), "prefill"),
        ("step[MIXED bs=2 c=1 g=1 c_sq=5 c_sk=8 c_sqsq=25 c_sqsk=40 g_sq=1 g_sk=12]", (1, 5, 1, 1), "mixed"),
        ("step[MIXED bs=1 c=1 g=0 c_sq=3 c_sk=3 g_sq=0 g_sk=0]", (1, 3, 0, 0), "prefill"),
        ("step[EXTEND bs=2 toks=12 c_sq=12 c_sqsq=80 c_sqsk=120 c_sk=20]", (2, 12, 0, 0), "prefill"),
        ("step[DECODE bs=2 g_sq=8 g_sqsq=32 g_sqsk=120 g_sk=30]", (0, 0, 2, 8), "decode"),
        ("step[TARGET_VERIFY bs=2 g_sq=6 g_sqsq=18 g_sqsk=90 g_sk=30]", (0, 0, 2, 6), "decode"),
        ("step[TARGET_VERIFY bs=3]", (0, 0, 3, 3), "decode"),
    ],
)
def test_names(name: str, counts: tuple[int | None, ...], kind: str) -> None:
    found = step_counts(name)
    assert found == StepCounts(*counts)
    assert found.kind == kind


@pytest.mark.parametrize(
    "name",
    [
        *(
            "execute_model",
            "execute_context_1(296)",
            "execute_context_9999999999(1)_generation_0(0)",
            "step[IDLE bs=0]",
        ),
        "execute_" + "a_" * 50_000 + "context_1(1)",
    ],
)
def test_names_of_other_things(name: str) -> None:
    assert step_counts(name) is None


def test_steps_are_counted_once_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = (
        TraceBuilder()
        .span("user_annotation", "execute_context_1(300)_generation_2(2)", 0, 4_000_000)
        .op("aten::mm", 10, 3_000_000)
        .span("user_annotation", "execute_context_0(0)_generation_3(3)", 5_000_000, 1_000_000)
        .span("user_annotation", "execute_context_0(0)_generation_3(3)", 7_000_000, 3_000_000)
        .write(tmp_path / "worker.json")
    )
    assert main(["stages", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "The image encoder can't be told from the prefill here" in shown
    assert "A step that several requests share counts once here." in shown
    assert main(["stages", str(path), "--format", "json"]) == 0
    steps = json.loads(capsys.readouterr().out)["totals"]["steps"]
    assert [(step["kind"], step["generation_requests"], step["host_ns"]) for step in steps] == [
        ("mixed", 2, 4_000_000),
        ("decode", 3, 1_000_000),
        ("decode", 3, 3_000_000),
    ]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared, real traces that are not shipped")
def test_steps_of_real_workers() -> None:
    trace = real_trace(SHARED / "corpus_2" / "vllm032_no_stacks" / "worker.json.gz")
    steps = engine_steps(trace)
    kinds = [step.counts.kind for step in steps if step.counts.kind != "empty"]
    assert kinds == ["prefill", *["decode"] * 5] * 4
    assert sum(step.counts.context_tokens or 0 for step in steps) == 4 * 296
