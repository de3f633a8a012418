"""Alternatives that are looked for by their words match what the whole expression matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemma_trace.analysis.family_rules import FORMS, MARKS
from gemma_trace.analysis.taxonomy import _plain, _signature
from gemma_trace.lazy_patterns import AnyOf, alternatives_of
from gemma_trace.trace.trace import load
from tests.conftest import SHARED, tries

RULES = [pattern for _, pattern in (*MARKS, *FORMS)]
PIECES = [
    "ab",
    "ba",
    "b",
    "a.",
    "a1",
    "(a|b)",
    "(?:ab)?",
    "[ab]",
    "[^]a]",
    r"\.",
    r"\d",
    r"\\",
    "|",
    "^",
    "$",
    "?",
    "*",
]
PIECES += ["+", "{0,2}", "{2}", "{,1}", "(?<!a)", "(?=b|a)", "(?!ab)", r"\b", "(", ")", r"\(", r"\|", "[|]", "[)]"]


@pytest.mark.parametrize(
    ("pattern", "alternatives"),
    [
        ("gemm|gemv", [("gemm", "gemm"), ("gemv", "gemv")]),
        (r"top_?k|(a|b)c|d", [("top_?k", "top"), ("(a|b)c", "c"), ("d", "d")]),
        (r"[|(]x|\||a{2}b", [("[|(]x", "x"), (r"\|", "|"), ("a{2}b", "a")]),
        (r"ab*|ab+c|a{0,3}|ab{1,3}c", [("ab*", "a"), ("ab+c", "ab"), ("a{0,3}", ""), ("ab{1,3}c", "ab")]),
        (
            r"(?<![a-z])conv(?!er)|\w+x\.y|^$|",
            [("(?<![a-z])conv(?!er)", "conv"), (r"\w+x\.y", "x.y"), ("^$", ""), ("", "")],
        ),
        (r"[^]a]|b", [("[^]a]", ""), ("b", "b")]),
    ],
)
def test_an_expression_is_taken_apart(pattern: str, alternatives: list[tuple[str, str]]) -> None:
    assert alternatives_of(pattern) == alternatives


def test_the_rules_of_families_have_no_flags_and_are_the_sum_of_their_parts() -> None:
    for pattern in RULES:
        assert re.compile(pattern).flags == re.compile("").flags
        assert "(?i" not in pattern
        parts = [part for part, _ in alternatives_of(pattern)]
        assert "|".join(parts) == pattern
        assert all(re.compile(part) for part in parts)


@pytest.mark.parametrize("part", range(8))
def test_all_that_an_alternative_of_a_rule_matches_holds_its_word(part: int) -> None:
    every = [each for pattern in RULES for each in alternatives_of(pattern)]

    @settings(max_examples=tries(5), database=None)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        for alternative, word in every[part::8]:
            text = data.draw(st.from_regex(alternative))
            assert word in text
            assert AnyOf(alternative).is_in(text)

    holds()


@settings(max_examples=tries(300))
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8), text=st.text("ab1.|(\\", max_size=6))
def test_whatever_the_expression_it_matches_what_it_does_as_a_whole(pieces: list[str], text: str) -> None:
    pattern = "".join(pieces)
    try:
        whole = re.compile(pattern)
    except re.error:
        return
    assert AnyOf(pattern).is_in(text) == bool(whole.search(text))


def test_names_of_real_traces_are_matched_alike() -> None:
    paths = sorted(SHARED.glob("corpus*/*.json.gz"))
    if not paths:
        pytest.skip("../shared is missing")
    names = {name for path in paths if path.stat().st_size < 400_000 for name in load(path).spans.names}
    texts = {text for name in names for text in (_plain(name), *_signature(_plain(name)))}
    for pattern in RULES:
        whole, parts = re.compile(pattern), AnyOf(pattern)
        assert [text for text in texts if parts.is_in(text) != bool(whole.search(text))] == []
