"""Stands for the Python that HTA runs in: each of its runs is forked off one process that has imported HTA already.

Importing it takes longer than most of what is asked of it here. That it runs in a Python of its own is tested in
`tests/hta/test_hta.py`.

python -m tests.integration.hta_forks ADDRESS
"""

from __future__ import annotations

import contextlib
import importlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from gemma_trace.capture.process import die_with_parent
from gemma_trace.hta import in_child
from tests.conftest import ROOT

CLIENT = """#!{python} -IS
import os, socket
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    socket.send_fds(server, [b"run"], [0, 1, 2])
    os._exit(int(server.recv(8) or b"70"))
"""
"""Passes its standard streams on, whatever its arguments are, and ends as the fork ends."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """A program in the place of `sys.executable`, while the block runs.

    Args:
        folder: an empty one, with a short path.
    """
    address, program = folder / "hta", folder / "python"
    program.write_text(CLIENT.format(python=sys.executable, address=str(address)))
    program.chmod(0o700)
    command = [sys.executable, "-m", "tests.integration.hta_forks", str(address)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=die_with_parent) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n", "HTA can't be imported"
        try:
            yield program
        finally:
            server.terminate()


def _run(streams: list[int]) -> int:
    """HTA's runner in a child, with these standard streams; what it ends with."""
    child = os.fork()
    if not child:
        code = 70
        try:
            for place, stream in enumerate(streams):
                os.dup2(stream, place)
            code = in_child.main()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256


def main() -> None:
    """Serve until the process is ended."""
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"  # as the runner sets it, before the import
    importlib.import_module("gemma_trace.hta.shims").put_on()
    for module in ("trace_analysis", "analyzers.cuda_kernel_analysis", "analyzers.critical_path_analysis"):
        importlib.import_module(f"hta.{module}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(sys.argv[1])
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            with connection:
                _, streams, *_ = socket.recv_fds(connection, 8, 3)
                code = _run(streams)
                for stream in streams:
                    os.close(stream)
                with contextlib.suppress(ConnectionError):  # whoever asked has its answer and may be gone
                    connection.sendall(b"%d" % code)


if __name__ == "__main__":
    main()
