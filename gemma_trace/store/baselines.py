"""Baselines: names for runs of a store, against which others are held. A baseline has the ids of its runs, no paths."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from gemma_trace.errors import ConfigError, InputError, OutputError, UnreadableError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.remote import path_of
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.layout import BASELINES, is_store
from gemma_trace.store.places import Place, open_place

SCHEMA_VERSION: Final = 1
PREFIX: Final = "baseline:"
"""What stands before a baseline's name where a path is expected."""

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_ID: Final = re.compile(r"[0-9a-f]{6,32}", re.ASCII)


@dataclass(frozen=True)
class Baseline:
    """A name for runs of a store.

    Attributes:
        runs: the ids of its runs, which are repeats of one configuration.
        created_ns: when it was set, in ns since 1970.
    """

    name: str
    runs: tuple[str, ...]
    created_ns: int
    schema_version: int = SCHEMA_VERSION


def set_baseline(store: str | Path, name: str, runs: Sequence[str], *, force: bool = False) -> Baseline:
    """Give runs of a store a name.

    Args:
        runs: of each run its id or the first digits of it, its name, or the path of its trace.
        force: take the name from the runs that have it.

    Raises:
        ConfigError: it is no name.
        InputError: a run isn't in the store, or is one rank of several.
        OutputError: the name is taken, or the store can't be written.
    """
    file = _file(name)
    baseline = Baseline(name, tuple(_ids(store, runs)), time.time_ns())
    place, data = open_place(store), msgspec.json.encode(baseline)
    try:
        if force:
            place.write(file, data)
        elif not place.create(file, data):
            raise OutputError(f"{shown_url(str(store))} has a baseline {name!r} already; give --force to replace it")
    except OSError as error:
        raise OutputError(f"can't write {shown_url(str(store))}: {error.strerror or error}; check --store") from error
    return baseline


def baselines(store: str | Path) -> list[Baseline]:
    """All baselines of a store, by name.

    Raises:
        UnreadableError: the store or one of them can't be read.
    """
    place = open_place(store)
    try:
        known = [_read(place, file) for file in place.files(BASELINES) if file.endswith(".json")]
    except OSError as error:
        raise _unreadable(store, error) from error
    if not known and not is_store(store):
        raise UnreadableError(f"no store at {shown_url(str(store))}; gemma-trace index makes one")
    return known


def baseline_of(store: str | Path, name: str) -> Baseline:
    """A baseline by its name.

    Raises:
        ConfigError: it is no name.
        InputError: there is none of that name, or it can't be read.
    """
    place, file = open_place(store), _file(name)
    try:
        return _read(place, file)
    except FileNotFoundError:
        known = ", ".join(each.name for each in baselines(store)) or "none"
        raise InputError(f"no baseline {name!r} in {shown_url(str(store))}; it has {known}") from None
    except OSError as error:
        raise _unreadable(store, error) from error


def remove_baseline(store: str | Path, name: str) -> Baseline:
    """Forget a baseline; its runs stay.

    Raises:
        InputError: there is none of that name.
        OutputError: it can't be removed.
    """
    removed = baseline_of(store, name)
    try:
        open_place(store).remove(_file(name))
    except OSError as error:
        raise OutputError(f"can't write {shown_url(str(store))}: {error.strerror or error}; check --store") from error
    return removed


def is_baseline(path: Path) -> bool:
    """Whether what stands for a path is the name of a baseline."""
    return str(path).startswith(PREFIX)


def _file(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a baseline; give letters, digits, dots, dashes and underscores")
    return f"{BASELINES}/{name}.json"


def _read(place: Place, file: str) -> Baseline:
    try:
        baseline: Baseline = decoded(place.read(file), Baseline)
    except UnreadableValueError as error:
        raise UnreadableError(f"{place.full(file)} is no baseline: {error}; set it anew with --force") from None
    if baseline.schema_version > SCHEMA_VERSION:
        raise UnreadableError(f"{place.full(file)} is of a newer gemma-trace; run: pip install --upgrade gemma-trace")
    return baseline


def _unreadable(store: str | Path, error: OSError) -> UnreadableError:
    return UnreadableError(f"can't read {shown_url(str(store))}: {error.strerror or error}; check --store")


def _ids(store: str | Path, wanted: Sequence[str]) -> list[str]:
    from gemma_trace.store.rows_by_run import rows_of_store

    rows = rows_of_store(store, "runs")
    runs = [_run(row, rows, store) for row in wanted]
    if ranks := [row["name"] for row in runs if (row["world_size"] or 1) > 1]:
        raise InputError(f"run {ranks[0]} is one rank of a job, and no baseline; compare the folders of the traces")
    return list(dict.fromkeys(row["run_id"] for row in runs))


def _run(text: str, rows: Sequence[dict[str, Any]], store: str | Path) -> dict[str, Any]:
    """The one row of `runs` that is meant."""
    from gemma_trace.store.indexing import run_id_of

    path = path_of(text)
    wanted = run_id_of(path) if path.is_file() else text
    matches = [row for row in rows if row["name"] == wanted or (_ID.match(wanted) and row["run_id"].startswith(wanted))]
    if len(matches) > 1:
        raise InputError(f"{len(matches)} runs are called {text!r}; give more digits of the id")
    if not matches:
        raise InputError(f"no run {text!r} in {shown_url(str(store))}; gemma-trace index adds a trace")
    return matches[0]
