"""The plugin, in an SGLang of the names that it hooks into; it was never run in a real one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from gemma_trace.plugins import hooks
from gemma_trace.plugins import sglang as plugin
from gemma_trace.served.stamps import PATTERN, Stamp, read_stamps


class Module:
    """As much of a torch module as the plugin takes."""

    def __init__(self, **parts: Any) -> None:
        vars(self).update(parts)

    def forward(self, value: int) -> int:
        return value + 1

    def get_submodule(self, name: str) -> Any:
        return getattr(self, name)


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
def sglang(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    class BaseMultimodalProcessor:
        @staticmethod
        def _load_single_item(data: bytes, modality: str) -> int:
            return len(data)

        def process_mm_data(self, text: str) -> int:
            return len(text)

    class TokenizerControlMixin:
        async def start_profile(self, req: Any = None, **_: Any) -> str:
            return "started"

        async def stop_profile(self) -> str:
            return "stopped"

    class TokenizerManager(TokenizerControlMixin): ...

    class Scheduler:
        def run_batch(self, batch: Any, proxy: Any = None) -> str:
            return "ran"

    class ModelRunner:
        def load_model(self) -> None:
            self.model = Module(vision_tower=Module(), multi_modal_projector=Module(), language_model=Module())

        def forward(self, forward_batch: Any) -> str:
            return "forward"

        def sample(self, logits: Any) -> str:
            return "token"

    class Recorder:
        def export_chrome_trace(self, path: str) -> None: ...

    class profile(Recorder):  # noqa: N801 (its name in torch)
        def start(self) -> None: ...

    classes = {
        "sglang.srt.multimodal.processors.base_processor": BaseMultimodalProcessor,
        "sglang.srt.managers.tokenizer_manager": TokenizerManager,
        "sglang.srt.managers.scheduler": Scheduler,
        "sglang.srt.model_executor.model_runner": ModelRunner,
        "torch.profiler": profile,
    }
    packages = {name.rsplit(".", parts)[0] for name in classes for parts in range(1, name.count(".") + 1)}
    for name in (*packages, "transformers.image_processing_utils"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, owner in classes.items():
        module = ModuleType(name)
        setattr(module, owner.__name__, owner)
        monkeypatch.setitem(sys.modules, name, module)
    return SimpleNamespace(
        processor=BaseMultimodalProcessor,
        manager=TokenizerManager,
        scheduler=Scheduler,
        runner=ModelRunner,
        profile=profile,
    )


@pytest.fixture
def registered(sglang: SimpleNamespace, ranges: list[str], monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    monkeypatch.setenv(plugin.VARIABLE, "1")
    plugin.register()
    plugin.register()
    return sglang


def stamps_in(folder: Path) -> list[Stamp]:
    return [stamp for path in sorted(folder.glob(PATTERN)) for stamp in read_stamps(path)]


def test_it_is_off_unless_asked_for(sglang: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugin.VARIABLE, "0")
    before = sglang.scheduler.run_batch
    plugin.register()
    assert sglang.scheduler.run_batch is before


def batch(mode: str, *names: str) -> SimpleNamespace:
    requests = [SimpleNamespace(rid=name) for name in names]
    generating = requests[1:] if mode == "MIXED" else None
    return SimpleNamespace(forward_mode=SimpleNamespace(name=mode), reqs=requests, decoding_reqs=generating)


def test_the_scheduler_gets_ranges_and_the_requests_of_its_steps(
    registered: SimpleNamespace, ranges: list[str], tmp_path: Path
) -> None:
    runner, scheduler, profile = registered.runner(), registered.scheduler(), registered.profile()
    runner.load_model()
    assert scheduler.run_batch(batch("EXTEND", "not recorded")) == "ran"
    profile.start()
    for mode, *names in (("EXTEND", "a", "b"), ("MIXED", "c", "a"), ("DECODE", "a"), ("TARGET_VERIFY", "a"), ("IDLE",)):
        assert scheduler.run_batch(batch(mode, *names), proxy=None) == "ran"
        assert runner.forward(batch(mode)) == "forward"
    assert runner.sample(None) == "token"
    model = runner.model
    assert [part.forward(1) for part in (model.vision_tower, model.multi_modal_projector, model.language_model)] == [
        2
    ] * 3
    profile.export_chrome_trace(str(tmp_path / "1-TP-0.trace.json.gz"))
    scheduler.run_batch(batch("DECODE", "not recorded"))
    profile.export_chrome_trace(str(tmp_path / "2-TP-0.trace.json.gz"))
    assert ranges == [*("prefill", "prefill", "decode", "decode"), *("sampling", "vision_tower", "projector")]
    assert [(stamp.request_ids, stamp.reading_ids) for stamp in stamps_in(tmp_path)] == [
        *((("a", "b"), ("a", "b")), (("c", "a"), ("c",)), (("a",), ()), (("a",), ()), ((), ()))
    ]


@pytest.mark.parametrize("old", [False, True], ids=["a request", "arguments, as older versions have them"])
def test_the_tokenizers_process_gets_times(registered: SimpleNamespace, tmp_path: Path, old: bool) -> None:
    manager, processor = registered.manager(), registered.processor()
    processor.process_mm_data("not recorded")
    folder = str(tmp_path)
    asked = {"output_dir": folder} if old else {"req": SimpleNamespace(output_dir=folder)}
    assert asyncio.run(manager.start_profile(**asked)) == "started"
    assert processor._load_single_item(b"four", "image") == 4
    assert registered.processor._load_single_item(b"four", "image") == 4, "still a static method"
    assert processor.process_mm_data("abc") == 3
    assert asyncio.run(manager.stop_profile()) == "stopped"
    assert [stamp.stage for stamp in stamps_in(tmp_path)] == ["image_load", "image_load", "preprocessing"]


def test_what_an_sglang_does_not_have_is_said(
    sglang: SimpleNamespace, ranges: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    del sglang.runner.sample
    monkeypatch.setenv(plugin.VARIABLE, "1")
    plugin.register()
    assert [message for message in caplog.messages if "ModelRunner.sample in this version" in message]
    assert sglang.runner().forward.__name__ == "forward", "the others are hooked into"
