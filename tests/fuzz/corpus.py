"""What was found, a case a kind: what a built trace, rules or peak rates were made into before something escaped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from gemma_trace.trace.header import METADATA_KEY
from tests.fuzz.mutate import Case
from tests.fuzz.seeds import annotations_only, of_a_server, ours_on_a_device, without_spans
from tests.trace_builder import TraceBuilder

DEEP: Final = b"[" * 5000 + b"]" * 5000
LONG: Final = b"1" * 5000
HUGE: Final = b"%d" % 10**400
BAD_UTF8: Final = b'"\xff"'

_HEADERS: Final = ("deviceProperties", "traceName", "distributedInfo", METADATA_KEY)
_METADATA: Final = (
    ("timed_requests", 0, "wall_ns"),
    ("timed_requests", 0, "token_ns", 1),
    ("timed_requests", 0, "stages", "prefill", "host_ns"),
    ("workload", "prompt_tokens", 0),
    ("environment", "host_memory_bytes"),
    ("config", "runs"),
    ("run", "name"),
)
_NOTHING: Final = (
    *((("timed_requests", 0, "stages", "decode", "count"), b"0"), (("timed_requests", 0, "wall_ns"), b"0")),
    *((("timed_requests", 0, "ttft_ns"), b"0"), (("timed_requests", 0, "stages"), b"{}")),
    *((("timed_requests", 0, "token_ns"), b"[9, 3]"), (("timed_requests", 0, "token_ns"), b"[]")),
)
_ARGUMENTS: Final = ("Input Dims", "Input Strides", "Concrete Inputs", "Input type")
_RULES: Final = (
    *(b"a=" + b"[" * 5000, b"[" + b"a." * 5000 + b"a]", b"a=" + LONG, b"\xff", b"[stages]\na='x{1,99999999999}'"),
    *(b"[stages]\na='c(?i)d'", b"[stages]\na='" + b"(" * 5000 + b")" * 5000 + b"'", b"#" * (2 << 20)),
)
_PEAKS: Final = (
    *(b"a=" + b"[" * 5000, b"\xff"),
    b"[[device]]\nname='*'\nmemory_gb_per_s=" + b"9" * 400 + b"\n[device.tflops]\nfloat32=1",
    b"[[device]]\nname='*'\nmemory_gb_per_s=1e308\n[device.tflops]\nfloat32=1e308",
    b"[[device]]\nname='*'\nmemory_gb_per_s=" + LONG,
    b"[[device]]\nname='*'\nmemory_gb_per_s=0x" + b"f" * 5000 + b"\n[device.tflops]\nfloat32=1",
)


def cases() -> Iterator[tuple[str, Case]]:
    """The cases, each with what it is."""
    yield "no spans", _case(without_spans())
    yield "overhead and annotations on the device alone", _case(annotations_only())
    yield "no events", _case(TraceBuilder())
    for name in _HEADERS:
        for value in (DEEP, BAD_UTF8, b'[{"id": 0, "name": "\xff"}]', b"1e400", b"null"):
            yield f"header {name} {_shown(value)}", _case(_with_header(name, value))
    yield "a base time of 20 digits", _case(_with_header("baseTimeNanoseconds", b"1" * 20))
    for path in _METADATA:
        for value in (b"%d" % 2**63, HUGE, b"1e400", BAD_UTF8):
            yield f"metadata {path[-1]} {_shown(value)}", _case(_with_metadata(path, value))
    for name in _ARGUMENTS:
        for value in (b"[[%d, %d]]" % (2**62, 2**62), b'["[%s]"]' % LONG, DEEP, b"[[1e400]]"):
            yield f"{name} {_shown(value)}", _case(_with_argument("cpu_op", name, value))
    for value in (b"%d" % (2**63 - 1), HUGE, b"1e400", b"1e300"):
        yield f"correlation {_shown(value)}", _case(_with_argument("kernel", "correlation", value))
    yield (
        "a sort index of 400 digits",
        _case(
            ours_on_a_device().raw(
                ph="M", name="thread_sort_index", pid=1, tid=1, args={"sort_index": msgspec.Raw(HUGE)}
            )
        ),
    )
    for where, value in _NOTHING:
        yield f"metadata {where[-1]} {_shown(value)}", _case(_with_metadata(where, value))
    yield (
        "steps of no length but the first",
        _case(
            TraceBuilder().range("ProfilerStep#1", 0, 50).range("ProfilerStep#2", 60, 0).range("ProfilerStep#3", 70, 0)
        ),
    )
    yield "ops 142 years after the rest", _case(_far_ops())
    yield "activities of a vendor's category", _case(_with(of_a_server(), lambda event: _renamed(event, "xpu_kernel")))
    for name in ("ts", "dur"):
        for value in (b"%d" % 2**62, HUGE, b"1e400", b"4611686018427387"):
            yield f"{name} {_shown(value)}", _case(_with(ours_on_a_device(), _setter(name, value)))
    for text in _RULES:
        yield f"rules {_shown(text)}", Case(ours_on_a_device().json(), text, None, ())
    for values in ((1e308, 1e308), (-1e308, 1e308), (1e308, 5e-324)):
        built = ours_on_a_device()
        for at_ns, sample in zip((100, 500), values, strict=True):
            built.counter("GPU utilization", at_ns, {"value": 40, "x": sample})
        yield f"a counter of {values}", _case(built)
    for text in _PEAKS:
        yield f"peaks {_shown(text)}", Case(ours_on_a_device().json(), None, text, ())


def _shown(value: bytes) -> str:
    return repr(value[:24])[1:]


def _case(built: TraceBuilder) -> Case:
    return Case(msgspec.json.encode(built.header | {"traceEvents": built.events}), None, None, ())


def _with_header(name: str, value: bytes) -> TraceBuilder:
    built = ours_on_a_device()
    built.header[name] = msgspec.Raw(value)
    return built


def _with_metadata(path: Sequence[str | int], value: bytes) -> TraceBuilder:
    built = ours_on_a_device()
    whole = msgspec.json.decode(bytes(built.header[METADATA_KEY]))
    inside = whole
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = msgspec.Raw(value)
    built.header[METADATA_KEY] = msgspec.Raw(msgspec.json.encode(whole))
    return built


def _with(built: TraceBuilder, change: Callable[[dict[str, Any]], None]) -> TraceBuilder:
    for event in built.events:
        change(event)
    return built


def _with_argument(cat: str, name: str, value: bytes) -> TraceBuilder:
    def change(event: dict[str, Any]) -> None:
        if event.get("cat") == cat:
            event["args"][name] = msgspec.Raw(value)

    return _with(ours_on_a_device(), change)


def _setter(name: str, value: bytes) -> Callable[[dict[str, Any]], None]:
    def change(event: dict[str, Any]) -> None:
        if event.get("ph") == "X" and event["cat"] == "cpu_op":
            event[name] = msgspec.Raw(value)

    return change


def _far_ops() -> TraceBuilder:
    """Most events moved 142 years on, where a float64 of microseconds has no fractions: several start together."""
    built = ours_on_a_device()
    for place, event in enumerate(built.events):
        if "ts" in event and place not in (4, 5, 6, 10, 22, 30, 31):
            at_us = event["ts"] if isinstance(event["ts"], float) else float(bytes(event["ts"]))
            event["ts"] = at_us + 2**52
    return built


def _renamed(event: dict[str, Any], cat: str) -> None:
    if event.get("cat") == "kernel":
        event["cat"] = cat
