"""The page of `report`, opened: nothing fails, charts are there, sorting, filtering and folding work, nothing runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gemma_trace.cli import main
from tests.browser.conftest import OpenWindow, Window
from tests.conftest import SAMPLES, thorough
from tests.trace_builder import TraceBuilder

TORCHVISION, PIL = (SAMPLES / f"sample-tiny-cpu-{backend}" for backend in ("torchvision", "pil"))
OWLV2 = "h100_owlv2_vlm_proxy.json.gz"
LOOKS = [(1400, False), (390, True), *thorough([(1400, True), (390, False)])]
"""Width in pixels, and whether it is dark."""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The page of some paths, which is made once."""
    folder = tmp_path_factory.mktemp("pages")

    @cache
    def written(*paths: Path) -> Path:
        page = folder / str(len(list(folder.iterdir()))) / "page.html"
        page.parent.mkdir()
        assert main(["report", *map(str, paths), "-o", str(page), "--no-cache"]) == 0
        return page

    return written


@pytest.fixture(scope="module")
def sample(written: Callable[..., Path]) -> Path:
    return written(TORCHVISION)


def assert_fine(window: Window, page: Path, width: int) -> None:
    """No complaint, nothing asked for but the page, nothing wider than the window, charts with room."""
    window.open(page)
    assert not window.console()
    assert window.requests() == [page.as_uri()]
    assert window.run("return document.documentElement.scrollWidth") <= width
    boxes = window.run(
        "return [...document.querySelectorAll('details[open] svg.lane, main > figure svg.lane')]"
        ".map(lane => [lane.getBoundingClientRect().width, lane.querySelectorAll('rect').length])"
    )
    assert boxes
    assert all(box > 0.6 * min(width, 1180) and bars for box, bars in boxes)


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_a_capture_opens_without_complaint(browser: OpenWindow, sample: Path, width: int, dark: bool) -> None:
    window = browser(width, dark=dark)
    assert_fine(window, sample, width)
    paper = window.run("return getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
    fill = "return getComputedStyle(document.querySelector('.lane rect.s-vision_tower')).fill"
    assert window.run(fill) == ("rgb(101, 130, 255)" if dark else "rgb(63, 91, 240)")
    shown = window.run(
        "return [...document.querySelectorAll('.lane text.in')].filter(t => t.getClientRects().length)"
        ".map(t => t.textContent)"
    )
    assert any(text.startswith("vision_tower 1") for text in shown), "labelled where it stands"


@pytest.mark.parametrize(("width", "dark"), LOOKS)
def test_a_cuda_trace_opens_without_complaint(
    browser: OpenWindow, corpus: Path, written: Callable[..., Path], width: int, dark: bool
) -> None:
    window = browser(width, dark=dark)
    assert_fine(window, written(corpus / OWLV2), width)
    names = window.run("return [...document.querySelectorAll('.lane')].map(lane => lane.getAttribute('aria-label'))")
    assert [name.split(" lane")[0] for name in names] == ["host", "device"]
    assert "vision_tower 545.6 ms" in names[1]


@pytest.mark.parametrize("width", [1400, 390])
def test_several_runs_and_two_sides_open_without_complaint(
    browser: OpenWindow, written: Callable[..., Path], width: int
) -> None:
    for paths in ((SAMPLES,), (TORCHVISION, PIL)):
        assert_fine(browser(width), written(*paths), width)


def test_kernels_are_sorted_and_filtered(browser: OpenWindow, sample: Path) -> None:
    window = browser()
    window.open(sample)
    column = "return [...document.querySelectorAll('#kernel-table tbody tr:not([hidden])')].map(row => row.cells[{}]{})"
    count, name = column.format(5, ".dataset.v"), column.format(0, ".textContent.trim()")
    sorting = "return document.querySelectorAll('#kernel-table thead th')[{}].getAttribute('aria-sort')"
    heads = window.driver.find_elements(By.CSS_SELECTOR, "#kernel-table thead button")
    by_count = next(button for button in heads if button.text.startswith("count"))
    by_count.click()
    counts = [int(value) for value in window.run(count)]
    assert counts == sorted(counts, reverse=True) != sorted(counts)
    assert window.run(sorting.format(5)) == "descending"
    assert window.run(sorting.format(1)) is None
    by_count.send_keys(Keys.ENTER)
    assert [int(value) for value in window.run(count)] == sorted(counts), "also by the keyboard"
    assert window.run(sorting.format(5)) == "ascending"
    heads[0].click()
    names = window.run(name)
    assert names == window.run(
        "return [...arguments[0]].sort((a, b) => a.toLowerCase().localeCompare(b.toLowerCase()))", names
    )
    search = window.driver.find_element(By.CSS_SELECTOR, "input[type=search]")
    search.send_keys("GEMM prefill")
    found = window.run(column.format(4, ".textContent"))
    assert set(found) == {"gemm"}
    assert 0 < len(found) < len(names)
    said = window.driver.find_element(By.CSS_SELECTOR, ".filter output").text
    assert said == f"{len(found)} of {len(names)} rows"
    search.clear()
    search.send_keys(" ")
    assert len(window.run(name)) == len(names)
    assert not window.console()


def test_the_tree_folds_by_mouse_keyboard_and_button(browser: OpenWindow, sample: Path) -> None:
    window = browser()
    window.open(sample)
    states = "return [...document.querySelectorAll('#tree-nodes details')].map(node => node.open)"
    before = window.run(states)
    assert len(before) > 10
    assert 0 < sum(before) < len(before)
    unfold, fold = window.driver.find_elements(By.CSS_SELECTOR, ".folding button")
    unfold.click()
    assert all(window.run(states))
    fold.send_keys(Keys.ENTER)
    assert not any(window.run(states))
    summary = window.driver.find_element(By.CSS_SELECTOR, "#tree-nodes summary")
    summary.click()
    assert sum(window.run(states)) == 1
    summary.send_keys(Keys.ENTER)
    assert not any(window.run(states))


def test_bars_are_told_by_the_keyboard(browser: OpenWindow, sample: Path) -> None:
    window = browser()
    window.open(sample)
    readout = window.driver.find_element(By.ID, "readout")
    waiting = readout.text
    assert waiting
    titles = window.run("return [...document.querySelectorAll('.lane rect title')].map(title => title.textContent)")
    window.run("document.querySelector('svg.lane').focus()")
    lane = window.driver.switch_to.active_element
    for keys, title in (
        (Keys.ARROW_RIGHT, titles[0]),
        (Keys.ARROW_RIGHT, titles[1]),
        (Keys.ARROW_LEFT, titles[0]),
        (Keys.END, titles[-1]),
    ):
        lane.send_keys(keys)
        assert readout.text == title
    lane.send_keys(Keys.TAB)
    assert readout.text == waiting


def test_the_theme_is_switched_by_the_keyboard(browser: OpenWindow, sample: Path) -> None:
    window = browser(dark=True)
    window.open(sample)
    paper = "return getComputedStyle(document.body).backgroundColor"
    button = window.driver.find_element(By.ID, "theme")
    assert (button.text, window.run(paper)) == ("Light theme", "rgb(20, 23, 28)")
    button.send_keys(Keys.ENTER)
    assert (button.text, window.run(paper)) == ("Dark theme", "rgb(255, 255, 255)")
    button.send_keys(Keys.SPACE)
    assert window.run(paper) == "rgb(20, 23, 28)"


def test_the_first_tab_skips_to_the_content(browser: OpenWindow, sample: Path) -> None:
    window = browser()
    window.open(sample)
    window.driver.find_element(By.TAG_NAME, "body").send_keys(Keys.TAB)
    active = window.driver.switch_to.active_element
    assert active.text == "Skip to the content"
    assert active.rect["x"] >= 0


def test_without_its_script_everything_is_there(browser: OpenWindow, sample: Path) -> None:
    window = browser(script=False)
    window.open(sample)
    assert window.run("return document.getElementById('theme').hidden"), "nothing is offered that doesn't work"
    assert window.run("return document.querySelector('.filter').hidden")
    assert window.run("return document.querySelectorAll('.lane rect').length") > 10
    assert window.run("return document.querySelectorAll('#kernel-table tbody tr').length") > 50
    assert window.run("return document.querySelectorAll('#kernel-table button').length") == 0


def test_a_link_into_a_folded_run_unfolds_it(browser: OpenWindow, written: Callable[..., Path]) -> None:
    window = browser()
    window.open(written(SAMPLES))
    second = "return document.getElementById('r2').open"
    assert not window.run(second)
    window.driver.find_element(By.CSS_SELECTOR, ".overview a[href='#r2']").click()
    assert window.run(second)


def test_a_hostile_name_shows_and_runs_nothing(
    browser: OpenWindow, written: Callable[..., Path], tmp_path: Path
) -> None:
    run = "window.ran=1"
    names = (
        f"<img src=x onerror={run}>",
        f"</script><script>{run}</script>",
        f'" onfocus="{run}" onmouseover="{run}" autofocus tabindex=0 x="',
        f"</title></style></svg><svg onload={run}>",
        f"javascript:{run}",
        f"<img src=x onerror={run}>::f<void (<script>{run}</script>)>",
    )
    builder = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 9000)
    for place, name in enumerate(names):
        at = 100 + 1000 * place
        builder.op(name, at, 500).range(f"gemma_trace::layer::{name}", at, 400)
        builder.launch(place + 1, at + 10).kernel(name, at + 50, 300 + place, correlation=place + 1)
    trace = builder.write(tmp_path / "<img src=x onerror=window.ran=1>.json")
    page = written(trace)
    window = browser()
    window.open(page)
    titles = window.run("return [...document.querySelectorAll('#kernel-table tbody th')].map(cell => cell.title)")
    assert sorted(titles) == sorted(names)
    shown = window.driver.find_element(By.ID, "kernel-table").text
    for name in names[:2]:
        assert name in shown
    # What a reader does: go over everything, sort, filter by the hostile name, unfold, step through the bars.
    for button in window.driver.find_elements(By.CSS_SELECTOR, "main button"):
        button.click()
    window.driver.find_element(By.CSS_SELECTOR, "input[type=search]").send_keys("onerror")
    window.run(
        "for (const part of document.querySelectorAll('*')) {"
        " for (const kind of ['mouseover', 'pointerover', 'focus']) part.dispatchEvent(new Event(kind)); }"
    )
    assert window.run("return window.ran") is None
    assert not window.console(), "not even something that the policy had to stop"
    assert window.requests() == [page.as_uri()]
    assert window.run("return document.querySelectorAll('img, main script, main style').length") == 0


def test_the_policy_stops_what_escaping_would_let_through(browser: OpenWindow, sample: Path, tmp_path: Path) -> None:
    """The second line of defence, by itself: the page with foreign elements in it."""
    page = tmp_path / "broken.html"
    inserted = "<main><img src=x onerror='window.ran=1'><script>window.ran=2</script><p onclick='' style='color:red'>"
    page.write_text(sample.read_text().replace("<main", inserted + "</p></main><main", 1))
    window = browser()
    window.open(page)
    assert window.run("return window.ran") is None
    assert len(window.console()) >= 2
    assert window.requests() == [page.as_uri()]
