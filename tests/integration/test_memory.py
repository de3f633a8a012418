"""A capture with `--memory`: what its allocator gave out is what the model's shape says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoConfig

from gemma_trace import cli
from gemma_trace.analysis.allocations import memory_use
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.session import profile
from gemma_trace.trace.trace import load


@pytest.fixture(scope="module")
def profiled(quick_gemma: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memory")
    config = CaptureConfig(device="cpu", warmup=0, runs=0, profile_runs=2, new_tokens=4, memory=True, output=folder)
    return profile(config, model=str(quick_gemma), image_sizes=("64x48", "48x64")).path


def test_the_cache_is_keys_and_values_of_every_layer(profiled: Path, quick_gemma: Path) -> None:
    trace = load(profiled)
    found, metadata = memory_use(trace), trace.metadata
    assert found is not None
    assert metadata is not None
    (host,) = found.devices
    assert (host.resident_bytes, host.missing, host.unmatched) == (None, 0, 0)
    text = AutoConfig.from_pretrained(quick_gemma).text_config
    step = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 4  # float32
    assert [(cache.cache_bytes, cache.step_bytes) for cache in host.caches] == [
        # As the third decode step begins, the prompt and two tokens are in the cache.
        ((prompt + 2) * step, step)
        for prompt in metadata.workload.prompt_tokens[:2]
    ]


def test_stages_shows_memory_and_decode_and_says_so_in_json(profiled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stages", str(profiled)]) == 0
    out = capsys.readouterr().out
    assert "Decode, under the profiler" in out
    assert "Memory by stage, host" in out
    assert "The host's allocator counts from the profiler's start" in out
    assert cli.main(["stages", str(profiled), "--request", "1", "--format", "json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert {row["request"] for row in totals["memory"]["stages"]} == {1}
    assert (totals["decode"]["source"], totals["decode"]["tokens"]) == ("profiled", 4)
    assert [row["token"] for row in totals["decode"]["series"]] == [2, 3, 4]
