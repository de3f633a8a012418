from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.size_curve import SizedRun, size_curve
from gemma_trace.metadata import RequestSample
from gemma_trace.report.html.curve import CURVE_PX, chart_of
from tests.analysis.test_size_curve import PIL, request
from tests.analysis.test_summary import metadata, sample
from tests.trace_builder import TraceBuilder


def sized(name: str, megapixels: int, processing_ms: int) -> RequestSample:
    made = sample(100 + processing_ms, processing_ms, name)
    return replace(made, prompt_tokens=300, image_pixels=(megapixels * 1_000_000,))


def trace_of(folder: Path, run: str, *samples: RequestSample) -> Path:
    described = metadata(list(samples), prompt="Hi")
    described = replace(described, run=replace(described.run, name=run), profiled_images=())
    built = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000).metadata(described)
    return built.write(folder / run / "rank0.1.pt.trace.json.gz")


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Two runs, of images of 1 and 2 MP and of 4 MP."""
    trace_of(tmp_path, "small", sized("one", 1, 10), sized("two", 2, 20))
    trace_of(tmp_path, "large", sized("<four>", 4, 40))
    return tmp_path


def rows(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> list[dict[str, object]]:
    assert cli.main([*map(str, arguments), "--format", "json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["rows"]
    return found


def test_each_request_is_a_row(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "summarize", traces, "--per", "request")
    keys = ("run", "request", "images", "image_pixels", "prompt_tokens", "new_tokens", "ttft_ns", "image_processing_ns")
    assert [tuple(row[key] for key in keys) for row in found] == [
        ("large", "<four>", 1, 4_000_000, 300, 3, 140_000_000, 40_000_000),
        ("small", "one", 1, 1_000_000, 300, 3, 110_000_000, 10_000_000),
        ("small", "two", 1, 2_000_000, 300, 3, 120_000_000, 20_000_000),
    ]
    assert found[0]["preprocessing_ns"] == 42_000_000, "with the template and what is none of its parts"
    assert found[0]["tpot_ns"] == 5_000_000


def test_each_size_is_a_row(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "summarize", traces, "--per", "size")
    assert [(row["image_pixels"], row["requests"]) for row in found] == [(10**6, 1), (2 * 10**6, 1), (4 * 10**6, 1)]
    assert cli.main(["summarize", str(traces), "--per", "size"]) == 0
    assert "Preprocessing grows by 10.00 ms per megapixel" in capsys.readouterr().out


def test_requests_of_one_size_are_said_to_be_no_curve(traces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["summarize", str(traces / "large"), "--per", "size"]) == 1
    assert "requests of three sizes" in capsys.readouterr().err
    assert cli.main(["summarize", str(traces), "--per", "size", "--style", "study"]) == 2


def test_the_page_draws_the_curve(traces: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert cli.main(["report", str(traces), "-o", str(page)]) == 0
    text = page.read_text()
    assert text.count(" MP</title>") == 15, "three sizes of five parts"
    assert "TTFT: 140.0 ms at 4 MP" in text
    assert 'id="sizes"' in text
    assert cli.main(["report", str(traces / "large"), "-o", str(page), "--force"]) == 0
    assert 'id="sizes"' not in page.read_text()


def test_points_lie_where_their_sizes_and_times_are() -> None:
    points = size_curve([SizedRun(PIL, tuple(request(size, 9, ttft_ms=250 * size) for size in (1, 2, 4)))])
    chart = chart_of(points, "")
    ttft = chart.lines[0]
    assert [dot.x_pct for dot in ttft.dots] == pytest.approx([100 * size / 4.2 for size in (1, 2, 4)])
    assert [dot.y_px for dot in ttft.dots] == pytest.approx([CURVE_PX * (1 - ms / 1050) for ms in (250, 500, 1000)])
    assert list(chart.levels[0]) == [CURVE_PX, "0"]
    tokens = size_curve([SizedRun(PIL, tuple(request(1, 9, tokens) for tokens in (300, 400, 600)))])
    assert chart_of(tokens, "").across == "tokens of a prompt"
