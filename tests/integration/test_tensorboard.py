"""TensorBoard's PyTorch plugin opens what we capture: a folder is a run, a file a worker.

TensorBoard runs as a user runs it, in a process of its own, which takes the plugin's threads with it when it ends.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

import numpy as np
import pytest

from gemma_trace.analysis.kernels import kernel_table
from gemma_trace.trace.events import NONE
from gemma_trace.trace.trace import Trace, load
from tests.conftest import HUNG_S, SAMPLES, THOROUGH

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("torch_tb_profiler") is None, reason="needs torch-tb-profiler, of the dev extra"
)

"""Far over what it takes; a hang ends the test with TensorBoard's own log."""

Get = Callable[..., Any]


@pytest.fixture(scope="module")
def logdir(captured: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a run that was captured just now; in `make test-all` with the committed samples beside it."""
    folder = tmp_path_factory.mktemp("logdir")
    for run in (*(SAMPLES.glob("sample-*") if THOROUGH in os.environ else ()), captured.parent):
        shutil.copytree(run, folder / run.name)
    return folder


@pytest.fixture(scope="module")
def traces(logdir: Path) -> dict[str, Trace]:
    """By run, what we read in the same files."""
    return {path.parent.name: load(path) for path in sorted(logdir.glob("*/*.pt.trace.json.gz"))}


@pytest.fixture(scope="module")
def get(logdir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Get]:
    """Asks a TensorBoard that watches the folder, once it has loaded every run."""
    log = tmp_path_factory.mktemp("log") / "tensorboard.log"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1", "--port", "0"]
    until = time.monotonic() + HUNG_S
    with log.open("wb") as stream:
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=environment, start_new_session=True)

    def waited_for(ready: Callable[[], Any]) -> Any:
        while not (found := ready()):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.1)
        return found

    def ask(route: str, **query: str) -> Any:
        with opener.open(f"{address}data/{route}?{urlencode(query)}", timeout=HUNG_S) as answer:
            return json.load(answer)

    opener = build_opener(ProxyHandler({}))
    try:
        (address,) = waited_for(lambda: re.findall(r"at (http://127\.0\.0\.1:\d+/)", log.read_text()))
        waited_for(lambda: len(ask("plugin/pytorch_profiler/runs")["runs"]) == len(list(logdir.iterdir())))
        yield ask
    finally:
        process.terminate()
        try:
            process.wait(timeout=HUNG_S)
        finally:
            # The group is empty by now, unless TensorBoard didn't end by itself.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def of_worker(run: str) -> dict[str, str]:
    return {"run": run, "worker": "rank0", "span": "1"}


def finds_every_run_its_worker_and_its_views(get: Get, traces: dict[str, Trace]) -> None:
    assert get("plugins_listing")["pytorch_profiler"]["enabled"]
    found = get("plugin/pytorch_profiler/runs")
    assert (sorted(found["runs"]), found["loading"]) == (sorted(traces), False)
    assert traces
    for run in traces:
        assert get("plugin/pytorch_profiler/views", run=run) == ["Overview", "Operator", "Trace"]
        for view in ("Overview", "Operator", "Trace"):
            assert get("plugin/pytorch_profiler/workers", run=run, view=view) == ["rank0"]


def has_our_steps_with_their_lengths(get: Get, traces: dict[str, Trace]) -> None:
    for run, trace in traces.items():
        overview = get("plugin/pytorch_profiler/overview", **of_worker(run))
        (average,) = overview["performance"]
        frame = trace.events()
        steps = frame[frame["name"].astype(str).str.startswith("ProfilerStep#")].sort_values("ts_ns")
        names = [name.removeprefix("ProfilerStep#") for name in steps["name"]]
        assert [row[0] for row in overview["steps"]["rows"]] == names
        assert len(names) == 2
        assert average["value"] == pytest.approx(steps["dur_ns"].mean() / 1000, abs=1), "both in µs"
        assert sum(part["value"] for part in average["children"]) == pytest.approx(average["value"], abs=3)


def counted_as_the_plugin_does(trace: Trace) -> dict[str, int]:
    """Calls by op. The plugin takes an op that is the only child of one of its own name for the same call."""
    host, parent = trace.host, trace.nesting.parent
    name, is_op = trace.spans.name[host], trace.is_op[host]
    children = np.bincount(parent[parent != NONE], minlength=len(host))
    same = (parent != NONE) & is_op & (name == name[parent]) & (children[parent] == 1)
    return Counter(trace.spans.names[code] for code in name[is_op & ~same].tolist())


def counts_the_operators_as_we_count_them(get: Get, traces: dict[str, Trace]) -> None:
    for run, trace in traces.items():
        table = get("plugin/pytorch_profiler/operation/table", **of_worker(run), group_by="Operation")
        theirs = {row["name"]: row for row in table["data"]}
        ours = counted_as_the_plugin_does(trace)
        assert {name: row["calls"] for name, row in theirs.items()} == ours
        alike = {row.name: row for row in kernel_table(trace, by="op").rows if row.count == ours.get(row.name)}
        assert {"aten::addmm", "aten::_scaled_dot_product_flash_attention_for_cpu"} <= alike.keys()
        for name, row in alike.items():
            assert theirs[name]["host_self_duration"] == pytest.approx(row.sum_ns / 1000, abs=0.01 * row.count + 1)


@pytest.mark.uncounted
def test_the_plugin_shows_what_we_show(get: Get, traces: dict[str, Trace]) -> None:
    """One test, since TensorBoard takes 15 s of processor time, and tests are shared among processes."""
    finds_every_run_its_worker_and_its_views(get, traces)
    has_our_steps_with_their_lengths(get, traces)
    counts_the_operators_as_we_count_them(get, traces)
