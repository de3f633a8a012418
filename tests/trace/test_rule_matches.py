"""Rules of the user: matched in bounded time, wherever they are given, and told of where they match nothing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import gemma_trace
from gemma_trace import cli
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.health.examine import examine
from gemma_trace.stages import FOREIGN_RULES, StageRule, stage_rule
from gemma_trace.trace import rule_matches
from gemma_trace.trace.near_names import nearest, spelled
from gemma_trace.trace.rule_matches import match_rules
from gemma_trace.trace.trace import Trace, load
from tests.trace_builder import TraceBuilder

ENDLESS = "(a+)+$"
LONG = "a" * 80 + "b"


@pytest.fixture
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The patterns here would take years: any limit stops them."""
    monkeypatch.setattr(rule_matches, "LIMIT_S", 0.1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    built = TraceBuilder().range("mine::forward", 0, 900).frame("nn.Module: Qwen3MoeBlock_3", 100, 300)
    built.op(LONG, 500, 10).op("aten::empty", 600, 0).launch(1, 700).kernel("moe_kernel", 800, 50, correlation=1)
    return built.write(tmp_path / "in" / "named.json")


def found(trace: Trace) -> list[tuple[str, str]]:
    return [(f.code, f.message) for f in examine(trace).findings if f.code.startswith("rule_")]


@pytest.mark.parametrize("pattern", [ENDLESS, "(.*a){20}$", r"(?:a?){40}a{40}c", "(a|aa)+$"])
@pytest.mark.usefixtures("short_limit")
def test_a_pattern_that_backtracks_for_ever_is_cut_off_and_named(path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(path, [stage_rule("fine", "f.*d"), stage_rule("bad", pattern)])
    assert str(error.value).startswith(f"the rule bad={pattern!r} takes more than 0.1 s")
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("short_limit")
def test_it_is_cut_off_in_a_worker_thread_too(path: Path) -> None:
    errors: list[Exception] = []

    def work() -> None:
        try:
            gemma_trace.load(path, rules=[stage_rule("bad", ENDLESS)])
        except ConfigError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ["the rule bad=" in str(error) for error in errors] == [True]


@pytest.fixture(params=["ignored", "blocked"])
def without_alarm(request: pytest.FixtureRequest) -> Iterator[None]:
    """The signal that ends the second process is one that this one doesn't take, and such things are inherited."""
    if request.param == "ignored":
        before = signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
        yield
        signal.signal(signal.SIGVTALRM, before)
    else:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGVTALRM])
        yield
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal; the clock bounds a rule there")
@pytest.mark.usefixtures("short_limit", "without_alarm")
def test_it_is_cut_off_whatever_signals_the_caller_ignores(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"takes more than 0\.1 s"):
        load(path, [stage_rule("bad", ENDLESS)])


@pytest.mark.parametrize("pattern", ["(", "[", "a{99999999999}"])
def test_a_rule_made_by_hand_that_is_no_regular_expression_is_refused(path: Path, pattern: str) -> None:
    with pytest.raises(ConfigError, match="is not a regular expression"):
        load(path, [StageRule("x", pattern)])


def test_a_second_process_that_ends_by_itself_did_not_take_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    ending = Path(__file__).with_name("no_such_runner.py")
    monkeypatch.setattr(rule_matches, "_RUNNER", ending)
    with pytest.raises(ConfigError, match=r"the rule x='fo[+]' couldn't be held against this trace's names") as error:
        match_rules([StageRule("x", "fo+")], ["foo"])
    assert "takes more than" not in str(error.value)


def test_inside_of_a_program_that_is_no_python_rules_are_matched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", None)
    assert match_rules([StageRule("x", "fo+")], ["foo", "food"])[0].tolist() == [0]


@pytest.mark.parametrize("name", ["Vision", "VisionTransformer", "Projector", "TextEncoder"])
def test_rules_of_our_own_are_through_with_the_longest_names(name: str) -> None:
    """Where a rule takes the cube of a name's length, these take days."""
    longest = f"nn.Module: {name * 20_000}!"
    assert not any(rule.matches(longest) for rule in FOREIGN_RULES)


@pytest.mark.parametrize("command", ["stages", "kernels", "tree", "summarize", "export"])
@pytest.mark.usefixtures("short_limit")
def test_every_command_ends_in_one_line(
    command: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    code = cli.main([command, str(path), "--rule", f"bad={ENDLESS}"])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "the rule bad=" in err


PATTERNS = ["", "forward", "^mine", "a+b$", "(?i)MOEBLOCK", "(?x) Moe | block  # words"]
PATTERNS += [r"_\d+", "a|b", ".", "x^", "nn[.]M"]


def test_all_patterns_match_what_re_does() -> None:
    names = ["mine::forward", "nn.Module: Qwen3MoeBlock_3", LONG, "two\nlines", "", "lone \ud800 half", "é ü"]
    rules = [stage_rule("x", pattern) for pattern in PATTERNS]
    expected = [[place for place, name in enumerate(names) if rule.matches(name)] for rule in rules]
    assert [found.tolist() for found in match_rules(rules, names)] == expected
    assert expected[:6] == [list(range(7)), [0], [0], [2], [1], [1]]


def test_without_a_second_process_rules_are_matched_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert match_rules([StageRule("x", "fo+")], ["foo", "food"])[0].tolist() == [0]


def test_a_pattern_that_python_cannot_compile_is_refused_in_a_line() -> None:
    for pattern in ("a{99999999999}", "(" * 5000 + ")" * 5000):
        with pytest.raises(ConfigError, match="is not a regular expression") as error:
            stage_rule("x", pattern)
        assert len(str(error.value)) < 300


def test_a_rule_that_matches_nothing_names_what_is_near(path: Path) -> None:
    trace = load(path, [stage_rule("moe", "MoEBlok"), stage_rule("good", "mine"), stage_rule("odd", "zzz+")])
    assert found(trace) == [
        (
            "rule_without_match",
            "the rule moe='MoEBlok' matches no span, and the nearest names are 'nn.Module: Qwen3MoeBlock_3'",
        ),
        ("rule_without_match", "the rule odd='zzz+' matches no span, and no name is similar"),
    ]
    assert examine(trace).verdict == "warning"
    with pytest.raises(InputError, match="no stage 'moe'; it has good; the rule moe='MoEBlok' matches no span"):
        kernel_table(trace, "moe")


@pytest.mark.parametrize(
    ("rules", "code", "what"),
    [
        ([("k", "moe_kernel")], "rule_without_match", "matches only spans of the device or the profiler"),
        ([("zero", "aten::empty")], "rule_without_time", "matches only spans without a length"),
        (
            [("all", "."), ("moe", "Moe")],
            "rule_without_match",
            "matches only what earlier rules match already: all='.'",
        ),
    ],
)
def test_a_rule_without_effect_is_told_of(path: Path, rules: list[tuple[str, str]], code: str, what: str) -> None:
    told = found(load(path, [stage_rule(*rule) for rule in rules]))
    assert [(each[0], what in each[1]) for each in told] == [(code, True)]


def test_our_own_ranges_are_no_match(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 100).range("prefill", 10, 50)
    trace = load(built.write(tmp_path / "ours.json"), [stage_rule("mine", "prefill$")])
    assert found(trace) == [("rule_without_match", "the rule mine='prefill$' matches only gemma-trace's own ranges")]


def test_rules_with_effect_are_not_told_of(path: Path) -> None:
    rules = [stage_rule("moe", "Moe"), stage_rule("moe", "Block_"), stage_rule("rest", "mine|aten::")]
    assert found(load(path, rules)) == []


def test_every_command_that_takes_rules_tells(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rules = tmp_path / "rules.toml"
    rules.write_text('[stages]\nmoe = "MoEBlok"\n')
    said = "the rule moe='MoEBlok' matches no span, and the nearest names are 'nn.Module: Qwen3MoeBlock_3'"
    for command in (["stages"], ["summarize"], ["tree"], ["kernels"], ["diff", str(path)], ["export"]):
        code = cli.main([*command, str(path), "--rules", str(rules)])
        out, err = capsys.readouterr()
        assert (code, said in " ".join((out + err).split())) == (0, True), command
    assert cli.main(["stages", str(path), "--rule", "moe=MoEBlok", "-f", "json"]) == 0
    health = json.loads(capsys.readouterr().out)["health"]
    assert "rule_without_match" in [finding["code"] for finding in health["findings"]]
    assert cli.main(["report", str(path), "--rule", "moe=MoEBlok", "-o", "page.html"]) == 0
    assert "MoEBlok" in Path("page.html").read_text(encoding="utf-8")


def test_nearest_names() -> None:
    names = ["aten::mm", "my_forward", "nn.Module: Owlv2EncoderLayer_3", "backward", "x"]
    assert nearest("fwrd", names)[0] == "my_forward"
    assert nearest("Owlv2Layers", names) == ["nn.Module: Owlv2EncoderLayer_3"]
    assert nearest("qqqq", names) == nearest("", names) == []
    assert spelled(r"^nn\.Module: MoE\w*_(\d+)$") == "nn.Module: MoE _"


def test_of_many_names_three_are_named_and_numbers_make_no_difference(tmp_path: Path) -> None:
    built = TraceBuilder()
    for index in range(300):
        built.frame(f"nn.Module: Layer_{index}", 10 * index, 5)
    for index, name in enumerate(("LayerNorm", "LayerStack", "PlayerLayer")):
        built.frame(f"nn.Module: {name}_0 {'x' * 90}", 5000 + 10 * index, 5)
    trace = load(built.write(tmp_path / "in.json"), [stage_rule("layer", "nn.Module: Layerr")])
    names = found(trace)[0][1].split("the nearest names are ")[1]
    assert names.count("'") == 6
    assert names.startswith("'nn.Module: Layer_0', ")
    assert "…'" in names


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer of processor time")
def test_a_program_that_ignores_the_timers_signal_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_matches, "LIMIT_S", 0.1)
    before = signal.signal(signal.SIGVTALRM, signal.SIG_IGN)
    try:
        with pytest.raises(ConfigError, match="was stopped"):
            match_rules([stage_rule("slow", "(a+)+$")], ["a" * 60 + "b"])
    finally:
        signal.signal(signal.SIGVTALRM, before)
