"""Each cell has a folder of its own, whatever its options look like as a name."""

from __future__ import annotations

import contextlib
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gemma_trace.capture.config import MOST_NAME_CHARACTERS, RUN_NAME_PATTERN, CaptureConfig
from gemma_trace.capture.output import RECORD_NAME, Record, lock_output, lock_run, previous_traces, write_record
from gemma_trace.capture.run_names import fingerprint
from gemma_trace.capture.sweep import Cell, plan, run_sweep, settled
from gemma_trace.errors import ConfigError, OutputError
from gemma_trace.trace.files import atomic_file
from tests.capture.test_writer import METADATA
from tests.conftest import tries
from tests.trace_builder import TraceBuilder


def matrix(**axes: list[Any]) -> dict[str, Any]:
    return {"matrix": axes, "options": {"device": "cpu"}}


def captured(config: CaptureConfig, name: str, worker: str = "rank0") -> Path:
    """A trace as a capture of these options leaves it."""
    built = TraceBuilder().metadata(replace(METADATA, config=json.loads(json.dumps(config.record()))))
    folder = config.output / name
    folder.mkdir(parents=True)
    return built.range("request", 0, 10).write(folder / f"{worker}.1.pt.trace.json.gz")


@pytest.mark.parametrize(
    "axes",
    [
        {"prompt": ["what is it", "what-is-it", "what is it?", "What is it"]},
        {"prompt": ["é", "è", "?", "-"]},
        {"prompt": ["a" * 5000 + end for end in "bc"]},
        {"image": [["/home/ada/a/x.jpg"], ["/home/ada/b/x.jpg"], []]},
        {"model": ["/home/ada/one/model", "/home/ada/two/model", "owner/model", "other/model", "/"]},
        {"model": ["m" * 250, "m" * 250 + "/", "..", ".cache"]},
        {"device": ["cuda", "cuda:0", "cuda:1", "auto", "cpu"]},
        {"stage_module": [["vision=a.b"], ["vision=a-b"]], "seed": [1, 2]},
        {"attn": ["x/y", "x-y"]},
    ],
)
def test_names_are_one_a_cell_bounded_and_without_paths(tmp_path: Path, axes: dict[str, list[Any]]) -> None:
    cells = plan({"matrix": axes}, tmp_path)
    names = [cell.name for cell in cells]
    assert len({name.casefold() for name in names}) == len(names)
    assert all(RUN_NAME_PATTERN.fullmatch(name) and len(name) <= MOST_NAME_CHARACTERS for name in names)
    assert not any("ada" in name or "home" in name for name in names)
    assert names == [cell.name for cell in plan({"matrix": axes}, tmp_path)], "the same every time"


def test_random_prompts_never_share_a_folder(tmp_path: Path) -> None:
    draw = random.Random(10)
    prompts = ["".join(draw.choices("aA -_./\\?é\n", k=draw.randrange(1, 8))) + "a" for _ in range(tries(400))]
    cells = plan(matrix(prompt=prompts), tmp_path)
    assert len({cell.name.casefold() for cell in cells}) == len(set(prompts))


def test_a_cell_that_is_asked_for_twice_is_one(tmp_path: Path) -> None:
    assert len(plan(matrix(seed=[1, 1, 2]), tmp_path)) == 2


def test_a_name_says_what_varies(tmp_path: Path) -> None:
    cells = plan(matrix(seed=[1, 2]), tmp_path)
    assert [cell.name.rpartition("-")[0] for cell in cells] == ["seed-1", "seed-2"]
    assert cells[0].name.endswith(fingerprint(cells[0].config))


@pytest.mark.parametrize("name", ["a" * 101, "a/b", "-a", "", "é"])
def test_a_name_that_is_no_folders_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="can't be a folder's"):
        CaptureConfig(name=name)


def test_the_longest_names_are_folders(tmp_path: Path) -> None:
    for config in (CaptureConfig(name="a" * 100), CaptureConfig(model="/x/" + "m" * 250)):
        (tmp_path / f".{config.run_name('cpu')}.rank0.lock").touch()
        (tmp_path / config.run_name("cpu")).mkdir()


def test_colliding_cells_are_told_done_each_by_its_own_trace(tmp_path: Path) -> None:
    cells = plan(matrix(prompt=["what is it", "what-is-it"]), tmp_path)
    captured(cells[1].config, cells[1].name)
    assert [cell.state for cell in settled(cells, retry=False)] == ["waiting", "done"]
    assert [cell.name for cell in settled(cells, retry=False)] == [cell.name for cell in cells]


def test_what_an_earlier_version_called_otherwise_is_done(tmp_path: Path) -> None:
    cells = plan(matrix(attn=["sdpa", "eager"], seed=[1, 2]), tmp_path)
    captured(cells[0].config, "attn-sdpa-seed-1")
    found = settled(cells, retry=False)
    assert (found[0].state, found[0].name) == ("done", "attn-sdpa-seed-1")
    assert [cell.state for cell in found[1:]] == ["waiting"] * 3
    (auto,) = plan({"matrix": {"model": ["tiny"]}}, tmp_path)
    captured(replace(auto.config, device="cpu"), "tiny-float32-cpu-torchvision")
    assert settled([auto], retry=False)[0].state == "done", "the device is known now"


def test_a_cell_is_found_whatever_else_varies_the_next_time(tmp_path: Path) -> None:
    one, _ = plan(matrix(seed=[1, 2]), tmp_path)
    captured(one.config, one.name)
    (again,) = plan(matrix(seed=[1]), tmp_path)
    assert again.name != one.name
    assert [(cell.state, cell.name) for cell in settled([again], retry=False)] == [("done", one.name)]


def test_another_cells_folder_is_never_taken(tmp_path: Path) -> None:
    (cell,) = plan(matrix(model=["tiny"]), tmp_path)
    for other in (replace(cell.config, seed=5), replace(cell.config, prompt="Other")):
        (now,) = settled([Cell(other)], retry=False)
        assert (now.state, now.config.force) == ("waiting", False)
        assert not now.folder.exists()
        captured(other, now.name)
    assert len(list(tmp_path.iterdir())) == 2
    (now,) = settled([cell], retry=False)
    assert now.state == "waiting"
    assert not now.folder.exists()


def test_a_trace_of_anybody_elses_is_never_taken(tmp_path: Path) -> None:
    (cell,) = plan(matrix(model=["tiny"]), tmp_path)
    cell.folder.mkdir()
    (cell.folder / "worker.1.pt.trace.json").write_text("{")
    (now,) = settled([cell], retry=False)
    assert now.name != cell.name
    (now.folder).mkdir()
    (now.folder / "rank0.1.pt.trace.json.gz").write_bytes(b"cut")
    assert settled([cell], retry=False)[0].name == f"{now.name}-2"


def test_files_of_one_name_in_two_folders_are_two_cells(tmp_path: Path) -> None:
    one, other = (plan(matrix(image=[[f"{folder}/x.jpg"]]), tmp_path)[0] for folder in "ab")
    captured(one.config, one.name)
    write_record(tmp_path, Record({}, {one.name: fingerprint(one.config)}))
    assert settled([one], retry=False)[0].state == "done"
    now = settled([other], retry=False)[0]
    assert (now.state, now.name == one.name) == ("waiting", False)


def test_another_cells_failure_is_not_this_ones(tmp_path: Path) -> None:
    (cell,) = plan(matrix(model=["tiny"]), tmp_path)
    write_record(tmp_path, Record({cell.name: "no memory"}, {cell.name: fingerprint(cell.config)}))
    assert settled([cell], retry=False)[0].error == "no memory"
    assert settled([cell], retry=True)[0].state == "waiting"
    assert settled([Cell(replace(cell.config, seed=3))], retry=False)[0].state == "waiting"


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"failed": 3}', b'{"failed": {"a": null}}', b"[" * 100_000])
def test_a_record_that_cant_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD_NAME).write_bytes(content)
    assert settled(plan(matrix(model=["tiny"]), tmp_path), retry=False)[0].state == "waiting"


def test_a_second_sweep_or_capture_into_the_folder_is_refused(tmp_path: Path) -> None:
    cells = plan(matrix(model=["tiny"]), tmp_path)
    with lock_output(tmp_path, whole=True):
        with pytest.raises(OutputError, match="another sweep or capture writes into"):
            run_sweep(cells, retry=False, on_change=lambda _: None)
        with pytest.raises(OutputError, match="another sweep writes into"), lock_output(tmp_path, whole=False):
            pass
    with lock_output(tmp_path, whole=False), lock_output(tmp_path, whole=False), pytest.raises(OutputError) as caught:
        run_sweep(cells, retry=False, on_change=lambda _: None)
    assert "another sweep or capture writes into" in str(caught.value)
    with contextlib.ExitStack() as held:
        for run, worker in (("a", "rank0"), ("a", "rank1"), ("b", "rank0")):
            held.enter_context(lock_run(tmp_path, run, worker))
        with pytest.raises(OutputError, match="another capture writes into"):
            held.enter_context(lock_run(tmp_path, "a", "rank0"))
    assert list(tmp_path.iterdir()) == [], "no lock is left"


def test_a_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        with lock_output(tmp_path, whole=True):
            os.write(tell, b"!")
            os.kill(os.getpid(), 19)  # SIGSTOP: it holds it until it is killed
        os._exit(0)
    os.read(ready, 1)
    with pytest.raises(OutputError), lock_output(tmp_path, whole=False):
        pass
    os.kill(child, 9)
    os.waitpid(child, 0)
    with lock_output(tmp_path, whole=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_force_replaces_a_run_but_no_cell_of_other_options(tmp_path: Path) -> None:
    config = CaptureConfig(output=tmp_path, device="cpu", name="mine", force=True)
    trace = captured(config, "mine")
    assert previous_traces(config, "mine", "rank0") == [trace]
    assert previous_traces(config, "mine", "rank1") == []
    with pytest.raises(OutputError, match="has a trace in it already"):
        previous_traces(replace(config, force=False), "mine", "rank0")
    write_record(tmp_path, Record({}, {"mine": fingerprint(config)}))
    assert previous_traces(config, "mine", "rank0") == [trace]
    with pytest.raises(OutputError, match="that a sweep captured with other options"):
        previous_traces(replace(config, seed=3), "mine", "rank0")


def test_what_a_killed_capture_left_of_its_run_goes(tmp_path: Path) -> None:
    config = CaptureConfig(output=tmp_path, name="mine")
    (tmp_path / "mine").mkdir()
    left = tmp_path / "mine" / ".rank0.173.pt.trace.json.gz.1234.partial"
    left.write_bytes(b"half")
    with atomic_file(tmp_path / "mine" / "rank0.2.pt.trace.json.gz"):
        assert previous_traces(config, "mine", "rank0") == []
        assert len(list((tmp_path / "mine").iterdir())) == 1, "what another is writing stays"
    assert not left.exists()
