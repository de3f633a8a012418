"""The page of a job: what was planted in its ranks is on it, and nothing of a trace acts on it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace import cli
from gemma_trace.cli.report_job import job_page, rank_numbers
from gemma_trace.errors import ConfigError
from gemma_trace.ranks.identity import RankIdentity
from gemma_trace.ranks.job import Job
from gemma_trace.ranks.membership import Members
from gemma_trace.ranks.summary import RankSummary
from gemma_trace.report.html.job_heat import ABSENT_CODE, HeatMap, excess_ns, heat_map
from gemma_trace.report.html.job_page import JobPage, render_job
from gemma_trace.report.html.job_timeline import MOST_RANKS, chosen_ranks, chosen_request, collective_rects
from tests.benchmarks.rank_job import write_job
from tests.benchmarks.rank_plan import ClockOffset, SlowRank
from tests.benchmarks.rank_plan import Job as Plan
from tests.conftest import SAMPLES, SHARED
from tests.report.html.reading import Element, read, rows, table

DELAY_NS = 200_000
PLAN = Plan(ranks=8, steps=3, kernels=3, faults=(SlowRank(5, "prefill", DELAY_NS),))
HOSTILE = ("<img src=x onerror=alert(1)>", '" onmouseover="alert(2)" x="', "</script><script>alert(3)</script>")


def page_of(folder: Path, plan: Plan, asked: tuple[int, ...] = ()) -> JobPage:
    page = job_page(write_job(folder, plan), (), cached=False, asked=asked)
    assert page
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> JobPage:
    return page_of(tmp_path_factory.mktemp("job"), PLAN)


@pytest.fixture(scope="module")
def shown(page: JobPage) -> Element:
    return read(render_job(page))


def heat_rows(shown: Element) -> list[Element]:
    return [each for each in shown.all("div") if "data-rank" in each.attributes]


def values(row: Element, measure: str) -> list[int]:
    return [int(value) for value in row.attributes[f"data-{measure}"].split("|")[1].split(",")]


def test_the_straggler_has_the_largest_excess_and_it_is_exact(page: JobPage, shown: Element) -> None:
    stages = next(head.text for head in shown.all("div") if "heat-head" in head.classes)
    found = heat_rows(shown)
    assert [row.attributes["data-rank"] for row in found] == [str(rank) for rank in range(8)]
    place = page.job.grid.stages.index("prefill")
    assert "prefill" in stages
    assert values(found[5], "excess")[place] == DELAY_NS
    assert max(max(values(row, "excess")) for row in found) == DELAY_NS
    assert [row.attributes["data-rank"] for row in found if "h4" in [cell.classes[0] for cell in row.all("i")]] == ["5"]
    assert found[5].attributes["title"] == "rank 5: prefill +0.200 ms"
    waits = [values(row, "wait")[place] for row in found]
    assert waits[5] == 0
    assert min(waits[:5] + waits[6:]) == DELAY_NS, "the others wait for it"


def test_what_the_map_can_show_adds_up(page: JobPage, shown: Element) -> None:
    grid = page.job.grid
    requests = len(grid.requests)
    for row, place in zip(heat_rows(shown), range(8), strict=True):
        assert sum(values(row, "time")) == pytest.approx(grid.wall_ns[place].sum() / requests, abs=len(grid.stages))
        assert all(
            wait <= exposed for wait, exposed in zip(values(row, "wait"), values(row, "communication"), strict=True)
        )


def test_it_says_in_a_sentence_who_is_late(shown: Element) -> None:
    (late,) = [each for each in shown.all("ul") if "late" in each.classes]
    assert "Rank 5 is late again and again: compute late in 3 of 3 requests" in late.text
    assert late.text.strip().startswith("0.200 ms")
    assert rows(table(shown, "stragglers-table"))[0][:3] == ["5", "prefill", "repeated"]
    assert [cells[0] for cells in rows(table(shown, "ranks-table"))] == [str(rank) for rank in range(8)]


def test_without_a_straggler_it_says_so(tmp_path: Path) -> None:
    found = page_of(tmp_path, replace(PLAN, faults=()))
    text = read(render_job(found)).text
    assert "No rank stands out" in text
    assert "is late" not in text.replace("Who is late", "").replace("that is late", "").replace("it is late", "")
    assert chosen_request(found.job)[1] == "the median of 3"


def test_colours_double_from_step_to_step() -> None:
    grid = fake_grid([[0, 100, 900, 1800, 3600, 7200, 14_400]])
    map_ = heat_map(replace(grid, wall_ns=np.full((7, 1), 14_400)), range(7))
    assert [row.data[1][1][0] for row in map_.rows] == ["0", "0", "1", "2", "3", "4", "4"]
    excess = excess_ns(grid)[:, 0].tolist()
    assert excess == [-2700, -2600, -1800, -450, 2250, 5850, 13_050]
    assert [row.codes for row in map_.rows] == ["b", "b", "b", "0", "2", "3", "4"]
    absent = heat_map(replace(grid, is_there=grid.is_there & (np.arange(7)[:, None, None] != 2)), range(7))
    assert absent.rows[2].codes == ABSENT_CODE


def fake_grid(by_stage: list[list[int]]) -> Any:
    """A grid of one request, in which nobody waits."""
    from gemma_trace.ranks.grid import Grid

    time = np.array(by_stage, dtype=np.int64).T[:, None, :]
    nothing = np.zeros_like(time)
    names = tuple(f"stage{place}" for place in range(time.shape[2]))
    there = np.ones(time.shape, dtype=bool)
    return Grid(("request 0",), names, there, time, time, nothing, nothing, nothing, time.sum(axis=2))


def test_ranks_are_drawn_on_one_clock(tmp_path: Path) -> None:
    clock = ClockOffset(5_000_000_000, rank=3)
    found = page_of(tmp_path, replace(PLAN, faults=(*PLAN.faults, clock)), asked=(5, 3, 0))
    timeline = found.timeline
    assert timeline
    assert [row.rank for row in timeline.rows] == [0, 3, 5]
    assert timeline.request == "request 0"
    assert timeline.length_ns < 50_000_000, "the clock that is 5 s ahead is put right"
    assert not timeline.notes
    ends = [[bar.start_ns + bar.wait_ns + bar.latency_ns for bar in row.collectives] for row in timeline.rows]
    assert ends[0]
    for other in ends[1:]:
        assert other == pytest.approx(ends[0], abs=1), "all leave a collective together"
    late = next(row for row in timeline.rows if row.rank == 5)
    early = next(row for row in timeline.rows if row.rank == 0)
    assert early.wait_ns >= late.wait_ns + DELAY_NS
    for row in timeline.rows:
        assert sum(bar.wait_ns for bar in row.collectives) == row.wait_ns
        assert {rect.classes for rect in collective_rects(row, timeline.length_ns)} <= {"waiting", "moving"}
        assert all(stretch.start_ns >= 0 for lane in row.lanes for stretch in lane.stretches)


def test_the_late_one_the_first_and_the_one_that_waits_are_drawn(page: JobPage, shown: Element) -> None:
    chosen = chosen_ranks(page.job)
    assert {0, 5} <= set(chosen)
    assert len(chosen) <= 3 <= MOST_RANKS
    assert chosen_ranks(page.job, (7, 1, 7)) == (1, 7)
    names = [lane.attributes["aria-label"] for lane in shown.all("svg") if lane.classes == ["lane"]]
    assert len(names) == 3 * len(chosen), "host, device and collectives"
    assert any(name.startswith("rank 5, device lane: ") for name in names)
    assert [each for each in shown.all("rect") if each.classes == ["waiting"]]


def test_names_from_a_trace_are_text(page: JobPage) -> None:
    job = Job(page.job.members)
    stages = (*HOSTILE, *job.grid.stages[len(HOSTILE) :])
    vars(job)["grid"] = replace(job.grid, stages=stages)
    vars(job)["stragglers"] = tuple(replace(each, stage=HOSTILE[0]) for each in page.job.stragglers)
    found = read(render_job(JobPage(job, page.timeline)))
    assert not found.all("img")
    assert (len(found.all("script")), len(found.all("style"))) == (1, 1)
    for element in everything(found):
        assert not [name for name in element.attributes if name.startswith("on") or name == "style"]
    assert HOSTILE[0] in found.text


def everything(root: Element) -> list[Element]:
    return [found for child in root.inside for found in (child, *everything(child))]


def many(summary: RankSummary, count: int, late: int) -> Job:
    """A job of copies of a rank, one of which is late by `DELAY_NS` in every stage."""
    ranks = [replace(summary, identity=RankIdentity(rank, count, "")) for rank in range(count)]
    cells = summary.cells
    slow = replace(cells, time_ns=cells.time_ns + DELAY_NS, device_ns=cells.device_ns + DELAY_NS)
    ranks[late] = replace(ranks[late], cells=slow)
    return Job(Members(tuple(ranks), count))


def test_a_thousand_ranks_stay_a_small_page(page: JobPage) -> None:
    job = many(page.job.ranks[0], 1024, late=777)
    made = render_job(JobPage(job, None))
    assert len(made) < 3_000_000
    text = made.decode()
    found = re.findall(r'<div data-rank="(\d+)" data-excess="\w+\|([-\d,]+)"', text)
    assert len(found) == 1024
    assert found[0][0] == "777", "of so many the latest is at the top"
    assert [rank for rank, excess in found if str(DELAY_NS) in excess.split(",")] == ["777"]
    assert text.count('<th scope="row">') > 1024, "all ranks are in the table"
    assert '<div class="heat thin"' in text
    assert '<option value="largest" selected>' in text


def test_the_map_says_what_it_shows(page: JobPage) -> None:
    found: HeatMap = heat_map(page.job.grid, page.job.numbers)
    assert found.size == "tall"
    assert "Heat map of 8 ranks" in found.summary
    assert "that of rank 5: prefill +0.200 ms" in found.summary
    assert [len(each.legend) for each in found.measures] == [9, 5, 5, 5]


def test_the_page_lets_nothing_in(page: JobPage) -> None:
    text = render_job(page).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)
    assert policy
    for tag in ("style", "script"):
        (part,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        assert "'sha256-" + base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() in policy[1].replace(
            "&#39;", "'"
        )
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(identifiers) == len(set(identifiers))
    links = re.findall(r'href="#([^"]+)"', text)
    assert set(links) <= set(identifiers)


def test_a_files_name_gives_no_host_away(page: JobPage) -> None:
    unreadable = (("SECRET-host_4711.1700000000123.pt.trace.json", "it is cut"),)
    job = Job(replace(page.job.members, unreadable=unreadable))
    made = render_job(JobPage(job, None))
    assert b"SECRET" not in made
    assert b"worker_4711.1700000000123.pt.trace.json can&#39;t be read: it is cut" in made


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = cli.main(["report", *map(str, arguments), "--no-cache"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_folder_of_ranks_is_a_job_and_one_with_other_runs_is_not(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path / "job", replace(PLAN, ranks=2, faults=()))
    assert run(capsys, "job") == (0, "job.html\n", "")
    assert [each.text for each in read((tmp_path / "job.html").read_bytes()).all("h1")] == ["2 ranks"]
    shutil.copytree(SAMPLES / "sample-tiny-cpu-pil", tmp_path / "job" / "sample")
    assert run(capsys, "job", "--force") == (0, "job.html\n", "")
    assert [each.text for each in read((tmp_path / "job.html").read_bytes()).all("h1")] == ["3 runs"]


def test_ranks_of_two_jobs_are_runs(tmp_path: Path) -> None:
    small = write_job(tmp_path / "small", replace(PLAN, ranks=2, faults=()))
    large = write_job(tmp_path / "large", replace(PLAN, ranks=4, faults=()))
    assert job_page([*small, large[3]], (), cached=False) is None
    assert job_page(small[:1], (), cached=False) is None
    assert job_page([*small, large[0]], (), cached=False) is None


def test_ranks_are_asked_for_by_their_numbers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path / "job", replace(PLAN, ranks=2, faults=()))
    assert rank_numbers(" 5,0 ") == (5, 0)
    for text in ("", "a", "1-3", "-1"):
        with pytest.raises(ConfigError):
            rank_numbers(text)
    code, out, err = run(capsys, "job", "--ranks", "9")
    assert (code != 0, out) == (True, "")
    assert err == "gemma-trace: rank 9 not found: there are traces of 2 ranks, 0 to 1\n"
    code, out, err = run(capsys, SAMPLES, "--ranks", "0")
    assert (code, out) == (2, "")
    assert "these traces are not a job" in err
    assert not list(tmp_path.glob("*.html"))


def merged(folder: Path, plan: Plan) -> Path:
    """The ranks of a host in one file; ids that count in each rank are made to differ."""
    events: list[dict[str, Any]] = []
    for rank, path in enumerate(write_job(folder / "parts", replace(plan, names="rank{rank}.json"))):
        for event in json.loads(path.read_text())["traceEvents"]:
            if event.get("name") == "process_name" and event["pid"] == 4000 + rank:
                event["args"]["name"] = f"rank {rank} python"
            args = event.get("args", {})
            for holder, key in ((event, "id"), (args, "correlation"), (args, "External id")):
                if key in holder:
                    holder[key] += rank * 10_000_000
            events.append(event)
    path = folder / "merged.json"
    path.write_text(json.dumps({"schemaVersion": 1, "traceEvents": events}))
    return path


def test_ranks_merged_into_a_file_are_a_job(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = merged(tmp_path, replace(PLAN, ranks=4, faults=(SlowRank(2, "prefill", DELAY_NS),)))
    assert run(capsys, path, "-o", tmp_path / "page.html")[0] == 0
    shown = read((tmp_path / "page.html").read_bytes())
    found = heat_rows(shown)
    assert len(found) == 4
    assert found[2].attributes["title"] == "rank 2: prefill +0.200 ms"
    assert any("rank 2, device lane" in each.attributes.get("aria-label", "") for each in shown.all("svg"))


def test_a_real_job_has_its_page() -> None:
    folder = SHARED / "corpus_2" / "dlrm_8_ranks"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus_2, real traces that this project reads but does not ship")
    found = job_page(sorted(folder.glob("*.json.gz")), (), cached=False)
    assert found
    assert found.timeline
    shown = read(render_job(found))
    assert len(heat_rows(shown)) == 8
    assert len(rows(table(shown, "ranks-table"))) == 8
