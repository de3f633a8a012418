from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_trace.capture import environment, session
from gemma_trace.capture.models import LoadedModel
from gemma_trace.errors import CaptureError


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program in the place of nvidia-smi, on a machine whose kernel says nothing."""
    monkeypatch.setattr(environment, "_NVIDIA_VERSION", tmp_path / "version")
    monkeypatch.setattr(environment, "_LONGEST_S", 0.5)
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    return tmp_path / "nvidia-smi"


@pytest.mark.parametrize(
    ("script", "driver"),
    [
        ("echo 535.104.05; echo 535.104.05", "535.104.05"),
        ("echo NVIDIA-SMI has failed because it couldn't communicate with the driver; exit 9", None),
        ("echo No devices were found", None),
        ("exec sleep 60", None),
        ("printf '\\377\\376'", None),
    ],
)
def test_a_slow_or_failing_nvidia_smi_loses_nothing(smi: Path, script: str, driver: str | None) -> None:
    smi.write_text(f"#!/bin/sh\n{script}\n")
    smi.chmod(0o700)
    assert environment._nvidia_driver() == driver


def test_what_is_no_program_is_no_driver(smi: Path) -> None:
    smi.write_text("not a program")
    assert environment._nvidia_driver() is None


def test_the_kernel_says_which_driver_it_is(smi: Path, tmp_path: Path) -> None:
    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder)\n"
        "GCC version:  gcc version 12.3.0\n"
    )
    assert environment._nvidia_driver() == "570.86.15"
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\n")
    assert environment._nvidia_driver() == "535.104.05"


@pytest.mark.parametrize(
    ("listed", "known"),
    [
        ("model name\t: A\nflags\t\t: fpu sse avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu sse amx_bf16\nflags\t\t: fpu sse amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu sse avx2 avx512f avx512_vnni bf16x\n", False),
        ("model name\t: A\n", None),
        (None, None),
    ],
)
def test_the_cpu_says_whether_it_multiplies_bfloat16(tmp_path: Path, listed: str | None, known: bool | None) -> None:
    if listed is not None:
        (tmp_path / "cpuinfo").write_text(listed)
    assert environment._has_bfloat16(tmp_path / "cpuinfo") is known


def test_a_process_that_may_use_some_cores_alone_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {3, 8, 9})
    found = environment.describe_environment(torch.device("cpu"))
    assert (found.host_cores, found.usable_cores) == (64, 3)


def test_the_environment_is_asked_for_before_any_request_is_sent(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a program that hangs or fails costs no pass."""
    happened: list[str] = []

    def describe(device: torch.device) -> None:
        happened.append(f"environment of {device}")

    def warm_up(_: Any) -> None:
        happened.append("passes")
        raise InterruptedError

    monkeypatch.setattr(session, "describe_environment", describe)
    monkeypatch.setattr(session._Session, "warm_up", warm_up)
    with pytest.raises(CaptureError):
        session.profile(model=quick.model, processor=quick.processor, output=tmp_path, image_sizes="8x8")
    assert happened == ["environment of cpu", "passes"]
