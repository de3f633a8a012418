"""A page as a test reads it: its elements with their attributes, its texts, and its tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = frozenset({"meta", "link", "input", "br", "img"})


@dataclass
class Element:
    """An element.

    Attributes:
        text: all that stands in it, at any depth.
    """

    tag: str
    attributes: dict[str, str]
    text: str = ""
    inside: list[Element] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """The elements of a tag below this one, in order."""
        return [found for child in self.inside for found in ([child] if child.tag == tag else []) + child.all(tag)]

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(made)
        if tag not in _VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data


def read(page: bytes) -> Element:
    """The page as elements; every one must be closed where it was opened."""
    reader = _Reader()
    reader.feed(page.decode())
    reader.close()
    assert reader.open == [reader.root], f"never closed: {[element.tag for element in reader.open[1:]]}"
    return reader.root


def rows(table: Element) -> list[list[str]]:
    """The cells of a table's body, as they read."""
    body = table.all("tbody")[0]
    return [[cell.text.strip() for cell in row.inside] for row in body.all("tr")]


def table(page: Element, name: str) -> Element:
    """The one table whose class or id is this."""
    found = [each for each in page.all("table") if name in (*each.classes, each.attributes.get("id"))]
    assert len(found) == 1
    return found[0]


def by_id(page: Element, name: str) -> Element:
    """The element of this id."""
    found = [each for tag in ("h2", "h3", "h4", "p", "div", "details") for each in page.all(tag)]
    return next(each for each in found if each.attributes.get("id") == name)
