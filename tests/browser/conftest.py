"""Headless Chromium, for the tests that open our pages. `make browser` installs it; without it they are skipped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

# Nothing but the page itself may reach for the network, and nothing of one session is left for the next.
_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # a container's root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


@dataclass
class PageRequests:
    """Tells the requests of our pages from Chromium's own, such as those of the new tab that a page replaces.

    A page's requests are that for its document, and whatever is asked for, by whom ever, once the tab shows it; but
    for what a document of the browser's own asks for.

    Attributes:
        pages: the addresses of our pages.
    """

    pages: set[str] = field(default_factory=set)
    _loads: set[str] = field(default_factory=set)
    _shown: bool = False

    def among(self, messages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The parameters of those `Network.requestWillBeSent` that are our pages', in the log's order."""
        for message in messages:
            found = message["params"]
            if message["method"] == "Page.frameNavigated" and "parentId" not in found["frame"]:
                self._shown = found["frame"]["loaderId"] in self._loads
            if message["method"] != "Network.requestWillBeSent":
                continue
            request = found["requestId"]
            if request == found["loaderId"] and found["request"]["url"] in self.pages:
                self._loads.add(request)
            browser_own = str(found.get("documentURL", "")).startswith(("chrome:", "chrome-", "devtools:"))
            if request in self._loads or (self._shown and not browser_own):
                yield found


@dataclass
class Window:
    """A tab of its own, with what the page in it says and asks for.

    Attributes:
        driver: selenium's; this window is the current one until the next is opened.
        asked: which requests belong to the pages that were opened here.
    """

    driver: Chrome
    asked: PageRequests = field(default_factory=PageRequests)

    def open(self, page: Path | str) -> None:
        """Go to a file or an address, and wait until it is loaded."""
        address = page.resolve().as_uri() if isinstance(page, Path) else page
        self.asked.pages.add(address)
        self.driver.get(address)

    def run(self, script: str, *arguments: Any) -> Any:
        """What a piece of JavaScript returns."""
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the page complained of since the last call: errors and warnings, refusals of its policy included."""
        return [entry["message"] for entry in _log(self.driver, "browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self) -> list[str]:
        """The addresses that the pages opened here, and all in them, asked for since the last call.

        Those are left out that are `data:`, or were blocked.
        """
        messages = [json.loads(entry["message"])["message"] for entry in _log(self.driver, "performance")]
        failed = [m["params"] for m in messages if m["method"] == "Network.loadingFailed"]
        blocked = {failure["requestId"] for failure in failed if "blockedReason" in failure}
        addresses = [each["request"]["url"] for each in self.asked.among(messages) if each["requestId"] not in blocked]
        return [address for address in addresses if not address.startswith("data:")]

    def picture(self, path: Path, *, whole: bool = True) -> Path:
        """Write a PNG of the page, or of what the window shows of it."""
        import base64

        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": whole, **self._clip(whole)}
        )
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


def _log(driver: Chrome, kind: str) -> list[dict[str, Any]]:
    """What was logged since the last call."""
    entries: list[dict[str, Any]] = driver.get_log(kind)  # type: ignore[no-untyped-call]
    return entries


OpenWindow = Callable[..., Window]
"""`browser(width, dark=False, height=900, script=True)` → a fresh `Window`, closed when the test ends."""


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """The one browser process of a test run; ask for `browser` instead."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        pytest.skip("needs chromium and chromedriver; run: make browser")
    pytest.importorskip("selenium", reason="needs the dev extra")
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(str(programs[1])))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium: Chrome) -> Iterator[OpenWindow]:
    """Opens windows: `browser(390, dark=True)`. `script=False` is a browser that runs no JavaScript of pages."""
    first = chromium.current_window_handle
    opened: list[str] = []

    def open_window(width: int = 1400, dark: bool = False, height: int = 900, script: bool = True) -> Window:
        chromium.switch_to.new_window("tab")
        opened.append(chromium.current_window_handle)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        for log in ("browser", "performance"):
            _log(chromium, log)
        return Window(chromium)

    yield open_window
    for handle in opened:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(first)
