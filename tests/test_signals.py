"""Who is asked to end clears up first; who was killed is cleared up after."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
from functools import partial
from pathlib import Path

import pytest

from gemma_trace.signals import Ended, cleared_up_on_signals
from gemma_trace.trace.locks import make_owned
from gemma_trace.trace.scratch import PREFIX, clear_abandoned, scratch_folder

# A capture that stops where it has images and a profile in its scratch folder, and says so.
CAPTURE = """
import sys, time
from gemma_trace.capture import session
from gemma_trace.cli import main

def pause(self, scratch):
    (scratch / "profiler.json").write_text("unscrubbed")
    print("paused", flush=True)
    time.sleep(120)

session._Session.profile_requests = pause
sys.exit(main(["capture", "--device", "cpu", "--warmup", "0", "--runs", "0", "--profile-runs", "1"]))
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_block_as_ctrl_c_does(
    number: signal.Signals, temporary: Path, request: pytest.FixtureRequest
) -> None:
    # Under nohup the tests ignore SIGHUP, and an ignored signal stays ignored.
    request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    before = signal.getsignal(number)
    with pytest.raises(Ended) as ended, cleared_up_on_signals(), scratch_folder():  # noqa: PT012
        assert len(list(temporary.iterdir())) == 1
        os.kill(os.getpid(), number)
    assert ended.value.code == 128 + number
    assert list(temporary.iterdir()) == []
    assert signal.getsignal(number) == before


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cleared_up_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_forked_child_ends_by_the_signal_itself() -> None:
    with cleared_up_on_signals():
        child = os.fork()
        if not child:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            finally:
                os._exit(77)
        assert os.waitpid(child, 0)[1] == signal.SIGTERM


def test_scratch_of_the_living_stays_and_of_the_dead_goes(temporary: Path) -> None:
    (temporary / f"{PREFIX}link").symlink_to("/")
    (temporary / "others").mkdir()
    with scratch_folder() as living:
        (living / "image.jpg").touch()
        assert stat.S_IMODE(living.stat().st_mode) == 0o700
        child = os.fork()
        if not child:
            with scratch_folder() as dying:
                (dying / "image.jpg").touch()
                os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        assert len(list(temporary.glob(f"{PREFIX}*"))) == 3
        clear_abandoned()
        assert {path.name for path in temporary.iterdir()} == {living.name, f"{PREFIX}link", "others"}
        assert (living / "image.jpg").exists()


def test_a_folder_that_is_cleared_up_before_it_could_be_locked_is_made_anew(temporary: Path) -> None:
    made: list[Path] = []

    def make() -> tuple[Path, int]:
        made.append(temporary / str(len(made)))
        if len(made) == 1:  # another process has removed it between its making and its opening
            return made[0], -1
        made[-1].mkdir()
        return made[-1], -1 if len(made) == 3 else os.open(made[-1], os.O_RDONLY)

    folder, descriptor = make_owned(make)
    assert (folder, descriptor >= 0) == (made[1], True)
    os.close(descriptor)
    assert make_owned(make) == (made[2], -1), "a folder that can't be opened at all is used without a lock"


@pytest.mark.capture
def test_a_capture_leaves_nothing_when_it_is_ended(warm_python: str, tmp_path: Path, temporary: Path) -> None:
    process = subprocess.Popen(
        [warm_python, "-c", CAPTURE], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "paused\n"
    assert list(temporary.glob(f"{PREFIX}*/profiler.json"))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 143
    assert said.splitlines()[-1] == "gemma-trace: ended by SIGTERM"
    assert not (tmp_path / "traces").exists()
    assert list(temporary.glob("gemma-trace*")) == []
