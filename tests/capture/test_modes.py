from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace.capture.adapters import check_adapter
from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.models import LoadedModel
from gemma_trace.capture.modes import cpus_of
from gemma_trace.capture.torch_settings import torch_settings
from gemma_trace.errors import ConfigError, ModelError
from tests.capture.recorder import Recorder


def test_modes_that_exclude_each_other_are_refused() -> None:
    for options, message in (
        ({"assistant": "tiny", "prompt_lookup": 2}, "both say what drafts tokens"),
        ({"prompt_lookup": 2, "batch": 2}, "leave out --batch"),
        ({"prompt_lookup": 2, "cache": "static"}, "leave out --cache static"),
        ({"prompt_lookup": 2, "compile": "decode"}, "leave out --compile decode"),
        ({"compile": "decode", "cache": "dynamic"}, "leave out --cache dynamic"),
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


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no adapter_config"):
        check_adapter(tmp_path)


def test_linear_layers_are_quantised_but_the_output_embeddings() -> None:
    pytest.importorskip("bitsandbytes", reason="needs the extra quantize")
    from gemma_trace.capture.quantization import quantize

    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8))
    given = torch.ones(1, 64)
    expected = model(given)
    assert quantize(model, "int8") == 2
    assert model[0].weight.dtype is torch.int8
    assert (model(given) - expected).abs().max() < 0.1


@pytest.mark.parametrize(
    "options", [["--requests", "none.jsonl"], ["--image", "none.jpg"], ["--cpu-affinity", "65000"]], ids=lambda o: o[0]
)
def test_what_is_not_there_is_said_before_torch_is_imported(options: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from gemma_trace.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(9 if 'torch' in sys.modules else code)"
    )
    command = [sys.executable, "-c", code, "capture", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode not in (0, 9), done.stderr
    assert options[1] in done.stderr
    assert done.stderr.count("\n") == 1
