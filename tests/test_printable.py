from __future__ import annotations

import ast
import json
import sys
import unicodedata

import pytest

from gemma_trace.printable import encodable, path_text, printable, printable_json, printable_lines, stripped
from tests.conftest import ROOT


def test_nothing_that_acts_or_hides_stays_as_it_is() -> None:
    acting = [
        chr(code)
        for code in range(sys.maxunicode + 1)
        if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    ]
    assert len(acting) > 100_000
    assert not [hex(ord(character)) for character in acting if printable(character) == character]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("\u202egnp.exe\u2066\u200f\u061c", r"\u202egnp.exe\u2066\u200f\u061c"),
        ("\u2028\u2029\u200b\ufeff\u3164", r"\u2028\u2029\u200b\ufeff\u3164"),
        ("\U000e0041\U000e0100", r"\U000e0041\U000e0100"),
        ("\ud800 \udcff", r"\ud800 \xff"),
        ("a\u200db", r"a\u200db"),
    ],
)
def test_it_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable(stripped(text)) == stripped(text) != text


@pytest.mark.parametrize(
    "text", ["模型 每秒", "Größe naïve Ω →", "🚀 👩\u200d🚀 ❤\ufe0f", "日本\u3000語", "[red]x[/red]", r"C:\x1b"]
)
def test_what_people_read_stays(text: str) -> None:
    assert printable(text) == text


def test_lines_json_paths_and_values() -> None:
    assert printable_lines("a\x1b\nb\u2028") == "a\\x1b\nb\\u2028"
    value = {"a\u202e": ["\x9b", "模型 \U000e0041", 1]}
    text = printable_json(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert not {"\x9b", "\u202e", "\U000e0041"} & set(text)
    assert "模型" in text
    assert path_text("t\udcff.json") == r"t\xff.json"
    assert encodable({"a\udcff": ("\udc80", None, 1)}) == {r"a\xff": [r"\x80", None, 1]}


def test_commands_print_through_one_place_alone() -> None:
    printing = {
        path.stem
        for path in (ROOT / "gemma_trace" / "cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert printing == {"output", "doctor"}, "doctor prints TOML, made printable line by line"
