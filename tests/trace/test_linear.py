"""Every regular expression that is held against a trace's names and texts takes time in proportion to their length."""

from __future__ import annotations

import re
import time

import pytest

from gemma_trace.analysis.taxonomy import family_of
from gemma_trace.analysis.work_groups import shape_text
from gemma_trace.report.short_names import folded
from gemma_trace.stages import FOREIGN_RULES
from gemma_trace.trace.waiting import is_waiting
from tests.hostile_names import LEAST_TOTAL_S, Pattern, cost_s, patterns, too_slow

ALL = list(patterns())
LIMIT_S = 10.0
"""Of processor time, for what takes some milliseconds where it is linear and minutes where it isn't."""


def test_the_patterns_are_found() -> None:
    assert len(ALL) > 120
    uses = {pattern.where.rpartition(".")[2]: pattern.find.__name__ for pattern in ALL}
    assert (uses["_WAITING"], uses["_SETS_UP"], uses["_MARK_PATTERNS"]) == ("fullmatch", "fullmatch", "search")


@pytest.mark.parametrize("part", range(8))
def test_names_of_their_own_pieces_are_matched_in_time_linear_in_their_length(part: int) -> None:
    slow = {
        pattern.where: names
        for pattern in ALL[part::8]
        if (names := list(too_slow(pattern, 750, LEAST_TOTAL_S, LIMIT_S)))
    }
    assert not slow


@pytest.mark.parametrize(("pattern", "told"), [(r"a\w*b", True), (r"a\w{0,32}b", False)])
def test_a_pattern_that_is_not_linear_is_told_even_by_a_clock_of_ticks(
    pattern: str, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = time.process_time
    monkeypatch.setattr(time, "process_time", lambda: exact() // 0.01 * 0.01)
    compiled = re.compile(pattern)
    assert any(too_slow(Pattern("here", compiled, compiled.search), 300, -1.0, 2.0)) == told


@pytest.mark.parametrize(
    "name",
    [
        "nn.Module: " + "Vision" * 10_625 + "!",
        "LaunchKernel" * 5_000 + "!",
        "memcpy" * 10_625,
        "relu_" * 12_500,
        "aten::" + "linear" * 10_625 + "!",
        "triton_poi_fused_" + "to_copy_" * 7_500 + "!",
        "<built-in method wait of " + "lock" * 15_625,
        "void " + "at::native::" * 5_000 + "<",
        "execute_" + "context_1" * 6_875,
    ],
    ids=lambda name: name[:24],
)
def test_a_long_name_is_matched(name: str) -> None:
    def everything(text: str) -> None:
        assert not [rule for rule in FOREIGN_RULES if rule.matches(text)]
        assert not is_waiting(text)
        family_of.__wrapped__(text)
        folded.__wrapped__(text)

    assert cost_s(everything, name, LIMIT_S) < LIMIT_S


def test_shapes_of_a_megabyte_are_read() -> None:
    assert cost_s(shape_text, "[[" + "1" * 1_000_000 + ".5]]", LIMIT_S) < LIMIT_S
    assert shape_text("[[1, 256], [ ], [], [[2,3]]]") == "1×256, 2×3"
