"""Prefill, decode and sampling, however the model is wrapped, called, cached, interrupted and shared."""

from __future__ import annotations

import copy
import functools
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.compiled_stages import watched_decode
from gemma_trace.capture.discovery import find_stage_modules, missing_stages
from gemma_trace.capture.ranges import RangeStack
from gemma_trace.capture.text_model import extends_cache_by_one
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.capture.wrappers import unwrapped
from gemma_trace.stages import Stage
from tests.capture.recorder import Recorder
from tests.conftest import HUNG_S

declare_missing_operators()

THREE_TOKENS = ["prefill", "sampling", "decode", "sampling", "decode", "sampling"]
GREEDY: dict[str, Any] = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False}


def family(name: str) -> tuple[Any, dict[str, torch.Tensor]]:
    from tests.capture.vlms_more import ALL_FAMILIES, built

    torch.manual_seed(0)
    return built(ALL_FAMILIES[name])


@pytest.fixture
def llava() -> tuple[Any, dict[str, torch.Tensor]]:
    return family("llava")


def adapted(model: Any) -> Any:
    peft = pytest.importorskip("peft", reason="needs PEFT")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"], r=2, task_type="CAUSAL_LM"))


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def parallel_and_adapted(model: Any) -> Any:
    return nn.DataParallel(adapted(model))


def compiled_and_parallel(model: Any) -> Any:
    return compiled(nn.DataParallel(model))


def adapted_and_compiled(model: Any) -> Any:
    return adapted(compiled(model))


WRAPS = [adapted, compiled, nn.DataParallel, parallel_and_adapted, compiled_and_parallel, adapted_and_compiled]


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers for what it has renamed
@pytest.mark.parametrize("wrap", WRAPS, ids=lambda wrap: wrap.__name__)
def test_a_wrapped_models_steps_are_decode(llava: Any, wrap: Callable[[Any], Any]) -> None:
    model, inputs = llava
    wrapped, recorder = wrap(model), Recorder()
    with annotate(wrapped, sink=recorder), torch.inference_mode():
        outermost = next(each for each in unwrapped(wrapped) if hasattr(each, "generate"))
        outermost.generate(**inputs, **GREEDY)
    assert recorder.text_stages == THREE_TOKENS
    names = {name.strip() for name in recorder.heard}
    assert {"vision_tower", "projector", "layer::model.language_model.layers.1"} <= names, (
        "named as without the wrapper"
    )
    assert recorder.depth == 0


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("wrap", [adapted, nn.DataParallel], ids=lambda wrap: wrap.__name__)
def test_a_plain_call_of_a_wrapped_model_is_one_prefill(llava: Any, wrap: Callable[[Any], Any]) -> None:
    model, inputs = llava
    wrapped, recorder = wrap(model), Recorder()
    with annotate(wrapped, detail="stage", sink=recorder), torch.inference_mode():
        wrapped(**inputs)
    assert recorder.heard == ["prefill", "  vision_tower", "  projector"]


@pytest.mark.parametrize("part", ["language_model", "vision_tower", "multi_modal_projector"])
def test_a_part_that_is_compiled_by_itself_has_its_stage_around(llava: Any, part: str) -> None:
    model, inputs = llava
    setattr(model.model, part, compiled(getattr(model.model, part)))
    recorder = Recorder()
    uncompiled = torch.compiler.set_stance("force_eager")  # the wrapper is what matters; tracing takes 10 s
    with uncompiled, annotate(model, sink=recorder), torch.inference_mode():
        model.generate(**inputs, **GREEDY)
    assert recorder.text_stages == THREE_TOKENS
    names = [name.strip() for name in recorder.heard]
    assert (names.count("vision_tower"), names.count("projector")) == (1, 1)
    assert missing_stages(find_stage_modules(model)) == []
    assert recorder.depth == 0


@pytest.mark.parametrize("name", ["blip2", "blip2_t5", "kosmos2"])
def test_a_language_model_that_generates_for_the_whole_has_its_stages(name: str) -> None:
    model, inputs = family(name)
    recorder = Recorder()
    with annotate(model, detail="stage", sink=recorder), torch.inference_mode():
        model.generate(**inputs, **GREEDY)
    encoder = ["prefill"] if name == "blip2_t5" else []
    assert recorder.text_stages == encoder + THREE_TOKENS, "the encoder of the prompt is a part of the prefill"
    assert recorder.depth == 0


class OfItsOwn:
    """A cache as nobody knows it."""


@pytest.mark.parametrize(
    ("cache", "tokens", "is_decode"),
    [
        (None, 1, False),
        (OfItsOwn(), 1, True),
        (OfItsOwn(), 2, False),
        (((torch.zeros(1, 2, 3, 4),) * 2,), 1, True),
        ((None,), 1, False),
        (hf.DynamicCache(), 1, False),
    ],
)
def test_without_a_word_from_transformers_the_cache_tells_decode(cache: Any, tokens: int, is_decode: bool) -> None:
    ids = torch.zeros(1, tokens, dtype=torch.long)
    assert extends_cache_by_one((), {"input_ids": ids, "past_key_values": cache}) is is_decode
    assert extends_cache_by_one((ids,), {"cache": cache}) is is_decode
    assert extends_cache_by_one((None,), {"cache": cache}) is False


def test_continuous_batching_runs_and_has_its_stages() -> None:
    from tests.capture.vlms import _TEXT

    torch.manual_seed(0)
    model = hf.LlamaForCausalLM(hf.LlamaConfig(**_TEXT, pad_token_id=0)).eval()
    recorder = Recorder()
    settings = hf.GenerationConfig(max_new_tokens=4, do_sample=False, eos_token_id=-1, pad_token_id=0)
    batching = hf.generation.ContinuousBatchingConfig(num_blocks=16, max_batch_tokens=64)
    with annotate(model, detail="stage", sink=recorder):
        found = model.generate_batch(
            inputs=[[5, 6, 7], [8, 9]],
            generation_config=settings,
            continuous_batching_config=batching,
            progress_bar=False,
        )
    assert [len(each.generated_tokens) for each in found.values()] == [4, 4]
    assert set(recorder.text_stages) == {"prefill", "decode"}
    assert recorder.text_stages[0] == "prefill"


def interrupt_next(module: nn.Module, error: type[BaseException]) -> None:
    def interrupt(*_: Any) -> None:
        handle.remove()
        raise error

    handle = module.register_forward_pre_hook(interrupt)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("place", ["encoder", "decoder"])
def test_after_an_interrupt_the_next_call_has_its_stages(llava: Any, error: Any, place: str) -> None:
    model, inputs = llava
    recorder = Recorder()
    module = model.model.vision_tower if place == "encoder" else model.model.language_model.layers[1]
    expected = ["prefill", "  vision_tower", "  projector"]
    with annotate(model, detail="stage", sink=recorder) as ranges, torch.inference_mode():
        for call in (model, functools.partial(model.generate, **GREEDY)):
            interrupt_next(module, error)
            with pytest.raises(error):
                call(**inputs)
            assert error is KeyboardInterrupt or recorder.depth == 0, "an exception ends its ranges at once"
            recorder.heard.clear()
            with ranges.stage(Stage.REQUEST):
                model(**inputs)
            assert [name.removeprefix("  ") for name in recorder.heard] == ["request", *expected]
            interrupt_next(module, error)
            with pytest.raises(error):
                call(**inputs)
            recorder.heard.clear()
            model(**inputs)
            assert recorder.heard == expected
            recorder.heard.clear()
            model.generate(**inputs, **GREEDY)
            assert recorder.text_stages == THREE_TOKENS
            assert recorder.depth == 0
    assert recorder.depth == 0


def test_two_threads_generate_with_one_model(llava: Any) -> None:
    model, inputs = llava
    recorders: dict[int, Recorder] = {}

    class ByThread:
        def begin(self, name: str) -> None:
            recorders.setdefault(threading.get_ident(), Recorder()).begin(name)

        def end(self) -> None:
            recorders[threading.get_ident()].end()

    barrier = threading.Barrier(2)

    def wait(*_: Any) -> None:
        barrier.wait(HUNG_S)

    handle = model.model.language_model.register_forward_pre_hook(wait)  # each step of one waits for the other's
    try:
        with annotate(model, detail="stage", sink=ByThread()):
            threads = [threading.Thread(target=model.generate, kwargs=inputs | GREEDY) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(HUNG_S)
    finally:
        handle.remove()
    assert [recorder.text_stages for recorder in recorders.values()] == [THREE_TOKENS] * 2
    assert [recorder.depth for recorder in recorders.values()] == [0, 0]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_made_meanwhile_generates_by_itself_unheard(llava: Any, copied: Callable[[Any], Any]) -> None:
    model, inputs = llava
    recorder = Recorder()
    with annotate(model, sink=recorder), torch.inference_mode():
        other = copied(model)
        for weight in other.parameters():
            weight.zero_()
        zeros = other.generate(**inputs, **GREEDY)
        assert recorder.heard == []
        assert zeros[0, -3:].tolist() == [0, 0, 0], "by its own weights"
        assert model.generate(**inputs, **GREEDY)[0, -3:].tolist() != [0, 0, 0]
    assert set(vars(other)) == set(vars(model))


@pytest.fixture
def compiles_anywhere(llava: Any) -> Iterator[tuple[Any, dict[str, Any], list[Any]]]:
    """A model whose `generate` compiles its decode steps, as it does on a GPU, and the graphs that come of it."""
    graphs: list[Any] = []

    def count(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model, inputs = llava
    torch._dynamo.reset()
    how = hf.CompileConfig(backend=count, mode=None, fullgraph=False)
    how._compile_all_devices = True
    yield model, inputs | GREEDY | {"cache_implementation": "static", "compile_config": how}, graphs
    torch._dynamo.reset()


def test_decode_that_generate_compiles_has_a_range_around_and_none_inside(compiles_anywhere: Any) -> None:
    model, asked, graphs = compiles_anywhere
    with torch.inference_mode():
        model.generate(**asked)
        alone = len(graphs)
        recorder = Recorder()
        with annotate(model, sink=recorder), watched_decode(model) as mode:
            model.generate(**asked)
        model.generate(**asked)
        with watched_decode(model) as other:
            model.generate(**asked | {"cache_implementation": "dynamic"})
    assert (mode.name, other.name) == ("compiled", "eager")
    assert (len(mode.warnings), other.warnings) == (1, ())
    assert mode.warnings[0].endswith("for the CPU; the layers inside can't be told apart")
    assert recorder.text_stages == THREE_TOKENS
    first_decode = recorder.heard.index("decode")
    assert not any("layer::" in name for name in recorder.heard[first_decode:])
    assert any("layer::" in name for name in recorder.heard[:first_decode]), "prefill isn't compiled"
    assert len(graphs) == alone > 0, "neither more graphs nor breaks"


def test_a_request_is_inside_of_nothing() -> None:
    recorder = Recorder()
    ranges = RangeStack(recorder)
    ranges.open("gemma_trace::prefill")
    with ranges.stage(Stage.REQUEST), ranges.stage(Stage.TRANSFER):
        pass
    assert recorder.heard == ["prefill", "request", "  transfer"]
