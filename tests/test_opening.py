from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from gemma_trace import foreign, opening
from gemma_trace.capture.sweep import read_matrix
from gemma_trace.cli.rules import read_rules
from gemma_trace.errors import InputError
from gemma_trace.peaks_file import read_peaks
from gemma_trace.trace.files import atomic_file
from gemma_trace.trace.trace import load
from tests.cli.test_commands import run
from tests.trace_builder import TraceBuilder

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    built = TraceBuilder().range("request", 0, 100_000).range("prefill", 1000, 50_000).op("aten::mm", 2000, 30_000)
    return built.write(tmp_path / "in" / "trace.json.gz")


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "WAIT_S", 0.0)
    monkeypatch.setattr(opening, "SILENCE_S", 0.0)


@pytest.fixture
def inherited(trace: Path) -> Iterator[str]:
    """The path of a pipe that this process has from whoever started it, with a trace in it."""
    end, other = os.pipe()
    content = trace.read_bytes()
    assert len(content) < 4096, "a pipe holds it"
    os.write(other, content)
    os.close(other)
    yield f"/dev/fd/{end}"
    os.close(end)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("read", [load, read_matrix, read_peaks, lambda path: read_rules(None, path)])
def test_a_pipe_without_a_writer_is_one_line(pipe: Path, read: object) -> None:
    with pytest.raises(InputError, match="is a pipe that nobody wrote into for 0 s; start the program that writes"):
        read(pipe)  # type: ignore[operator]


def test_it_is_waited_for_no_longer_than_is_said() -> None:
    assert 5 <= opening.WAIT_S <= opening.SILENCE_S <= 60


@pytest.mark.usefixtures("impatient")
def test_a_writer_that_writes_nothing_is_one_line(pipe: Path) -> None:
    keeps_it_open = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(InputError, match="nothing was written for 0 s"):
            load(pipe)
    finally:
        os.close(keeps_it_open)


def test_a_writer_that_comes_later_is_waited_for(pipe: Path, trace: Path) -> None:
    writer = threading.Timer(0.3, lambda: pipe.write_bytes(trace.read_bytes()))
    writer.start()
    assert len(load(pipe).spans) == 3
    writer.join()


@pytest.mark.parametrize("command", ["stages", "kernels", "tree", "check", "summarize"])
def test_commands_read_what_another_process_writes(
    inherited: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, command, inherited)
    assert (code, err) == (0, "")
    assert out


@pytest.mark.parametrize("options", [[], ["--redact"]])
def test_what_goes_through_it_twice_does_too(
    inherited: str, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "export", inherited, *options, "-o", tmp_path / "out.json")
    assert code == 0
    assert "events" in err
    assert not opening._piped.get(), "nothing is kept beyond the command"


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "/dev/random"])
def test_a_device_is_one_line(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "stages", device)
    assert (code, err.count("\n")) == (4, 1)
    assert "is a device or a terminal; give a file" in err


def test_a_socket_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # its name may not be long
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind("socket")
        with pytest.raises(InputError, match="is a socket; give a file"):
            load("socket")


def test_text_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "MAX_TOML_BYTES", 1 << 10)
    (tmp_path / "rules.toml").write_bytes(b"#" * 1025)
    with pytest.raises(InputError, match="which is too large for such a file"):
        read_rules(None, tmp_path / "rules.toml")


def test_what_is_no_file_is_never_replaced(pipe: Path) -> None:
    with pytest.raises(OSError, match="something else than a file"), atomic_file(pipe) as out:
        out.write(b"x")
    assert pipe.is_fifo()
    assert [path.name for path in pipe.parent.iterdir()] == ["pipe"]
