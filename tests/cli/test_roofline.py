"""`kernels --roofline`, `stages` with floors, and `--peaks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gemma_trace import cli
from gemma_trace.analysis.roofline.floor_sums import request_floors
from gemma_trace.report.tables.roofline import stage_rooflines
from gemma_trace.trace.trace import load
from tests.conftest import SAMPLES
from tests.trace_builder import TraceBuilder

PEAKS = '[[device]]\nname = "*"\nmemory_gb_per_s = 100\n[device.tflops]\nfloat32 = 1\n'
SAMPLE = str(SAMPLES / "sample-tiny-cpu-torchvision")


@pytest.fixture
def peaks(tmp_path: Path) -> str:
    path = tmp_path / "peaks.toml"
    path.write_text(PEAKS)
    return str(path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main([*arguments]) == 0
    return capsys.readouterr().out


def device_trace(tmp_path: Path, name: str) -> Path:
    """A product of 1024×1024 matrices in 8 µs, on a device of this name."""
    built = TraceBuilder().range("request", 0, 90_000).range("prefill", 0, 900)
    built.header["deviceProperties"] = [{"id": 0, "name": name}]
    args: dict[str, Any] = {"Input Dims": [[1024, 1024]] * 2, "Input type": ["c10::BFloat16"] * 2}
    built.span("cpu_op", "aten::mm", 10, 100, **args).launch(1, 20)
    return built.kernel("gemm", 1000, 8000, correlation=1).write(tmp_path / "built.json")


def test_kernels_show_what_they_achieve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(device_trace(tmp_path, "NVIDIA A100-SXM4-40GB"))
    table = printed(capsys, "kernels", path, "--roofline")
    assert "268.4" in table, "TFLOP/s: 2 · 1024³ / 8 µs"
    assert "86.0" in table, "% of 312"
    assert "1,555 GB/s" in table
    found = json.loads(printed(capsys, "kernels", path, "--roofline", "--format", "json"))
    (row,) = found["rows"]
    assert row["flops"] == row["matrix_flops"] == 2 * 1024**3
    assert (row["bytes"], row["bound"], row["sum_ns"]) == (3 * 2 * 1024**2, "compute", 8000)
    assert row["peak_pct"] == pytest.approx(100 * 2 * 1024**3 / 312e3 / 8000)
    assert found["totals"]["device"] == "NVIDIA A100-SXM4-40GB"
    plain = json.loads(printed(capsys, "kernels", path, "--format", "json"))
    assert plain["rows"] == [{key: row[key] for key in plain["rows"][0]}]


def test_an_unknown_device_is_said_and_held_against_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(device_trace(tmp_path, "Frobnicator 3000"))
    for command in (["kernels", path, "--roofline"], ["stages", path]):
        table = printed(capsys, *command)
        assert "the peak rates of Frobnicator 3000 are unknown, so there is no floor" in table
        assert "% of peak" not in table
        assert "× floor" not in table


def test_stages_show_their_floor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(device_trace(tmp_path, "NVIDIA A100-SXM4-40GB"))
    table = printed(capsys, "stages", path)
    assert "× floor" in table
    assert "1.162" in table, "8,000 ns over 6,883"
    totals = json.loads(printed(capsys, "stages", path, "--format", "json"))["totals"]
    (floor,) = totals["floors"]
    assert floor["floor_ns"] == pytest.approx(2 * 1024**3 / 312e3)
    assert floor["distance"] == pytest.approx(8000 / floor["floor_ns"])


def test_a_cpu_has_a_floor_with_ones_own_peaks_alone(peaks: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "× floor" not in printed(capsys, "stages", SAMPLE)
    assert "× floor" in printed(capsys, "stages", SAMPLE, "--peaks", peaks)
    assert "doctor --measure" in printed(capsys, "kernels", SAMPLE, "--roofline")
    assert "% of peak" in printed(capsys, "kernels", SAMPLE, "--peaks", peaks), "--peaks alone asks for the roofline"


def test_peaks_of_another_device_are_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peaks.toml"
    path.write_text(PEAKS.replace("*", "some other CPU"))
    table = printed(capsys, "stages", SAMPLE, "--peaks", str(path))
    assert "× floor" not in table
    table = printed(capsys, "kernels", SAMPLE, "--peaks", str(path))
    assert "--peaks has some other CPU, so there is no floor" in table


def test_a_bad_file_of_peaks_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peaks.toml"
    path.write_text("[[device]]\n")
    for command in (["stages", SAMPLE], ["kernels", SAMPLE, "--roofline"]):
        assert cli.main([*command, "--peaks", str(path)]) == 1
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "device 1 has no name" in error


@pytest.mark.parametrize("source", ["nan", "3", "[1]", "{a = 1}"])
def test_a_source_that_is_no_text_is_one_line(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peaks.toml"
    path.write_text(PEAKS.replace("[device.tflops]", f"source = {source}\n[device.tflops]"))
    assert cli.main(["stages", SAMPLE, "--peaks", str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "device 1 has a source that is not text" in error


def test_the_section_of_a_report(tmp_path: Path) -> None:
    floors = request_floors(load(device_trace(tmp_path, "NVIDIA A100-SXM4-40GB")))
    section = stage_rooflines(floors).as_text()
    assert [column.header for column in section.columns][:2] == ["stage", "GFLOP"]
    (row,) = section.rows
    assert row == ("prefill", "2.147", "6.291", "268.4", "786.4", "0.007", "1.162", "compute", "100.0")
    bare = load(TraceBuilder().range("request", 0, 10).op("aten::mm", 0, 5).write(tmp_path / "b.json"))
    assert stage_rooflines(request_floors(bare)).rows == ()
