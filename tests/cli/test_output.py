"""Which format a report is written in, and how many rows it has."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from gemma_trace import cli
from gemma_trace.report.formats import RENDERERS, Format, format_of
from tests.report.html.reading import read, rows
from tests.trace_builder import TraceBuilder

KERNELS = 25


@pytest.fixture
def built(tmp_path: Path) -> str:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 0, 90_000)
    for place in range(KERNELS):
        trace.launch(place + 1, 10 + place)
        trace.kernel(f"kernel_{place}", 1000 + 200 * place, 100 + place, correlation=place + 1)
    return str(trace.write(tmp_path / "built.json"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_files_name_says_the_format(built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = {}
    for name in ("k.csv", "k.json", "k.md", "k.parquet", "k.txt", "k.html", "k2.CSV", "k.csv.gz"):
        assert run(capsys, "kernels", built, "-o", tmp_path / name) == (0, "", "")
        written[name] = (tmp_path / name).read_bytes()
    lines = list(csv.DictReader(io.StringIO(written["k.csv"].decode())))
    assert [line["name"] for line in lines][:2] == ["kernel_24", "kernel_23"]
    assert json.loads(written["k.json"])["rows"][0]["sum_ns"] == 124
    assert written["k.md"].startswith(b"## Device activities, built")
    assert pq.read_table(io.BytesIO(written["k.parquet"])).column("sum_ns").to_pylist()[0] == 124
    assert written["k.txt"].startswith(b"Device activities, built")
    page = read(written["k.html"])
    (table,) = page.all("table")
    assert rows(table)[0][0] == "kernel_24"
    (style,) = re.findall(r"<style>(.*?)</style>", written["k.html"].decode(), re.DOTALL)
    policy = next(each.attributes["content"] for each in page.all("meta") if "http-equiv" in each.attributes)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert written["k2.CSV"] == written["k.csv"] == gzip.decompress(written["k.csv.gz"])


def test_format_comes_before_the_name(built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "stages", built, "-o", tmp_path / "a.csv", "-f", "json")[0] == 0
    assert run(capsys, "stages", built, "-f", "json", "-o", tmp_path / "b.out")[0] == 0
    assert json.loads((tmp_path / "a.csv").read_text()) == json.loads((tmp_path / "b.out").read_text())


@pytest.mark.parametrize("name", ["k.xlsx", "k", "k.gz", ".csv", "k.csv.bak"])
@pytest.mark.parametrize("command", ["kernels", "stages", "check"])
def test_a_name_that_tells_no_format_is_refused_before_anything_is_read(
    command: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, command, tmp_path / "none.json", "-o", tmp_path / name)
    assert (code, out) == (2, "")
    assert err == (
        f"gemma-trace: --output {tmp_path / name}: the name tells no format; end it with .txt, .md, .markdown, .csv, "
        ".json, .parquet, .html, .htm, or give --format\n"
    )
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(("command", "option"), [("doctor", "--output"), ("compare", "--output")])
def test_what_is_no_table_of_a_trace_is_refused_likewise(
    command: str, option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, command, option, tmp_path / "k.xlsx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"{option} {tmp_path / 'k.xlsx'}: the name tells no format" in err


@pytest.mark.parametrize(
    ("command", "option", "name", "what"),
    [
        ("report", "-o", "page.csv", "a report is HTML; end the name with .html"),
        ("export", "-o", "trace.parquet", "an export is JSON; end the name with .json"),
        ("history", "--html", "page.json", "a page is HTML; end the name with .html"),
    ],
)
def test_a_file_of_one_format_is_not_named_after_another(
    command: str, option: str, name: str, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, command, tmp_path / "none.json", option, tmp_path / name)
    shown = "--output" if option == "-o" else option
    assert (code, err) == (2, f"gemma-trace: {shown} {tmp_path / name}: {what}\n")


def test_every_format_has_an_extension_of_its_own_and_one_is_binary() -> None:
    assert set(RENDERERS) == set(Format)
    for form, renderer in RENDERERS.items():
        assert {format_of(Path(f"k{extension}")) for extension in renderer.extensions} == {form}
    assert [form for form, renderer in RENDERERS.items() if renderer.is_binary] == [Format.PARQUET]


def test_files_have_all_rows_and_screens_the_first(built: str, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--roofline"]):
        _, out, err = run(capsys, "kernels", built, "-f", "json", *options)
        found = json.loads(out)
        assert (len(found["rows"]), found["rows_total"], found["rows_shown"], err) == (KERNELS, KERNELS, KERNELS, "")
        _, out, _ = run(capsys, "kernels", built, *options)
        assert out.count("kernel_") == 20
        assert "5 more rows: --top 0 shows all." in out
        _, out, _ = run(capsys, "kernels", built, "-f", "markdown", "--top", "0", *options)
        assert out.count("kernel\\_") + out.count("kernel_") == KERNELS


def test_a_cut_that_was_asked_for_is_stated(built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options in ([], ["--roofline"]):
        _, out, _ = run(capsys, "kernels", built, "-f", "json", "--top", "3", *options)
        found = json.loads(out)
        assert (len(found["rows"]), found["rows_total"], found["rows_shown"]) == (3, KERNELS, 3)
        assert found["totals"]["activities"] == KERNELS, "of the whole selection"
    _, out, err = run(capsys, "kernels", built, "-f", "csv", "--top", "3")
    assert (len(out.splitlines()), err) == (4, f"gemma-trace: 3 of {KERNELS} rows; --top 0 gives all of them\n")
    run(capsys, "kernels", built, "-o", tmp_path / "k.parquet", "--top", "3")
    assert pq.read_table(tmp_path / "k.parquet").schema.metadata[b"rows_total"] == str(KERNELS).encode()


def test_changes_are_cut_level_by_level_and_stages_never(
    built: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = TraceBuilder().range("request", 0, 200_000).range("prefill", 0, 190_000)
    for place in range(KERNELS):
        slower.launch(place + 1, 10 + place)
        slower.kernel(f"kernel_{place}", 1000 + 2000 * place, 1000 + place, correlation=place + 1)
    after = slower.write(tmp_path / "after.json")
    every = json.loads(run(capsys, "diff", built, after, "-f", "json")[1])
    kernels = [row["name"] for row in every["rows"] if row["level"] == "kernel"]
    assert (len(kernels), every["rows_total"]) == (KERNELS, len(every["rows"]))
    cut = json.loads(run(capsys, "diff", built, after, "-f", "json", "--top", "2")[1])
    assert [row["name"] for row in cut["rows"] if row["level"] == "kernel"] == kernels[:2]
    stages = [[row for row in found["rows"] if row["level"] == "stage"] for found in (every, cut)]
    assert stages[0] == stages[1]
    assert (cut["rows_total"], cut["rows_shown"]) == (len(every["rows"]), len(cut["rows"]))


def test_a_file_without_rows_has_its_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clean = TraceBuilder().range("request", 0, 100).range("prefill", 0, 50).write(tmp_path / "clean.json")
    for name in ("c.csv", "c.parquet"):
        assert run(capsys, "check", clean, "-o", tmp_path / name)[0] == 0
    columns = ["code", "severity", "count", "message", "advice"]
    assert (tmp_path / "c.csv").read_text().splitlines() == [",".join(columns)]
    assert pq.read_table(tmp_path / "c.parquet").column_names == columns
