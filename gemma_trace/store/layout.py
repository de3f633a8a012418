"""Which files of a store count.

    STORE/v1/<table>/day=YYYY-MM-DD/<run id>.parquet     one trace's rows: a small file
    STORE/v1/<table>/day=YYYY-MM-DD/part-<n>-<x>.parquet  many traces' rows: a part
    STORE/v1/parts/YYYY-MM-DD.<n>.json                    a manifest: what the parts of a day hold

A trace is in the store from when its small file of the table `runs`, which is written last, or a manifest has it. A
day's manifest of the highest number says all of its parts; it is the point at which a compaction is done. So neither a
small file whose run is in a manifest counts, nor one whose run has no file in `runs`, nor a part without a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final

import msgspec

from gemma_trace.errors import UnreadableError
from gemma_trace.foreign import UnreadableValueError, decoded
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.columns import SCHEMA_VERSION
from gemma_trace.store.places import Place, open_place
from gemma_trace.store.schema import RUN_ID_DIGITS, TABLES

VERSION: Final = f"v{SCHEMA_VERSION}"
MANIFESTS: Final = f"{VERSION}/parts"
BASELINES: Final = f"{VERSION}/baselines"

_SMALL: Final = re.compile(
    rf"{VERSION}/(?P<table>\w+)/day=(?P<day>\d{{4}}-\d\d-\d\d)/(?P<run>[0-9a-f]{{{RUN_ID_DIGITS}}})\.parquet", re.ASCII
)
_MANIFEST: Final = re.compile(rf"{MANIFESTS}/(?P<day>\d{{4}}-\d\d-\d\d)\.(?P<number>\d{{6}})\.json", re.ASCII)
_PART: Final = re.compile(
    rf"{VERSION}/(?P<table>\w+)/day=(?P<day>\d{{4}}-\d\d-\d\d)/part-(?P<number>\d{{6}})-[0-9a-f]+\.parquet", re.ASCII
)


@dataclass(frozen=True)
class Manifest:
    """What the parts of a day hold.

    Attributes:
        number: counts the compactions of the day, from 1.
        runs: the ids of the runs that are in its parts.
        failures: the ids of the failures that are.
        files: by table, the names of the parts.
    """

    day: str
    number: int
    runs: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    files: dict[str, tuple[str, ...]] = field(default_factory=dict)
    schema_version: int = SCHEMA_VERSION

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{MANIFESTS}/{self.day}.{self.number:06}.json"

    def to_json(self) -> bytes:
        """As it stands in its file."""
        return msgspec.json.encode(self)


@dataclass(frozen=True)
class Contents:
    """What a store holds, as it was when it was listed.

    Attributes:
        manifests: the one that counts of each day, by day.
        small: by table and run id, the day of each small file.
    """

    manifests: dict[str, Manifest]
    small: dict[str, dict[str, str]]

    @cached_property
    def compacted(self) -> frozenset[str]:
        """The ids of the runs that parts hold."""
        return frozenset(run for manifest in self.manifests.values() for run in manifest.runs)

    @cached_property
    def runs(self) -> frozenset[str]:
        """The ids of all runs in the store."""
        return self.compacted | self.small.get("runs", {}).keys()

    @cached_property
    def compacted_failures(self) -> frozenset[str]:
        """The ids of the failures that parts hold."""
        return frozenset(run for manifest in self.manifests.values() for run in manifest.failures)

    @cached_property
    def failures(self) -> frozenset[str]:
        """The ids of all failures that haven't been mended since."""
        return (self.compacted_failures | self.small.get("failures", {}).keys()) - self.runs

    def counts(self, table: str, run: str) -> bool:
        """Whether a small file counts."""
        if table == "failures":
            return run in self.failures and run not in self.compacted_failures
        return run not in self.compacted and run in self.small.get("runs", {})

    def files(self, table: str) -> list[str]:
        """The names of the files that count of a table, parts first."""
        parts = [name for manifest in self.manifests.values() for name in manifest.files.get(table, ())]
        small = self.small.get(table, {})
        return parts + [small_file(table, day, run) for run, day in small.items() if self.counts(table, run)]


def small_file(table: str, day: str, run: str) -> str:
    """The name of the file with one trace's rows of a table."""
    return f"{VERSION}/{table}/day={day}/{run}.parquet"


def part_file(table: str, day: str, number: int, mark: str) -> str:
    """The name of a part.

    Args:
        number: of the manifest that is to list it.
        mark: hexadecimal digits that no other part has.
    """
    return f"{VERSION}/{table}/day={day}/part-{number:06}-{mark}.parquet"


def numbered(name: str) -> tuple[str, int] | None:
    """The day and the number of a manifest, or of the one that a part was made for; None of all other files."""
    match = _PART.fullmatch(name) or _MANIFEST.fullmatch(name)
    return (match["day"], int(match["number"])) if match else None


def contents(place: Place, tables: Iterable[str] = TABLES) -> Contents:
    """What a store holds, of some tables and of `runs`; nothing where there is no store.

    Raises:
        UnreadableError: a manifest can't be read, or is of a newer gemma-trace.
        OSError: the store can't be listed.
    """
    # Manifests last: what is compacted meanwhile is in a list of small files or in a manifest, or in both.
    small: dict[str, dict[str, str]] = {}
    for table in dict.fromkeys(["runs", *tables]):
        matches = filter(None, map(_SMALL.fullmatch, place.files(f"{VERSION}/{table}")))
        small[table] = {each["run"]: each["day"] for each in matches}
    latest: dict[str, tuple[int, str]] = {}
    for name in place.files(MANIFESTS):
        if found_number := numbered(name):
            day, number = found_number
            latest[day] = max(latest.get(day, (0, "")), (number, name))
    return Contents({day: _manifest(place, name) for day, (_, name) in sorted(latest.items())}, small)


def _manifest(place: Place, name: str) -> Manifest:
    try:
        manifest: Manifest = decoded(place.read(name), Manifest)
    except UnreadableValueError as error:
        raise UnreadableError(f"{place.full(name)} is no manifest of a store: {error}; index its traces anew") from None
    if any(not _PART.fullmatch(part) for parts in manifest.files.values() for part in parts):
        raise UnreadableError(f"{place.full(name)} lists files that are no parts; index its traces anew")
    if manifest.schema_version > SCHEMA_VERSION:
        raise UnreadableError(f"{place.full(name)} is of a newer gemma-trace; run: pip install --upgrade gemma-trace")
    return manifest


def live_files(store: str | Path, table: str) -> list[str]:
    """The paths or URLs of the files that hold a table's rows; none where the store has none.

    What is compacted just then may be gone when it is opened: list it again.

    Raises:
        UnreadableError: the store can't be listed, or it is of a newer gemma-trace.
    """
    place = open_place(store)
    try:
        return [place.full(name) for name in contents(place, [table]).files(table)]
    except OSError as error:
        raise UnreadableError(
            f"can't read {shown_url(str(store))}: {error.strerror or error}; check the store"
        ) from error


def is_store(path: str | Path) -> bool:
    """Whether a folder or a URL holds a store that this version reads."""
    place = open_place(path)
    try:
        return bool(place.files(f"{VERSION}/runs") or place.files(MANIFESTS) or place.files(f"{VERSION}/failures"))
    except OSError:
        return False
