"""The README's picture shows what the commands print today."""

from __future__ import annotations

import html
import re
import runpy

from tests.conftest import ROOT

PICTURES = ROOT / "analysis" / "pictures"


def words(svg: str) -> str:
    """Everything that is written in it, without where and how."""
    return " ".join(html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg))).split())


def test_the_committed_picture_is_todays_output() -> None:
    drawn = runpy.run_path(str(PICTURES / "make.py"))["draw"]()
    committed = words((PICTURES / "demo.svg").read_text())
    assert "image_processing" in committed
    assert committed == words(drawn), "run: make picture"
