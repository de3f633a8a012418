"""Which names each stage rule of the user matches, in bounded time.

A regular expression can backtrack for ever, and Python's `re` lets nobody in while it does: no other thread, and no
signal but in the main thread. So patterns that could are matched in a process of their own, which the system ends when
they have had their processor time.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from gemma_trace.errors import ConfigError
from gemma_trace.stages import StageRule, check_pattern
from gemma_trace.trace.events import IntArray

LIMIT_S: Final = 10.0
"""How much processor time one rule has for all names. A usual one takes a microsecond a name."""

_SAFE: Final = re.compile(r"[^*+?{(]*")
"""Patterns without repeats and groups, which can't backtrack: most are such."""

_RUNNER: Final = Path(__file__).with_name("rule_runner.py")
_HAS_TIMER: Final = sys.platform != "win32"


def match_rules(rules: Sequence[StageRule], names: Sequence[str]) -> tuple[IntArray, ...]:
    """Hold every rule against every name.

    Returns:
        Of each rule, int64, the places of the names that match.

    Raises:
        ConfigError: a rule takes longer than `LIMIT_S`, or is no regular expression.
    """
    for rule in rules:
        check_pattern(rule.pattern)
    risky = [rule for rule in rules if not _SAFE.fullmatch(rule.pattern)]
    bounded = dict(zip(risky, _bounded(risky, names), strict=True)) if risky else {}
    return tuple(bounded[rule] if rule in bounded else _at_once(rule, names) for rule in rules)


def first_stages(rules: Sequence[StageRule], matches: Sequence[IntArray], names: int) -> list[str | None]:
    """The stage of each of so many names: that of the first rule which matches it.

    Args:
        matches: what `match_rules` found.
    """
    stages: list[str | None] = [None] * names
    for rule, places in reversed(list(zip(rules, matches, strict=True))):
        for place in places.tolist():
            stages[place] = rule.stage
    return stages


def _at_once(rule: StageRule, names: Sequence[str]) -> IntArray:
    return np.array([place for place, name in enumerate(names) if rule.matches(name)], dtype=np.int64)


def _bounded(rules: Sequence[StageRule], names: Sequence[str]) -> list[IntArray]:
    """The same in a process of its own; here, where none can be started."""
    patterns = [(rule.pattern, rule.anywhere) for rule in rules]
    plan = json.dumps({"patterns": patterns, "names": names, "limit_s": LIMIT_S}).encode()
    if not sys.executable:  # Python inside of another program
        return [_at_once(rule, names) for rule in rules]
    command = [sys.executable, "-I", "-S", str(_RUNNER)]
    stopped = False
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except (OSError, ValueError):
        return [_at_once(rule, names) for rule in rules]
    with process:
        try:
            # Where there is no timer of processor time, the clock has to do.
            answer, _ = process.communicate(plan, None if _HAS_TIMER else LIMIT_S * len(rules))
        except subprocess.TimeoutExpired:
            stopped = True
            process.kill()
            answer, _ = process.communicate()
        except BaseException:
            process.kill()
            raise
    lines = answer.splitlines()
    if len(lines) < len(rules):
        stopped |= _HAS_TIMER and process.returncode == -signal.SIGVTALRM
        raise _unanswered(rules[len(lines)], process.returncode, stopped=stopped)
    return [np.array(json.loads(line), dtype=np.int64) for line in lines]


def _unanswered(rule: StageRule, code: int, *, stopped: bool) -> ConfigError:
    if stopped:
        return ConfigError(
            f"the rule {rule} takes more than {LIMIT_S:g} s on this trace's names and was stopped; write its regular "
            "expression without repeats inside of repeats, such as (a+)+"
        )
    return ConfigError(
        f"the rule {rule} couldn't be held against this trace's names: the Python that was to do it, {sys.executable}, "
        f"exited with code {code}; write a simpler regular expression, and check whether memory ran out"
    )
