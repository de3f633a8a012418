"""How long queries take on a store of generated runs: `python -m tests.benchmarks.sql_store FOLDER RUNS`."""

from __future__ import annotations

import argparse
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from gemma_trace.store.layout import Manifest, part_file
from gemma_trace.store.places import open_place
from gemma_trace.store.runs import day_of
from gemma_trace.store.schema import TABLES
from gemma_trace.store.store import Store
from gemma_trace.store.tables import encoded

DAYS: Final = 30
STAGES: Final = (
    "image_load",
    "preprocessing",
    "vision_tower",
    "projector",
    "prefill",
    "sampling",
    "decode",
    "unlinked",
)
KERNELS_A_RUN: Final = 60
SAMPLES_A_RUN: Final = 40
FIRST_NS: Final = 1_767_225_600 * 10**9
DAY_NS: Final = 86_400 * 10**9

QUERIES: Final = {
    "TTFT by device and day": "SELECT device_name, day, count(*) AS runs, median(ttft_ns) AS ttft_ns FROM runs "
    "GROUP BY ALL ORDER BY ALL",
    "a stage by driver": "SELECT r.driver, median(s.time_ns) AS prefill_ns FROM stages s JOIN runs r USING (run_id) "
    "WHERE s.stage = 'prefill' GROUP BY ALL ORDER BY ALL",
    "families by device": "SELECT r.device_name, k.family, sum(k.sum_ns) AS sum_ns FROM kernels k JOIN runs r "
    "USING (run_id) GROUP BY ALL ORDER BY sum_ns DESC",
    "one run": "SELECT stage, sum(time_ns) AS time_ns FROM stages WHERE run_id = '{run}' GROUP BY stage",
}


def columns_of(name: str, runs: list[str], each: int, rng: np.random.Generator) -> pa.Table:
    """Rows of so many a run, with values of about the size and the variety of real ones."""
    count = len(runs) * each
    arrays: dict[str, Any] = {}
    for column in TABLES[name].columns:
        if column.key == "run_id":
            arrays[column.key] = np.repeat(runs, each)
        elif column.key == "stage":
            arrays[column.key] = np.resize(STAGES, count)
        elif column.type == "string":
            arrays[column.key] = [f"{column.key}-{value}" for value in rng.integers(0, 6, count).tolist()]
        elif column.unit == "ns":
            arrays[column.key] = rng.integers(10**6, 10**9, count)
        else:
            arrays[column.key] = rng.integers(0, 100, count)
    schema = TABLES[name].arrow_schema()
    return pa.table([pa.array(arrays[field.name], field.type) for field in schema], schema=schema)


def generate(store: Path, runs: int) -> str:
    """Write a compacted store of so many runs; one of their ids."""
    rng, place, run = np.random.default_rng(0), open_place(store), ""
    each = {"runs": 1, "stages": 2 * len(STAGES), "kernels": KERNELS_A_RUN, "samples": SAMPLES_A_RUN}
    for number in range(DAYS):
        day = day_of(FIRST_NS + number * DAY_NS)
        ids = [secrets.token_hex(16) for _ in range(runs // DAYS + (number < runs % DAYS))]
        run = ids[0] if ids else run
        files: dict[str, tuple[str, ...]] = {}
        for name, count in each.items():
            files[name] = (part_file(name, day, 1, secrets.token_hex(4)),)
            place.write(files[name][0], encoded(columns_of(name, ids, count, rng)))
        manifest = Manifest(day, 1, tuple(ids), (), files)
        place.write(manifest.name, manifest.to_json())
    return run


def measured(store: Path, run: str) -> Iterator[tuple[str, float, float, int]]:
    """Of each query the seconds that the first and the fastest of three take, and its rows."""
    opened = Store(store)
    for name, sql in QUERIES.items():
        taken = []
        for _ in range(3):
            began_s = time.perf_counter()
            rows = len(opened.sql(sql.format(run=run)))
            taken.append(time.perf_counter() - began_s)
        yield name, taken[0], min(taken), rows


def main() -> None:
    """Generate, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=int)
    given = parser.parse_args()
    run = generate(given.folder, given.runs)
    size = sum(path.stat().st_size for path in given.folder.rglob("*") if path.is_file())
    print(f"{given.runs:,} runs, {size / 1e6:,.0f} MB")
    for name, first_s, best_s, rows in measured(given.folder, run):
        print(f"{name:28} first {first_s:6.2f} s  best {best_s:6.2f} s  {rows:,} rows")


if __name__ == "__main__":
    main()
