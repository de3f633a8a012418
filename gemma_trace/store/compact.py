"""Merges a store's small files into parts, a day at a time. Killed at any moment it loses and repeats nothing.

A day's parts count from when their manifest is there; what they take the place of is removed after that. Of two
compactions of a day one creates the manifest; the other finds it taken, and removes its own parts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gemma_trace.errors import OutputError
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.columns import StoreTable
from gemma_trace.store.layout import (
    MANIFESTS,
    VERSION,
    Contents,
    Manifest,
    contents,
    numbered,
    part_file,
    small_file,
)
from gemma_trace.store.places import Place, open_place
from gemma_trace.store.schema import FAILURES, RUNS, TABLES, UNKNOWN_DAY
from gemma_trace.store.tables import decoded, encoded

if TYPE_CHECKING:
    import pyarrow as pa

PART_BYTES: Final = 128 << 20
"""Rows that take this much memory are a part."""

MOST_PARTS: Final = 8
"""A day that has so many parts of a table has them merged when more come."""

_AT_ONCE: Final = 1_000
"""So many small tables are joined at a time: one by one they take many times the memory of their rows."""


@dataclass
class Compaction:
    """The result of a compaction.

    Attributes:
        days: how many days have a new manifest.
        runs: how many runs were small files before.
        removed_files: small files and former parts that are gone.
        written_files, written_bytes: the parts.
        lost_days: those that another compaction was faster with.
    """

    days: int = 0
    runs: int = 0
    removed_files: int = 0
    written_files: int = 0
    written_bytes: int = 0
    lost_days: int = 0


@dataclass
class _Day:
    """The ids of a day's runs and failures that are in small files alone."""

    runs: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def of(self, table: StoreTable) -> list[str]:
        """Those that may have a small file of a table."""
        return sorted(self.failures if table is FAILURES else self.runs)


def compact(store: str | Path) -> Compaction:
    """Merge the small files of every day that has any.

    Raises:
        OutputError: the store can't be written.
        UnreadableError: one of its files can't be read.
    """
    place, done = open_place(store), Compaction()
    try:
        place.tidy()
        held = contents(place)
        done.removed_files += _remove(place, _left_behind(place, held))
        for day, new in sorted(_new_of_days(held).items()):
            try:
                _compact_day(place, held, day, new, done)
            except FileNotFoundError:
                if _latest(place, day) == _number(held, day):
                    raise
                done.lost_days += 1
    except OSError as error:
        raise OutputError(
            f"can't compact {shown_url(str(store))}: {error.strerror or error}; nothing is lost; "
            "the same command goes on from there"
        ) from error
    return done


def _new_of_days(contents: Contents) -> dict[str, _Day]:
    days: dict[str, _Day] = {}
    for run, day in contents.small.get(RUNS.name, {}).items():
        if contents.counts(RUNS.name, run):
            days.setdefault(day, _Day()).runs.append(run)
    for run in contents.small.get(FAILURES.name, {}):
        if contents.counts(FAILURES.name, run):
            days.setdefault(UNKNOWN_DAY, _Day()).failures.append(run)
    return days


def _compact_day(place: Place, contents: Contents, day: str, new: _Day, done: Compaction) -> None:
    before = contents.manifests.get(day) or Manifest(day, 0)
    failures = sorted({*before.failures, *new.failures} - contents.runs)
    written = _Written(place, day, before.number + 1)
    try:
        files = {table.name: _new_parts(written, contents, before, new, table, failures) for table in TABLES.values()}
        manifest = Manifest(
            day,
            written.number,
            (*before.runs, *sorted(new.runs)),
            tuple(failures),
            {table: names for table, names in files.items() if names},
        )
        is_first = place.create(manifest.name, manifest.to_json())
    except BaseException:
        _remove(place, written.names)
        raise
    if not is_first:
        _remove(place, written.names)
        done.lost_days += 1
        return
    done.days += 1
    done.runs += len(new.runs)
    done.written_files += len(written.names)
    done.written_bytes += written.size_bytes
    replaced = set(_listed(before) if before.number else ()) - set(_listed(manifest))
    for table in TABLES.values():
        replaced |= set(_small_files(contents, day, new, table))
    done.removed_files += _remove(place, sorted(replaced))


@dataclass
class _Written:
    """The parts that were written for a manifest to come."""

    place: Place
    day: str
    number: int
    names: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def part(self, table: StoreTable, content: pa.Table) -> str:
        name = part_file(table.name, self.day, self.number, secrets.token_hex(4))
        data = encoded(content)
        self.names.append(name)
        self.place.write(name, data)
        self.size_bytes += len(data)
        return name


def _new_parts(
    written: _Written, contents: Contents, before: Manifest, new: _Day, table: StoreTable, failures: list[str]
) -> tuple[str, ...]:
    """The parts of a table from now on: those before and new ones, or in place of many new ones alone."""
    place, old = written.place, before.files.get(table.name, ())
    small = _small_files(contents, before.day, new, table)
    if not small:
        return old
    merges = table is FAILURES or len(old) >= MOST_PARTS  # a failure may have been mended since
    names = [*old, *small] if merges else small
    sources: Iterable[pa.Table] = (decoded(place.read(name), table, place.full(name)) for name in names)
    if table is FAILURES:
        sources = (_of_runs(source, failures) for source in sources)
    fresh = [written.part(table, content) for content in _joined(sources)]
    return (*(() if merges else old), *fresh)


def _small_files(contents: Contents, day: str, new: _Day, table: StoreTable) -> list[str]:
    there = contents.small.get(table.name, {})
    return [small_file(table.name, day, run) for run in new.of(table) if run in there]


def _left_behind(place: Place, contents: Contents) -> Iterator[str]:
    """What a manifest has taken the place of, and a compaction that was killed didn't remove; mended failures too."""
    for table, small in contents.small.items():
        gone = contents.runs | contents.compacted_failures if table == FAILURES.name else contents.compacted
        yield from (small_file(table, day, run) for run, day in small.items() if run in gone)
    listed = {name for manifest in contents.manifests.values() for name in _listed(manifest)}
    folders = [MANIFESTS, *(f"{VERSION}/{table}" for table in TABLES)]
    for name in (name for folder in folders for name in place.files(folder)):
        day, number = numbered(name) or ("", 0)
        latest = contents.manifests.get(day)
        # A part of a number that is taken can't be listed any more; one of the next is being made, perhaps.
        if latest and number <= latest.number and name not in listed:
            yield name


def _latest(place: Place, day: str) -> int:
    """The number of a day's manifest that counts now; 0 without one."""
    return _number(contents(place, []), day)


def _number(contents: Contents, day: str) -> int:
    return contents.manifests[day].number if day in contents.manifests else 0


def _listed(manifest: Manifest) -> Iterator[str]:
    """The files that a manifest stands for, itself too."""
    yield manifest.name
    for names in manifest.files.values():
        yield from names


def _remove(place: Place, names: Iterable[str]) -> int:
    removed = list(names)
    for name in removed:
        place.remove(name)
    return len(removed)


def _of_runs(content: pa.Table, runs: list[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    return content.filter(pc.is_in(content["run_id"], pa.array(runs, pa.string())))


def _joined(sources: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of many tables as tables of some `PART_BYTES`; none where there are no rows."""
    import pyarrow as pa

    held: list[pa.Table] = []
    held_bytes = 0
    for source in sources:
        held.append(source)
        held_bytes += source.nbytes
        if held_bytes >= PART_BYTES or len(held) >= _AT_ONCE:
            held = [pa.concat_tables(held).combine_chunks()]
        if held_bytes >= PART_BYTES:
            yield held[0]
            held, held_bytes = [], 0
    joined = pa.concat_tables(held).combine_chunks() if held else None
    if joined is not None and joined.num_rows:
        yield joined
