from __future__ import annotations

from pathlib import Path

from tests.browser.conftest import OpenWindow


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
