"""Index many files on a Dask cluster: its workers read the files where they lie, and write the store."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gemma_trace.errors import MissingExtraError, OutputError, UnreadableError
from gemma_trace.remote import is_url
from gemma_trace.store.indexing import IndexJob, Outcome, Status, index_file

_CONNECT_S: Final = 20
_RETRIES: Final = 2
"""How often a file is tried again whose work raised something else than an error of ours."""


def outcomes_on(scheduler: str, job: IndexJob, paths: Sequence[Path]) -> Iterator[Outcome]:
    """Add files to a store on a cluster; gives what became of each as soon as that is known, in any order.

    Work that a lost worker had goes to another. A file that takes several workers down costs itself alone.

    Args:
        scheduler: its address, such as tcp://host:8786.

    Raises:
        MissingExtraError: distributed isn't installed.
        UnreadableError: there is no scheduler at the address.
        OutputError: the store can't be written.
    """
    try:
        distributed: Any = importlib.import_module("distributed")  # of which not all is typed
    except ImportError:
        raise MissingExtraError("distributed", "scale") from None
    try:
        client = distributed.Client(scheduler, timeout=_CONNECT_S)
    except (OSError, ValueError) as error:
        raise UnreadableError(
            f"can't reach a scheduler at {scheduler} ({type(error).__name__}); start one with: dask scheduler"
        ) from None
    with client:
        # A worker runs in a folder of its own.
        store = job.store if is_url(job.store) else str(Path(job.store).absolute())
        shared = client.scatter(replace(job, jobs=1, store=store), broadcast=True, hash=False)
        futures = client.map(
            _index, [path.absolute() for path in paths], job=shared, retries=_RETRIES, pure=False, batch_size=1000
        )
        path_of_key = {future.key: path for future, path in zip(futures, paths, strict=True)}
        for future in distributed.as_completed(futures):
            yield _outcome(future, path_of_key[future.key])
            future.release()


def _index(path: Path, job: IndexJob) -> Outcome:
    return index_file(job, path)


def _outcome(future: Any, path: Path) -> Outcome:
    error = future.exception()
    if error is None:
        outcome: Outcome = future.result()
        return replace(outcome, path=path)
    if isinstance(error, OutputError):
        raise error
    said = " ".join(str(error).split())[:200]
    return Outcome(path, Status.FAILED, message=f"{path} could not be indexed: {type(error).__name__}: {said}")
