from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from gemma_trace.cli import main
from gemma_trace.machine import doctor
from gemma_trace.machine.checks import Check, CheckStatus
from gemma_trace.machine.cuda_checks import cuda_checks
from gemma_trace.machine.doctor import examine_machine, is_capable
from gemma_trace.report.tables.doctor import CHECK_FILE
from tests.conftest import HUNG_S, ROOT

TOKEN = "hf_madeUpForTheDoctor0123456789"


def test_a_machine_with_everything_can_capture() -> None:
    checks = {check.name: check for check in examine_machine()}
    assert {"python", "extra capture", "cpu", "profiler", "models that fit", "hub"} <= set(checks)
    assert f"torch {metadata.version('torch')}" in checks["extra capture"].found
    assert "tiny" in checks["models that fit"].found
    assert is_capable(list(checks.values()))


def test_it_knows_every_extra_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        extra: {re.split(r"[\[<>=~]", requirement)[0] for requirement in requirements}
        for extra, requirements in project["optional-dependencies"].items()
        if extra not in ("dev", "docs", "all")  # those for working on gemma-trace, and the sum
    }
    assert {extra: set(packages) for extra, packages in doctor.EXTRAS.items()} == declared


def without(*missing: str) -> Callable[[str], str | None]:
    return lambda package: None if package in missing else "1.0"


def test_what_is_missing_has_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", without("torch", "duckdb"))
    checks = {check.name: check for check in doctor._extras()}
    assert checks["extra capture"] == Check(
        "extra capture", CheckStatus.MISSING, "not installed: torch", 'pip install "gemma-trace[capture]"'
    )
    assert checks["extra scale"].status is CheckStatus.ABSENT
    assert checks["extra hta"].status is CheckStatus.OK
    assert not is_capable(list(checks.values()))


def test_a_status_is_a_word_that_the_columns_definition_explains() -> None:
    (definition,) = (col.definition for col in CHECK_FILE if col.key == "status")
    assert set(re.findall(r"`(\w+)`", definition)) == {str(status) for status in CheckStatus}


def test_the_token_is_a_yes_or_no(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("HF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    answers = {}
    for name in ("without", "with"):
        assert main(["doctor", "--format", "json", "-o", str(tmp_path / name)]) == 0
        said = (tmp_path / name).read_text()
        assert TOKEN not in said + "".join(capfd.readouterr())
        answers[name] = next(row["found"] for row in json.loads(said)["rows"] if row["name"] == "hub")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert answers["without"].startswith("no token")
    assert answers["with"].startswith("there is a token")


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two CUDA devices, of which none of ours may use the first."""
    import torch

    def free(device: torch.device) -> tuple[int, int]:
        if device.index in (0, None):
            raise RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nmore of it")
        return 50 * 10**9, 80 * 10**9

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(name=f"GPU {index}"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", free)


@pytest.mark.usefixtures("two_gpus")
def test_a_device_that_nobody_may_use_is_said() -> None:
    first, second, _ = cuda_checks()
    assert (first.name, first.status) == ("cuda:0", CheckStatus.ABSENT)
    assert first.found == "GPU 0, which can't be used: CUDA error: CUDA-capable device(s) is/are busy or unavailable"
    assert (second.status, second.found) == (CheckStatus.OK, "GPU 1, 50.0 GB of memory free")
    assert doctor._sizes().found.startswith("on cpu: "), "what fits into the device can't be told"


def test_builds_for_rocm_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "hip", "6.4.1")
    (gpu,) = cuda_checks()
    assert (gpu.found, gpu.mend) == (
        "torch is built for ROCm 6.4.1, but no device is visible",
        "check the driver: rocm-smi",
    )


def test_a_stray_part_of_torchruns_environment_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor._ranks()) == []
    monkeypatch.setenv("WORLD_SIZE", "4")
    (check,) = doctor._ranks()
    assert check.status is CheckStatus.MISSING
    assert check.found.startswith("WORLD_SIZE is 4, but RANK")


GEMMA_TRACE = """#!/bin/sh
echo "$@" >> "$LOG"
case "$*" in
sweep*)
    mkdir -p out/a-cuda-pil out/b-cuda-pil out/c-cuda-pil
    touch out/a-cuda-pil/1.pt.trace.json.gz out/c-cuda-pil/1.pt.trace.json.gz
    echo '{"failed": {"b-cuda-pil": "27b needs 112 GB", "d-cuda-pil": "killed"}, "options": {}}' > out/sweep.json
    exit 1 ;;
"stages out/a"*) exit 1 ;;
esac
"""


def test_the_study_on_a_gpu_goes_on_after_what_fails(tmp_path: Path) -> None:
    program = tmp_path / "gemma-trace"
    program.write_text(GEMMA_TRACE)
    program.chmod(0o700)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "LOG": str(tmp_path / "log")}
    environment |= {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        ["sh", str(ROOT / "analysis" / "run_on_gpu.sh"), "out"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=HUNG_S,
    )
    asked = [line.split(" -")[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert asked[0] == "doctor"
    assert asked[2:] == [
        *("summarize out", "summarize out"),
        *("stages out/a-cuda-pil/", "kernels out/a-cuda-pil/"),  # b has no trace
        *("stages out/c-cuda-pil/", "kernels out/c-cuda-pil/"),
    ]
    assert done.returncode == 1
    assert done.stderr.splitlines()[:3] == [
        "labelled graphs were not tried: no CUDA device is visible",
        "the first cell that failed: b-cuda-pil: 27b needs 112 GB",
        "another one: d-cuda-pil: killed",
    ]
    assert "the first command that failed: gemma-trace sweep " in done.stderr


PYTHON = """#!/bin/sh
echo "$@" >> "$LOG"
[ "$2" = venv ] || exit 1
mkdir -p "$3/bin" && cp "$0" "$3/bin/python"
"""


def test_on_a_fresh_machine_it_is_installed_first(tmp_path: Path) -> None:
    """Nothing but a Python and a shell: of the first thing that can't be done there is one line, and no table."""
    (tmp_path / "analysis").mkdir()
    for name in ("run_on_gpu.sh", "study_cuda.toml"):
        (tmp_path / "analysis" / name).write_bytes((ROOT / "analysis" / name).read_bytes())
    (tmp_path / "python3.11").write_text(PYTHON)
    (tmp_path / "python3.11").chmod(0o700)
    done = subprocess.run(
        ["/bin/sh", "analysis/run_on_gpu.sh", "out"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        timeout=HUNG_S,
    )
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first == "-m venv analysis/../.venv"
    assert second == "-m pip install --quiet analysis/..[capture]"
    assert done.returncode == 1
    assert done.stderr.startswith("gemma-trace could not be installed into analysis/../.venv; see above")
