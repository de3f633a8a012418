"""What a program or a notebook uses: `__all__`, a trace's methods, and results that show themselves."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import cast

import pandas as pd
import pytest

import gemma_trace
from gemma_trace import cli
from gemma_trace.tabular import Tabular
from tests.trace_builder import TraceBuilder


def built() -> TraceBuilder:
    """Two requests of 1,000 ns; in each a prefill of 400 with an op of 100 that launches a kernel of 300."""
    trace = TraceBuilder()
    for place, start in enumerate((0, 2000)):
        trace.range("request", start, 1000).range("prefill", start + 100, 400)
        trace.op("aten::mm", start + 150, 100).launch(place + 1, start + 160)
        trace.kernel("gemm", start + 200, 300, correlation=place + 1)
    return trace


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return built().write(tmp_path / "run" / "trace.json")


@pytest.fixture
def trace(file: Path) -> gemma_trace.Trace:
    return gemma_trace.load(file)


def test_everything_public_is_there_and_documented() -> None:
    for name in gemma_trace.__all__:
        value = getattr(gemma_trace, name)
        assert name == "__version__" or (value.__doc__ and value.__doc__.strip()), name
    assert set(gemma_trace.__all__) <= set(dir(gemma_trace))


def test_a_star_import_works_without_torch() -> None:
    program = (
        "import sys, importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from gemma_trace import *\n"
        "assert 'torch' not in sys.modules\n"
        "try:\n    profile()\nexcept MissingExtraError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == 'torch is not installed; run: pip install "gemma-trace[capture]"\n'


def test_methods_are_the_functions(trace: gemma_trace.Trace) -> None:
    assert trace.stages() == gemma_trace.breakdown(trace)
    assert trace.stages(1).rows == gemma_trace.breakdown(trace, trace.requests[1]).rows
    assert trace.kernels("prefill", by="op") == gemma_trace.kernel_table(trace, "prefill", by="op")
    assert trace.tree(0) == gemma_trace.call_tree(trace, 0)
    assert trace.check() == gemma_trace.summarize(trace).health
    assert trace.critical_path(1).request == trace.requests[1]


def test_a_trace_says_what_it_is(trace: gemma_trace.Trace) -> None:
    assert repr(trace) == (
        f"<Trace trace: 10 spans, 2 requests, 0.0 ms wall, 1 device with 2 activities, check: {trace.check().verdict}>"
    )


def test_results_show_their_rows(trace: gemma_trace.Trace) -> None:
    shown = repr(trace.stages()).splitlines()
    assert shown[0] == "Stages of 2 requests, 0.002 ms wall"
    assert shown[1].split() == [
        *("request", "stage", "host_ns", "device_busy_ns", "device_sum_ns", "time_ns", "device_ns"),
        *("exposed_host_ns", "activities", "launches", "shared_ns"),
    ]
    # Of prefill's 400 from 100 on the kernel has 300 from 200 on, of which 300 are prefill's; before it 100 are idle.
    assert shown[2].split() == ["0", "prefill", "400", "300", "300", "400", "300", "100", "1", "1", "0"]
    frame = trace.stages().to_frame()
    assert frame["time_ns"].sum() == 2000
    assert "<table" in trace.stages()._repr_html_()


def test_parts_of_a_trace_are_lists_and_tables(trace: gemma_trace.Trace) -> None:
    reasons = gemma_trace.stage_reasons(trace)
    frame = reasons.to_frame()
    assert list(frame.stage) == [reason.stage for reason in reasons]
    kinds = [f"{kind}_ns" for kind in ("device", "transfer", "launch", "sync", "host", "profiler")]
    assert (frame[kinds].sum(axis=1) == frame.time_ns).all()
    assert repr(reasons).startswith(f"{len(reasons)} rows of StageReason\n")
    floors = gemma_trace.stage_floors(trace)
    assert list(floors.to_frame().get("floor_ns", [])) == [floor.floor_ns for floor in floors]
    lanes = gemma_trace.stage_lanes(trace, 0)
    rows = lanes.to_frame()
    assert (rows.end_ns - rows.start_ns)[rows.lane == "time"].sum() == trace.requests[0].wall_ns
    assert lanes.headline() == "The lanes of request 0"
    devices = gemma_trace.device_lanes(trace, 0)
    assert devices.to_frame().to_dict("list") == {
        "device": [0],
        "stage": ["prefill"],
        "start_ns": [200],
        "end_ns": [500],
    }
    assert repr(devices).splitlines()[0] == "The lanes of 1 device in request 0"
    for shown in (reasons, floors, lanes, devices, trace):
        assert shown._repr_html_().startswith("<p>")
    assert "<Trace" not in trace._repr_html_(), "a browser would take it for a tag"


def test_every_result_is_a_frame(trace: gemma_trace.Trace) -> None:
    results = (
        trace.stages(),
        trace.kernels(),
        trace.tree(),
        trace.summary(),
        trace.check(),
        trace.critical_path(0),
        gemma_trace.diff(trace, trace),
        trace.advise(),
        trace.what_if(remove="stage:prefill"),
        gemma_trace.diff_folders(trace.path.parent, trace.path.parent),
    )
    for result in results:
        assert isinstance(result, Tabular)
        frame = result.to_frame()
        assert isinstance(frame, pd.DataFrame)
        assert len(frame) == len(list(result.records()))
        assert len(repr(result)) < 4000
    assert trace.tree().to_frame()["host_ns"].iloc[0] == trace.tree().host_ns


def test_a_long_result_shows_its_head_and_how_many_more() -> None:
    class Numbers(Tabular):
        def records(self) -> Iterator[dict[str, object]]:
            yield from ({"n": n, "text": "x" * 100} for n in range(12))

    lines = repr(Numbers()).splitlines()
    assert lines[0] == "Numbers"
    assert lines[-1] == "… and 4 more rows; to_frame() has all"
    assert max(map(len, lines)) < 60


def test_load_takes_a_folder_that_holds_one(file: Path, tmp_path: Path) -> None:
    assert len(gemma_trace.load(tmp_path / "run").spans) == 10
    built().write(tmp_path / "run" / "other.json")
    with pytest.raises(gemma_trace.InputError, match="has 2 traces in it"):
        gemma_trace.load(tmp_path / "run")
    assert [trace.label for trace in gemma_trace.load_all(tmp_path / "run")] == ["other", "trace"]


@pytest.fixture
def served(file: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(file.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_load_takes_an_address(served: str) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra scale")
    assert gemma_trace.load(f"{served}/trace.json").label == "trace"
    with pytest.raises(gemma_trace.UnreadableError, match=r"no file or folder at http://\S+/none.json; check the path"):
        gemma_trace.load(f"{served}/none.json")


def test_a_report_is_written_and_not_overwritten_unasked(trace: gemma_trace.Trace, tmp_path: Path) -> None:
    page = trace.report(tmp_path / "page.html")
    assert page.read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(gemma_trace.OutputError, match="give force=True"):
        trace.report(page)
    assert trace.report(page, force=True) == page


def test_errors_speak_of_arguments_and_on_the_command_line_of_options(
    trace: gemma_trace.Trace, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong: dict[str, Callable[[], object]] = {
        "image_device= requires image_backend='torchvision'; Pillow runs on the CPU only": lambda: (
            gemma_trace.CaptureConfig(image_device="cpu", image_backend="pil")
        ),
        "runs is -1; it must be 0 or more": lambda: gemma_trace.CaptureConfig(runs=-1),
        "jobs is '0'; it requires a whole number of processes, such as 1 or 4": lambda: gemma_trace.load(
            trace.path, jobs=0
        ),
        "timeout_s is -1; it requires a number of seconds above 0": lambda: trace.sql("SELECT 1", timeout_s=-1),
        "stage:prefill='a': the factor must be from 0 to 1,000": lambda: trace.what_if(
            scale={"stage:prefill": cast("float", "a")}
        ),
    }
    for message, call in wrong.items():
        with pytest.raises(gemma_trace.ConfigError) as caught:
            call()
        assert str(caught.value) == message
    assert cli.main(["capture", "--image-device", "cpu", "--image-backend", "pil"]) == 2
    assert cli.main(["capture", "--runs", "-1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "--image-device requires --image-backend torchvision" in lines[0]
    assert lines[1] == "gemma-trace: --runs is -1; it must be 0 or more"


def test_files_are_named_by_text_too(trace: gemma_trace.Trace, tmp_path: Path) -> None:
    gemma_trace.export_trace(trace, str(tmp_path / "viewer.json"))
    gemma_trace.redact(str(trace.path), str(tmp_path / "copy.json"))
    assert len(gemma_trace.load(tmp_path / "copy.json").spans) == len(trace.spans)


def test_folders_are_compared_run_by_run(tmp_path: Path) -> None:
    for side in ("a", "b"):
        built().write(tmp_path / side / "one" / "one.json")
    built().write(tmp_path / "b" / "two" / "two.json")
    found = gemma_trace.diff_folders(tmp_path / "a", tmp_path / "b")
    assert [pair.label for pair in found.pairs] == ["one, before → after"]
    assert len(found.unmatched) == 1
    assert "two" in found.unmatched[0]
