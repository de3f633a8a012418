"""A store whose runs have the figures that are asked for, without traces."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemma_trace.store.layout import Manifest, part_file
from gemma_trace.store.places import open_place
from gemma_trace.store.schema import TABLES
from gemma_trace.store.tables import encoded, table_of

DAY_NS = 86_400 * 10**9
FIRST_NS = 1_790_000_000 * 10**9
"""2026-09-21 14:13 UTC."""


@dataclass(frozen=True)
class Night:
    """A run of a night.

    Attributes:
        number: counts the nights.
        ttft_ns: of each request.
        more: other columns of `runs`.
        rows: rows of other tables, without their run.
    """

    number: int
    ttft_ns: Sequence[int]
    more: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        text = f"{self.number} {list(self.ttft_ns)} {sorted(self.more.items())}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def tables(self) -> dict[str, list[dict[str, Any]]]:
        run: dict[str, Any] = {
            "name": f"night{self.number}",
            "created_ns": FIRST_NS + self.number * DAY_NS,
            "model": "tiny",
            "dtype": "float32",
            "device": "cpu",
            "torch": "2.13.0",
            "devices": 1,
            "verdict": "ok",
            "requests": 2,
            "spans": 1,
            "activities": 1,
            "wall_ns": 1,
            "timing": "timed",
            "ttft_samples": len(self.ttft_ns),
            "file_bytes": 1,
            "indexer": "0",
        }
        samples = [
            {"timing": "timed", "request": place, "measure": "ttft", "value_ns": value}
            for place, value in enumerate(self.ttft_ns)
        ]
        found = {"runs": [run | self.more], "samples": samples, **self.rows}
        return {name: [{"run_id": self.run_id} | row for row in rows] for name, rows in found.items()}


def store_of(folder: Path, nights: Sequence[Night]) -> Path:
    """Write a store with one part per table."""
    place = open_place(folder)
    tables: dict[str, list[dict[str, Any]]] = {}
    for night in nights:
        for name, rows in night.tables().items():
            tables.setdefault(name, []).extend(rows)
    files = {name: part_file(name, "2026-09-21", 1, "ab") for name in tables}
    for name, rows in tables.items():
        place.write(files[name], encoded(table_of(rows, TABLES[name])))
    runs = tuple(night.run_id for night in nights)
    manifest = Manifest("2026-09-21", 1, runs, (), {name: (file,) for name, file in files.items()})
    place.write(manifest.name, manifest.to_json())
    return folder
