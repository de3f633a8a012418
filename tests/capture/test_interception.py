"""Calls that are listened to: what the program sees of it, which is nothing."""

from __future__ import annotations

import copy
import functools
import inspect
import logging
import pickle
from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import nn

from gemma_trace.capture.interception import Call, listen_to_calls, listen_to_forward


class Doubler(nn.Module):  # type: ignore[misc]
    def forward(self, number: torch.Tensor) -> torch.Tensor:
        return number * 2

    def say(self, word: str, *, times: int = 1) -> str:
        return word * times


class Part:
    """As a processor's part: called, and pickled."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, text: str) -> str:
        self.calls += 1
        return text.upper()


class Slotted:
    __slots__ = ()

    def __call__(self) -> int:
        return 1


def noted(log: list[str], name: str, call: Call) -> Call:
    @functools.wraps(call)
    def heard(*args: Any, **kwargs: Any) -> Any:
        log.append(f"+{name}")
        try:
            return call(*args, **kwargs)
        finally:
            log.append(f"-{name}")

    return heard


@pytest.mark.parametrize(("owner", "method", "given"), [(Doubler(), "say", "a"), (Part(), "__call__", "a")])
def test_listeners_may_leave_in_any_order(owner: Any, method: str, given: str) -> None:
    log: list[str] = []
    first, second, kind, attributes = ExitStack(), ExitStack(), type(owner), set(vars(owner))

    def call() -> Any:
        return owner.say(given) if method == "say" else owner(given)

    for name, undo in (("a", first), ("b", second)):
        listen_to_calls(owner, method, functools.partial(noted, log, name), undo)
    call()
    assert log == ["+b", "+a", "-a", "-b"]
    first.close()
    log.clear()
    call()
    assert log == ["+b", "-b"]
    second.close()
    log.clear()
    call()
    assert log == []
    assert (type(owner), set(vars(owner))) == (kind, attributes)


def test_a_module_looks_as_it_did() -> None:
    module: Any = Doubler()
    log: list[str] = []
    with ExitStack() as undo:
        listen_to_calls(module, "say", functools.partial(noted, log, "a"), undo)
        assert inspect.signature(module.say) == inspect.signature(Doubler().say)
        assert isinstance(module, Doubler)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda owner: pickle.loads(pickle.dumps(owner))])
def test_a_copy_is_of_the_object_as_it_was(copied: Any) -> None:
    log: list[str] = []
    module: Any = Doubler()
    part = Part()
    with ExitStack() as undo:
        listen_to_calls(module, "say", functools.partial(noted, log, "say"), undo)
        listen_to_forward(module, lambda *_: log.append("+"), lambda *_: log.append("-"), undo)
        listen_to_calls(part, "__call__", functools.partial(noted, log, "part"), undo)
        module_copy, part_copy = copied(module), copied(part)
    assert (type(module_copy), type(part_copy)) == (Doubler, Part)
    assert set(vars(module_copy)) == set(vars(Doubler()))
    assert (module_copy.say("a", times=2), part_copy("a")) == ("aa", "A")
    assert module_copy(torch.tensor(2)) == 4
    assert (part.calls, part_copy.calls) == (0, 1)
    assert log == []


def test_a_method_that_the_program_has_put_there_comes_back_and_is_copied() -> None:
    module: Any = Doubler()
    module.say = shout = str.upper
    with ExitStack() as undo:
        listen_to_calls(module, "say", functools.partial(noted, [], "a"), undo)
        assert copy.deepcopy(module).say is shout
    assert vars(module)["say"] is shout
    with ExitStack() as undo:
        listen_to_calls(module, "say", functools.partial(noted, [], "a"), undo)
        module.say = whisper = str.lower
    assert vars(module)["say"] is whisper, "what the program changed meanwhile stays"


def test_a_listener_that_fails_is_logged_and_the_program_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    module = Doubler()

    def fail(*_: Any) -> None:
        raise KeyError("boom")

    with ExitStack() as undo, caplog.at_level(logging.WARNING):
        listen_to_forward(module, fail, fail, undo)
        listen_to_calls(Slotted(), "__call__", functools.partial(noted, [], "a"), undo)
        assert module(torch.tensor(2)) == 4
    assert [record.getMessage() for record in caplog.records][1:] == [
        "gemma-trace could not annotate a call: KeyError: 'boom'"
    ] * 2
    assert "can't annotate the calls of a Slotted" in caplog.text


@pytest.mark.parametrize("way", ["wrapped", "in place", "of __call__"])
def test_nothing_is_heard_inside_of_a_graph_and_nothing_breaks_it(way: str) -> None:
    inner, outer, log = Doubler(), nn.Sequential(), []
    outer.append(inner)
    outer.append(Doubler())
    graphs: list[torch.fx.GraphModule] = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    if way == "in place":
        outer.compile(backend=count)
        called: Any = outer
    else:
        called = torch.compile(outer if way == "wrapped" else outer.__call__, backend=count)
    heard = called if way == "wrapped" else outer
    for place in ("compiled before", "compiled meanwhile"):
        if place == "compiled before":
            assert called(torch.ones(3)).tolist() == [4.0] * 3
        with ExitStack() as undo:
            listen_to_forward(heard, lambda *_: log.append("+outer"), lambda *_: log.append("-outer"), undo)
            listen_to_forward(inner, lambda *_: log.append("+inner"), lambda *_: log.append("-inner"), undo)
            assert called(torch.ones(3)).tolist() == [4.0] * 3
        if place == "compiled before":
            assert called(torch.ones(3)).tolist() == [4.0] * 3
        assert log == ([] if way == "of __call__" else ["+outer", "-outer"])
        assert len(graphs) == 1, "neither a break nor anything compiled anew"
        log.clear()
        graphs.clear()
        torch._dynamo.reset()


@pytest.mark.parametrize("kind", ["cuda", "xpu"])
def test_nothing_is_heard_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    of_kind = getattr(torch, kind)
    module, log = Doubler(), list[str]()
    capturing = {"now": True}
    monkeypatch.setattr(of_kind, "is_initialized", lambda: True)
    monkeypatch.setattr(of_kind, "is_current_stream_capturing", lambda: capturing["now"], raising=False)
    with ExitStack() as undo:
        listen_to_forward(module, lambda *_: log.append("+"), lambda *_: log.append("-"), undo)
        for now in (True, False):
            capturing["now"] = now
            module(torch.tensor(2))
    assert log == ["+", "-"], "of the call that no graph was made of"
