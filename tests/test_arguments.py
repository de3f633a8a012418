"""Wrong arguments of everything public are refused in one line, before anything is done."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import pytest

import gemma_trace
from gemma_trace.arguments import checked
from gemma_trace.errors import ConfigError, GemmaTraceError
from tests.conftest import SAMPLES
from tests.trace_builder import TraceBuilder

untyped: Any = gemma_trace
"""The package, for calls that a type checker would refuse."""

WRONG: tuple[Any, ...] = (
    *(None, True, 7, -3, 1.5, float("nan"), 10**5000),
    *("", "a\0b", "\ud800", b"x", [], ["x"], (3,), [None], {}, {"x": None}, object()),
)
ELSEWHERE = {"profile", "annotate"}
"""Functions of captures, which refuse what they get in `tests/capture/`."""

RIGHT = {"query": "SELECT 1", "stage": "prefill", "pattern": "x", "request": 0, "table": "runs", "name": "runs"}
"""Arguments that have to be there."""


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> gemma_trace.Trace:
    built = TraceBuilder().range("request", 0, 1000).range("prefill", 100, 400).op("aten::mm", 150, 100)
    return gemma_trace.load(
        built.launch(1, 160)
        .kernel("gemm", 200, 300, correlation=1)
        .write(tmp_path_factory.mktemp("arguments") / "run" / "trace.json")
    )


def functions(trace: gemma_trace.Trace) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public function, and the public methods of a trace and a store that are in `api.py` and `store.py`."""
    for name in gemma_trace.__all__:
        value = getattr(gemma_trace, name)
        if isinstance(value, FunctionType) and name not in ELSEWHERE:
            yield name, value
    yield "Store", gemma_trace.Store
    store = gemma_trace.Store(trace.path.parent / "store")
    for of in (trace, store):
        for name, value in vars(type(of)).items():
            if inspect.isfunction(value) and not name.startswith("_"):
                yield f"{type(of).__name__}.{name}", getattr(of, name)


def test_every_argument_of_everything_public_is_refused(
    trace: gemma_trace.Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = 0
    for place, (name, function) in enumerate(functions(trace)):
        parameters = inspect.signature(function).parameters
        required = {key for key, parameter in parameters.items() if parameter.default is parameter.empty}
        right = {"trace": trace, "before": trace, "after": trace, **RIGHT, "output": tmp_path / f"{place}.json"}
        if name == "diff_folders":
            right |= {"before": trace.path, "after": trace.path}
        right |= dict.fromkeys(("source", "folder", "paths"), trace.path) | {"path": tmp_path / f"{place}.html"}
        for key in parameters:
            for value in WRONG:
                arguments = {other: right[other] for other in required} | {key: value}
                with contextlib.suppress(GemmaTraceError):
                    function(**arguments)
                    continue
                refused += 1
    assert refused > 600


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda trace: untyped.load(None), "source=None is not a path; give a string or a pathlib.Path"),
        (lambda trace: untyped.load(7), "source=7 is not a path; give a string or a pathlib.Path"),
        (lambda trace: untyped.load(""), "source='' is not a path; give a string or a pathlib.Path"),
        (lambda trace: untyped.load(trace), "source=<Trace> is not a path; give a string or a pathlib.Path"),
        (
            lambda trace: untyped.load(trace.path, {"moe": "MoE"}),
            "rules=<dict> is not a list of stage rules; gemma_trace.stage_rule makes a rule",
        ),
        (
            lambda trace: untyped.load_ranks([trace.path, None]),
            "source=[<PosixPath>, None] is neither a path nor a list of paths; give strings or pathlib.Paths",
        ),
        (lambda trace: untyped.breakdown("run"), "trace='run' is not a trace; gemma_trace.load reads one"),
        (
            lambda trace: untyped.diff(trace, [7, 8, 9, 10]),
            "after=[7, 8, 9, …] is neither a trace nor a list of traces; gemma_trace.load reads one",
        ),
        (lambda trace: untyped.diff(trace, trace, paired="no"), "paired='no' is neither True nor False"),
        (lambda trace: trace.tree(each_layer=(1,)), "each_layer=(1,) is neither True nor False"),
        (
            lambda trace: untyped.stage_lanes(trace, None),
            "request=None is neither an index nor a request of the trace",
        ),
        (lambda trace: trace.advise(True), "request=True is neither an index nor a request of the trace"),
        (
            lambda trace: untyped.memory_use(trace, 0),
            "requests=0 is not a list of requests; a trace's `requests` has them",
        ),
        (lambda trace: trace.kernels(by=10**5000), "by=<int> is none of kernel, op, module, layer, family, shape"),
        (lambda trace: trace.what_if(scale=[1]), "scale=[1] is not a dict from strings to numbers"),
        (
            lambda trace: trace.what_if(scale={"family:attention": 10**400}),
            "family:attention=<int>: the factor must be from 0 to 1,000",
        ),
        (lambda trace: trace.kernels("x" * 99), f"{{path}} has no stage {'x' * 99!r}; it has prefill"),
        (lambda trace: trace.kernels(b"x" * 99), f"stage=b'{'x' * 57}… is not valid text; give a string"),
        (
            lambda trace: trace.sql("SELECT 1", memory_limit_bytes=float("inf")),
            "memory_limit_bytes is inf; it requires a number of bytes above 0",
        ),
        (
            lambda trace: untyped.Store("store").files("stage"),
            "a store has no table 'stage'; it has runs, stages, kernels, collectives, findings, decode, memory, "
            "samples, failures",
        ),
        (
            lambda trace: untyped.Store("store").table("stages", {"request": "0"}),
            "the table stages has no column of text 'request'; it has run_id, stage, day",
        ),
        (lambda trace: untyped.StageRule("moe", 7), "pattern=7 is not valid text; give a string"),
    ],
)
def test_the_message_says_what_is_wrong_and_what_to_give(
    trace: gemma_trace.Trace, call: Callable[[gemma_trace.Trace], object], message: str
) -> None:
    with pytest.raises(GemmaTraceError) as caught:
        call(trace)
    assert str(caught.value) == message.replace("{path}", str(trace.path))


def test_what_can_be_iterated_over_is_a_list_as_well(trace: gemma_trace.Trace) -> None:
    """Generators and sets of traces and paths, arrays of texts, and an index of numpy's."""
    alone = gemma_trace.diff([trace], [trace])
    assert untyped.diff((each for each in [trace]), {trace}) == alone
    assert len(untyped.load_ranks(np.array([str(trace.path)])).ranks) == 1
    assert untyped.breakdown(trace, np.int64(0)) == trace.stages(0)


def test_missing_and_unknown_arguments_are_errors_of_pythons_own() -> None:
    with pytest.raises(TypeError, match=r"^load\(\) missing 1 required positional argument: 'source'$"):
        untyped.load()
    with pytest.raises(TypeError, match=r"^load\(\) got an unexpected keyword argument 'path'$"):
        untyped.load("x", path="y")


def test_an_annotation_that_has_no_row_is_an_error_of_ours() -> None:
    def public(names: Sequence[bytes]) -> None: ...

    with pytest.raises(KeyError, match="Sequence\\[bytes\\]"):
        checked(public)


def test_peaks_are_no_list(trace: gemma_trace.Trace) -> None:
    with pytest.raises(ConfigError, match=r"^peaks=\[\] is not a gemma_trace\.peaks\.Peaks$"):
        untyped.stage_floors(trace, peaks=[])


def test_a_path_of_another_class_is_taken_by_its_text(tmp_path: Path) -> None:
    class OtherPath:
        def __fspath__(self) -> str:
            return str(SAMPLES / "sample-tiny-cpu-pil")

    assert len(gemma_trace.load(OtherPath()).requests) == 2  # type: ignore[arg-type]
    for again, several in enumerate(([OtherPath()], (OtherPath(),))):
        assert len(untyped.Store(tmp_path / "store").index(several).shown) + again == 1
