from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gemma_trace.capture import study
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.images import load_image
from gemma_trace.capture.plan import describe
from gemma_trace.capture.study import STUDY_FAST, study_matrix, study_requests, write_study_requests
from gemma_trace.capture.sweep import RECORD_NAME, STDERR_NAME, Cell, plan, read_matrix, run_sweep, same_options
from gemma_trace.capture.workload import build_requests
from gemma_trace.cli import main
from gemma_trace.errors import ConfigError, InputError, OutputError
from gemma_trace.trace.trace import load_metadata
from tests.capture.test_writer import METADATA
from tests.conftest import HUNG_S, ROOT

ONE = ["runs=1", "warmup=0", "profile_runs=1"]


def test_the_study_is_24_cells_in_its_own_order(tmp_path: Path) -> None:
    cells = plan(STUDY_FAST, tmp_path)
    assert len({cell.name for cell in cells}) == 24
    assert [cells[0].name, cells[-1].name] == ["4b-bfloat16-cuda-torchvision", "27b-float32-cpu-pil"]
    assert {(cell.config.runs, cell.config.warmup) for cell in cells} == {(10, 10)}


def test_the_study_loads_each_configuration_ten_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Counter(study.PICTURES) == {(3500, 2500): 5, (266, 190): 1}
    monkeypatch.setattr(study, "PICTURES", ((35, 25),) * 5 + ((26, 19),))
    cells = plan(study_matrix(tmp_path), tmp_path)
    assert len({cell.name for cell in cells}) == 240
    assert cells[0].name == "4b-bfloat16-cuda-torchvision-sync-requests-shuffle0-cudnn-benchmark"
    assert {(cell.config.runs, cell.config.warmup, cell.config.sync_stages) for cell in cells} == {(1, 10, True)}
    write_study_requests(tmp_path)
    requests = build_requests(cells[3].config, tmp_path)
    sizes = Counter(load_image(request.media("image")[0]).size for request in requests[::10])
    assert len(requests) == 60
    assert set(sizes) <= {(35, 25), (26, 19)}
    assert sum("/sample-35x25.jpg" in request.media("image")[0].shown for request in requests) == 50
    assert {request.system for request in requests} == {"You are a helpful assistant."}
    assert len({request.parts[-1] for request in requests}) == 10
    written = study_requests(tmp_path).stat().st_mtime_ns
    write_study_requests(tmp_path)
    assert study_requests(tmp_path).stat().st_mtime_ns == written, "what is there is kept"


def test_a_matrix_comes_from_a_file_and_the_command_line_stands_over_it(tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text('[matrix]\nmodel = ["4b"]\nattn = ["sdpa", "eager"]\nseed = [1, 2]\n[options]\nruns = 3\n')
    cells = plan(read_matrix(file), tmp_path, ["model=tiny", "runs=1", "sync_stages=true"])
    assert [(c.config.model, c.config.attn, c.config.seed, c.config.runs) for c in cells] == [
        ("tiny", "sdpa", 1, 1),
        ("tiny", "sdpa", 2, 1),
        ("tiny", "eager", 1, 1),
        ("tiny", "eager", 2, 1),
    ]
    assert all(cell.config.sync_stages for cell in cells)
    assert len({cell.name for cell in cells}) == 4, "the seed isn't in a run's name unless it has to be"


def test_options_of_the_command_line_have_their_own_types(tmp_path: Path) -> None:
    changes = ["prompt_tokens=600,700", "stage_module=vision=model.tower", "image=a.jpg", "stacks=no", "attn=eager"]
    cells = plan({}, tmp_path, changes)
    assert [cell.config.prompt_tokens for cell in cells] == [600, 700]
    config = cells[0].config
    assert (config.stage_modules, config.images) == (("vision=model.tower",), (Path("a.jpg"),))
    assert (config.stacks, config.attn) == (False, "eager")


@pytest.mark.parametrize(
    ("content", "changes", "message"),
    [
        ("[matrix]\nmodle = ['tiny']", [], "no option 'modle'"),
        ("[matrix]\nmodel = 'tiny'", [], "is not a list"),
        ("[more]\nmodel = ['tiny']", [], r"not more"),
        ("[matrix]\ndtype = ['float8']", [], "no dtype 'float8'"),
        ("", ["model"], "is not OPTION=VALUE"),
        ("", ["runs=many"], "is not a whole number"),
        ("", ["prompt_tokens=long"], "is not a whole number"),
        ("", ["stacks=perhaps"], "is neither true nor false"),
        ("[options]\nruns = '3'", [], "runs is '3'; it requires a whole number"),
        ("[matrix]\nmodel = [4]", [], "model is 4; it requires text"),
        ("[options]\nsync_stages = 1", [], "sync_stages is 1; it requires true or false"),
        ("[options]\nimage = 3", [], "image is 3; it requires a list of paths"),
        ("[options]\nrequests = 3", [], "requests is 3; it requires a path"),
        ("matrix = 3", [], "matrix is not a table"),
    ],
)
def test_a_matrix_that_makes_no_sense_is_one_line(
    tmp_path: Path, content: str, changes: list[str], message: str
) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=message):
        plan(read_matrix(file), tmp_path, changes)
    with pytest.raises(InputError, match="no file at"):
        read_matrix(tmp_path / "absent.toml")


def test_an_output_that_cannot_be_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "deeper"):
        cells = plan({"matrix": {"model": ["tiny"]}, "options": {"device": "cpu"}}, output, ONE)
        with pytest.raises(OutputError, match=r"can't make the folder .*file.*; check output="):
            run_sweep(cells, retry=False, on_change=lambda _: None)
    tiny = ["sweep", "--set", "model=tiny", "--out-dir", str(tmp_path / "out")]
    (tmp_path / "table.csv").write_text("")
    assert main([*tiny, "--output", str(tmp_path / "table.csv")]) == 1
    assert main([*tiny, "--format", "parquet"]) == 2
    assert not (tmp_path / "out").exists()


def test_the_plan_tells_what_fits(tmp_path: Path) -> None:
    (tiny, large) = describe(plan({"matrix": {"model": ["tiny", "27b"]}, "options": {"device": "cpu"}}, tmp_path))
    assert (tiny.outlook, tiny.device) == ("fits", "cpu")
    assert large.parameters == 27_432_406_640
    assert large.needed_bytes == 27_432_406_640 * 4 + 3_400_000_000


CELL = """
# Stands for the Python that runs a cell: writes a trace of its options at once, where a capture takes seconds.
import json, os, pathlib, sys, time
from dataclasses import replace
sys.path.insert(0, {root!r})
from tests.capture.test_writer import METADATA
from tests.trace_builder import TraceBuilder
from gemma_trace.capture.config import CaptureConfig

given = json.load(sys.stdin)
config = CaptureConfig(**given)
print(json.dumps({{"phase": "profiling"}}), flush=True)
pathlib.Path({pids!r}).open("a").write(f"{{os.getpid()}}\\n")
if config.device == "cuda":
    print(json.dumps({{"error": "no device cuda on this machine"}}), flush=True)
    sys.exit(1)
folder = config.output / config.name
if os.environ.get("CELL_HANGS") and list(config.output.glob("*/*.pt.trace.json.gz")):
    (folder / "here").touch()
    print(json.dumps({{"phase": "hanging"}}), flush=True)
    time.sleep({hung})
print(os.environ.get("CELL_SAYS", ""), end="", file=sys.stderr, flush=True)
if os.environ.get("CELL_DIES"):
    os._exit(3)
options = json.loads(json.dumps(config.record()))
ran_on = replace(METADATA.environment, **json.loads(os.environ.get("CELL_RAN_ON", "{{}}")))
TraceBuilder().range("request", 0, 1000).metadata(replace(METADATA, config=options, environment=ran_on)).write(
    folder / "rank0.1.pt.trace.json.gz")
"""


@pytest.fixture
def quick_cells(warm_python: str, tmp_path: Path) -> Path:
    """A program in the place of Python for the cells' processes."""
    program, cell = tmp_path / "cell", tmp_path / "cell.py"
    pids = str(tmp_path / "pids")
    cell.write_text(CELL.format(root=str(ROOT), pids=pids, hung=HUNG_S))
    program.write_text(f"#!/bin/sh\nexec {shlex.quote(warm_python)} {shlex.quote(str(cell))}\n")
    program.chmod(0o700)
    return program


def test_a_cell_that_dies_costs_itself_and_is_recorded(
    tmp_path: Path, warm_python: str, quick_cells: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", warm_python)
    cells = plan({"matrix": {"model": ["5b", "tiny"]}, "options": {"device": "cpu"}}, tmp_path / "out", ONE)
    states: list[list[str]] = []
    ended = run_sweep(cells, retry=False, on_change=lambda now: states.append([cell.state for cell in now]))
    assert [cell.state for cell in ended] == ["failed", "done"]
    assert "no model '5b'" in ended[0].error
    assert json.loads((tmp_path / "out" / RECORD_NAME).read_text())["failed"] == {ended[0].name: ended[0].error}
    assert ["failed", "running"] in states
    again = run_sweep(cells, retry=False, on_change=lambda _: None)
    assert [(cell.state, cell.seconds) for cell in again] == [("failed", 0.0), ("done", 0.0)], "nothing ran"
    monkeypatch.setattr(sys, "executable", str(quick_cells))
    other = [Cell(replace(cells[1].config, seed=5))]
    assert run_sweep(other, retry=False, on_change=lambda _: None)[0].seconds > 0, "other options, another run"


@pytest.fixture
def swept(tmp_path: Path, quick_cells: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Cell]]:
    """Runs a sweep of one quick cell."""
    monkeypatch.setattr(sys, "executable", str(quick_cells))
    cells = plan({"matrix": {"seed": [1]}, "options": {"device": "cpu"}}, tmp_path / "out", ONE)

    def sweep(*, retry: bool = False, redo: bool = False) -> list[Cell]:
        return run_sweep(cells, retry=retry, redo=redo, on_change=lambda _: None)

    return sweep


def test_what_a_cell_prints_on_stderr_stands_beside_its_trace(
    swept: Callable[..., list[Cell]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELL_SAYS", "a library has something to say\n")
    (first,) = swept()
    assert first.state == "done"
    assert (first.folder / STDERR_NAME).read_text() == "a library has something to say\n"
    monkeypatch.delenv("CELL_SAYS")
    (first,) = swept(redo=True)
    assert [file.suffix for file in first.folder.iterdir()] == [".gz"], "nothing was said"


def test_a_cell_that_dies_without_a_word_points_to_its_stderr(
    swept: Callable[..., list[Cell]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELL_DIES", "1")
    (first,) = swept()
    assert first.error == "exited with code 3"
    assert not first.folder.exists(), "there is nothing to keep"
    monkeypatch.setenv("CELL_SAYS", "Fatal Python error")
    (first,) = swept(retry=True)
    assert first.error == f"exited with code 3; its {STDERR_NAME} may say why"
    assert (first.folder / STDERR_NAME).read_text() == "Fatal Python error"


def test_a_cell_of_other_versions_is_not_done(
    swept: Callable[..., list[Cell]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELL_RAN_ON", '{"transformers": "4.0.0"}')
    before = swept()
    monkeypatch.setenv("CELL_RAN_ON", json.dumps({"torch": f"{METADATA.environment.torch}+other.build"}))
    after = swept()
    assert all(cell.seconds > 0 for cell in after), "they ran again"
    assert all(cell.folder.exists() for cell in before), "what was there is kept"
    assert not {cell.name for cell in before} & {cell.name for cell in after}
    assert [cell.seconds for cell in swept()] == [0], "of another build of the same version"


def test_an_option_that_came_later_had_its_default(tmp_path: Path) -> None:
    config = CaptureConfig(device="cpu", output=tmp_path)
    recorded = {name: value for name, value in config.record().items() if name not in ("cold", "requests")}
    assert same_options(recorded, config)
    assert not same_options(recorded, replace(config, cold=True))
    assert not same_options(recorded, replace(config, requests=Path("r.jsonl")))


def test_all_cells_run_again_if_that_is_asked_for(swept: Callable[..., list[Cell]]) -> None:
    before = swept()
    left = before[0].folder / ".rank0.9.pt.trace.json.gz.0a0a0a0a.partial"
    left.write_text("of a process that was killed")
    assert [cell.seconds for cell in swept()] == [0]
    assert not left.exists(), "cleared, though its cell was done"
    after = swept(redo=True)
    assert all(cell.seconds > 0 for cell in after)
    assert [cell.name for cell in after] == [cell.name for cell in before]


SWEEP = "import sys; from gemma_trace.cli import main; sys.executable = sys.argv.pop(1); sys.exit(main())"


def test_a_sweep_that_is_killed_goes_on_where_it_stopped(tmp_path: Path, quick_cells: Path) -> None:
    """Half of the four cells fail, as those of a device do that isn't there."""
    command = [sys.executable, "-c", SWEEP, str(quick_cells), "sweep", "--set", "model=tiny", "--set", "dtype=float32"]
    command += ["--quiet", *(part for option in ONE for part in ("--set", option))]

    def sweep(folder: Path) -> list[str]:
        done = subprocess.run(
            [*command, "--out-dir", str(folder), "--format", "json"], capture_output=True, text=True, timeout=HUNG_S
        )
        assert done.returncode == 1, "what failed is told"
        assert done.stderr.count("no device cuda") == 2
        return [row["run"] for row in json.loads(done.stdout)["rows"]]

    killed = tmp_path / "killed"
    hanging = os.environ | {"CELL_HANGS": "1"}
    process = subprocess.Popen([*command, "--out-dir", str(killed)], stdout=subprocess.DEVNULL, env=hanging)
    while len(folders := list(killed.glob("[!.]*cpu*/*[ez]"))) < 2 and process.poll() is None:
        time.sleep(0.02)
    assert len(folders) == 2, "one cell has its trace and another is at work"
    process.send_signal(signal.SIGKILL)
    process.wait()
    at_work = int((tmp_path / "pids").read_text().splitlines()[-1])
    while is_running(at_work):
        time.sleep(0.02)
    (first,) = killed.glob("*/*.pt.trace.json.gz")
    written = first.stat().st_mtime_ns
    rows = sweep(killed)
    assert rows == sweep(tmp_path / "whole")
    assert len(rows) == 2
    assert first.stat().st_mtime_ns == written, "what was done wasn't done again"
    traces = list(killed.glob("*/*.pt.trace.json.gz"))
    assert len(traces) == len(rows)
    assert all(load_metadata(trace) is not None for trace in traces)


def is_running(pid: int) -> bool:
    """Whether there is such a process; a cell ends with the sweep that started it."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_a_value_with_a_comma_stands_in_a_list() -> None:
    both = [cell.config.cpu_affinity for cell in plan({}, Path("traces"), ['cpu_affinity=["0-3,8","1"]'])]
    assert both == ["0-3,8", "1"]
    (cell,) = plan({}, Path("traces"), ['image_size=[["640x480", "64x48"]]', "prompt=[INST] Hello"])
    assert (cell.config.image_sizes, cell.config.prompt) == (("640x480", "64x48"), "[INST] Hello")
    with pytest.raises(ConfigError, match="batch is 'two'; it requires a whole number"):
        plan({}, Path("traces"), ['batch=["two"]'])
