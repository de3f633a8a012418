"""A trace's row in `runs`: what was run, on what, when, and what came of it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import numpy as np

from gemma_trace._version import __version__
from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.foreign import NONE, text, value_of
from gemma_trace.metadata import RunMetadata
from gemma_trace.ranks.identity import identity_of
from gemma_trace.store.private import Texts
from gemma_trace.store.schema import UNKNOWN_DAY
from gemma_trace.trace.trace import Trace

NAME_DIGITS: Final = 12
"""So many digits of its id are the name of a run whose own isn't kept."""

_EARLIEST_NS: Final = 1_000_000_000 * 10**9
"""September 2001, before any profiler of PyTorch: times below it don't count from 1970."""

_LATEST_NS: Final = 1 << 62
"""The year 2116."""

_ASIDE: Final = frozenset({"model", "prompt", "images", "name", "output", "stage_modules"})
"""Options of a capture that are kept in a column of their own, or not at all."""

_FRAMEWORKS: Final = ("vllm", "sglang", "transformers")
"""The programs that a frame or an op with their name tells; the one on top of the others first."""

Header = Mapping[str, msgspec.Raw]


def run_row(
    run_id: str, trace: Trace, header: Header, stages: StageBreakdown, run: RunSummary, texts: Texts, file_bytes: int
) -> dict[str, Any]:
    """The row by its columns.

    Args:
        header: the top-level members of the trace's file.
        stages, run: the trace's breakdown and summary.
        file_bytes: the size of its file.
    """
    identity = identity_of(trace.distributed, trace.path)
    ttfts_ns = [request.ttft_ns for request in run.requests if request.ttft_ns is not None]
    return {
        "run_id": run_id,
        "name": texts.symbol(trace.label) if texts.keep_names else run_id[:NAME_DIGITS],
        "rank": _known(identity.rank),
        "world_size": _known(identity.world_size),
        "created_ns": created_ns(trace),
        **_identity(trace.metadata, texts),
        **_environment(trace, header, texts),
        "config": _config(trace.metadata, texts),
        "verdict": run.health.verdict,
        "requests": len(stages.requests),
        "spans": len(trace.spans),
        "activities": len(trace.activities),
        "wall_ns": stages.totals.wall_ns,
        "timing": run.timing,
        "ttft_ns": int(statistics.median_low(ttfts_ns) + statistics.median_high(ttfts_ns)) // 2 if ttfts_ns else None,
        "ttft_samples": len(ttfts_ns),
        "inflation": run.inflation,
        "file_bytes": file_bytes,
        "file": texts.path,
        "indexer": __version__,
    }


def created_ns(trace: Trace) -> int | None:
    """When a trace was captured, in ns since 1970; None where it doesn't tell."""
    if trace.metadata:
        try:
            told = datetime.fromisoformat(trace.metadata.created_utc)
            told = told if told.tzinfo else told.replace(tzinfo=UTC)
            return _plausible(int(told.timestamp()) * 10**9)
        except (ValueError, OverflowError, OSError):
            pass
    return _plausible(trace.base_ns + int(trace.spans.ts_ns.min()))


def day_of(ns: int | None) -> str:
    """The day of a time, in UTC; that of unknown times for None.

    >>> day_of(1_767_189_312_000_000_000)
    '2025-12-31'
    """
    return UNKNOWN_DAY if ns is None else datetime.fromtimestamp(ns // 10**9, UTC).date().isoformat()


def _plausible(ns: int) -> int | None:
    return ns if _EARLIEST_NS <= ns < _LATEST_NS else None


def _known(value: int) -> int | None:
    return None if value == NONE else value


def _identity(metadata: RunMetadata | None, texts: Texts) -> dict[str, str | None]:
    names = ("model", "weights", "dtype", "device", "image_backend")
    return {name: texts.told(getattr(metadata.run, name)) if metadata else None for name in names}


def _environment(trace: Trace, header: Header, texts: Texts) -> dict[str, Any]:
    """Versions and hardware: what our capture says, or what other profilers and programs write into the header."""
    devices = np.unique(trace.spans.device[trace.activities]).tolist()
    first = trace.devices.get(devices[0], "") if devices else ""
    if trace.metadata:
        environment = trace.metadata.environment
        server, _, version = str(trace.metadata.config.get("server") or "").partition(" ")
        told = {
            "device_name": environment.device_name or first,
            "driver": environment.driver,
            "cuda": environment.cuda,
            "torch": environment.torch,
            "transformers": environment.transformers,
            "python": environment.python,
            "framework": server or "gemma-trace",
            "framework_version": version if server else environment.gemma_trace,
        }
    else:
        framework = _framework(trace, header)
        told = {
            "device_name": first,
            "driver": _first(header, "cuda_driver_version", "hip_driver_version", "driver_version"),
            "cuda": _first(header, "cuda_runtime_version", "hip_runtime_version", "cuda_version"),
            "torch": _first(header, "torch_version", "pytorch_version"),
            "transformers": _first(header, "transformers_version"),
            "python": _first(header, "python_version"),
            "framework": framework,
            "framework_version": _first(header, f"{framework}_version") if framework else "",
        }
    return {name: texts.told(value) for name, value in told.items()} | {"devices": len(devices)}


def _first(header: Header, *keys: str) -> str:
    """The first of some members of a header that has a text or a number; "" where none has."""
    values = (text(value_of(header[key])) for key in keys if key in header)
    return next((value for value in values if value), "")


def _framework(trace: Trace, header: Header) -> str:
    names = "\n".join(trace.spans.names)
    for framework in _FRAMEWORKS:
        marks = (f"{framework}/", f"{framework}::", f"{framework}.")
        if f"{framework}_version" in header or any(mark in names for mark in marks):
            return framework
    return ""


def _config(metadata: RunMetadata | None, texts: Texts) -> str | None:
    if metadata is None:
        return None
    kept = {
        texts.symbol(name): texts.symbol(value) if isinstance(value, str) else value
        for name, value in metadata.config.items()
        if name not in _ASIDE and not isinstance(value, list)
    }
    return msgspec.json.encode(kept, order="sorted").decode()
