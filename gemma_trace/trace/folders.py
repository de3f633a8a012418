"""Paths, of files or folders → the trace files that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from gemma_trace.errors import InputError, UnreadableError
from gemma_trace.remote import RemotePath

RECORD: Final = "served.json"
"""In a folder of served requests what the client saw; the other traces in it are of the server's processes."""

MERGED: Final = "served.pt.trace.json.gz"
"""The one trace that such a folder stands for: all processes and the client's requests on one clock."""

_OURS: Final = ("*.pt.trace.json.gz", "*.pt.trace.json")
_ANY: Final = ("*.json.gz", "*.json")


def find_traces(paths: Sequence[Path]) -> list[Path]:
    """The trace files that these paths name: files as they are, folders with all that lies below them.

    A folder of served requests stands for one trace. In others the names that torch.profiler's TensorBoard handler
    gives count; without one, all JSON files do.

    Raises:
        InputError: a path doesn't exist or can't be looked into, or a folder holds no trace.
    """
    files: list[Path] = []
    for path in paths:
        try:
            files += _traces_of(path)
        except OSError as error:
            raise UnreadableError(f"can't read {path}: {error.strerror}; check the path") from error
    return list(dict.fromkeys(files))


def _traces_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UnreadableError(f"no file or folder at {path}; check the path")
    if not path.is_dir():
        return [path]
    is_here = not isinstance(path, RemotePath)  # of a URL nothing more is asked than what is below it
    if is_here and (path / RECORD).is_file() and not (path / MERGED).is_file():
        raise UnreadableError(
            f"{path} holds served requests whose traces are not merged; run: gemma-trace serve-capture --merge {path}"
        )
    inside = _without_processes(_below(path, _OURS) or _below(path, _ANY))
    if not inside:
        advice = "check the URL" if isinstance(path, RemotePath) else f"run: gemma-trace capture --out-dir {path}"
        raise UnreadableError(f"{path} has no trace in it; {advice}")
    return inside


def one_trace(path: Path) -> Path:
    """The trace file that a path names: a file, or a folder that holds just one.

    Raises:
        InputError: there is none, or there are several.
    """
    files = find_traces([path])
    if len(files) > 1:
        is_served = any(".async_llm." in each.name for each in files)  # what vLLM calls its front end's
        merged = f", or merge them: gemma-trace serve-capture --merge {path}" if is_served else ""
        raise InputError(f"{path} has {len(files)} traces in it; give one of them, e.g. {files[0]}{merged}")
    return files[0]


def _below(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted(
        file
        for pattern in patterns
        for file in folder.rglob(pattern)
        if file.is_file() and not file.name.startswith(".")
    )


def _without_processes(files: list[Path]) -> list[Path]:
    """The files but for those that lie in or below the folder of a merged trace, which has what is in them."""
    merged = {file.parent for file in files if file.name == MERGED}
    return [file for file in files if file.name == MERGED or merged.isdisjoint(file.parents)]
