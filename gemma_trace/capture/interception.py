"""Calls of single objects that are listened to while blocks run; nothing of their classes changes.

Of a module, a method is shadowed on the one instance, and its forward gets hooks. Any other object gets a subclass of
its own for the time being, since Python looks `__call__` up on the class. Several may listen to one object and leave in
any order. Copies and pickles of it, made meanwhile, are of the object as it was: nobody listens to them.
"""

from __future__ import annotations

import copyreg
import functools
import logging
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import Any, Final

import torch
from torch import nn

Call = Callable[..., Any]
Wrap = Callable[[Call], Call]
"""Makes of a call one that is listened to."""

Before = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]
"""Is given the module and what it is called with."""

After = Callable[[nn.Module, tuple[Any, ...], Any], None]
"""Is given the module, what it was called with, and its output, which is None after an exception."""

_LOG: Final = logging.getLogger(__name__)
_LOCK: Final = threading.RLock()
_ORIGINAL: Final = "_gemma_trace_original"
_NEW_OBJECT: Final = vars(copyreg)["__newobj__"]
_RESUMED: Final = "torch_dynamo_resume"
"""How names of frames begin that torch.compile made of what lies behind a break of a graph."""
_COMPILED_CALL: Final = "_compiled_call_impl"
"""What a module that `module.compile()` compiled is called through, with its hooks inside."""


def outside_graph() -> bool:
    """Whether torch.compile doesn't trace the caller, nor a graph of CUDA's or of an XPU's is captured.

    In the first a range would break the graph, in the second it would be recorded once and never be heard of again.
    """
    if torch.compiler.is_compiling():
        return False
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():
        return False
    xpu_captures = getattr(torch.xpu, "is_current_stream_capturing", None)  # not in every torch
    return not (torch.xpu.is_initialized() and xpu_captures is not None and xpu_captures())


def listen_to_calls(owner: Any, name: str, wrap: Wrap, undo: ExitStack) -> None:
    """Have `wrap` around every call of the method `name` of one object, until `undo` ends.

    An object whose class can't be exchanged is left alone, and that is logged.
    """
    with _LOCK:
        try:
            shadow = _shadow_on_instance(owner, name) if isinstance(owner, nn.Module) else _shadow_on_class(owner, name)
        except TypeError as error:  # a class of C, or with slots
            _LOG.warning("gemma-trace can't annotate the calls of a %s: %s", type(owner).__name__, error)
            return
        shadow.add(wrap)

    def stop() -> None:
        with _LOCK:
            shadow.remove(wrap)

    undo.callback(stop)


def listen_to_forward(
    module: nn.Module, before: Before, after: After, undo: ExitStack, *, is_heard: Callable[[], bool] = outside_graph
) -> None:
    """Call `before` and `after` around every forward of a module, until `undo` ends.

    A listener that fails is logged: its failure is never its program's.

    Args:
        is_heard: whether to call them now; by default not inside of a graph.
    """
    if getattr(module, _COMPILED_CALL, None) is not None:
        around = functools.partial(called_between, module, before, after, is_heard=is_heard)
        listen_to_calls(module, _COMPILED_CALL, around, undo)
        return
    for handle in (
        module.register_forward_pre_hook(_Hook(before, is_heard), with_kwargs=True),
        module.register_forward_hook(_Hook(after, is_heard), always_call=True),
    ):
        undo.callback(handle.remove)


def called_between(
    module: nn.Module, before: Before, after: After, call: Call, *, is_heard: Callable[[], bool] = outside_graph
) -> Call:
    """A call that stands for a module's forward, with what `listen_to_forward` takes around it."""

    def annotated(*args: Any, **kwargs: Any) -> Any:
        if not is_heard():
            return call(*args, **kwargs)
        return _call_between(module, before, after, call, args, kwargs)

    return annotated


def _call_between(
    module: nn.Module, before: Before, after: After, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    _tell(before, module, args, kwargs)
    output = None
    try:
        output = call(*args, **kwargs)
        return output
    finally:
        _tell(after, module, args, output)


_RUNNING_IN: Final = {"_call_impl": "self", _call_between.__name__: "module"}
"""The functions in which a module's forward goes on, and what each calls the module."""


def is_running(module: nn.Module) -> bool:
    """Whether a call of the module goes on, on the calling thread, told by the frames around the caller.

    What torch.compile made of frames tells nothing: then it is taken for running.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name in _RUNNING_IN and frame.f_locals.get(_RUNNING_IN[name]) is module:
            return True
        if name.startswith(_RESUMED):
            return True
        frame = frame.f_back
    return False


def _tell(listen: Callable[..., None], *told: Any) -> None:
    try:
        listen(*told)
    except Exception as error:
        _LOG.warning("gemma-trace could not annotate a call: %s: %s", type(error).__name__, error)


class _Hook:
    """A hook of a module, which a copy of the module has in vain."""

    def __init__(self, heard: Callable[..., None], is_heard: Callable[[], bool]) -> None:
        self._heard, self._is_heard = heard, is_heard

    def __call__(self, *args: Any) -> None:
        if self._is_heard():
            _tell(self._heard, *args)

    def __reduce__(self) -> tuple[Any, ...]:
        return _no_hook, ()


def _nothing(*_: Any) -> None:
    """The hook of a copy."""


def _no_hook() -> Callable[..., None]:
    return _nothing


class _Shadow:
    """A call of one object, with all that listen to it around it.

    Args:
        original: the call as it was.
        end: is called when nobody listens any more.
        stays: whether the object has the original among its own attributes, so that a copy of it has too.
    """

    def __init__(self, original: Call, end: Callable[[], None], *, stays: bool = False) -> None:
        functools.update_wrapper(self, original)
        self.original = original
        self.stays = stays
        self._end = end
        self._wraps: list[Wrap] = []
        self._call = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._call(*args, **kwargs)

    def add(self, wrap: Wrap) -> None:
        self._wraps.append(wrap)
        self._call = wrap(self._call)

    def remove(self, wrap: Wrap) -> None:
        self._wraps.remove(wrap)
        self._call = functools.reduce(lambda call, each: each(call), self._wraps, self.original)
        if not self._wraps:
            self._end()


def _shadow_on_instance(owner: nn.Module, name: str) -> _Shadow:
    """The shadow of a module's method, which stands in the instance's own attributes."""
    attributes = vars(owner)
    there = attributes.get(name)
    if isinstance(there, _Shadow):
        return there
    if not isinstance(attributes.get("__getstate__"), _Shadow):
        _hide_shadows(owner)

    def end() -> None:
        if attributes.get(name) is shadow:  # or else the program has put something there meanwhile, which stays
            del attributes[name]
            attributes.update({} if there is None else {name: there})
        if not any(isinstance(each, _Shadow) for key, each in attributes.items() if key != "__getstate__"):
            attributes.pop("__getstate__", None)

    shadow = attributes[name] = _Shadow(getattr(owner, name), end, stays=there is not None)
    return shadow


def _hide_shadows(owner: nn.Module) -> None:
    """Leave the shadows out of what is copied and pickled."""
    get_state = owner.__getstate__

    def state_without_shadows() -> dict[str, Any]:
        state = {}
        for key, value in get_state().items():
            if not isinstance(value, _Shadow):
                state[key] = value
            elif value.stays:
                state[key] = value.original
        return state

    vars(owner)["__getstate__"] = _Shadow(state_without_shadows, lambda: None)


def _shadow_on_class(owner: Any, name: str) -> _Shadow:
    """The shadow of an object's method, in a class that is this object's alone."""
    if _ORIGINAL not in vars(type(owner)):
        owner.__class__ = _class_of_its_own(type(owner))
    subclass = type(owner)
    original = getattr(subclass, _ORIGINAL)
    shadows: dict[str, _Shadow] = subclass._gemma_trace_shadows
    if name not in shadows:

        def end() -> None:
            del shadows[name]
            delattr(subclass, name)
            if not shadows:
                owner.__class__ = original

        method = getattr(original, name)
        shadows[name] = shadow = _Shadow(method, end)

        def called(self: Any, *args: Any, **kwargs: Any) -> Any:
            return shadow(self, *args, **kwargs)

        setattr(subclass, name, functools.wraps(method)(called))
    return shadows[name]


def _class_of_its_own(original: type) -> type:
    def reduced(self: Any, protocol: Any) -> Any:
        """A copy has the class that the object had before."""
        reduce: Any = original.__reduce_ex__
        made = reduce(self, protocol)
        if not isinstance(made, tuple):
            return made
        call, arguments, *state = (_without(each, type(self), original) for each in made)
        return (_new_object if call is _NEW_OBJECT else call, arguments, *state)

    members = {"__module__": original.__module__, "__qualname__": original.__qualname__, "__doc__": original.__doc__}
    more = {"__reduce_ex__": reduced, _ORIGINAL: original, "_gemma_trace_shadows": {}}
    return type(original)(original.__name__, (original,), members | more)


def _new_object(kind: type, *arguments: Any) -> Any:
    """As `copyreg.__newobj__`, which pickle takes for the object's own class alone."""
    return kind.__new__(kind, *arguments)


def _without(part: Any, subclass: type, original: type) -> Any:
    """The part of what `__reduce_ex__` returns, with the class that the object had before."""
    if part is subclass:
        return original
    return tuple(original if each is subclass else each for each in part) if isinstance(part, tuple) else part
