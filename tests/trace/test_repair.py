from __future__ import annotations

import json
import re
import sys
from collections import Counter

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gemma_trace.trace.repair import (
    BAD_UTF8,
    BARE_VALUES,
    BROKEN_ESCAPES,
    CONTROL_CHARACTERS,
    NOT_A_NUMBER,
    STRAY_COMMAS,
    find_array,
    repair_json,
    split_objects,
)
from tests.conftest import tries


def repaired(text: bytes) -> tuple[bytes, dict[str, int]]:
    repairs: Counter[str] = Counter()
    text = repair_json(text, repairs)
    return text, {kind: count for kind, count in repairs.items() if count}


def objects(text: bytes) -> list[bytes | int]:
    """Each object's text, and the closing bracket's position."""
    return [text[start:end] if end >= 0 else start for start, end in split_objects(text)]


@pytest.mark.parametrize("token", [b"NaN", b"nan", b"Infinity", b"inf", b"-NaN", b"-nan", b"-Infinity", b"-inf"])
def test_what_is_no_number_becomes_null(token: bytes) -> None:
    assert repaired(b'{"a": ' + token + b', "b": 1}') == (b'{"a": null, "b": 1}', {NOT_A_NUMBER: 1})


def test_each_one_that_is_no_number_counts() -> None:
    assert repaired(b"[NaN,-Infinity,NaN]") == (b"[null,null,null]", {NOT_A_NUMBER: 3})


@pytest.mark.parametrize(
    "token",
    [b"N/A", b"n/a", b"NA", b"#N/A", b"+inf", b"-Inf", b"NAN", b"-nan(ind)", b"nan(0x8000)", b"1.#IND", b"-1.#QNAN"],
)
def test_other_tools_have_other_words_for_what_is_no_number(token: bytes) -> None:
    assert repaired(b'{"a":' + token + b',"b": [' + token + b"\n]}") == (b'{"a":null,"b": [null\n]}', {NOT_A_NUMBER: 2})


@pytest.mark.parametrize("token", [b"undefined", b"None", b"NULL", b"nil", b"not available", b"<unset>"])
def test_a_word_for_no_value_becomes_null(token: bytes) -> None:
    assert repaired(b'{"a": ' + token + b"}") == (b'{"a": null}', {BARE_VALUES: 1})


@pytest.mark.parametrize(
    ("token", "meant"),
    [
        (b"True", True),
        (b"FALSE", False),
        (b"0x1F", 31),
        (b"+5", 5),
        (b"-.5e3", -500.0),
        (b"5.", 5),
        (b"007", 7),
        (b"-00.250", -0.25),
        (b"nano", "nano"),
        (b"Infinitys", "Infinitys"),
        (b"1.5f", "1.5f"),
        (b"cuda:0", "cuda:0"),
        (b"12:30:45", "12:30:45"),
        (b"torch.Size([1, 2])", "torch.Size([1, 2])"),
        (b"(1, 2)", "(1, 2)"),
        (b"'x, y'", "x, y"),
        (b"C:\\x", "C:\\x"),
        ("größer".encode(), "größer"),
    ],
)
def test_other_bare_values_become_what_they_spell(token: bytes, meant: object) -> None:
    text, repairs = repaired(b'{"a": ' + token + b' , "b": 1}')
    assert json.loads(text) == {"a": meant, "b": 1}
    assert repairs == {BARE_VALUES: 1}


def test_a_value_that_isnt_there_becomes_null() -> None:
    text, repairs = repaired(b'{"a": , "b":\n, "c":}')
    assert json.loads(text) == {"a": None, "b": None, "c": None}
    assert repairs == {BARE_VALUES: 3}


def test_commas_that_separate_nothing_go() -> None:
    text, repairs = repaired(b'{"a": [1,, 2 , ], "b": 3 ,\n}')
    assert json.loads(text) == {"a": [1, 2], "b": 3}
    assert repairs == {STRAY_COMMAS: 3}


@pytest.mark.parametrize(
    "text",
    [
        b"true",
        b"[0, -0, 1.5, -2e10, 3E-4, 1e+5, 12345678901234567890]",
        b'{"a" : true ,"b":false,"c":\tnull }',
        b'{"a": ", }", "b": ":,", "c": "undefined, N/A, 0x1F, \'"}',
        b"[ [ ] , { } , [ ] ]",
    ],
)
def test_what_is_json_is_no_bare_value(text: bytes) -> None:
    json.loads(text)
    assert repaired(text) == (text, {})


@pytest.mark.parametrize(
    "text",
    [
        b"x " * 500_000,
        b"x:" * 500_000,
        b"(" * 999_999,
        b"(x" * 500_000,
        b"'" * 300_001,
        b", " * 300_000,
        b": " * 500_000,
    ],
)
def test_no_bare_text_takes_for_ever(text: bytes) -> None:
    # Half a MB each: a repair that backtracks would take hours.
    assert repaired(b'{"a": ' + text + b"}")[1]


@pytest.mark.parametrize(
    "text",
    [
        b'{"loss is NaN": "NaN, -Infinity, inf, nan"}',
        b'["a [NaN] {inf} b", "]}", "{["]',
        rb'["she said \"NaN\" and left", "\\", "NaN"]',
        rb'["\" \\ \/ \b \f \n \r \t \u00e4 \u00E4"]',
        '["größer 漢字 \U0001f600 \ufffd"]'.encode(),
        b'{\n\t"indented": [\r\n1 ]\n}',
        b"",
    ],
)
def test_sound_json_stays_as_it_is(text: bytes) -> None:
    assert repaired(text) == (text, {})


def test_control_characters_in_strings_become_escapes() -> None:
    text, repairs = repaired(b'{"a\x01": "line\nbreak\ttab\x00nul\x1f"}')
    assert text == rb'{"a\u0001": "line\u000abreak\u0009tab\u0000nul\u001f"}'
    assert repairs == {CONTROL_CHARACTERS: 5}
    assert json.loads(text) == {"a\x01": "line\nbreak\ttab\x00nul\x1f"}


@pytest.mark.parametrize(
    ("broken", "meant", "count"),
    [
        (rb'["C:\path\data"]', r"C:\path\data", 2),
        (rb'["\x41"]', r"\x41", 1),
        (rb'["\u12"]', r"\u12", 1),
        (rb'["\u12g4"]', r"\u12g4", 1),
        (rb'["\\\d"]', r"\\d", 1),
        (rb'["\"\q\""]', r'"\q"', 1),
    ],
)
def test_a_backslash_that_escapes_nothing_is_taken_as_it_stands(broken: bytes, meant: str, count: int) -> None:
    text, repairs = repaired(broken)
    assert json.loads(text) == [meant]
    assert repairs == {BROKEN_ESCAPES: count}


@pytest.mark.parametrize(
    ("broken", "meant", "count"),
    [
        (rb'["\ud800"]', "\ufffd", 1),
        (rb'["\udC00"]', "\ufffd", 1),
        (rb'["\ud83d\ude00"]', "\U0001f600", 0),
        (rb'["\ud83d\ud83d\ude00\ude00"]', "\ufffd\U0001f600\ufffd", 2),
        (rb'["\\ud800"]', r"\ud800", 0),
        (rb'["\\\ud800x"]', "\\\ufffdx", 1),
        (rb'["\ud800", "\udc00"]', "\ufffd", 2),
    ],
)
def test_half_a_surrogate_pair_becomes_a_replacement_character(broken: bytes, meant: str, count: int) -> None:
    text, repairs = repaired(broken)
    assert json.loads(text)[0] == meant
    assert repairs == ({BAD_UTF8: count} if count else {})


@pytest.mark.parametrize(
    ("broken", "meant", "count"),
    [
        (b'["a\xffb"]', "a\ufffdb", 1),
        (b'["\xff\xfe"]', "\ufffd\ufffd", 2),
        (b'["latin \xe4"]', "latin \ufffd", 1),
        (b'["\xef\xbf\xbd then \xff"]', "\ufffd then \ufffd", 1),
    ],
)
def test_bytes_that_are_no_utf8_become_replacement_characters(broken: bytes, meant: str, count: int) -> None:
    text, repairs = repaired(broken)
    assert json.loads(text) == [meant]
    assert repairs == {BAD_UTF8: count}


def test_all_repairs_at_once_are_counted_apart() -> None:
    text, repairs = repaired(b'{"a": "x\x01\\y\xff", "b": NaN}')
    assert json.loads(text) == {"a": "x\x01\\y\ufffd", "b": None}
    assert repairs == {BAD_UTF8: 1, CONTROL_CHARACTERS: 1, BROKEN_ESCAPES: 1, NOT_A_NUMBER: 1}


def test_what_was_repaired_needs_no_repair() -> None:
    text, _ = repaired(b'{"a": "x\x01\\y\xff", "b": NaN}')
    assert repaired(text) == (text, {})


def test_objects_are_split_at_their_outermost_brackets() -> None:
    assert objects(b' {"a":1} , {"b":{"c":[1,{}]}},{}') == [b'{"a":1}', b'{"b":{"c":[1,{}]}}', b"{}"]


def test_the_closing_bracket_of_the_array_ends_the_splitting() -> None:
    assert objects(b'{"a":1} ], {"b":2}') == [b'{"a":1}', 8]


def test_brackets_in_strings_dont_split() -> None:
    text = rb'{"a":"},{"},{"]":"\"}]"},{"c":"\\"}'
    assert objects(text) == [rb'{"a":"},{"}', rb'{"]":"\"}]"}', rb'{"c":"\\"}']


def test_an_object_without_its_end_isnt_yielded() -> None:
    assert objects(b'{"a":1},{"b":[2}') == [b'{"a":1}']


def test_an_object_that_ends_within_a_string_isnt_yielded() -> None:
    assert objects(b'{"a":1},{"b":"x') == [b'{"a":1}']


def test_nothing_is_split_from_nothing() -> None:
    assert objects(b"") == []


@pytest.mark.parametrize(
    "before",
    [
        b"{",
        b'{"a": 1, ',
        b'{"traceEvents_": [1], ',
        b'{"nested": {"traceEvents": [1, 2]}, ',
        b'{"list": ["traceEvents", [3]], "deep": [{"traceEvents": [4]}], ',
        b'{"text": "traceEvents", "list": [5], ',
        rb'{"text": "\"traceEvents\": [6]", ',
        rb'{"\"traceEvents": [7], ',
        b'{"brackets": "}}]]{{[[", ',
    ],
)
def test_the_top_level_array_is_found_whatever_stands_before_it(before: bytes) -> None:
    text = before + b'"traceEvents" : [{"a": 1}], "more": []}'
    assert find_array(text, b"traceEvents") == (len(before), len(before) + len(b'"traceEvents" : ['))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b'{"traceEvents"',
        b'{"traceEvents": ',
        b'{"traceEvents": {"a": [1]}, "b": [2]}',
        b'{"traceEvents": null, "b": [2]}',
        b'{"a": {"traceEvents": [1]}}',
        b'{"a": "traceEvents", "b": [1]}',
        rb'{"a": "\"traceEvents\": [1]"}',
    ],
)
def test_a_key_that_isnt_the_top_level_array_isnt_taken_for_it(text: bytes) -> None:
    assert find_array(text, b"traceEvents") is None


@pytest.mark.parametrize("text", [b'{"a":1},{"b":"x]}', b'{"a":1},{"b":"x}', b'{"a":1},{"b":["]]}'])
def test_brackets_in_a_string_that_is_cut_are_no_structure(text: bytes) -> None:
    assert list(split_objects(text)) == [(0, 7)]


def test_a_word_in_a_string_that_is_cut_is_no_number() -> None:
    repairs: Counter[str] = Counter()
    assert repair_json(b'{"name": "loss is NaN ', repairs) == b'{"name": "loss is NaN '
    assert repairs.total() == 0


@pytest.mark.parametrize("work", ["find", "repair", "split"])
def test_a_long_string_that_is_cut_is_passed_over(work: str) -> None:
    # Of 5 MB: work that grows with the square of the length would never end.
    text = b'{"json in a string": "' + rb"{\"key\": 1}, " * 400_000
    if work == "find":
        assert find_array(text, b"traceEvents") is None
    elif work == "repair":
        assert repair_json(text, Counter()) == text
    else:
        assert list(split_objects(text)) == []


def test_a_control_character_behind_a_lone_backslash_keeps_both() -> None:
    repairs: Counter[str] = Counter()
    assert json.loads(repair_json(b'["a\\\nb"]', repairs)) == ["a\\\nb"]
    assert dict(repairs) == {"control_characters": 1, "broken_escapes": 1}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
BARE = st.text(st.sampled_from("aN/0x.+-#'(é:"), min_size=1, max_size=8).filter(lambda token: token == token.strip(":"))


@settings(max_examples=tries(100))
@given(JSON, st.sampled_from([None, 1]))
def test_no_sound_json_is_mended(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    assert repaired(text) == (text, {})


@settings(max_examples=tries(200))
@given(BARE, JSON)
def test_whatever_stands_bare_the_rest_is_kept(token: str, value: object) -> None:
    rest = json.dumps(value)
    text, _ = repaired(f'{{"a": {token}, "b": {rest}, "c": [{token}]}}'.encode())
    found = json.loads(text)
    assert found["b"] == json.loads(rest)
    assert found["c"] == [found["a"]]


def mended_one_by_one(text: str) -> str:
    """What a string of JSON means once a backslash that escapes nothing stands for itself, and half a pair is lost."""
    found, place = "", 0
    while place < len(text):
        plain = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
        follows, digits = text[place + 1 : place + 2], text[place + 2 : place + 6]
        if text[place] == "\\" and follows in plain:
            found, place = found + plain[follows], place + 2
        elif (
            text[place] == "\\" and follows == "u" and len(digits) == 4 and set(digits) <= set("0123456789abcdefABCDEF")
        ):
            found, place = found + chr(int(digits, 16)), place + 6
        else:
            found, place = found + text[place], place + 1
    return found.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


PIECES = st.sampled_from(
    [
        "\\",
        "\\\\",
        '\\"',
        "\\n",
        "\\q",
        "\\ud800",
        "\\uDBFF",
        "\\udc00",
        "\\ude00",
        "\\u12",
        "u",
        "é",
        "\x01",
        "\n",
        "x",
    ]
)


@settings(max_examples=tries(500))
@given(st.lists(st.lists(PIECES, max_size=8), min_size=1, max_size=4))
def test_strings_are_mended_as_character_by_character(pieces: list[list[str]]) -> None:
    texts = ["".join(piece) + "x" for piece in pieces]
    assume(all(re.fullmatch(r"(?:[^\"\\]|\\.)*", one, re.DOTALL) for one in texts))  # or a string would end within
    text, repairs = repaired(("[" + ",\n".join(f'"{text}"' for text in texts) + "]").encode())
    assert json.loads(text) == [mended_one_by_one(one) for one in texts]
    assert repairs.get(CONTROL_CHARACTERS, 0) == sum(one.count("\x01") + one.count("\n") for one in texts)


def test_many_mends_of_a_text_take_no_call_each() -> None:
    text = b'["' + rb"\ud800" * 1_000_000 + b'","' + b"\x01" * 1_000_000 + b'","' + rb"\q" * 1_000_000 + b'"]'
    calls = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    repairs: Counter[str] = Counter()
    sys.setprofile(counted)
    try:
        repair_json(text, repairs)
    finally:
        sys.setprofile(None)
    assert repairs == {BAD_UTF8: 1_000_000, CONTROL_CHARACTERS: 1_000_000, BROKEN_ESCAPES: 1_000_000}
    assert calls < 100
