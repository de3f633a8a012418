"""`gemma-trace history` on stores of made runs: series, changes, versions, pages and messages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gemma_trace import cli
from gemma_trace.cli.ages import age_s, instant_ns
from gemma_trace.errors import ConfigError
from gemma_trace.history.measures import measure_named
from gemma_trace.history.series import history_of
from gemma_trace.report.tables.history import sparkline
from tests.history.made import FIRST_NS, Night, store_of

LEVELS_NS = (180_000_000, 198_000_000)


def nights(count: int = 60, change_at: int = 40, **more: Any) -> list[Night]:
    random = np.random.default_rng(11)
    found = []
    for number in range(count):
        level = LEVELS_NS[number >= change_at] * (1 + 0.005 * random.standard_normal())
        torch = {"torch": "2.12.0" if number < change_at else "2.13.0"}
        found.append(Night(number, [int(level) - 1000, int(level), int(level) + 3000], torch | more))
    return found


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = cli.main(["history", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_change_has_its_date_size_run_and_versions(tmp_path: Path) -> None:
    (series,) = history_of(store_of(tmp_path, nights()), [measure_named("ttft")]).series
    assert (len(series.points), series.timing, series.label) == (60, "timed", "tiny float32 cpu")
    (change,) = series.changes
    assert (change.first.name, change.first.created_ns) == ("night40", FIRST_NS + 40 * 86_400 * 10**9)
    assert change.versions == ("torch 2.12.0 → 2.13.0",)
    low, high = change.interval_pct
    assert 9 < low < 10 < high < 11
    point = series.points[0]
    assert (point.value - point.low, point.high - point.value, point.samples) == (500, 1500, 3), "quartiles of three"


def test_configurations_are_apart_and_versions_are_not_unless_asked(tmp_path: Path) -> None:
    store = store_of(tmp_path, [*nights(), *nights(dtype="bfloat16")])
    by_default = history_of(store, [measure_named("ttft")]).series
    assert [(series.label, len(series.points)) for series in by_default] == [
        ("tiny bfloat16 cpu", 60),
        ("tiny float32 cpu", 60),
    ]
    by_torch = history_of(store, [measure_named("ttft")], by=("torch",)).series
    assert [(series.label, len(series.points)) for series in by_torch] == [("2.12.0", 80), ("2.13.0", 40)]


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    without_date = [Night(900, [1], {"created_ns": None})]
    ranks = [Night(n, [7], {"rank": rank, "world_size": 2}) for n in range(3) for rank in (0, 1)]
    found = history_of(store_of(tmp_path, [*nights(), *without_date, *ranks]), [measure_named("ttft")])
    assert (found.undated, found.other_ranks) == (1, 3)
    assert len(found.series[0].points) == 63
    apart = history_of(tmp_path, [measure_named("ttft")], by=("rank",))
    assert [(series.label, len(series.points)) for series in apart.series][1:] == [("0", 3), ("1", 3)]


def test_passes_with_and_without_the_profiler_are_never_one_series(tmp_path: Path) -> None:
    profiled = [{"timing": "profiled", "request": 0, "measure": "ttft", "value_ns": 5}]
    both = [*nights(10), Night(50, [9], rows={"samples": profiled})]
    timings = [
        (series.timing, len(series.points))
        for series in history_of(store_of(tmp_path, both), [measure_named("ttft")]).series
    ]
    assert timings == [("timed", 10), ("profiled", 1)]


def test_work_is_per_request_and_memory_is_the_devices_most(tmp_path: Path) -> None:
    kernel = {"stage": "prefill", "side": "device", "count": 1, "min_ns": 1, "median_ns": 1, "max_ns": 1}
    memory = {"request": None, "stage": None}
    rows = {
        "kernels": [
            kernel | {"kernel": "gemm", "family": "gemm", "sum_ns": 500},
            kernel | {"kernel": "gemv", "family": "gemm", "sum_ns": 300},
            kernel | {"kernel": "softmax", "family": "softmax", "sum_ns": 9},
        ],
        "memory": [
            memory | {"allocator": "host", "peak_bytes": 99},
            memory | {"allocator": "device 0", "peak_bytes": 40},
            memory | {"allocator": "device 1", "peak_bytes": 50},
            memory | {"allocator": "device 1", "peak_bytes": 70, "request": 0, "stage": "prefill"},
        ],
    }
    store = store_of(tmp_path, [Night(0, [1], rows=rows)])
    values = {
        name: history_of(store, [measure_named(name)]).series[0].points[0].value
        for name in ("family:gemm", "kernel:gemm", "peak_memory")
    }
    assert values == {"family:gemm": 400, "kernel:gemm": 250, "peak_memory": 50}, "the run has two requests"


def test_the_table_the_file_and_the_page_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = store_of(tmp_path / "store", nights(name="<b>"))
    page = tmp_path / "history.html"
    code, out, err = run(capsys, store, "--html", page)
    assert (code, err) == (0, f"The page is at {page}.\n")
    assert "torch 2.12.0 → 2.13.0" in out
    assert re.search(r"2026-10-31 14:13 +\+10\.\d", out)
    rows = json.loads(run(capsys, store, "--format", "json")[1])["rows"]
    (first,) = [row for row in rows if row["change_pct"] is not None]
    assert first["new_versions"] == "torch 2.12.0 → 2.13.0"
    assert {row["level"] for row in rows[:40]} == {rows[0]["level"]} != {row["level"] for row in rows[40:]}
    text = page.read_text()
    assert "<b>" not in text
    assert len(re.findall("<circle ", text)) == 60
    assert len(re.findall('class="since"', text)) == 1
    links, rows_there = re.findall(r'<a class="run[^"]*" href="#([^"]+)"', text), re.findall(r'<tr id="([^"]+)"', text)
    assert len(links) == 60
    assert links == rows_there[::-1], "each dot links to its run"
    assert run(capsys, store, "--html", page)[0] == 1, "it is not overwritten"


def test_small_changes_are_counted_and_shown_when_asked(tmp_path: Path) -> None:
    store = store_of(tmp_path, nights())
    (series,) = history_of(store, [measure_named("ttft")], least_pct=20).series
    assert (series.changes, series.smaller) == ((), 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--measure", "warp"], 1, "no run in {store} has the measure 'warp'; give one of ttft, family:NAME"),
        (["--measure", "family:"], 2, "--measure 'family:' is not a measure"),
        (["--by", "run_id"], 2, "--by 'run_id' is not a column that tells runs apart; it can be config, cuda"),
        (["--since", "soon"], 2, "--since 'soon' is neither a date nor an age; give one like 2026-11-01, or 30d"),
        (
            ["--since", "2030-01-01"],
            1,
            "no run in {store} is that recent: the last one is from 2026-11-19 14:13 (UTC); check --since",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    store = store_of(tmp_path, nights())
    got, out, err = run(capsys, store, *arguments)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert message.format(store=store) in err


def test_where_there_is_no_store_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, tmp_path)[::2] == (4, f"gemma-trace: no store at {tmp_path}; gemma-trace index creates one\n")


def test_runs_without_a_date_have_no_history(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, store_of(tmp_path, [Night(0, [1], {"created_ns": None})]))
    assert (code, err.count("\n")) == (1, 1)
    assert f"none of the runs in {tmp_path} says when it was captured, and history orders runs by that" in err


def test_dates_and_ages_are_instants() -> None:
    assert instant_ns("2026-09-21T14:13:20", "--since") == FIRST_NS
    assert instant_ns("2026-09-21T16:13:20+02:00", "--since") == FIRST_NS
    assert instant_ns("1d", "--since") < instant_ns("1h", "--since")
    assert age_s("2w", "--since") == 14 * 86_400
    for text in ("", "9999999d", "2026-13-01", "-1d"):
        with pytest.raises(ConfigError):
            instant_ns(text, "--since")


def test_sparklines_go_from_the_least_to_the_most() -> None:
    assert sparkline([]) == ""
    assert sparkline([5.0, 5.0]) == "▄▄"
    assert sparkline([0.0, 7.0]) == "▁█"
    assert len(sparkline(list(range(1000)), 40)) == 40
