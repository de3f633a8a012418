from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace import load, summarize
from gemma_trace.capture import models, sweep
from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.generation import assistance_warnings
from gemma_trace.capture.model_kinds import check_adapter
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.modes import cpus_of
from gemma_trace.capture.session import profile
from gemma_trace.capture.sweep import Cell
from gemma_trace.capture.torch_settings import torch_settings
from gemma_trace.errors import ConfigError, ModelError
from gemma_trace.metadata import RequestSample
from gemma_trace.report.tables.requests import requests_report
from tests.capture.recorder import Recorder


def test_modes_that_exclude_each_other_are_refused() -> None:
    for options, message in (
        ({"assistant": "tiny", "prompt_lookup": 2}, "both say what drafts tokens"),
        ({"prompt_lookup": 2, "batch": 2}, "leave out batch="),
        ({"prompt_lookup": 2, "cache": "static"}, "leave out cache='static'"),
        ({"prompt_lookup": 2, "compile": "decode"}, "leave out compile='decode'"),
        ({"compile": "decode", "cache": "dynamic"}, "leave out cache='dynamic'"),
        ({"cpu_affinity": "3-1"}, "is not a list of CPUs"),
        ({"cpu_affinity": "0", "numa_node": 0}, "both say which CPUs"),
        ({"quantize": "int3"}, "no quantization 'int3'"),
    ):
        with pytest.raises(ConfigError, match=message):
            CaptureConfig(**options)


def test_a_list_of_cpus_is_read_as_linux_writes_it() -> None:
    assert cpus_of("0-2, 8") == {0, 1, 2, 8}


def test_a_capture_runs_on_the_chosen_cpus_alone() -> None:
    before = os.sched_getaffinity(0)
    one = min(before)
    with torch_settings(CaptureConfig(cpu_affinity=str(one)), torch.device("cpu")):
        assert os.sched_getaffinity(0) == {one}
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before


def test_guesses_are_drafts_and_what_checks_them_is_prefill_and_decode(quick: LoadedModel, inputs: Any) -> None:
    recorder = Recorder()
    asked = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None, "prompt_lookup_num_tokens": 2}
    with annotate(quick.model, detail="stage", sink=recorder), torch.inference_mode():
        quick.model.generate(**inputs, **asked)
    assert [name for name in recorder.heard if name in ("draft", "prefill", "decode")][:3] == [
        "draft",
        "prefill",
        "draft",
    ]
    assert recorder.heard.count("prefill") == 1


def test_a_model_that_assists_itself_guesses_right(quick: LoadedModel, quick_gemma: Path, tmp_path: Path) -> None:
    """Where there are no images, which transformers hands on to no assistant: all guesses are right."""
    (tmp_path / "asked.jsonl").write_text('{"id": "a", "messages": [{"role": "user", "content": "What is it?"}]}')
    least: dict[str, Any] = {
        "runs": 1,
        "warmup": 0,
        "profile_runs": 1,
        "detail": "stage",
        "new_tokens": 6,
        "threads": 1,
    }
    asked = least | {"assistant": str(quick_gemma), "requests": tmp_path / "asked.jsonl"}
    path = profile(model=quick.model, processor=quick.processor, output=tmp_path, **asked).path
    trace = load(path)
    metadata = trace.metadata
    assert metadata is not None
    (sample,) = metadata.timed_requests
    assert sum(sample.step_tokens) == len(sample.token_ns) == 6
    assert sample.step_guesses == tuple(tokens - 1 for tokens in sample.step_tokens), "each was accepted"
    assert max(sample.step_tokens) > 1
    assert metadata.profiled_step_guesses == (sample.step_guesses,)
    assert metadata.warnings == ()
    report = requests_report([summarize(trace)], [str(path)])
    (row,) = report.data.rows
    found = {col.key: col.raw(row) for col in report.data.cols}
    steps, accepted = len(sample.step_tokens), 6 - len(sample.step_tokens)
    assert (found["steps"], found["guessed_tokens"], found["accepted_tokens"]) == (steps, accepted, accepted)
    assert found["step_tokens"] == list(sample.step_tokens)
    assert {"steps", "guessed", "accepted"} <= {col.header for col in report.tables[0].cols}


def test_a_look_up_that_guesses_an_images_tokens_is_refused(quick: LoadedModel, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"runs": 0, "warmup": 1, "profile_runs": 1, "new_tokens": 3, "image_sizes": "8x6"}
    asked |= {"threads": 1, "prompt_lookup": 200}
    with pytest.raises(ConfigError, match=r"guessed the tokens of an image, .*; lower it"):
        profile(model=quick.model, processor=quick.processor, output=tmp_path, **asked)


def test_guesses_that_were_all_wrong_are_said() -> None:
    sample = RequestSample(9, 9, (1, 2, 3), "a", {}, {}, step_tokens=(1, 1, 1), step_guesses=(4, 3, 0))
    looked_up, assisted = CaptureConfig(prompt_lookup=4), CaptureConfig(assistant="tiny")
    (said,) = assistance_warnings(looked_up, [sample, sample])
    assert said.startswith("none of the 14 tokens that --prompt-lookup guessed was right")
    assert "--assistant" in assistance_warnings(assisted, [sample])[0]
    assert assistance_warnings(assisted, [sample, replace(sample, step_tokens=(1, 2, 1))]) == (), "one was"
    assert assistance_warnings(CaptureConfig(), [replace(sample, step_tokens=(), step_guesses=())]) == ()


def test_after_an_interrupt_a_bare_decoder_has_its_prefill(quick: LoadedModel, inputs: Any) -> None:
    decoder = quick.model.model.language_model
    recorder = Recorder()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = decoder.layers[0].register_forward_pre_hook(interrupt)
    with annotate(quick.model, detail="stage", sink=recorder), torch.inference_mode():
        with pytest.raises(KeyboardInterrupt):
            quick.model(**inputs)
        handle.remove()
        recorder.heard.clear()
        decoder(input_ids=inputs["input_ids"])
    assert recorder.heard == ["prefill"]


def test_after_an_interrupt_in_the_tower_a_bare_tower_is_in_no_prefill(quick: LoadedModel, inputs: Any) -> None:
    """The call of the whole model was interrupted within the tower, which is then called by itself."""
    tower = quick.model.model.vision_tower
    recorder = Recorder()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    handle = next(each for each in tower.modules() if isinstance(each, nn.ModuleList))[1].register_forward_pre_hook(
        interrupt
    )
    with annotate(quick.model, detail="stage", sink=recorder), torch.inference_mode():
        with pytest.raises(KeyboardInterrupt):
            quick.model(**inputs)
        handle.remove()
        recorder.heard.clear()
        tower(inputs["pixel_values"])
        assert recorder.heard == ["vision_tower"], "which nothing is around"
    assert recorder.depth == 0


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no adapter_config"):
        check_adapter(str(tmp_path))


def test_linear_layers_are_quantised_but_the_output_embeddings() -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quantize")
    from gemma_trace.capture.quantization import quantize

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    given = torch.ones(1, 64)
    expected = model(given)
    assert quantize(model, "int8") == 2
    assert model[0].weight.dtype is torch.int8
    assert (model(given) - expected).abs().max() < 0.1


REFUSED: dict[str, str] = {
    "capture --requests none.jsonl": "no file at none.jsonl; check --requests",
    "capture --image none.jpg": "no image at none.jpg; check --image",
    "capture --image .": ". is a folder or a device, not an image; give --image a JPEG or PNG file",
    "capture --image https://example.org/a.jpg": "--image takes files; give --requests FILE and --online",
    "capture --cpu-affinity 65000": "--cpu-affinity names CPU 65000, on which this process may not run",
    "capture --numa-node 900": "no NUMA node 900",
    "capture --model 5b": "no model '5b': it is not a preset",
    "capture --model q4.gguf": "q4.gguf is a GGUF file, which llama.cpp runs",
    "capture --assistant 5b": "folder or Hub id (OWNER/NAME); check --assistant",
    "capture --adapter none": "no adapter 'none': it is no folder",
    "capture --adapter /no/such/folder": "no adapter 'folder': it is no folder",
    "capture --adapter .": "has no adapter_config.json; give --adapter the folder",
    "sweep --set model=tiny --set image=none.jpg": "no image at none.jpg; check --image",
    "sweep --set model=5b --set attn=eager,sdpa": "no model '5b': it is not a preset",
    "compare --set adapter=none,nothing": "no adapter 'none': it is no folder",
    "compare --set attn=sdpa,eager --set requests=none.jsonl": "no file at none.jsonl; check --requests",
}


def test_what_is_not_there_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    """By all commands alike; nothing is left in the folder, and no process of a cell was started."""
    pytest.importorskip("peft", reason="needs the extra adapter")
    (tmp_path / "q4.gguf").touch()
    code = (
        "import json, subprocess, sys; from gemma_trace.cli import main; subprocess.Popen = None\n"
        "codes = [(print(end='>', file=sys.stderr), main(each.split()))[1] for each in json.loads(sys.argv[1])]\n"
        "print(json.dumps([codes, 'torch' in sys.modules]))"
    )
    command = [sys.executable, "-c", code, json.dumps(list(REFUSED))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    codes, has_torch = json.loads(done.stdout)
    assert not has_torch
    assert 0 not in codes
    for (given, message), said in zip(REFUSED.items(), done.stderr.split(">")[1:], strict=True):
        assert said.count("\n") == 1, given
        assert message in said, given
    assert [path.name for path in tmp_path.iterdir()] == ["q4.gguf"]


def test_cells_that_are_refused_do_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []

    def run(cell: Cell, *, redo: bool) -> Iterator[Cell]:
        ran.append(cell.config.model)
        yield replace(cell, state="done", seconds=1.0)

    monkeypatch.setattr(sweep, "_run", run)
    cells = sweep.plan({"matrix": {"model": ["5b", "tiny", "6b"]}}, tmp_path / "out")
    heard: list[list[str]] = []
    ended = sweep.run_sweep(cells, retry=False, on_change=lambda now: heard.append([cell.state for cell in now]))
    assert heard[0] == ["failed", "waiting", "failed"], "at once, not when their turn comes"
    assert [cell.state for cell in ended] == ["failed", "done", "failed"]
    assert "no model '6b'" in ended[2].error
    assert ran == ["tiny"]


def test_an_attention_that_nobody_knows_is_refused_before_the_model_is_loaded(
    quick_gemma: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "_load", None)
    with pytest.raises(ModelError, match=r"no attention implementation 'sdpaa'; give attn= one of eager, .*sdpa"):
        models.load_model(CaptureConfig(model=str(quick_gemma), device="cpu", attn="sdpaa"))
