"""A measure of each run of a store: one value, with how much it varies within the run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from gemma_trace.errors import ConfigError, InputError
from gemma_trace.remote_errors import shown_url
from gemma_trace.store.reading import read_table
from gemma_trace.store.store import Store

if TYPE_CHECKING:
    import pandas as pd

FAMILY: Final = "family:"
KERNEL: Final = "kernel:"
PEAK_MEMORY: Final = "peak_memory"
HELP: Final = f"ttft, tpot, wall, a stage such as prefill, {FAMILY}NAME, {KERNEL}NAME or {PEAK_MEMORY}"

VALUE: Final = ["run_id", "timing", "value", "low", "high", "samples"]
"""The columns of `values_of`."""


@dataclass(frozen=True)
class Measure:
    """What is followed over time.

    Attributes:
        name: as the user gave it.
        unit: "ns" or "bytes".
    """

    name: str
    unit: str


def measure_named(name: str) -> Measure:
    """The measure of this name.

    Raises:
        ConfigError: there is no name, or none behind the colon.
    """
    if not name or name in (FAMILY, KERNEL):
        raise ConfigError(f"--measure {name!r} is not a measure; give {HELP}")
    return Measure(name, "bytes" if name == PEAK_MEMORY else "ns")


def values_of(store: str | Path, measure: Measure) -> pd.DataFrame:
    """One row per run that has the measure, with the columns `VALUE`.

    `value` is the median over the requests, `low` and `high` are their quartiles and `samples` says how many they are;
    of a family, a kernel and memory there is one figure a run. `timing` is `timed` where the run has the measure
    without the profiler, else `profiled`.

    Raises:
        InputError: no run has the measure.
        UnreadableError: the store can't be read.
    """
    if measure.name == PEAK_MEMORY:
        frame = _peaks(store)
    elif measure.name.startswith((FAMILY, KERNEL)):
        frame = _work(store, *measure.name.split(":", 1))
    else:
        frame = _samples(store, measure.name)
    if frame.empty:
        raise InputError(f"no run in {shown_url(str(store))} has the measure {measure.name!r}; {_known(store)}")
    return frame[VALUE]


def _samples(store: str | Path, name: str) -> pd.DataFrame:
    rows = Store(store).table("samples", {"measure": name})
    if rows.empty:
        return rows
    has_timed = rows["run_id"].isin(rows.loc[rows["timing"] == "timed", "run_id"])
    rows = rows[~has_timed | (rows["timing"] == "timed")]
    by_run = rows.groupby(["run_id", "timing"], sort=False)["value_ns"]
    quartiles = by_run.quantile(np.array([0.25, 0.5, 0.75])).unstack()
    quartiles.columns = ["low", "value", "high"]
    return quartiles.assign(samples=by_run.size()).reset_index()


def _work(store: str | Path, column: str, name: str) -> pd.DataFrame:
    """The time of a family or of a kernel, per request."""
    rows = Store(store).table("kernels", {column: name})
    sums = rows.groupby("run_id", sort=False)["sum_ns"].sum()
    requests = Store(store).runs().set_index("run_id")["requests"]
    return _single(sums / requests.reindex(sums.index).clip(lower=1))


def _peaks(store: str | Path) -> pd.DataFrame:
    """The most that any device's allocator had given out; the host's where there is no device."""
    rows = Store(store).table("memory")
    rows = rows[rows["request"].isna()]
    on_device = rows["allocator"] != "host"
    has_device = rows["run_id"].isin(rows.loc[on_device, "run_id"])
    return _single(rows[on_device | ~has_device].groupby("run_id", sort=False)["peak_bytes"].max())


def _single(values: pd.Series) -> pd.DataFrame:
    frame = values.rename("value").astype("float64").reset_index()
    return frame.assign(timing="profiled", low=frame["value"], high=frame["value"], samples=1)


def _known(store: str | Path) -> str:
    names = sorted(set(read_table(store, "samples").column("measure").to_pylist()))
    return (
        f"give one of {', '.join(names)}, {FAMILY}NAME, {KERNEL}NAME, {PEAK_MEMORY}" if names else "it has no samples"
    )
