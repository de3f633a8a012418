"""Real captures of the tiny model: the identities that every trace of ours keeps."""

from __future__ import annotations

import getpass
import gzip
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.summary import summarize
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.session import profile
from gemma_trace.errors import CaptureError, DeviceError, ModelError, OutputError
from gemma_trace.stages import OF_OTHER_MODALITIES, Stage
from gemma_trace.trace.trace import load
from tests import perfetto
from tests.conftest import made_once, real_trace
from tests.trace_builder import TraceBuilder

EVERY_STAGE = {stage.value for stage in Stage if stage not in OF_OTHER_MODALITIES} - {"request"}


def test_every_stage_is_there_and_they_add_up_to_the_wall(captured: Path) -> None:
    found = breakdown(real_trace(captured))
    assert len(found.requests) == 2
    for window in found.requests:
        rows = [row for row in found.rows if row.request == window.index]
        assert {row.stage for row in rows} == EVERY_STAGE
        assert sum(row.time_ns for row in rows) == window.wall_ns
        assert all(row.time_ns >= 0 and row.host_ns >= 0 for row in rows)


def test_little_of_ttft_is_unattributed(captured: Path) -> None:
    measures = summarize(real_trace(captured)).measures
    unattributed, ttft = measures["unattributed_ms"], measures["ttft_ms"]
    assert unattributed is not None
    assert ttft is not None
    assert 0 <= unattributed.median < 0.05 * ttft.median


def test_timed_stages_and_the_rest_add_up_to_ttft(captured: Path) -> None:
    for request in summarize(real_trace(captured)).requests:
        assert request.ttft_ns is not None
        assert request.unattributed_ns is not None
        inside = sum(ns for stage, ns in request.stages_ns.items() if stage not in ("image_load", "decode"))
        assert inside + request.unattributed_ns == request.ttft_ns


def test_each_token_comes_after_the_one_before(captured: Path) -> None:
    metadata = real_trace(captured).metadata
    assert metadata is not None
    for sample in metadata.timed_requests:
        assert len(sample.token_ns) == 3
        assert sorted(sample.token_ns) == list(sample.token_ns)
        assert sample.token_ns[-1] <= sample.wall_ns
        assert sample.stages["decode"].count == 2
        assert sample.stages["sampling"].count == 3
    assert metadata.workload.new_tokens == 3
    assert set(metadata.workload.prompt_tokens) == {314}, "58 tokens of text and 256 of the image"


def test_the_file_is_one_that_tensorboard_finds(captured: Path) -> None:
    worker, timestamp, rest = captured.name.split(".", 2)
    assert worker == "rank0"
    assert timestamp.isdigit()
    assert rest == "pt.trace.json.gz"
    assert captured.parent.name == "tiny-float32-cpu-torchvision"
    assert [file.name for file in captured.parent.iterdir()] == [captured.name]


def test_the_trace_names_no_person_and_no_machine(captured: Path) -> None:
    text = gzip.decompress(captured.read_bytes()).decode()
    assert str(Path.home()) + "/" not in text
    assert "host_name" not in text
    assert f'"{platform.node()}"' not in text
    if len(getpass.getuser()) > 4:  # "root" is a word
        assert getpass.getuser() not in text


def test_perfetto_loses_nothing_and_shows_the_stages(captured: Path) -> None:
    query = "select name, count(*) as n, sum(dur) as ns from slice where name glob 'gemma_trace::*' group by name"
    lost, shown = perfetto.ask(captured, query)
    assert lost == []
    rows = {row["name"].removeprefix("gemma_trace::"): row for row in shown}
    spans = real_trace(captured).spans
    for stage in EVERY_STAGE - {"unattributed"}:
        code = spans.names.index(f"gemma_trace::{stage}")
        assert rows[stage]["n"] == (spans.name == code).sum()
        assert rows[stage]["ns"] == spans.dur_ns[spans.name == code].sum()


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory, quick_gemma: Path) -> Path:
    """All that can be recorded, and no timed pass."""

    def capture(folder: Path) -> Path:
        config = CaptureConfig(device="cpu", warmup=0, runs=0, profile_runs=1, output=folder)
        recorded: dict[str, Any] = {"stacks": True, "detail": "module", "memory": True, "image_backend": "pil"}
        return profile(config, model=str(quick_gemma), weights="random", **recorded).path

    return made_once(tmp_path_factory, "detailed", capture)


def test_perfetto_loses_nothing_with_stacks_modules_and_memory(detailed: Path) -> None:
    trace = real_trace(detailed)
    assert trace.spans.in_categories(frozenset({"python_function"})).sum() > 10_000
    assert trace.nesting.clipped == 0
    text = gzip.decompress(detailed.read_bytes()).decode()
    assert str(Path.home()) + "/" not in text
    assert perfetto.ask(detailed) == [[]]


def test_a_run_without_a_timed_pass_says_so(detailed: Path) -> None:
    run = summarize(real_trace(detailed))
    assert (run.timing, run.runs, run.inflation) == ("profiled", 1, None)
    assert [finding.code for finding in run.health.findings] == ["no_warmup", "random_weights"]


def test_an_output_that_exists_is_kept_unless_forced(captured: Path, quick_gemma: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "model": str(quick_gemma),
        "device": "cpu",
        "warmup": 0,
        "runs": 0,
        "profile_runs": 1,
        "image_sizes": "64x48",
        "name": "mine",
        "output": tmp_path,
    }
    (tmp_path / "mine").mkdir()
    first = Path(shutil.copy(captured, tmp_path / "mine"))
    with pytest.raises(OutputError, match="has a trace in it already; give another name="):
        profile(**options)
    assert first.exists()
    second = profile(**options, shapes=False, force=True).path
    assert [file.name for file in second.parent.iterdir()] == [second.name]
    assert second != first


def test_an_output_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output, name in ((tmp_path / "file", "mine"), (tmp_path / "file" / "deeper", "mine"), (tmp_path, "file")):
        with pytest.raises(OutputError, match=r"can't write into .*file; give output="):
            profile(device="cpu", model="no such model: it isn't looked for", output=output, name=name)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model": "gemma-9000"}, ModelError, "no model 'gemma-9000': it is not a preset"),
        ({"model": "."}, ModelError, "has no model and processor that transformers can load"),
        ({"attn": "magic"}, ModelError, "no attention implementation 'magic'"),
        ({"device": "cuda:77"}, DeviceError, "no device cuda:77"),
    ],
)
def test_what_is_not_there_is_one_line_and_no_file(
    options: dict[str, Any], kind: type[Exception], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=message) as caught:
        profile(**{"device": "cpu"} | options)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_run_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gemma_trace.capture.session import _Session

    def fail(self: _Session, scratch: Path) -> Path:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(_Session, "profile_requests", fail)
    with pytest.raises(CaptureError, match="illegal memory access") as caught:
        profile(device="cpu", warmup=0, runs=0, profile_runs=1, output=tmp_path)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert list(tmp_path.rglob("*")) == []


def test_a_folder_with_a_saved_model_is_captured(quick_gemma: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "warmup": 0,
        "runs": 0,
        "profile_runs": 1,
        "image_sizes": "64x48",
        "image_backend": "pil",
        "output": tmp_path / "out",
    }
    found = profile(model=str(quick_gemma), device="cpu", **options)
    assert (found.metadata.run.model, found.metadata.run.weights) == ("quick-gemma", "pretrained")
    text = gzip.decompress(found.path.read_bytes()).decode()
    assert str(tmp_path) not in text
    assert str(quick_gemma.parent) not in text
    names = load(found.path).spans.names
    assert "aten::_upsample_bilinear2d_aa" not in names, "the pil backend resizes without torch"


def test_a_model_in_hand_is_captured(quick_gemma: Path, tmp_path: Path) -> None:
    from transformers import AutoProcessor, Gemma3ForConditionalGeneration

    model = Gemma3ForConditionalGeneration.from_pretrained(quick_gemma).eval()
    processor = AutoProcessor.from_pretrained(quick_gemma)
    settings = model.generation_config
    found = profile(model=model, processor=processor, warmup=0, runs=0, profile_runs=1, output=tmp_path)
    assert found.metadata.run.model == "Gemma3ForConditionalGeneration"
    assert model.generation_config is settings


def test_no_command_that_reads_imports_torch(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100_000).range("prefill", 1_000, 50_000).op("aten::mm", 2_000, 30_000)
    trace = built.write(tmp_path / "trace.json")
    code = (
        "import sys, gemma_trace.trace, gemma_trace.analysis, gemma_trace.report, gemma_trace.view.server\n"
        "from gemma_trace.cli import main\n"
        "trace = sys.argv[1]\n"
        "for command in ('summarize', 'summarize --style study', 'stages --why', 'kernels', 'kernels --roofline',\n"
        "                'tree', 'check', f'diff {trace}', 'hta'):\n"
        "    assert main([*command.split(), trace, '--format', 'json', '-o', 'out.json', '--force']) == 0, command\n"
        "for command in ('export', 'export --speedscope', 'report'):\n"
        "    assert main([*command.split(), trace]) == 0, command\n"
        "print(sorted({'torch', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(trace)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_missing_extra_is_named_with_its_command(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        "real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torchvision' else real(name, *rest)\n"
        "from gemma_trace.cli import main\n"
        "sys.exit(main(['capture']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == ('gemma-trace: torchvision is not installed; run: pip install "gemma-trace[capture]"')
    assert list(tmp_path.iterdir()) == []


def test_the_captures_command_line_prints_the_path_alone(warm_python: str, quick_gemma: Path, tmp_path: Path) -> None:
    command = [warm_python, "-m", "gemma_trace", "capture", "--quiet", "--device", "cpu", "--warmup", "0"]
    command += ["--model", str(quick_gemma)]
    command += ["--runs", "1", "--profile-runs", "1", "--out-dir", "out"]
    environment = os.environ | {"HF_TOKEN": "hf_thisIsMadeUpAndMustNotShow"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    written = tmp_path / done.stdout.strip()
    text = gzip.decompress(written.read_bytes())
    assert b"thisIsMadeUp" not in text
    assert json.loads(text)["gemma_trace"]["schema_version"] == 1


def test_importing_the_capture_package_imports_no_torch() -> None:
    assert importlib.util.find_spec("torch") is not None
    code = "import sys, gemma_trace.capture, gemma_trace.capture.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
