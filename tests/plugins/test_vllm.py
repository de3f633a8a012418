"""The plugin, in a vLLM of the names that it hooks into."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gemma_trace.plugins import hooks
from gemma_trace.plugins import vllm as plugin
from gemma_trace.served.stamps import PATTERN, Stamp, read_stamps


class Module:
    """As much of a torch module as the plugin takes."""

    def __init__(self, **parts: Module) -> None:
        self.parts = parts

    def forward(self, value: int) -> int:
        return value + 1

    def get_submodule(self, name: str) -> Module:
        try:
            return self.parts[name]
        except KeyError:
            raise AttributeError(name) from None

    def get_mm_mapping(self) -> SimpleNamespace:
        return SimpleNamespace(tower_model=["tower.", "gone"], connector=["projector"])


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ranges that were opened."""
    opened: list[str] = []

    class Range:
        def __init__(self, name: str) -> None:
            opened.append(name.removeprefix("gemma_trace::"))

        def __enter__(self) -> None: ...

        def __exit__(self, *_: Any) -> None: ...

    for module in (hooks, plugin):
        monkeypatch.setattr(module, "range_type", lambda: Range)
    return opened


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    config = SimpleNamespace(profiler_config=SimpleNamespace(torch_profiler_dir=str(tmp_path)))

    class ImageMediaIO:
        def load_bytes(self, data: bytes) -> int:
            return len(data)

    class AsyncLLM:
        vllm_config = config

        async def start_profile(self) -> None: ...

        async def stop_profile(self) -> None: ...

    class BaseModelLoader:
        def load_model(self) -> Module:
            return Module(tower=Module(), projector=Module())

    class ModelRunner:
        def sample_tokens(self, grammar: Any) -> str:
            return "token"

    class Worker:
        vllm_config = config
        model_runner = ModelRunner()

        def execute_model(self, scheduler_output: Any) -> str:
            return "done"

        def sample_tokens(self, grammar: Any) -> str:
            return self.model_runner.sample_tokens(grammar)

        def profile(self, is_start: bool = True, prefix: str | None = None) -> None: ...

    classes = {
        "vllm.multimodal.media.image": ImageMediaIO,
        "vllm.v1.engine.async_llm": AsyncLLM,
        "vllm.model_executor.model_loader.base_loader": BaseModelLoader,
        "vllm.v1.worker.gpu_worker": Worker,
    }
    packages = {name.rsplit(".", parts)[0] for name in classes for parts in range(1, name.count(".") + 1)}
    for name in (*packages, "vllm.renderers", "transformers.image_processing_utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, owner in classes.items():
        module = ModuleType(name)
        setattr(module, owner.__name__, owner)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(image=ImageMediaIO, llm=AsyncLLM, loader=BaseModelLoader, worker=Worker)


def stamps_in(folder: Path) -> list[Stamp]:
    return [stamp for path in sorted(folder.glob(PATTERN)) for stamp in read_stamps(path)]


def test_it_is_off_unless_asked_for(vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(plugin.VARIABLE, raising=False)
    before = vllm.image.load_bytes
    plugin.register()
    assert vllm.image.load_bytes is before


def test_the_worker_gets_ranges(
    vllm: SimpleNamespace, ranges: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(plugin.VARIABLE, "1")
    plugin.register()
    plugin.register()
    model = vllm.loader().load_model()
    assert (model.parts["tower"].forward(1), model.parts["projector"].forward(2)) == (2, 3)
    worker = vllm.worker()
    worker.profile(True, "x")
    cached = SimpleNamespace(is_context_phase=lambda request: request == "c")
    for new, requests in ((["a"], {"a": 9}), ([], {"a": 1}), ([], {"b": 1, "c": 5}), ([], {})):
        asked = SimpleNamespace(
            num_scheduled_tokens=requests,
            scheduled_new_reqs=[SimpleNamespace(req_id=each) for each in new],
            scheduled_cached_reqs=cached,
        )
        assert worker.execute_model(asked) == "done"
    assert worker.sample_tokens(None) == "token"
    worker.profile(False)
    assert ranges == ["vision_tower", "projector", "prefill", "decode", "prefill", "sampling"]
    stamps = stamps_in(tmp_path)
    assert [(stamp.stage, stamp.request_ids, stamp.reading_ids) for stamp in stamps] == [
        *(("step", ("a",), ("a",)), ("step", ("a",), ()), ("step", ("b", "c"), ("c",)))
    ]
    assert {stamp.process for stamp in stamps} == {os.getpid()}
    assert all(stamp.start_ns <= stamp.end_ns for stamp in stamps)


def test_the_front_end_gets_times(vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(plugin.VARIABLE, "1")
    plugin.register()
    llm, image = vllm.llm(), vllm.image()
    image.load_bytes(b"not recorded")
    asyncio.run(llm.start_profile())
    assert image.load_bytes(b"four") == 4
    asyncio.run(llm.stop_profile())
    assert [stamp.stage for stamp in stamps_in(tmp_path)] == ["image_load"]


def test_what_a_vllm_does_not_have_is_said(
    vllm: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(plugin.VARIABLE, "1")
    plugin.register()
    assert any("vllm.renderers.base" in message for message in caplog.messages)
