"""Small traces for stores, and what a store holds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemma_trace
from gemma_trace.metadata import RequestSample, StageSample
from gemma_trace.store.layout import contents
from gemma_trace.store.places import open_place
from gemma_trace.store.reading import read_table
from gemma_trace.store.schema import TABLES
from tests.capture.test_writer import METADATA
from tests.trace_builder import TraceBuilder

TIMED = (
    RequestSample(900, 500, (500, 700, 900), "1x1", {"prefill": StageSample(400, None, 1)}, {}),
    RequestSample(910, 521, (521, 710, 910), "1x1", {"prefill": StageSample(410, None, 1)}, {}),
)


def built(path: Path, mark: int = 0, *, timed: bool = True) -> Path:
    """A request with a kernel or two in each of two stages, and two tokens.

    Args:
        mark: makes the trace another one: by so many ns its first kernel is longer.
        timed: it is a capture of ours, with a timed pass.
    """
    trace = TraceBuilder().range("request", 0, 1_000).range("vision_tower", 10, 290).range("prefill", 300, 400)
    trace.range("sampling", 700, 50).range("decode", 760, 100).range("sampling", 870, 60)
    for place, (name, start_ns, length_ns) in enumerate(
        (("conv", 40, 100 + mark), ("gemm", 330, 60), ("gemm", 410, 70), ("softmax", 500, 30), ("gemm", 790, 20)), 1
    ):
        trace.op(f"aten::{name}", start_ns - 20, 15).launch(place, start_ns - 15, 5)
        trace.kernel(name, start_ns, length_ns, correlation=place)
    if timed:
        trace.metadata(replace(METADATA, timed_requests=TIMED, profiled_images=("1x1",)))
    return trace.write(path)


def content_of(store: str | Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of all tables that count, in an order of their own."""
    return {name: sorted(read_table(store, name).to_pylist(), key=repr) for name in TABLES}


def files_of(store: str | Path) -> list[str]:
    """All files of a store, whether they count or not."""
    return open_place(store).files("")


def run_ids(store: str | Path) -> set[str]:
    """The runs that count."""
    return set(contents(open_place(store)).runs)


def rows(store: Path, table: str, run_id: str) -> list[dict[str, Any]]:
    """The rows of a run in a table, without what all of them have."""
    frame = gemma_trace.Store(store).table(table)
    found = frame[frame.run_id == run_id].drop(columns=["run_id", "day"])
    return [{str(name): value for name, value in row.items()} for row in found.to_dict("records")]


def run_id_of(path: Path) -> str:
    """What a trace is called in a store."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
