"""Draws the README's picture of the HTML report, of the committed sample. Needs Chromium: make browser.

Run: .venv/bin/python analysis/pictures/report.py
"""

from __future__ import annotations

import base64
import shutil
import tempfile
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from gemma_trace.report.html.build import view_of
from gemma_trace.report.html.model import PageContent
from gemma_trace.report.html.page import render_page
from gemma_trace.trace.trace import load

HERE = Path(__file__).parent
SAMPLE = HERE.parent.parent / "traces" / "samples" / "sample-tiny-cpu-torchvision"
WIDTH_PX, HEIGHT_PX = 1240, 1020
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def main() -> None:
    """Write report.png: the top of the page, in the light theme."""
    view = view_of(load(next(SAMPLE.glob("*.json.gz"))))
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "page.html"
        page.write_bytes(render_page(PageContent(view.label, (view,))))
        options = ChromeOptions()
        options.binary_location = shutil.which("chromium") or "chromium"
        for flag in (*FLAGS, f"--user-data-dir={scratch}/profile"):
            options.add_argument(flag)
        with Chrome(options=options, service=Service(shutil.which("chromedriver"))) as driver:
            light = {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
            size = {"width": WIDTH_PX, "height": HEIGHT_PX, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", light)
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            driver.get(page.as_uri())
            shot = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png", "optimizeForSpeed": False})
    (HERE / "report.png").write_bytes(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
