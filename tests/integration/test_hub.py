"""The real path to the Hub's models, against a Hub on loopback."""

from __future__ import annotations

import gzip
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gemma_trace.trace.trace import load
from tests.capture.hub_server import REPO, Hub, serving
from tests.conftest import HUNG_S, save_quick_gemma

TOKEN = "hf_madeUpForThisTestOnly0123456789"
FETCH = (
    "import sys; from gemma_trace.capture.hub import download\n"
    "from gemma_trace.errors import ModelError\n"
    "try: print(download(sys.argv[1], weights=True, on_files=print, on_file=lambda: None))\n"
    "except ModelError as error: sys.exit(str(error))\n"
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Gemma 3 as `save_pretrained` leaves it, of more than the 10 MB that a download writes at a time."""
    return save_quick_gemma(tmp_path_factory.mktemp("checkpoint"), intermediate_size=4096)


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[Hub]:
    with serving(Hub(checkpoint, TOKEN)) as running:
        yield running


def environment(hub: Hub, home: Path, token: str | None = TOKEN) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    kept |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | ({"HF_TOKEN": token} if token else {})


Fetch = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fetch(warm_python: str) -> Fetch:
    """Downloads in a process of its own."""

    def fetch(hub: Hub, home: Path, repo: str = REPO, token: str | None = TOKEN) -> subprocess.CompletedProcess[str]:
        command = [warm_python, "-c", FETCH, repo]
        known = environment(hub, home, token)
        return subprocess.run(command, env=known, capture_output=True, text=True, timeout=HUNG_S)

    return fetch


def test_a_model_of_the_hub_is_captured_and_the_token_is_nowhere(hub: Hub, warm_python: str, tmp_path: Path) -> None:
    hub.breaks = {"model.safetensors"}
    command = [warm_python, "-m", "gemma_trace", "capture", "--model", REPO, "--runs", "0", "--warmup", "0"]
    command += ["--profile-runs", "1", "--device", "cpu", "--out-dir", str(tmp_path / "out"), "--stacks"]
    done = subprocess.run(
        command, env=environment(hub, tmp_path / "home"), cwd=tmp_path, capture_output=True, text=True, timeout=HUNG_S
    )
    assert done.returncode == 0, done.stderr
    assert hub.ranges["model.safetensors"], "the broken download was taken up where it ended"
    assert not hub.ranges["model.safetensors"][0].startswith("bytes=0-")
    trace = load(tmp_path / "out" / done.stdout.strip().split("out/")[1])
    assert trace.metadata is not None
    assert (trace.metadata.run.model, trace.metadata.run.weights) == ("tiny-gemma", "pretrained")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".gz" for path in written)
    for path in written:
        data = path.read_bytes()
        assert TOKEN.encode() not in (gzip.decompress(data) if path.suffix == ".gz" else data), path.name
    assert TOKEN not in done.stdout + done.stderr


def test_the_second_time_the_cache_answers(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    assert fetch(hub, tmp_path).returncode == 0
    before = dict(hub.ranges)
    done = fetch(hub, tmp_path)
    assert (done.returncode, hub.ranges) == (0, before)


def test_a_gated_model_without_access_names_the_page_and_the_command(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    for token in (None, "hf_anotherMadeUpToken9876543210"):
        done = fetch(hub, tmp_path, token=token)
        assert done.returncode == 1
        page = f"{hub.endpoint}/{REPO}"
        expected = f"{REPO} is gated: ask for access at {page}, then run: hf auth login; or use weights='random'\n"
        assert done.stderr == expected


def test_the_command_line_says_that_a_model_is_gated_in_one_line(hub: Hub, warm_python: str, tmp_path: Path) -> None:
    wrong = "hf_yetAnotherMadeUpToken5544332211"
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text(wrong)
    command = [warm_python, "-m", "gemma_trace", "capture", "--model", REPO, "--device", "cpu"]
    known = environment(hub, tmp_path / "home", None)
    done = subprocess.run(command, env=known, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG_S)
    assert (done.returncode, done.stdout) == (1, "")
    *progress, line = done.stderr.splitlines()
    assert progress[-1].startswith(("loading", "fetching")), "a line a phase, where there is no terminal"
    refusal = f"{REPO} is gated: ask for access at {hub.endpoint}/{REPO}, then run: hf auth login"
    assert line == f"gemma-trace: {refusal}; or use --weights random"
    assert wrong not in done.stderr
    written = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert [name for name, data in written.items() if wrong.encode() in data] == ["token"], "the file it was found in"


def test_a_model_that_is_not_there_is_one_line(hub: Hub, fetch: Fetch, tmp_path: Path) -> None:
    done = fetch(hub, tmp_path, repo="nobody/nothing")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no model 'nobody/nothing' on the Hub, or it is private" in done.stderr


def test_a_hub_out_of_reach_is_one_line(checkpoint: Path, fetch: Fetch, tmp_path: Path) -> None:
    gone = Hub(checkpoint, TOKEN, endpoint="http://127.0.0.1:9")
    done = fetch(gone, tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert f"can't download {REPO} from the Hub" in done.stderr
    assert TOKEN not in done.stderr
