"""`analysis/README.md` defines every name that a command puts into a file, under the command's own heading."""

from __future__ import annotations

import ast
import csv
import importlib
import inspect
import io
import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gemma_trace import cli
from gemma_trace.health import file as health_of_the_file
from gemma_trace.report.definitions import README_TABLES, undefined, with_tables
from gemma_trace.report.records import FLAT_STATISTICS
from gemma_trace.report.table import Col
from gemma_trace.report.tables.stages import STAGE_FILE
from gemma_trace.stages import Stage
from gemma_trace.store.schema import TABLES
from tests.conftest import ROOT, SAMPLES
from tests.history.made import Night, store_of

README = (ROOT / "analysis" / "README.md").read_text()
RUNS = [str(SAMPLES / name) for name in ("sample-tiny-cpu-torchvision", "sample-tiny-cpu-pil")]

COMMANDS = {
    "summarize": ["summarize", *RUNS],
    "stages": ["stages", RUNS[0], "--explain"],
    "kernels": ["kernels", RUNS[0], "--roofline"],
    "tree": ["tree", RUNS[0]],
    "diff": ["diff", *RUNS],
    "ranks": ["ranks", RUNS[0]],
    "check": ["check", RUNS[0]],
    "hta": ["hta", RUNS[0]],
    "advise": ["advise", RUNS[0], "--explain"],
    "what-if": ["what-if", RUNS[0], "--remove", "stage:prefill"],
    "doctor": ["doctor"],
    "sweep --dry-run": ["sweep", "--dry-run"],
    "history": ["history", "MADE_STORE"],
    "index": ["index", RUNS[0], "--to", "NEW_FOLDER", "--compact"],
    "baseline": [
        "baseline",
        "set",
        "main",
        str(next((SAMPLES / "sample-tiny-cpu-torchvision").glob("*.json.gz"))),
        "--store",
        "NEW_FOLDER",
    ],
    "sql": ["sql", "--schema", RUNS[0]],
}
"""By heading."""

REQUIRES = {"hta": "hta", "sweep --dry-run": "torch"}
"""What a command can't do without, of an extra."""


def section(heading: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(rf"^## `?{re.escape(heading)}`?\n(.*?)(?=^## |\Z)", README, re.S | re.M)
    assert found, f"analysis/README.md has no heading {heading}"
    return found[1]


def defined(heading: str) -> set[str]:
    """The names that a section spells as code."""
    return set(re.findall(r"`([^`\n]+)`", section(heading)))


def keys_of(value: Any) -> Iterator[str]:
    """Every key of a JSON value, at any depth."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from keys_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys_of(inner)


def printed(capsys: pytest.CaptureFixture[str], heading: str, form: str) -> str:
    if heading in REQUIRES:
        pytest.importorskip(REQUIRES[heading], reason="needs an extra")
    with tempfile.TemporaryDirectory() as folder:
        if "MADE_STORE" in COMMANDS[heading]:
            store_of(Path(folder), [Night(number, [1_000, 1_000 + number // 10]) for number in range(20)])
        command = [part.replace("NEW_FOLDER", folder).replace("MADE_STORE", folder) for part in COMMANDS[heading]]
        if heading == "baseline":
            assert cli.main(["index", RUNS[0], "--to", folder, "--quiet", "--format", "csv"]) == 0
            capsys.readouterr()
        assert cli.main([*command, "--format", form]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("heading", COMMANDS)
def test_every_name_in_json_is_defined(heading: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(capsys, heading, "json"))
    assert found["rows"]
    assert found["totals"]
    names = set(keys_of(found["rows"])) | set(keys_of(found["totals"]))
    assert names <= defined(heading) | defined("Files")
    assert set(found) | set(found["health"]) <= defined("Files")
    assert set(keys_of(found["health"]["findings"])) <= defined("check")


@pytest.mark.parametrize("heading", COMMANDS)
def test_every_column_of_csv_is_defined(heading: str, capsys: pytest.CaptureFixture[str]) -> None:
    measures = [*(f"_{statistic}" for statistic in FLAT_STATISTICS)]
    assert {f"<measure>{measures[0]}", *measures[1:]} <= defined("Files")
    names = next(csv.reader(io.StringIO(printed(capsys, heading, "csv"))))
    assert names
    known = defined(heading)
    for name in names:
        flat = next((name.removesuffix(end) for end in measures if name.endswith(end) and name not in known), name)
        assert flat in known | defined("Files"), name


def test_every_finding_is_defined() -> None:
    code = "".join(path.read_text() for path in (ROOT / "gemma_trace").rglob("*.py"))
    written_out = set(re.findall(r"\bFinding\(\s*\"(\w+)\"", code))
    assert {"unlinked_activities", "capture_warning"} <= written_out
    assert written_out | set(health_of_the_file._REPAIRS) <= defined("check")


def test_no_command_that_prints_a_table_is_left_out() -> None:
    tested = {heading.split()[0] for heading in COMMANDS} | {"compare"}  # compare prints what diff does
    tested |= {"serve-capture"}  # which needs a server: cli/test_serve_capture.py
    for command in cli.COMMANDS:
        name = command.replace("-", "_")
        function = getattr(importlib.import_module(f"gemma_trace.cli.{name}"), name)
        assert "form" not in inspect.signature(function).parameters or command in tested, command


def test_the_tables_of_columns_are_up_to_date() -> None:
    assert undefined() == []
    assert with_tables(README) == README, "run: make docs"
    with pytest.raises(ValueError, match="markers and tables differ: plan"):
        with_tables(README.replace("<!-- columns: plan -->", ""))


def test_a_columns_words_stand_in_one_place() -> None:
    """What a column is called and how it is defined is spelled where it is declared, and in no other source."""
    files = [path for path in (ROOT / "gemma_trace" / "report").rglob("*") if path.suffix in (".py", ".html")]
    sources = {path: path.read_text() for path in files}
    columns = [each for _, table in README_TABLES.values() for each in table if isinstance(each, Col)]
    for keys in ([each.key for each in table] for _, table in README_TABLES.values()):
        assert len(keys) == len(set(keys))
    templates = "".join(text for path, text in sources.items() if path.suffix == ".html")
    for column in columns:
        if " " in column.head:
            assert f">{column.head}<" not in templates, column.head
    headers = ("exposed host", "device busy", "device sum", "profiled TTFT", "to first token", "resident")
    code = "".join(text for path, text in sources.items() if path.suffix == ".py")
    assert {header: code.count(f'"{header}"') for header in headers} == dict.fromkeys(headers, 1)


COLUMN_MAKERS = {
    *("Col", "_column", "_given", "_text"),
    *(f"{kind}_column" for kind in ("text", "ns", "bytes", "count", "small", "share")),
}
CALLS_A_MAKER = re.compile(rf"\b(?:{'|'.join(COLUMN_MAKERS)})\(")


def declared(source: str) -> Iterator[tuple[str, str]]:
    """The name and the definition of each column that a source spells out."""
    if not CALLS_A_MAKER.search(source):  # most don't, and to parse all takes over a second
        return
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in COLUMN_MAKERS:
            named = [more.value for more in call.keywords if more.arg == "definition"]
            given = [*call.args[:1], *(named if call.func.id == "Col" else call.args[1:])]
            texts = [each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if len(texts) > 1 and " " in (definition := max(texts[1:], key=len)):
                yield texts[0], definition


def test_a_column_that_several_tables_have_is_declared_once() -> None:
    """Tables of reports, of stores and of SQL; a column of the same name that means something else is another."""
    sources = [path.read_text() for path in (ROOT / "gemma_trace").rglob("*.py")]
    spelled = Counter(column for source in sources for column in declared(source))
    assert len(spelled) > 200
    assert [column for column, count in spelled.items() if count > 1] == []
    stored = {column.key: column.definition for column in TABLES["stages"].columns}
    assert {col.key: stored[col.key] for col in STAGE_FILE} == {col.key: col.definition for col in STAGE_FILE}


def test_every_stage_is_defined() -> None:
    assert {stage.value for stage in Stage} - {"request"} <= defined("A request and its stages")


def test_links_of_the_page_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert targets
    assert [target for target in targets if not (ROOT / "analysis" / target).exists()] == []
