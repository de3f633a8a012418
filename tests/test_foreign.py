from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from gemma_trace import cli
from gemma_trace.errors import ConfigError, InputError, OutputError
from gemma_trace.foreign import (
    UNREADABLE_VALUES,
    UnreadableValueError,
    converted,
    decoded,
    integer,
    list_of,
    members_of,
    number,
    read_toml,
    text,
    value_of,
)
from tests.fuzz.corpus import DEEP, HUGE, LONG
from tests.fuzz.seeds import ours_on_a_device
from tests.trace_builder import TraceBuilder

UNREADABLE = [DEEP, LONG, b"1e400", b'"\xff"', b'"\\ud800"', b"", b"nope", b'{"\xff": 1}']


@pytest.mark.parametrize("data", UNREADABLE, ids=lambda data: repr(data[:8]))
def test_what_no_parser_reads_is_one_error_or_nothing(data: bytes) -> None:
    with pytest.raises(UnreadableValueError):
        decoded(data)
    unread: Counter[str] = Counter()
    assert value_of(data, unread) is None
    assert members_of(data, unread) == {}
    assert unread == {UNREADABLE_VALUES: 2}
    assert list_of(data) == []


def test_what_can_be_read_is() -> None:
    assert value_of(b"[1, 2.5, null]") == [1, 2.5, None]
    assert members_of(b'{"a": 1.50}') == {"a": msgspec.Raw(b"1.50")}
    assert decoded(b"[1.50]", exact=True) == [msgspec.Raw(b"1.50")]


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        (["a", "b"], tuple[Path, ...], (Path("a"), Path("b"))),
        (7, int | None, 7),
        (3, float, 3.0),
        ("x", str | list[str], "x"),
    ],
)
def test_a_value_of_the_right_type_is_converted(value: object, kind: object, result: object) -> None:
    assert converted(value, kind, ConfigError("no")) == result


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, int), (1.0, int), ("3", int), (1, bool), ("a", tuple[str, ...]), ([1], tuple[Path, ...]), (10**400, float)],
    ids=["bool", "whole float", "digits", "one", "text", "list of a number", "too large"],
)
def test_a_value_of_another_type_is_what_was_to_be_raised(value: object, kind: object) -> None:
    with pytest.raises(ConfigError, match="runs requires a whole number"):
        converted(value, kind, ConfigError("runs requires a whole number"))


def test_numbers_are_kept_within_their_bounds() -> None:
    assert [integer(value) for value in (2**63 - 1, 2**63, 10**400, 1e300, "9" * 30, "12", 3.0, math.inf)] == [
        *(2**63 - 1, -1, -1, -1, -1, 12, 3, -1)
    ]
    assert [number(value) for value in (10**400, "1e400", "1.5", math.nan, True)] == [None, None, 1.5, None, None]
    assert [text(value) for value in (None, "x", 7, 16**5000)] == ["", "x", "7", ""]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a=" + b"[" * 5000, "nest too deep"),
        (b"a=" + LONG, "digits"),
        (b"\xff", "utf-8"),
        (b"a =", "Invalid value"),
        (b"#" * (1 << 20) + b"#", "is over 1 MiB"),
    ],
)
def test_a_toml_file_that_cant_be_read_is_told_in_a_line(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "rules.toml"
    file.write_bytes(content)
    with pytest.raises(InputError, match=said) as raised:
        read_toml(file, "--rules")
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="Is a directory; check rules="):
        read_toml(tmp_path, "--rules")


def test_an_argument_that_cant_be_read_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    built = TraceBuilder().span("kernel", "k", 0, 10, stream=7, device=msgspec.Raw(b"1e400"), correlation=3)
    trace = built.span("kernel", "l", 20, 10, stream=7, device=0, correlation=msgspec.Raw(HUGE)).load(tmp_path)
    assert trace.read_report.repairs == {UNREADABLE_VALUES: 1, "numbers_too_large": 1}
    assert trace.spans.stream.tolist() == [7, 7]
    assert (trace.spans.device.tolist(), trace.spans.correlation.tolist()) == ([-1, 0], [3, -1])


def test_devices_are_read_as_far_as_they_can_be(tmp_path: Path) -> None:
    built = ours_on_a_device()
    listed = b'[{"id": 0, "name": "\xff1"}, 3, {"id": 1e30, "name": "x"}, {"id": "1", "name": "y"}, {"id": 2}]'
    built.header["deviceProperties"] = msgspec.Raw(listed)
    file = tmp_path / "t.json"
    file.write_bytes(msgspec.json.encode(built.header | {"traceEvents": built.events}))
    from gemma_trace.trace.trace import load

    assert load(file).devices == {0: "\ufffd1", 1: "y", 2: ""}


def test_names_that_are_too_long_for_a_file_are_told_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = str(ours_on_a_device().write(tmp_path / "t.json"))
    name = "x" * 5000
    for command in (
        ["stages", name],
        ["diff", file, name],
        ["stages", file, "-f", "csv", "-o", name],
        ["report", file, "-o", name],
    ):
        assert cli.main(command) == (1 if "-o" in command else 4)
        assert capsys.readouterr().err.startswith("gemma-trace: can't ")
    with pytest.raises(OutputError, match="File name too long; check output="):
        cli.run(["export", file, "-o", name])


def test_a_fault_of_our_own_is_told_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise KeyError("here")

    monkeypatch.setattr(cli, "run", fails)
    assert cli.main(["check", "x"]) == cli.FAULT
    assert capsys.readouterr().err.startswith("gemma-trace: this is a bug in gemma-trace: KeyError in test_foreign.py:")
    assert cli.main(["check", "x", "--debug"]) == cli.FAULT
    said = capsys.readouterr().err
    assert said.startswith("Traceback (most recent call last):")
    assert said.rstrip().endswith("KeyError: 'here'")
    monkeypatch.setattr(cli, "run", lambda _: (_ for _ in ()).throw(MemoryError()))
    assert cli.main(["check", "x"]) == 1
    assert "there is not enough memory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "rule", ["a=b(?i)c", "a=x{1,99999999999}", "a=(", "a=" + "(" * 5000 + ")" * 5000, "a=(?P<x", "=x", "a="]
)
def test_a_rule_that_is_none_is_told_in_a_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, rule: str) -> None:
    file = str(ours_on_a_device().write(tmp_path / "t.json"))
    assert cli.main(["stages", file, "--rule", rule]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert len(said) < 300
    rules = tmp_path / "rules.toml"
    name, _, pattern = rule.partition("=")
    rules.write_text(f"[stages]\n'{name}' = '{pattern}'\n")
    if pattern:
        assert cli.main(["stages", file, "--rules", str(rules)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
