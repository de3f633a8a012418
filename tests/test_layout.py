"""The list of files says what their docstrings say, and CONTRIBUTING.md names each folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analysis import write_layout
from analysis.write_layout import PACKAGE, PAGE, page, purpose
from tests.conftest import ROOT

HTML_AND_TABLES = {"advice/rules", "report/html", "report/tables"}
"""Folders whose parents' rows say what they are."""


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "Run make docs."


def test_each_folder_has_its_row_in_the_layout() -> None:
    layout = (ROOT / "CONTRIBUTING.md").read_text().partition("## Layout")[2].partition("\n## ")[0]
    rows = set(re.findall(r"^\| `([\w/]+)/` \|", layout, re.MULTILINE))
    folders = {path.parent.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("__init__.py")} - {"."}
    assert rows == folders - HTML_AND_TABLES


def test_each_file_that_contributors_are_sent_to_exists() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## Rules")[0]
    names = {name.rpartition("/")[2] for name in re.findall(r"`([\w/]+\.py)`", text)}
    assert names
    assert names <= {path.name for path in PACKAGE.rglob("*.py")}


def test_a_file_without_a_docstring_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_layout, "ROOT", tmp_path)
    (tmp_path / "bare.py").write_text("x = 1\n")
    with pytest.raises(ValueError, match=r"bare\.py has no docstring"):
        purpose(tmp_path / "bare.py")
