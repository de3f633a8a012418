"""The page of a history, opened: its charts are drawn without a complaint, and a dot leads to its run."""

from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.cli import main
from tests.browser.conftest import OpenWindow
from tests.history.made import Night, store_of


@pytest.mark.parametrize("width", [1400, 390])
def test_the_charts_open_and_a_dot_leads_to_its_run(browser: OpenWindow, tmp_path: Path, width: int) -> None:
    nights = [Night(number, [1000 + 200 * (number >= 12), 1010 + 200 * (number >= 12)]) for number in range(20)]
    page = tmp_path / "page.html"
    assert main(["history", str(store_of(tmp_path / "store", nights)), "--html", str(page)]) == 0
    window = browser(width)
    window.open(page)
    assert not window.console()
    assert window.requests() == [page.as_uri()]
    assert window.run("return document.documentElement.scrollWidth") <= width
    assert window.run("return document.querySelectorAll('svg.history circle').length") == 20
    window.run("location.hash = document.querySelector('svg.history a.first').getAttribute('href')")
    row = window.run("const row = document.querySelector('tr:target'); return [row.innerText, row.offsetHeight > 0]")
    assert "night12" in row[0]
    assert row[1], "it is shown"
