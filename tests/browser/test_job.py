"""The page of a job, opened: the map is drawn without a complaint, is sorted, and can be read with the keyboard."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gemma_trace.cli import main
from tests.benchmarks.rank_job import write_job
from tests.benchmarks.rank_plan import Job, SlowRank
from tests.browser.conftest import OpenWindow

PLAN = Job(ranks=4, steps=2, kernels=3, faults=(SlowRank(2, "prefill", 200_000),))


@pytest.mark.parametrize("width", [1400, 390])
def test_the_map_opens_is_sorted_and_is_read_with_the_keyboard(browser: OpenWindow, tmp_path: Path, width: int) -> None:
    write_job(tmp_path / "job", PLAN)
    page = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "job"), "-o", str(page), "--no-cache"]) == 0
    window = browser(width)
    window.open(page)
    assert not window.console(), "the policy lets the hatching and the colours in"
    assert window.requests() == [page.as_uri()]
    assert window.run("return document.documentElement.scrollWidth") <= width
    order = "return [...document.querySelectorAll('.heat-rows > div')].map(row => row.dataset.rank)"
    assert window.run(order) == ["0", "1", "2", "3"]
    choose = "const [id, value] = arguments; const it = document.getElementById(id); it.value = value; "
    choose += "it.dispatchEvent(new Event('change'))"
    window.run(choose, "heat-sort", "largest")
    assert window.run(order)[0] == "2"
    heat = window.driver.find_element(By.ID, "heat-map")
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT):
        heat.send_keys(key)
    readout = window.driver.find_element(By.ID, "heat-readout").text
    assert readout.startswith("rank 2, prefill: own time over the others' median 0.2 ms; time ")
    window.run(choose, "heat-measure", "wait")
    assert window.run(order)[-1] == "2", "it waits least"
    assert window.run("return getComputedStyle(document.querySelector('.lane .waiting')).fill").startswith("url(")
