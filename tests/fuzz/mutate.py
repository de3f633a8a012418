"""A seed and a number of a case → a damaged trace, damaged rules and peak rates, and options: always the same ones."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import msgspec

from tests.fuzz.seeds import PEAKS, RULES, seeds

_INTEGERS: Final = (
    *(0, 1, -1, 7, 1000, 2**31 - 1, 2**31, 2**32, 2**53, 2**60, 2**61, 2**62, 2**63 - 1, 2**63, 2**64, 10**400),
    *(-(2**31) - 1, -(2**62), -(2**63), -(2**63) - 1, -(10**400)),
)
NUMBERS: Final = (
    *(b"%d" % value for value in _INTEGERS),
    *(b"1" * 5000, b"1e400", b"-1e400", b"1e308", b"5e-324", b"1e18", b"9e15", b"NaN", b"-Infinity", b"-0", b"-0.0"),
    *(b"0.0005", b"1.5", b"0x1f", b"007", b"1e", b"4194304.5"),
)
TEXTS: Final = (
    *(
        b'""',
        b'"x"',
        b'"12"',
        b'"-5"',
        b'"1e400"',
        b'"nan"',
        b'" 7 "',
        b'"\xff\xfe"',
        b'"\\ud800"',
        b'"\\ud83d\\ude00"',
    ),
    *(b'"\\u0000"', b'"\\u001b[31mred"', b'"\\u009b2J"', b'"\\u202eevil"', b'"a\\u2028b"', b'"\\r# h"', b'"[l](u)"'),
    *(b'"=1+1"', b'"<script>"', b'"' + b"a" * 3000 + b'"', b'"' + b"1" * 5000 + b'"', b'"[[1, 2], [3]]"', b'"\x01"'),
    *(b'"' + b"(" * 900 + b'"', b'"' + b"<" * 900 + b'"', b'"' + b"[" * 900 + b'"', b'"gemma_trace::request"'),
    *(b'"gemma_trace::decode"', b'"ProfilerStep#1"', b'"aten::mm"', b'"kernel"', b'"overhead"', b'"cuda_sync"', b'"X"'),
    *(b'"B"', b'"E"', b'"C"', b'"i"', b'"s"', b'"M"', b'"cpu_op"', b'"[memory]"', b'"../../x"', b'"a/b\\\\c"'),
)
OTHERS: Final = (
    *(b"null", b"true", b"false", b"[]", b"{}", b"[null]", b"[[]]", b'{"":{}}', b"undefined", b"", b'{"a":1,"a":2}'),
    *(b"[" * 60 + b"]" * 60, b"[" * 5000 + b"]" * 5000, b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 40, b"}"),
    *(b"[[%d, %d], [%d]]" % (2**62, 2**62, 2**63 - 1), b"[[" + b",".join([b"%d" % 2**62] * 40) + b"]]", b'{"\xff":1}'),
    *(b"[[-1, -8], [0, 0]]", b"[[1e400]]", b"[[%d]]" % 10**400, b'["%s"]' % (b"1" * 5000), b"[1, [2, [3]]]"),
)
HOSTILE: Final = (*NUMBERS, *NUMBERS, *TEXTS, *OTHERS)

Json = dict[str, Any] | list[Any]

_SCRAPS: Final = (b"[", b"]", b"{", b"}", b",", b'"', b"\\", b"\x00", b"\xff", b":", b"null", b"-", b"1" * 400, b"},{")


@dataclass(frozen=True)
class Case:
    """What one case is made of.

    Attributes:
        trace: the file's bytes; gzip where they begin as such.
        rules, peaks: the texts of a file of rules and one of peak rates; None for none.
        options: what some commands are given on top.
        draw: what the few commands that it is put through are drawn by; None for all of them.
    """

    trace: bytes
    rules: bytes | None
    peaks: bytes | None
    options: tuple[str, ...]
    draw: str | None = None


def case(seed: int, number: int) -> Case:
    """The case of a number."""
    random = Random(f"{seed}:{number}")
    whole = msgspec.json.decode(random.choice(seeds()), type=dict[str, Any])
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5, 8))):
        random.choice(_OF_TRACES)(random, whole)
    events = whole.get("traceEvents")
    text = msgspec.json.encode(events if isinstance(events, list) and random.random() < 0.03 else whole)
    for _ in range(random.choice((0, 0, 0, 0, 0, 1, 3))):
        text = _damaged(random, text)
    if random.random() < 0.1:
        text = gzip.compress(text, 1, mtime=0)
        if random.random() < 0.5:
            text = _damaged(random, text)
    rules = _damaged_toml(random, RULES) if random.random() < 0.05 else None
    peaks = _damaged_toml(random, PEAKS) if random.random() < 0.15 else None
    options = tuple(random.choice(_OPTIONS)(random)) if random.random() < 0.3 else ()
    return Case(text, rules, peaks, options, draw=f"{seed}:{number}")


def _raw(random: Random) -> msgspec.Raw:
    return msgspec.Raw(random.choice(HOSTILE))


def _places(value: Any, found: list[tuple[Any, Any]], depth: int = 0) -> list[tuple[Any, Any]]:
    """Every place of a JSON value that something else could stand in: what it is in, and its key or index."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        if depth < 8:
            _places(value[key], found, depth + 1)
    return found


def _swap_of_an_event(random: Random, whole: dict[str, Any]) -> None:
    """A value, or the same value of several events, becomes hostile."""
    events = _events(whole)
    if not events:
        return
    event = random.choice(events)
    if not isinstance(event, dict):
        return
    places = _places(event, [])
    if not places:
        return
    inside, key = random.choice(places)
    hostile = _raw(random)
    inside[key] = hostile
    if inside is event and random.random() < 0.4:
        for other in random.sample(events, random.randint(1, len(events))):
            if isinstance(other, dict):
                other[key] = hostile


def _swap_of_the_header(random: Random, whole: dict[str, Any]) -> None:
    places = [(inside, key) for inside, key in _places({k: v for k, v in whole.items() if k != "traceEvents"}, [])]
    inside, key = random.choice(places)
    if key in whole and inside.get(key) is whole[key] if isinstance(inside, dict) else False:
        whole[key] = _raw(random)
    else:
        inside[key] = _raw(random)


def _events(whole: dict[str, Any]) -> list[Any]:
    events = whole.get("traceEvents")
    return events if isinstance(events, list) else []


def _add_a_member(random: Random, whole: dict[str, Any]) -> None:
    events = [event for event in _events(whole) if isinstance(event, dict)]
    target: Any = random.choice(events) if events and random.random() < 0.8 else whole
    inside = target.get("args") if random.random() < 0.6 else target
    names = ("args", "Input Dims", "Concrete Inputs", "grid", "block", "stream", "device", "correlation", "dur", "ts")
    more = ("id", "bytes", "Addr", "sort_index", "name", "cat", "x", "", "traceName", "gemma_trace", "distributedInfo")
    if isinstance(inside, dict):
        inside[random.choice(names + more)] = _raw(random)


def _drop(random: Random, whole: dict[str, Any]) -> None:
    events = _events(whole)
    if not events:
        return
    if random.random() < 0.5:
        del events[random.randrange(len(events))]
        return
    places = _places(random.choice(events), [])
    if places:
        inside, key = random.choice(places)
        del inside[key]


def _keep_some(random: Random, whole: dict[str, Any]) -> None:
    """Only the events of one phase, one category, or the first few are left."""
    events = _events(whole)
    if not events:
        return
    key = random.choice(("ph", "cat", "name"))
    like = random.choice(events)
    wanted = like.get(key) if isinstance(like, dict) else None
    same = [event for event in events if isinstance(event, dict) and event.get(key) == wanted]
    whole["traceEvents"] = random.choice((same, [e for e in events if e not in same], events[: random.randint(0, 4)]))


def _repeat(random: Random, whole: dict[str, Any]) -> None:
    events = _events(whole)
    if events:
        place = random.randrange(len(events))
        whole["traceEvents"] = events[:place] + [events[place]] * random.choice((1, 2, 30)) + events[place:]


def _reorder(random: Random, whole: dict[str, Any]) -> None:
    random.shuffle(_events(whole))


def _shift(random: Random, whole: dict[str, Any]) -> None:
    """Some times or lengths move far away together."""
    by = random.choice((2**40, 2**50, 2**52, -(2**52), 4_500_000_000_000_000, -5, 0.0004, 10**6))
    key = random.choice(("ts", "ts", "dur"))
    for event in _events(whole):
        if isinstance(event, dict) and isinstance(event.get(key), int | float) and random.random() < 0.8:
            event[key] += by


def _hostile_event(random: Random, whole: dict[str, Any]) -> None:
    _events(whole).insert(0, _raw(random))


_OF_TRACES: Final[tuple[Callable[[Random, dict[str, Any]], None], ...]] = (
    *(_swap_of_an_event,) * 8,
    *(_swap_of_the_header,) * 4,
    *(_add_a_member,) * 2,
    *(_drop, _drop, _keep_some, _keep_some, _repeat, _reorder, _shift, _hostile_event),
)


def _damaged(random: Random, text: bytes) -> bytes:
    """Bytes cut, flipped, taken out, put in or repeated."""
    if not text:
        return text
    at, kind = random.randrange(len(text)), random.randrange(5)
    to = min(len(text), at + random.choice((1, 2, 8, 64, 500)))
    if kind == 0:
        return text[:at]
    if kind == 1:
        return text[:at] + bytes([text[at] ^ (1 << random.randrange(8))]) + text[at + 1 :]
    if kind == 2:
        return text[:at] + text[to:]
    if kind == 3:
        return text[:at] + random.choice(_SCRAPS) * random.choice((1, 1, 3, 200)) + text[at:]
    return text[:to] + text[at:to] * random.choice((1, 3)) + text[to:]


_TOML: Final = (
    *(b"1", b"-1", b"0", b"nan", b"inf", b"1e400", b"1" * 5000, b"0x" + b"f" * 5000, b"[" * 3000, b"{a=" * 900, b'"x"'),
    *(b"true", b"[]", b"{}", b"2020-01-01", b'"(?i)x"', b"'a(?i)b'", b"'x{1,99999999999}'", b"'(a+)+$'", b"'('", b"''"),
    *(b"'" + b"(" * 5000 + b")" * 5000 + b"'", b'"\xff"', b'"\\u0000"', b"[1, [2]]", b'{name = "x"}', b"9" * 400),
)


def _damaged_toml(random: Random, text: str) -> bytes:
    lines = text.encode().splitlines()
    for _ in range(random.choice((0, 1, 1, 2))):
        place = random.randrange(len(lines))
        kind = random.randrange(4)
        if kind == 0 and b"=" in lines[place]:
            lines[place] = lines[place].split(b"=")[0] + b"= " + random.choice(_TOML)
        elif kind == 1:
            lines.pop(place)
            lines = lines or [b""]
        elif kind == 2:
            lines.insert(
                place, random.choice((b"[a.b.c]", b"x = 1", b"[[device]]", b"[stages]", b"a." * 2000 + b"a=1"))
            )
        else:
            lines[place] = _damaged(random, lines[place])
    return b"\n".join(lines)


def _request(random: Random) -> list[str]:
    return ["--request", random.choice(("0", "1", "-1", "99999999999999999999", "x"))]


def _stage(random: Random) -> list[str]:
    rules = ("prefill", "nothing", "a=(?i)b", "a=b(?i)", "a=x{1,99999999999}", "a=", "=a", "request=x", "decode=mm", "")
    return [random.choice(("--stage", "--rule", "--rule")), random.choice(rules)]


_OPTIONS: Final[tuple[Callable[[Random], list[str]], ...]] = (_request, _request, _stage)
