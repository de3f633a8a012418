from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import OpenWindow, PageRequests


def test_windows_have_their_size_and_scheme_and_tell_what_the_page_does(browser: OpenWindow, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><title>t</title><p>text</p><img src='gone.png'><script>console.error('no')</script>"
    )
    dark = "return matchMedia('(prefers-color-scheme: dark)').matches"
    window = browser(390, dark=True)
    window.open(page)
    assert window.run("return innerWidth") == 390
    assert window.run(dark)
    assert any("no" in line for line in window.console())
    assert not window.console(), "it was told already"
    assert [address.rsplit("/", 1)[1] for address in window.requests()] == ["page.html", "gone.png"]
    window = browser(1400)
    window.open(page)
    assert (window.run("return innerWidth"), window.run(dark)) == (1400, False)


def _asks(url: str, document: str, loader: str = "L2", request: str = "R") -> dict[str, Any]:
    params = {"requestId": request, "loaderId": loader, "documentURL": document, "request": {"url": url}}
    return {"method": "Network.requestWillBeSent", "params": params}


def _shows(loader: str, **frame: str) -> dict[str, Any]:
    return {"method": "Page.frameNavigated", "params": {"frame": {"loaderId": loader} | frame}}


def test_the_requests_of_a_page_are_told_from_those_of_the_browsers_own() -> None:
    page, new_tab = "file:///page.html", "chrome://new-tab-page/"
    asked = PageRequests({page})
    first = [
        _asks("chrome://resources/a.js", new_tab, "L1"),
        _asks("https://ogs.example/widget", "https://ogs.example/", "L9"),  # a frame in the new tab
        _asks(page, page, "L2", "L2"),
        _asks("https://www.example/async/promos", new_tab, "L1"),  # the new tab is still there
        _shows("L2"),
        _asks("chrome://resources/late.js", new_tab, "L1"),
        _asks("https://cdn.example/font.woff", page),
    ]
    assert [found["request"]["url"] for found in asked.among(first)] == [page, "https://cdn.example/font.woff"]
    later = [
        _shows("L3", parentId="F"),
        _asks("https://in.example/", "https://in.example/", "L3", "L3"),  # a frame in our page
        _asks("https://worker.example/x", "", "L4"),
    ]
    assert len(list(asked.among(later))) == 2, "whatever the page asks for is its own"


@pytest.mark.parametrize(
    "tag",
    [
        "<img src='http://127.0.0.1:9/x.png'>",
        "<script>fetch('http://127.0.0.1:9/x.json').catch(() => 0)</script>",
        "<iframe src='http://127.0.0.1:9/x.html'></iframe>",
    ],
)
def test_a_page_that_asks_the_network_is_told(browser: OpenWindow, tmp_path: Path, tag: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title>{tag}")
    window = browser()
    window.open(page)
    asked = window.requests()
    assert asked[0] == page.as_uri()
    assert any(address.startswith("http://127.0.0.1:9/x.") for address in asked[1:])
