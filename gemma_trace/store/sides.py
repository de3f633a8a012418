"""Runs of a store as sides of a comparison: their stages, to the nanosecond those of their traces.

Of what is inside of the stages a store has sums over the trace and no values per request, so that it isn't compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from gemma_trace.analysis.sides import Side, stage_values
from gemma_trace.analysis.summary import MEASURES, RequestMeasures, RunSummary, measures_of
from gemma_trace.errors import InputError
from gemma_trace.health.findings import Finding, Health, Severity
from gemma_trace.metadata import RunMetadata
from gemma_trace.store.baselines import PREFIX, baseline_of
from gemma_trace.store.rows_by_run import rows_of_store

_RUN: Final = ("model", "weights", "dtype", "device", "image_backend")
_ENVIRONMENT: Final = ("torch", "transformers", "python", "device_name", "driver", "cuda")
_NO_STAGES: Final = frozenset({"wall", "ttft", "tpot", "unattributed", "preprocessing_call"})

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class StoredSide:
    """A run of a store.

    Attributes:
        settings: what is known of its configuration.
    """

    side: Side
    settings: Settings


def stored_sides(store: str | Path, name: str) -> list[StoredSide]:
    """The runs of a baseline.

    Raises:
        InputError: there is no such baseline, or one of its runs isn't in the store any more.
    """
    ids = baseline_of(store, name).runs
    runs = {row["run_id"]: row for row in rows_of_store(store, "runs", ids)}
    if gone := [run for run in ids if run not in runs]:
        raise InputError(f"run {gone[0]} of {PREFIX}{name} isn't in the store any more; set the baseline anew")
    samples, findings = _by_run(rows_of_store(store, "samples", ids)), _by_run(rows_of_store(store, "findings", ids))
    return [_side(runs[run], samples.get(run, []), findings.get(run, [])) for run in ids]


def settings_of(metadata: RunMetadata | None) -> Settings:
    """What a trace says of its configuration, of what a store keeps."""
    if metadata is None:
        return {}
    told = {name: getattr(metadata.run, name) for name in _RUN}
    return told | {name: getattr(metadata.environment, name) for name in _ENVIRONMENT} | {"config": metadata.config}


def differing(first: Settings, second: Settings) -> list[str]:
    """What both say and don't agree on, a line each."""
    a, b = ({**each.get("config", {}), **each} for each in (first, second))
    known = [name for name in a if name in b and name != "config"]
    return [
        f"{name}: {'none' if a[name] is None else a[name]} → {'none' if b[name] is None else b[name]}"
        for name in known
        if a[name] != b[name]
    ]


def stages_alone(side: Side) -> Side:
    """A side without what is inside of its stages."""
    return replace(side, device={}, host={}, tree=None)


def _by_run(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    return by_run


def _side(run: dict[str, Any], samples: list[dict[str, Any]], findings: list[dict[str, Any]]) -> StoredSide:
    requests = {timing: _requests(samples, timing) for timing in ("timed", "profiled")}
    timing: Literal["timed", "profiled"] = "timed" if run["timing"] == "timed" else "profiled"
    side = Side(
        run=_summary(run, timing, requests[timing], findings),
        metadata=None,
        timed_ms=stage_values(requests["timed"]),
        profiled_ms=stage_values(requests["profiled"]),
        requests=run["requests"],
        wall_ms=run["wall_ns"] / max(1, run["requests"]) / 1e6,
        device_stages=frozenset(),
        device={},
        host={},
    )
    known = {name: run[name] for name in (*_RUN, *_ENVIRONMENT)} if run["config"] else {}
    return StoredSide(side, known | {"config": json.loads(run["config"])} if known else {})


def _requests(samples: list[dict[str, Any]], timing: str) -> list[RequestMeasures]:
    values: dict[int, dict[str, int]] = {}
    for row in samples:
        if row["timing"] == timing:
            values.setdefault(row["request"], {})[row["measure"]] = row["value_ns"]
    return [
        RequestMeasures(
            ttft_ns=each.get("ttft"),
            stages_ns={name: value for name, value in each.items() if name not in _NO_STAGES},
            unattributed_ns=each.get("unattributed"),
            tpot_ns=each.get("tpot"),
        )
        for _, each in sorted(values.items())
    ]


def _summary(
    run: dict[str, Any],
    timing: Literal["timed", "profiled"],
    requests: list[RequestMeasures],
    findings: list[dict[str, Any]],
) -> RunSummary:
    measures = measures_of(requests)
    told = [
        Finding(row["code"], Severity(row["severity"]), row["count"], row["message"], "see the trace")
        for row in findings
    ]
    return RunSummary(
        source=Path(run["run_id"]),
        run=run["name"],
        model=run["model"] or "",
        weights=run["weights"] or "",
        dtype=run["dtype"] or "",
        device=run["device"] or "",
        image_backend=run["image_backend"] or "",
        device_name=run["device_name"] or "",
        timing=timing,
        runs=len(requests),
        requests=tuple(requests),
        measures={name: measures.get(name) for name in MEASURES},
        inflation=run["inflation"],
        health=Health().plus(told),
    )
