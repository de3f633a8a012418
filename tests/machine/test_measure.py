from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace import cli
from gemma_trace.analysis.roofline.devices import device_peaks
from gemma_trace.machine import measure
from gemma_trace.peaks_file import read_peaks
from tests.conftest import real_trace


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that take no time."""
    monkeypatch.setattr(measure, "_SIZES", {"cpu": 256})
    monkeypatch.setattr(measure, "_TRIAL_SIZE", 128)
    monkeypatch.setattr(measure, "_COPIED_BYTES", {"cpu": 1 << 20})
    monkeypatch.setattr(measure, "_LEAST_S", 0.001)
    monkeypatch.setattr(measure, "_REPEATS", 2)


@pytest.mark.usefixtures("small")
def test_what_is_measured_here_holds_for_what_is_captured_here(captured: Path, tmp_path: Path) -> None:
    path = tmp_path / "peaks.toml"
    assert cli.main(["doctor", "--measure", "--device", "cpu", "-o", str(path)]) == 0
    (peaks,) = read_peaks(path)
    assert [dtype for dtype, _ in peaks.tflops] == ["float32", "bfloat16", "float16"]
    assert all(1e-6 < rate < 1000 for _, rate in peaks.tflops)
    assert 0 < peaks.memory_gb_per_s < 10_000
    assert "measured by gemma-trace" in peaks.source
    assert device_peaks(real_trace(captured), [peaks]).peaks == peaks


@pytest.mark.usefixtures("small")
def test_the_file_is_printed_and_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--measure", "--device", "cpu"]) == 0
    path = tmp_path / "peaks.toml"
    path.write_text(capsys.readouterr().out)
    assert len(read_peaks(path)) == 1
    assert cli.main(["doctor", "--measure", "-o", str(path)]) == 1
    assert "exists already; give --force" in capsys.readouterr().err
    assert cli.main(["doctor", "--measure", "--device", "quark"]) == 2


def test_the_clock_is_read_over_enough_calls() -> None:
    import torch

    calls: list[None] = []
    best = measure._best_s(torch.device("cpu"), lambda: calls.append(None))
    assert 0 < best < 0.01
    assert len(calls) > 1000
