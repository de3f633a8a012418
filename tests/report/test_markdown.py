"""Names in a pull request's comment: what CommonMark and GitHub's extensions make of them is the text itself."""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.report.markdown import as_it_is, to_markdown
from gemma_trace.report.table import Col, Report, Table

NAMES = [
    "[text](https://evil.example/x)",
    "![image](https://evil.example/x.png)",
    "[x][y] [^1] [ ] [x]: https://evil.example",
    "# heading #",
    "`code` ``more``",
    "*a* **b** _c_ __d__ ~~e~~ ~f~",
    "<img src=x onerror=alert(1)> <!-- x --> </td> &copy; &#64;",
    "a|b \\| \\",
    "- item",
    "+ item",
    "1. item",
    "> quote",
    "---",
    "===",
    "```",
    "$x$ and $$y$$",
    "void at::native::k<4, std::array<char*, 2ul> >(int, float*)::{lambda(int)#1}",
    "aten::_to_copy __init__ vision_tower",
]
LINKED = ["@everyone", "me@evil.example", "#1", "owner/repo#12", "GH-3", "https://evil.example", "www.evil.example"]
LINKED += ["HTTP://evil.example", "mailto:x", ":fire:", "ftp://evil.example"]
GITHUB = re.compile(r"@[\w-]|#\d|\bGH-\d|://|\bwww\.|\bmailto:\S|(?<!:):(?!\d+:)[\w+-]+:(?!:)", re.IGNORECASE)
OURS = re.compile(r"<!-- -->|</?span>|</?(?:table|thead|tbody|tr|th|td|h2|p|ul|li|strong)(?: style=\"[^\"]*\")?>")


def shown(markdown: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(markdown))


def page_of(name: str) -> str:
    table = Table(
        name, (Col("name", name, value=str), Col("n", "n", value=len)), [name], {"name": name, "n": 1}, (name,)
    )
    finding = Finding("odd", Severity.INFO, 1, name, f"look at {name}")
    return to_markdown(Report("stages", ["x"], (table,), table, health=Health((finding,))))


@pytest.mark.parametrize("name", [*NAMES, *LINKED])
def test_a_name_is_shown_as_itself_wherever_it_stands(name: str) -> None:
    page = shown(page_of(name))
    assert "<" not in OURS.sub("", page), "no element but those of the table"
    assert html.unescape(OURS.sub("", page)).count(name) == 7, "title, header, cell, footer, note, finding, advice"


@pytest.mark.parametrize("name", LINKED)
def test_github_makes_nothing_of_it(name: str) -> None:
    for element in re.split(r"<[^>]*>", shown(page_of(name))):
        assert not GITHUB.search(html.unescape(element)), element


def test_control_characters_are_shown_and_lines_stay_one() -> None:
    assert as_it_is("a\r# b\x1b[0m\u202e") == "a\\\\r\\# b\\\\x1b\\[0m\\\\u202e"
    assert as_it_is("a\n# b") == "a \\# b"


def test_names_stay_readable() -> None:
    assert as_it_is("vision_tower") == "vision_tower"
    assert as_it_is("aten::addmm 12:30:45 50.1%") == "aten::addmm 12:30:45 50.1%"
    assert as_it_is("void at::k<4>(int)") == "void at::k&lt;4>(int)"
