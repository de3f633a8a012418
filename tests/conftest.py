from __future__ import annotations

import fcntl
import gc
import importlib.util
import os
import pkgutil
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

import gemma_trace
from gemma_trace.trace import trace as tracing
from tests.uncounted import uncounted
from tests.warm import hold, start

if TYPE_CHECKING:
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SAMPLES = ROOT / "traces" / "samples"

REPEATING = (
    *("fuzz/", "browser/", "integration/test_hta.py", "integration/test_notebooks.py"),
    *("export/test_perfetto.py", "trace/test_garbage.py"),
)
"""Tests that put many inputs through what other tests reach too."""

HUNG_S = 3600
"""What takes longer than this hangs. No test's result rests on a time: a machine that does other things is slow."""

SLOW = frozenset({"integration", "capture", "browser", "fuzz"})

IN_A_WORKER = "PYTEST_XDIST_WORKER" in os.environ
"""Whether this is one of several processes that share the tests."""

if IN_A_WORKER:  # each has a core; torch's threads would wait for one another, and spin while they do
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # now, since a folder's own conftest may import torch

settings.register_profile("patient", deadline=None, suppress_health_check=list(HealthCheck))
settings.load_profile("patient")  # how long it takes to draw an example says nothing of the code

FORKS = "TESTS_FORK_OFF"
"""Set in the environment of the processes that share the tests: the program that forks them."""

THOROUGH = "TESTS_ARE_THOROUGH"
"""Set in the environment where the tests that are marked as thorough run too."""


def pytest_configure(config: pytest.Config) -> None:
    """Tables are as wide as they need to be in a pipe, whatever the runner of the tests says of its own terminal."""
    os.environ.pop("COLUMNS", None)
    os.environ.pop(THOROUGH, None)
    if "not thorough" not in config.getoption("markexpr"):
        os.environ[THOROUGH] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The folders with the slowest tests come first, so that no process is left alone with one of them at the end.

    What does the same thing many times over is left out of the coverage, since counting its lines would take longer
    than all else; and what reaches nothing that quicker tests don't reach, unless it is just that which is measured.
    """
    left_out = uncounted() if items and not items[0].config.getoption("cov_context", None) else frozenset()
    items.sort(key=lambda item: SLOW.isdisjoint(item.path.relative_to(ROOT).parts))
    for item in items:
        draws = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        if draws or item.nodeid in left_out or item.nodeid.removeprefix("tests/").startswith(REPEATING):
            item.add_marker("uncounted")


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """What is imported stays, so that Python need not look through it for garbage, now or while a test runs."""
    if not IN_A_WORKER:
        return (yield)
    gc.disable()
    try:
        _import_all(session.config)
        with _not_counted(session.config):
            _import_tests(session.config)
            return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Sequence[Any]) -> None:
    """The processes that share the tests are forked off one that has imported torch, which takes each 5 s."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        return
    folder = tempfile.TemporaryDirectory()
    os.environ[FORKS] = str(start(Path(folder.name), "workers"))
    config.add_cleanup(hold(Path(os.environ[FORKS])).close)
    config.add_cleanup(folder.cleanup)
    for spec in specs:
        spec.python = shlex.quote(os.environ[FORKS])


def _import_all(config: pytest.Config) -> None:
    """Import what the tests would; of ours the first process counts the lines, which makes it take twice as long."""
    if FORKS not in os.environ:
        return
    importlib.import_module("gemma_trace.capture.torchvision_ops").declare_missing_operators()
    with nullcontext() if os.environ["PYTEST_XDIST_WORKER"] == "gw0" else _not_counted(config):
        for module in pkgutil.walk_packages(gemma_trace.__path__, "gemma_trace."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _import_tests(config: pytest.Config) -> None:
    """Import the files of the tests, each process from another one on: what one has compiled, the others read.

    In a fresh clone each would compile all of them otherwise, which takes twice as long as all else before the tests.
    """
    worker = config.workerinput  # type: ignore[attr-defined]
    given = [config.invocation_params.dir / argument.partition("::")[0] for argument in config.args]
    files = sorted({file for path in given for file in (path.rglob("test_*.py") if path.is_dir() else [path])})
    first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    for file in [*files[first:], *files[:first]]:
        with suppress(Exception, pytest.skip.Exception):  # pytest imports it again, and says what is wrong
            importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """The process that hands the tests out runs none, and nothing of ours."""
    if not session.config.pluginmanager.hasplugin("dsession"):
        return (yield)
    with _not_counted(session.config):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """What is left out of the coverage is left out with its fixtures; pytest-cov's own mark leaves those in."""
    if not item.get_closest_marker("uncounted"):
        return (yield)
    with _not_counted(item.config):
        return (yield)


@contextmanager
def _not_counted(config: pytest.Config) -> Iterator[None]:
    """What runs meanwhile is left out of the coverage.

    In a process of several pytest-cov has started a measurement of its own below the one that it keeps, which goes on
    where that one is paused: all are stopped.
    """
    stopped = []
    if config.pluginmanager.hasplugin("_cov"):
        from coverage import Coverage

        while current := Coverage.current():
            current.stop()
            stopped.append(current)
    try:
        yield
    finally:
        for each in reversed(stopped):
            each.start()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What is marked to capture is skipped where it can't."""
    if item.get_closest_marker("capture"):
        pytest.importorskip("torch", reason="needs the extra capture")


def tries(most: int) -> int:
    """How many cases are drawn: so many in `make test-all`, and a quarter of them otherwise."""
    return most if THOROUGH in os.environ else max(1, most // 4)


def thorough(values: Iterable[Any]) -> list[Any]:
    """Parameters that only `make test-all` takes: they repeat on more inputs what others show."""
    given = [value if isinstance(value, tuple) else (value,) for value in values]
    return [pytest.param(*each, marks=pytest.mark.thorough) for each in given]


def quick_first(values: Iterable[Any], quick: Callable[[Any], bool]) -> list[Any]:
    """Parameters of which only `make test-all` takes those that aren't quick."""
    values = list(values)
    return [*filter(quick, values), *thorough(value for value in values if not quick(value))]


@cache
def real_trace(path: Path) -> Trace:
    """A real trace, read once per process of the tests; what is derived from it is kept too."""
    return _load(path)


READ_ONCE = frozenset({"cli", "report", "agents", "browser"})
"""Folders whose tests are about what becomes of a trace once it is read."""

_never_changed = {SAMPLES, SHARED}
"""Folders of traces, those of `made_once` among them."""

_load = tracing.load


@pytest.fixture(autouse=True)
def _read_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands, and programs of ours, have traces that no test changes as `real_trace` has them.

    Reading takes most of a command's time, and is the same each time. What a test writes itself is always read.
    """
    if READ_ONCE.isdisjoint(request.path.relative_to(ROOT).parts):
        return

    def kept(path: str | Path, rules: Sequence[StageRule] = (), *rest: Any, **options: Any) -> Trace:
        as_ever = not rules and not any(name.startswith("GEMMA_TRACE_") for name in os.environ)
        if as_ever and isinstance(path, Path) and not _never_changed.isdisjoint(path.parents):
            return real_trace(path)
        return _load(path, rules, *rest, **options)

    monkeypatch.setattr(tracing, "load", kept)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What takes long to make: the first process of the tests that asks for it makes it, and all have it.

    Args:
        name: of the folder that it is in.
        make: is given the folder, and returns a path in it.
    """
    base = factory.getbasetemp().parent if IN_A_WORKER else factory.getbasetemp()
    folder, made = base / name, base / f"{name}.made"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir(exist_ok=True)
            made.write_text(str(make(folder)))
    _never_changed.add(folder)
    return Path(made.read_text())


@pytest.fixture
def corpus() -> Path:
    """The folder of real traces with independently counted figures."""
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus, real traces that this project reads but does not ship")
    return folder


@pytest.fixture(scope="session")
def captured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trace of `tiny` on the CPU: 2 timed and 2 profiled requests of 3 tokens each."""
    pytest.importorskip("torch", reason="needs the extra capture")

    def capture(folder: Path) -> Path:
        from gemma_trace.capture.config import CaptureConfig
        from gemma_trace.capture.session import profile

        config = CaptureConfig(device="cpu", warmup=1, runs=2, profile_runs=2, new_tokens=3, output=folder)
        return profile(config).path

    return made_once(tmp_path_factory, "captured", capture)


@pytest.fixture(scope="session")
def warm_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A program that takes Python's place where torch and transformers are needed, and starts at once."""
    pytest.importorskip("torch", reason="needs the extra capture")
    python = os.environ.get(FORKS, sys.executable)
    program = made_once(tmp_path_factory, "warm", lambda folder: start(folder, "torch", python))
    with hold(program):
        yield str(program)


@pytest.fixture(scope="session")
def warm_hta(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A program that takes Python's place where HTA is needed; that it runs in one is tested in `hta/test_hta.py`."""
    pytest.importorskip("hta", reason="needs the extra hta")
    program = made_once(tmp_path_factory, "warm-hta", lambda folder: start(folder, "hta"))
    with hold(program):
        yield str(program)


@pytest.fixture
def hta_imported(warm_hta: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of HTA start where it is imported already."""
    monkeypatch.setattr(sys, "executable", warm_hta)


@pytest.fixture(scope="session")
def quick_python(request: pytest.FixtureRequest) -> str:
    """A program that is as good as Python for commands of ours, and starts sooner where that can be."""
    has_torch = importlib.util.find_spec("torch") is not None
    return str(request.getfixturevalue("warm_python")) if has_torch else sys.executable


@pytest.fixture(scope="session")
def torchrun_traces(
    tmp_path_factory: pytest.TempPathFactory, warm_python: str, quick_gemma: Path
) -> Callable[[int], list[Path]]:
    """Captures, under torchrun and over gloo, a Gemma 3 that is split over so many ranks, 4 at most; traces by rank.

    2 requests of 3 tokens each, on the CPU.
    """

    def capture(ranks: int) -> list[Path]:
        folder = made_once(
            tmp_path_factory,
            f"torchrun-{ranks}",
            lambda folder: _capture_ranks(warm_python, quick_gemma, ranks, folder),
        )
        return sorted(folder.glob("*/*.pt.trace.json.gz"))

    return capture


@pytest.fixture(scope="session")
def quick_gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model as `tiny`, but that its images are 224 × 224 and have 64 tokens: the tower takes no time.

    It has a head of keys and values for each of 4 ranks, so that it can be split over them.
    """
    pytest.importorskip("torch", reason="needs the extra capture")
    return made_once(tmp_path_factory, "quick-gemma", save_quick_gemma)


def save_quick_gemma(folder: Path, intermediate_size: int | None = None) -> Path:
    """Save the model of `quick_gemma`, with layers as wide as given."""
    import torch

    from gemma_trace.capture.gemma3 import gemma3_processor
    from gemma_trace.capture.random_weights import build_random
    from gemma_trace.capture.tiny import tiny_config

    config = tiny_config()
    config.text_config.num_key_value_heads = 4
    config.text_config.intermediate_size = intermediate_size or config.text_config.intermediate_size
    config.vision_config.image_size, config.mm_tokens_per_image = 224, 64
    processor = gemma3_processor(config, "torchvision")
    processor.image_processor.size = {"height": 224, "width": 224}
    processor.image_seq_length = 64
    build_random(config, torch.device("cpu"), torch.float32, 0).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _capture_ranks(python: str, model: Path, ranks: int, folder: Path) -> Path:
    """Two ranks are started by torchrun, as a user does; more of them as it does."""
    command = [python, "-m", "gemma_trace", "capture", "--model", str(model), "--device", "cpu", "--quiet"]
    command += ["--runs", "0", "--warmup", "1", "--profile-runs", "2", "--new-tokens", "3", "--out-dir", str(folder)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    if ranks == 2:
        torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
        done = subprocess.run(
            [*torchrun, *command], cwd=folder, capture_output=True, text=True, timeout=HUNG_S, env=one_thread
        )
        assert done.returncode == 0, done.stderr[:3000]
        return folder
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        job = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": str(ranks)}
    running = [
        subprocess.Popen(command, cwd=folder, env=one_thread | job | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    assert [process.wait(HUNG_S) for process in running] == [0] * ranks
    return folder
