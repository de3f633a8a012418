from __future__ import annotations

import pytest

from gemma_trace.agents.text import LONGEST, tame
from gemma_trace.printable import printable, stripped
from tests.cli.test_hostile_names import HOSTILE


@pytest.mark.parametrize("text", [HOSTILE, "a\nb", "\u202egnp", "\U000e0049\U000e0047", "\ud800", "zero\u200bwidth"])
def test_nothing_that_is_not_printable_is_left(text: str) -> None:
    found = tame(text)
    assert printable(found) == found
    assert "\ufffd" in found, "something was there, and that is to be seen"
    found.encode()


@pytest.mark.parametrize("text", ["aten::mm", "Größe 模型 🚀", "void gemm<float, 4>(int)"])
def test_names_are_left_as_they_are(text: str) -> None:
    assert tame(text) == stripped(text) == text


@pytest.mark.parametrize("length", [LONGEST + 1, 5_000, 3_000_000])
def test_a_long_text_keeps_its_ends_and_is_told_from_others(length: int) -> None:
    text = "kernel_" + "x" * (length - 10) + "end"
    found = tame(text)
    assert len(found) <= LONGEST
    assert found.startswith("kernel_x")
    assert "xend#" in found
    assert tame(text.replace("xxend", "xyend")) != found
    middle = "kernel_" + "x" * (length // 2) + "y" + "x" * (length - 11 - length // 2) + "end"
    assert tame(middle) != found, "the digest is of all of it"


@pytest.mark.parametrize("longest", [12, 40, LONGEST])
def test_a_text_is_as_short_as_it_has_to_be(longest: int) -> None:
    assert len(tame("a" * 500 + "\x00" * 500, longest)) <= longest
