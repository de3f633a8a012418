"""Kill -9 at 50 counted moments: nothing is lost but what was being written, and the next run is as good as any."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.sweep import plan
from gemma_trace.cli import main
from gemma_trace.trace import cache as cache_module
from gemma_trace.trace.trace import load, load_metadata
from tests.capture.test_writer import METADATA
from tests.conftest import ROOT, tries
from tests.killing import named
from tests.trace_builder import TraceBuilder

SEED = 14


@dataclass(frozen=True)
class Kill:
    """One run that was killed."""

    job: str
    output: str
    step: int
    of: int
    killed: bool


def kills(folder: Path, jobs: list[dict[str, Any]], python: str = sys.executable) -> list[Kill]:
    (folder / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(
        [python, "-m", "tests.killing", str(folder), str(SEED)],
        input=json.dumps(jobs),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Kill(**json.loads(line)) for line in done.stdout.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache_module, "WORTHWHILE_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def built(path: Path, config: CaptureConfig | None = None) -> Path:
    trace = TraceBuilder().range("request", 0, 100_000)
    if config:
        trace.metadata(replace(METADATA, config=json.loads(json.dumps(config.record()))))
    for index in range(150):
        trace.op(f"aten::op{index % 7}", 100 + 200 * index, 150).launch(index + 1, 120 + 200 * index)
        trace.kernel(f"kernel{index % 5}", 150 + 200 * index, 100, correlation=index + 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    return trace.write(path)


def content_of(path: Path) -> bytes:
    """Inflated, since gzip has the time in it."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def run_again(job: dict[str, Any], kill: Kill, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that was killed, to its end, with the cache that it left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(job["folder"] / f"cache-{kill.job}-{kill.output}"))
    assert main([*named(job["command"], kill.output), "--force"]) == 0


def test_files_are_whole_or_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = built(folder / "trace.json.gz")
    content = trace.read_bytes()
    made = {
        "export": (9, "json.gz", ["export", str(trace), "--no-cache"]),
        "speedscope": (5, "json.gz", ["export", str(trace), "--no-cache", "--speedscope"]),
        "redact": (5, "json.gz", ["export", str(trace), "--redact"]),
        "report": (9, "html", ["report", str(trace), "--no-cache"]),
        "table": (8, "json", ["kernels", str(trace), "--no-cache", "--format", "json"]),
        "cache": (12, "txt", ["stages", str(trace)]),
    }
    jobs: list[dict[str, Any]] = [
        {"name": name, "kills": tries(count), "command": [*command, "-o", str(folder / f"{name}-OUTPUT.{suffix}")]}
        for name, (count, suffix, command) in made.items()
    ]
    found = kills(folder, jobs)
    assert [kill.killed for kill in found] == [True] * sum(tries(count) for count, *_ in made.values())
    assert trace.read_bytes() == content
    for job in jobs:
        target = job["command"][-1]
        wanted = content_of(Path(target.replace("OUTPUT", "whole")))
        for kill in (kill for kill in found if kill.job == job["name"]):
            path = Path(target.replace("OUTPUT", kill.output))
            assert not path.exists() or content_of(path) == wanted, kill
            run_again(job | {"folder": folder}, kill, monkeypatch)
            assert content_of(path) == wanted, kill
    assert not list(folder.rglob("*.partial")), "what the killed left is cleared"
    assert list((folder / "tmp").iterdir()) == []


@pytest.mark.capture
def test_a_capture_or_a_sweep_that_is_killed_costs_itself(
    warm_python: str, quick_gemma: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = folder / "runs"
    capture = ["capture", "--device", "cpu", "--warmup", "0", "--runs", "0", "--profile-runs", "1", "--detail", "stage"]
    capture += ["--model", str(quick_gemma)]
    swept = plan({"options": {"device": "cpu"}, "matrix": {"seed": [1, 2]}}, folder / "swept")
    before = [built(cell.folder / "rank0.1.pt.trace.json.gz", cell.config) for cell in swept]
    content = [path.read_bytes() for path in before]
    options = [str(folder / "sweep.toml"), "--set", "device=cpu", "--set", "seed=1,2", "--quiet"]
    options += ["--out-dir", str(folder / "swept")]
    jobs: list[dict[str, Any]] = [
        {
            "name": "capture",
            "kills": 1,
            "command": [*capture, "--quiet", "--out-dir", str(output), "--name", "OUTPUT"],
        },
        {
            "name": "sweep",
            "kills": 1,
            "command": ["sweep", *options, "--output", str(folder / "sweep-OUTPUT.txt")],
        },
    ]
    (folder / "sweep.toml").write_text("")
    found = kills(folder, jobs, warm_python)
    assert [kill.killed for kill in found] == [True] * 2
    for kill in found[:1]:
        assert all(load_metadata(trace) is not None for trace in (output / kill.output).glob("rank0*")), kill
    run_again(jobs[0] | {"folder": folder}, found[0], monkeypatch)
    (trace,) = (output / found[0].output).iterdir()
    assert len(load(trace).host)
    assert not (output / f".{found[0].output}.rank0.lock").exists()
    assert list((folder / "tmp").glob("gemma-trace*")) == [], "the next capture clears what the killed ones left"
    run_again(jobs[1] | {"folder": folder}, found[1], monkeypatch)
    wanted = (folder / "sweep-whole.txt").read_bytes()
    assert (folder / f"sweep-{found[1].output}.txt").read_bytes() == wanted
    assert [path.read_bytes() for path in before] == content, "what was done wasn't touched"
    assert not list(folder.rglob(".gemma-trace.lock"))
