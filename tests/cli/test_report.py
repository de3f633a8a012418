from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace import cli
from tests.conftest import SAMPLES, thorough
from tests.report.html.reading import read
from tests.trace_builder import TraceBuilder

TORCHVISION, PIL = (SAMPLES / f"sample-tiny-cpu-{backend}" for backend in ("torchvision", "pil"))


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main(["report", *(str(argument) for argument in arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def prefill(folder: Path, length: int = 50_000, name: str = "rank0.1.pt.trace.json.gz") -> Path:
    trace = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, length).op("aten::mm", 2000, 30_000)
    return trace.write(folder / name)


@pytest.mark.parametrize(
    ("paths", "name", "heading"),
    [
        ([TORCHVISION], "sample-tiny-cpu-torchvision.html", "sample-tiny-cpu-torchvision"),
        (
            [TORCHVISION, PIL],
            "sample-tiny-cpu-torchvision-vs-sample-tiny-cpu-pil.html",
            "sample-tiny-cpu-torchvision → sample-tiny-cpu-pil",
        ),
        ([SAMPLES], "samples.html", "2 runs"),
        *thorough([([TORCHVISION, PIL, TORCHVISION], "report.html", "2 runs")]),
    ],
    ids=["one", "sides", "folder", "several"],
)
def test_the_page_is_named_after_what_it_shows(
    capsys: pytest.CaptureFixture[str], inside: Path, paths: list[Path], name: str, heading: str
) -> None:
    assert run(capsys, *paths) == (0, f"{name}\n", "")
    assert read((inside / name).read_bytes()).all("h1")[0].text == heading
    assert [path.name for path in inside.iterdir()] == [name], "and nothing is left beside it"


def test_nothing_is_overwritten_unasked(capsys: pytest.CaptureFixture[str], inside: Path) -> None:
    page = inside / "page.html"
    page.write_text("mine")
    code, out, err = run(capsys, TORCHVISION, "-o", page)
    assert (code, out) == (1, "")
    assert err == f"gemma-trace: {page} exists already; give --force to overwrite it\n"
    assert page.read_text() == "mine"
    assert run(capsys, TORCHVISION, "-o", page, "--force")[0] == 0
    assert page.read_text() != "mine"


def test_what_cannot_be_written_is_one_line(capsys: pytest.CaptureFixture[str], inside: Path) -> None:
    code, _, err = run(capsys, TORCHVISION, "-o", inside / "missing" / "page.html")
    assert code == 1
    assert err.startswith("gemma-trace: can't write ")
    assert err.count("\n") == 1


def test_a_file_that_is_no_trace_is_named_and_the_others_are_shown(
    capsys: pytest.CaptureFixture[str], inside: Path
) -> None:
    prefill(inside / "runs" / "good")
    (inside / "runs" / "bad").mkdir()
    (inside / "runs" / "bad" / "rank0.2.pt.trace.json").write_text("no trace")
    code, out, err = run(capsys, inside / "runs")
    assert (code, out) == (4, "rank0.1.html\n")
    assert "rank0.2.pt.trace.json" in err
    assert err.count("\n") == 1
    text = read((inside / "rank0.1.html").read_bytes()).text
    assert "Not on this page: 1 of 2 files, which can't be read." in text
    assert run(capsys, inside / "runs" / "bad")[0] == 4, "none at all is a failure, and no page"


def test_two_folders_are_compared_run_by_run(capsys: pytest.CaptureFixture[str], inside: Path) -> None:
    for side, length in (("main", 50_000), ("branch", 70_000)):
        for run_name in ("a", "b"):
            prefill(inside / side, length, f"{run_name}.1.pt.trace.json")
    prefill(inside / "main", 50_000, "c.1.pt.trace.json")
    assert run(capsys, "main", "branch")[:2] == (0, "main-vs-branch.html\n")
    root = read((inside / "main-vs-branch.html").read_bytes())
    assert root.all("h1")[0].text == "2 runs, before → after"
    assert [heading.text for heading in root.all("h2")][:2] == ["a.1 → a.1", "b.1 → b.1"]
    assert "Not compared: c.1, only in the first side." in root.text
    assert root.text.count("▲ slower") >= 2


def test_rules_name_stages(capsys: pytest.CaptureFixture[str], inside: Path) -> None:
    trace = TraceBuilder().range("ProfilerStep#1", 0, 100_000).op("my_tower", 1000, 60_000).write(inside / "t.json")
    assert run(capsys, trace, "--rule", "vision_tower=my_tower")[0] == 0
    text = read((inside / "t.html").read_bytes()).text
    assert "vision_tower" in text
    assert "No stage was found" not in text


@pytest.mark.parametrize("largest_bytes", [100_000, *thorough([10_000_000])])
def test_every_trace_of_the_corpus_has_a_page(
    capsys: pytest.CaptureFixture[str], corpus: Path, inside: Path, largest_bytes: int
) -> None:
    paths = sorted(path for path in corpus.glob("*.json.gz") if path.stat().st_size < largest_bytes)
    assert len(paths) > 5
    assert run(capsys, "--no-cache", *paths)[0] == 0
    page = (inside / "report.html").read_bytes()
    assert len(page) < 1_000_000
    folds = [each for each in read(page).all("details") if "fold" in each.classes]
    assert len(folds) == len(paths)
    for path in sorted((corpus / "bad").iterdir()):
        code, out, err = run(capsys, "--no-cache", "--force", path)
        assert (code == 0) == bool(out)
        assert "Traceback" not in err
