"""A Python that has imported torch or HTA already, which takes others many seconds: it forks for programs.

    python -m tests.warm NAME workers|torch|hta

The program that `start` writes takes Python's place: `-c CODE`, `-m MODULE` or a file, with the arguments, the
environment, the folder and the streams that it is given; it ends as the fork does, and passes SIGTERM and SIGINT on.
What torch reads when it is imported (OMP_NUM_THREADS) is the server's own; what huggingface_hub does is read again.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import gc
import importlib
import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import uuid
from pathlib import Path
from types import ModuleType

_ROOT = Path(__file__).resolve().parent.parent

_CLIENT = """#!{python} -IS
import array, json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect(chr(0) + {name!r})
asked = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
server.sendmsg([len(asked).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
server.sendall(asked)
answers = server.makefile()
child = int(answers.readline())
for passed in (signal.SIGTERM, signal.SIGINT):
    signal.signal(passed, lambda number, frame: os.kill(child, number))
code = int(answers.readline() or 1)
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def start(folder: Path, kind: str, python: str = sys.executable) -> Path:
    """Start a server, and write the program that is to be run in Python's place; it has to be held.

    Args:
        folder: an empty one.
        kind: what it has imported: `workers` is torch and transformers, `torch` is our commands too, and `hta` is HTA.
        python: what the server itself is forked off.
    """
    name, program = f"gemma-trace-tests-{uuid.uuid4()}", folder / "python"
    (folder / "name").write_text(name)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = kept | {"HF_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "tests.warm", name, kind]
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    program.write_text(_CLIENT.format(python=sys.executable, name=name))
    program.chmod(0o700)
    return program


def hold(program: Path) -> socket.socket:
    """A connection that asks for nothing: the server of the program ends when the last one is closed."""
    held = socket.socket(socket.AF_UNIX)
    held.connect("\0" + (program.parent / "name").read_text())
    return held


def serve(name: str, kind: str) -> None:
    """Answer in the background, until nobody holds on to the server any more; returns once there are answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)  # in no folder: paths of sockets are short
        listener.listen(64)
        _IMPORTS[kind]()
        if kind != "workers":  # which freeze what they have themselves, once Hypothesis has looked for referrers
            gc.collect()
            gc.freeze()  # or a child's first collection, which is a part of each capture, copies all of this memory
        if os.fork():
            os._exit(0)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for stream in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), stream)
        waiting: list[socket.socket] = []
        had_one = False
        while waiting or not had_one:
            for ready in select.select([listener, *waiting], [], [])[0]:
                if ready is listener:
                    waiting.append(listener.accept()[0])
                    had_one = True
                    continue
                waiting.remove(ready)
                if not os.fork():
                    for other in (listener, *waiting):
                        other.close()
                    _answer(ready)
                ready.close()


def _import_for_workers() -> None:
    """What isn't ours: of ours the tests count the lines that an import runs."""
    from gemma_trace.capture.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    importlib.import_module("torch._inductor")  # as the profiler does at its first start, in 2 s
    for name in ("configuration", "modeling", "image_processing", "image_processing_pil", "processing"):
        importlib.import_module(f"transformers.models.gemma3.{name}_gemma3")
    if importlib.util.find_spec("nbformat"):
        importlib.import_module("nbformat")  # of which a grammar of addresses takes 1 s


def _import_torch() -> None:
    _import_for_workers()
    import gemma_trace.capture.gemma3
    import gemma_trace.capture.session
    import gemma_trace.cli

    for command in gemma_trace.cli.COMMANDS:
        importlib.import_module(f"gemma_trace.cli.{command.replace('-', '_')}")
    for module in ("html.build", "records", "terminal"):
        importlib.import_module(f"gemma_trace.report.{module}")


def _import_hta() -> None:
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"  # as its runner sets it, before the import
    importlib.import_module("gemma_trace.hta.shims").put_on()
    for module in ("trace_analysis", "analyzers.cuda_kernel_analysis", "analyzers.critical_path_analysis"):
        importlib.import_module(f"hta.{module}")


_IMPORTS = {"workers": _import_for_workers, "torch": _import_torch, "hta": _import_hta}


def _answer(asking: socket.socket) -> None:
    """Run the program that a client asks for in a child, tell it how that ended, and end; or just end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, ancillary, *_ = asking.recvmsg(8, socket.CMSG_SPACE(12))
    if not head:
        os._exit(0)
    streams = array.array("i", ancillary[0][2])
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += asking.recv(1 << 16)
    child = os.fork()
    if not child:
        asking.close()
        arguments, environment, folder = json.loads(text)
        _become(arguments, environment, folder, list(streams))
    with contextlib.suppress(BrokenPipeError):
        asking.sendall(f"{child}\n".encode())
    ended = os.pidfd_open(child)
    if (
        asking.fileno() in select.select([ended, asking.fileno()], [], [])[0]
    ):  # a client says no more than its question, so it is gone
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        asking.sendall(f"{code}\n".encode())
    os._exit(0)


def _become(arguments: list[str], environment: dict[str, str], folder: str, streams: list[int]) -> None:
    """Be the program; never returns."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  the server's know where theirs could seek
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir = None  # what TMPDIR says now
    if constants := sys.modules.get("huggingface_hub.constants"):
        importlib.reload(constants)  # what HF_ENDPOINT and HF_HOME say now
    code = 1
    try:
        code = _run(arguments)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _run(arguments: list[str]) -> int:
    """Run what Python would, and return its exit code."""
    while arguments[0] in ("-u", "-I", "-P"):
        arguments = arguments[1:]
    form, *rest = arguments
    try:
        if form == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif form == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.modules["__main__"] = main = ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), vars(main))
        else:
            sys.argv = arguments
            runpy.run_path(form, run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    serve(*sys.argv[1:])
