from __future__ import annotations

import base64
import hashlib
import re
from itertools import pairwise
from pathlib import Path

import pytest

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.diff import diff
from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.analysis.summary import summarize
from gemma_trace.metadata import Environment, RunIdentity, RunMetadata, Workload
from gemma_trace.report.html.build import view_of
from gemma_trace.report.html.definitions import DEFINITIONS, DIFF_DEFINITIONS
from gemma_trace.report.html.model import MOST_RUNS, SHORT, PageContent, Pair
from gemma_trace.report.html.page import render_page
from gemma_trace.report.html.text import full_name
from gemma_trace.report.number_text import milliseconds, percent, significant, spread
from gemma_trace.trace.trace import Trace, load
from tests.conftest import ROOT, SAMPLES, real_trace, thorough
from tests.report.html.reading import Element, by_id, read, rows, table
from tests.trace_builder import TraceBuilder

TRACES = sorted(SAMPLES.glob("*/*.pt.trace.json.gz"))
MEGABYTE = 1_000_000

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    '" onmouseover="alert(3)" x="',
    "</title></style><svg onload=alert(4)>",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
)


def page_of(*traces: Trace) -> bytes:
    views = tuple(view_of(trace) for trace in traces)
    return render_page(PageContent(views[0].label, views))


def pair_page(before: Trace, after: Trace) -> bytes:
    views = (view_of(before), view_of(after))
    return render_page(PageContent("before → after", views, (Pair(diff(before, after), *views),)))


@pytest.fixture(scope="module")
def samples() -> list[Trace]:
    return [real_trace(path) for path in TRACES]


@pytest.fixture(scope="module")
def pages(samples: list[Trace]) -> dict[str, bytes]:
    """The pages of the samples, by what they are of."""
    return {"one": page_of(samples[0]), "several": page_of(*samples), "sides": pair_page(*samples)}


@pytest.fixture(scope="module")
def sample_page(pages: dict[str, bytes]) -> Element:
    return read(pages["one"])


def hostile_trace(folder: Path) -> Trace:
    builder = TraceBuilder().range("request", 0, 10_000).range("prefill", 0, 9000)
    for place, name in enumerate(HOSTILE):
        at = 100 + 1000 * place
        builder.op(name, at, 500).range(f"gemma_trace::layer::{name}", at, 400)
        builder.launch(place + 1, at + 10).kernel(name, at + 50, 300, correlation=place + 1)
    return load(builder.write(folder / "<img src=x onerror=alert(5)>.json"))


def test_stages_of_the_page_are_those_of_the_analysis(samples: list[Trace], sample_page: Element) -> None:
    found = breakdown(samples[0], 0)
    wall = found.requests[0].wall_ns
    measures = summarize(samples[0]).measures
    expected = []
    for row in found.rows:
        timed = measures.get(f"{row.stage}_ms") if row.stage != "preprocessing" else None
        share = percent(row.time_ns, wall)
        expected.append([row.stage, milliseconds(row.time_ns), share, "", spread(timed), milliseconds(row.host_ns)])
    assert [cells[:-1] for cells in rows(table(sample_page, "stages"))] == expected
    assert milliseconds(wall) in table(sample_page, "stages").all("tfoot")[0].text


def test_kernels_of_the_page_are_those_of_the_analysis(samples: list[Trace], sample_page: Element) -> None:
    expected = kernel_table(samples[0], request=0).rows[:100]
    found = table(sample_page, "kernel-table").all("tbody")[0].all("tr")
    assert len(found) == len(expected)
    for row, kernel in zip(found, expected, strict=True):
        name, total, share, _, family, count, *_ = row.inside
        assert name.attributes["title"] == full_name(kernel.name)
        assert (family.text, total.text, count.text) == (
            kernel.family,
            milliseconds(kernel.sum_ns),
            f"{kernel.count:,}",
        )
        assert (total.attributes["data-v"], share.text) == (str(kernel.sum_ns), f"{kernel.share_pct:.1f}")


def test_the_headline_is_the_timed_ttft_and_says_so(samples: list[Trace], sample_page: Element) -> None:
    run = summarize(samples[0])
    ttft = run.measures["ttft_ms"]
    assert ttft
    assert ttft.median_interval
    assert f"{significant(ttft.median)}ms" in sample_page.text
    assert "median of 10 requests without the profiler" in sample_page.text
    assert " to ".join(significant(end) for end in ttft.median_interval) in sample_page.text
    assert f"× {run.inflation:.2f}" in sample_page.text
    assert "the weights of tiny are random" in sample_page.text
    flags = [each.text for each in sample_page.all("li") if "flag" in each.classes]
    assert flags == ["random weights"]


def test_every_dot_is_a_request(samples: list[Trace], sample_page: Element) -> None:
    strips = [each for each in sample_page.all("div") if "strip" in each.classes]
    titles = [dot.text.strip() for dot in strips[0].all("circle")]
    metadata = samples[0].metadata
    assert metadata
    assert titles == [
        f"request {place}, {sample.image}: {significant(sample.ttft_ns / 1e6)} ms"
        for place, sample in enumerate(metadata.timed_requests)
    ]


def test_a_page_of_several_has_them_all_and_one_of_two_sides_their_difference(
    samples: list[Trace], pages: dict[str, bytes]
) -> None:
    both = read(pages["several"])
    for trace in samples:
        ttft = summarize(trace).measures["ttft_ms"]
        assert both.text.count(f"TTFT {spread(ttft)} ms") == 1
    assert [len(each.all("details")) > 0 for each in both.all("details") if "fold" in each.classes] == [True, True]
    sides = read(pages["sides"])
    change = diff(*samples).stages[0]
    assert f"{change.difference_ms:+.2f}ms" in sides.text
    assert f"{change.relative_pct:+.1f}%" in sides.text
    assert DIFF_DEFINITIONS.definitions[0].text in sides.text
    assert DIFF_DEFINITIONS.definitions[0].text not in both.text


@pytest.mark.parametrize("most", [4, *thorough([MOST_RUNS])])
def test_what_there_is_no_room_for_is_said(samples: list[Trace], most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gemma_trace.report.html.page.MOST_RUNS", most)
    view = view_of(samples[0], SHORT)
    page = render_page(PageContent("many", (view,) * (most + 2)))
    text = read(page).text
    assert f"Only in the overview, for lack of room: {view.label}, {view.label}." in text
    left = view.kernels.total_rows - 10
    assert text.count(f"Left out: the {left} smallest") == most
    assert len(page) < (0.1 + 1.5 * most / MOST_RUNS) * MEGABYTE


@pytest.mark.parametrize("kind", ["one", "several", "sides"])
def test_pages_are_small_and_ask_for_nothing(pages: dict[str, bytes], kind: str) -> None:
    page = pages[kind]
    assert len(page) < MEGABYTE / 2
    root = read(page)
    assert not root.all("img") + root.all("iframe") + root.all("object")
    links = [each.attributes["href"] for each in root.all("a") + root.all("link")]
    assert all(link.startswith("#") or link == "data:," for link in links)
    assert not re.search(rb"(?:https?:)?//\w", page.replace(b"// ", b"").split(b"<script>")[0])
    targets = {
        each.attributes.get("id") for tag in ("h2", "h3", "h4", "div", "details", "main") for each in root.all(tag)
    }
    assert {link[1:] for link in links if link.startswith("#")} <= targets
    identifiers = re.findall(rb' id="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers))


def test_the_policy_names_the_style_and_the_script_by_their_hashes_and_nothing_else(pages: dict[str, bytes]) -> None:
    page = pages["one"].decode()
    root = read(page.encode())
    policy = next(
        each.attributes["content"]
        for each in root.all("meta")
        if each.attributes.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag in ("style", "script"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert len(parts) == 1
        digest = base64.b64encode(hashlib.sha256(parts[0].encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    assert page.index("Content-Security-Policy") < page.index("<style>"), "a policy rules what comes after it"


def test_hostile_names_are_text(tmp_path: Path) -> None:
    page = page_of(hostile_trace(tmp_path))
    root = read(page)
    assert not root.all("img")
    assert not root.all("b")
    assert (len(root.all("script")), len(root.all("style")), len(root.all("title"))) == (1, 1, page.count(b"<title>"))
    for element in everything(root):
        assert not [name for name in element.attributes if name.startswith("on") or name in ("style", "src", "srcdoc")]
    shown = {row.inside[0].attributes["title"] for row in table(root, "kernel-table").all("tbody")[0].all("tr")}
    assert shown == set(HOSTILE)
    assert "<img src=x onerror=alert(5)>" in root.all("h1")[0].text


def everything(root: Element) -> list[Element]:
    return [found for child in root.inside for found in (child, *everything(child))]


def test_nothing_private_is_on_the_page(tmp_path: Path) -> None:
    metadata = RunMetadata(
        schema_version=1,
        created_utc="2025-01-01T00:00:00+00:00",
        run=RunIdentity("run", "tiny", "random", "float32", "cpu", "torchvision"),
        workload=Workload(("SECRET-photo.jpg",), (10,), 1),
        environment=Environment("1", "3.11", "2.9", None, "5.17", "Linux x86_64", "a CPU", 4, 2**30, 4, "a CPU"),
        config={"prompt": "SECRET", "images": ["SECRET.jpg"], "model": "SECRET", "output": "/home/SECRET", "batch": 2},
    )
    builder = TraceBuilder().range("request", 0, 1000).range("prefill", 10, 900)
    builder.header["SECRET"] = {"host": "SECRET"}
    builder.span("python_function", "/home/SECRET/x/lib.py(3): f", 20, 100)
    builder.range("gemma_trace::layer::/home/SECRET/code/model.py", 200, 300)
    page = page_of(load(builder.metadata(metadata).write(tmp_path / "SECRET-folder" / "t.json")))
    assert b"SECRET" not in page
    foreign = TraceBuilder().op("aten::mm", 0, 100)
    named = foreign.write(tmp_path / "SECRET-host_4711.1700000000123.pt.trace.json")
    page = page_of(load(named))
    assert b"SECRET" not in page
    assert b"worker_4711.1700000000123" in page
    other = RunMetadata(**{**vars(metadata), "config": {**metadata.config, "prompt": "SECRET too", "batch": 3}})
    second = TraceBuilder().range("request", 0, 1000).range("prefill", 10, 800).metadata(other).load(tmp_path / "b")
    first = TraceBuilder().range("request", 0, 1000).range("prefill", 10, 900).metadata(metadata).load(tmp_path / "a")
    page = pair_page(first, second)
    assert b"SECRET" not in page
    assert "Configured differently: prompt: differs; batch: 2 → 3." in read(page).text


def test_a_foreign_trace_says_what_it_lacks(tmp_path: Path) -> None:
    text = read(page_of(TraceBuilder().op("aten::mm", 0, 100).load(tmp_path))).text
    for part in (
        "Wall time",
        "gemma-trace did not record this trace",
        "there is no TTFT",
        "No stage was found by a known name",
        "Nothing ran on a device",
        "There is no decode series",
        "The trace has no record of what was run",
    ):
        assert part in text


def test_a_trace_whose_work_is_all_unlinked_has_no_stage_either(tmp_path: Path) -> None:
    trace = TraceBuilder().op("aten::mm", 0, 1000).kernel("lost", 100, 50, correlation=9).load(tmp_path)
    assert [line.row.stage for line in view_of(trace).stages] == ["unattributed", "unlinked"]
    assert "No stage was found by a known name" in read(page_of(trace)).text


def test_findings_are_shown_with_their_advice(tmp_path: Path) -> None:
    trace = TraceBuilder().range("request", 0, 1000).kernel("lost", 100, 50, correlation=9).load(tmp_path)
    findings = summarize(trace).health.findings
    shown = next(each for each in read(page_of(trace)).all("ul") if "findings" in each.classes)
    assert "unlinked_activities" in [finding.code for finding in findings]
    for finding, item in zip(findings, shown.all("li"), strict=True):
        assert finding.message in item.text
        assert finding.advice in item.text
        assert item.text.strip().startswith(finding.severity.value)


def test_definitions_are_those_of_the_readme() -> None:
    readme = (ROOT / "analysis" / "README.md").read_text().replace("`", "").replace("\\|", "|")
    for group in (*DEFINITIONS, DIFF_DEFINITIONS):
        assert group.definitions
        for definition in group.definitions:
            assert f"| {definition.text} |" in readme, definition.shown


def test_tables_say_what_their_cells_are_of(sample_page: Element) -> None:
    for each in sample_page.all("table"):
        heads = each.all("thead")[0].all("th")
        assert {head.attributes["scope"] for head in heads} == {"col"}
        body = each.all("tbody")[0].all("tr")
        assert {row.inside[0].attributes["scope"] for row in body} == {"row"}
        assert {len(row.inside) for row in body} == {len(heads)}
    levels = [int(tag.tag[1]) for tag in everything(sample_page) if re.fullmatch(r"h\d", tag.tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), "no level is left out"
    assert sample_page.all("html")[0].attributes["lang"] == "en"
    assert by_id(sample_page, "definitions").text


def test_owlv2_is_small_too(corpus: Path) -> None:
    trace = real_trace(corpus / "h100_owlv2_vlm_proxy.json.gz")
    page = page_of(trace)
    assert len(page) < MEGABYTE / 4
    found = {cells[0]: cells for cells in rows(table(read(page), "stages"))}
    assert found["vision_tower"][5] == "545.6", "device ms, by launch correlation"
    assert found["vision_tower"][7] == "3,295"


def test_the_critical_path_is_a_table_and_adds_up(tmp_path: Path) -> None:
    built = TraceBuilder().range("request", 0, 10_000_000).range("prefill", 0, 2_000_000)
    built.launch(1, 1_000_000).kernel("k", 1_005_000, 7_000_000, correlation=1)
    trace = built.span("cuda_runtime", "cudaDeviceSynchronize", 1_500_000, 6_600_000).load(tmp_path)
    view = view_of(trace)
    (section,) = [section for section in view.tables if section.title == "Critical path"]
    column = [column.header for column in section.as_text().columns].index("path ms")
    assert sum(float(row[column]) for row in section.as_text().rows) == pytest.approx(10, abs=0.02)
    page = render_page(PageContent("x", (view,))).decode()
    assert '<h2 id="table1">Critical path</h2>' in page
    assert '<th scope="row">prefill</th><td>8.005</td>' in page
