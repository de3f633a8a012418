"""Runs Holistic Trace Analysis in a process of its own, which its crashes, its log and its memory stay in.

stdin has a JSON list of tasks: `{"file": ..., "unit_ns": ..., "calls": [{"analysis": ..., "options": {...}}]}`. stdout
gets a line of JSON a step: first `{"package": ...}`, then, of each call, `{"task": i, "call": j}` with its `frames`
(tables as columns, by HTA's own names) or its `error`, one line. Nothing else goes there, whatever HTA prints.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, Final, TextIO

KERNEL_WAIT_NS: Final = 30_000
"""HTA's default of 30, which its code compares with µs: a shorter gap between activities is a kernel wait."""

KERNEL_GAP_NS: Final = 1_500_000
"""traceinsight's longest gap between two kernels that its critical path takes for their own delay."""

EVERY_KERNEL: Final = 10**9
"""HTA folds kernels beyond a number into one, and loses the statistics of all others with that; so none beyond."""

_Frames = dict[str, Any]


def main() -> int:
    """Run the tasks on stdin."""
    out = _claim_stdout()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"
    tasks = json.load(sys.stdin)
    try:
        importlib.import_module("gemma_trace.hta.shims").put_on()
        entry = importlib.import_module("hta.trace_analysis").TraceAnalysis
    except Exception as error:  # whatever its import raises
        _send(out, {"broken": _one_line(error)})
        return 1
    _send(out, {"package": _package()})
    for place, task in enumerate(tasks):
        loaded, failure = _load(entry, task["file"])
        for number, call in enumerate(task["calls"]):
            step: dict[str, Any] = {"task": place, "call": number}
            if loaded is None:
                _send(out, step | {"error": failure})
                continue
            try:
                run = ANALYSES[call["analysis"]]
                frames = run(loaded, task["unit_ns"], **call["options"])
                step["frames"] = {name: _columns(frame) for name, frame in frames.items() if frame is not None}
            except Exception as error:  # one analysis that fails costs itself only
                step["error"] = _one_line(error)
            _send(out, step)
    return 0


def _claim_stdout() -> TextIO:
    """Our own way to stdout; what anything else prints there goes to stderr."""
    ours = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return ours


def _send(out: TextIO, value: dict[str, Any]) -> None:
    out.write(json.dumps(value, default=str) + "\n")
    out.flush()


def _one_line(error: Exception) -> str:
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _package() -> str:
    """The distribution that `hta` is of, with its version."""
    names = dict.fromkeys(importlib.metadata.packages_distributions().get("hta", ()))
    return " and ".join(f"{name} {importlib.metadata.version(name)}" for name in names) or "hta"


def _load(entry: Any, file: str) -> tuple[Any, str]:
    """HTA on a file, which is its rank 0; or what it raised."""
    options: dict[str, Any] = {"trace_files": {0: file}, "trace_dir": os.path.dirname(file)}  # noqa: PTH120  plain start
    if "include_last_profiler_step" in inspect.signature(entry).parameters:
        options["include_last_profiler_step"] = True
    try:
        return entry(**options), ""
    except Exception as error:  # whatever the file makes it raise
        return None, _one_line(error)


def _columns(frame: Any) -> dict[str, list[Any]]:
    """A DataFrame as lists by column, its index among them; the parts of a column's name joined."""
    plain = frame.reset_index()
    names = [" ".join(map(str, name)).strip() if isinstance(name, tuple) else str(name) for name in plain.columns]
    return {name: plain.iloc[:, place].tolist() for place, name in enumerate(names)}


def _temporal(loaded: Any, unit_ns: int) -> _Frames:
    return {"temporal": loaded.get_temporal_breakdown(visualize=False)}


def _idle(loaded: Any, unit_ns: int) -> _Frames:
    delay = KERNEL_WAIT_NS // unit_ns
    answer = loaded.get_idle_time_breakdown(visualize=False, visualize_pctg=False, consecutive_kernel_delay=delay)
    return {"idle": answer[0]}


def _kernels(loaded: Any, unit_ns: int) -> _Frames:
    kinds, kernels = loaded.get_gpu_kernel_breakdown(
        visualize=False, duration_ratio=1.0, num_kernels=EVERY_KERNEL, include_memory_kernels=True
    )
    return {"kinds": kinds, "kernels": kernels}


def _launches(loaded: Any, unit_ns: int) -> _Frames:
    return {"launches": loaded.get_cuda_kernel_launch_stats(ranks=[0], visualize=False)[0]}


def _queue(loaded: Any, unit_ns: int) -> _Frames:
    return {"queue": loaded.get_queue_length_summary(ranks=[0])}


def _bandwidth(loaded: Any, unit_ns: int) -> _Frames:
    return {"bandwidth": loaded.get_memory_bw_summary(ranks=[0])}


def _overlap(loaded: Any, unit_ns: int) -> _Frames:
    return {"overlap": loaded.get_comm_comp_overlap(visualize=False)}


def _sequences(loaded: Any, unit_ns: int, *, operators: list[str], shortest: int, folder: str) -> _Frames:
    # HTA also draws the sequences into a copy of the trace, which is where 0.5.0 fails under numpy 2.4. Nobody asked.
    analysis = importlib.import_module("hta.analyzers.cuda_kernel_analysis").CudaKernelAnalysis
    if hasattr(analysis, "_overlay_frequent_patterns_with_trace"):
        analysis._overlay_frequent_patterns_with_trace = classmethod(lambda *_, **__: {})
        loaded.t.write_raw_trace = lambda *_, **__: None
    for operator in operators:
        sequences = loaded.get_frequent_cuda_kernel_sequences(
            operator_name=operator, output_dir=folder, min_pattern_len=shortest, rank=0, top_k=1, visualize=False
        )
        if len(sequences):
            return {"sequences": sequences}
    return {}


def _critical_path(loaded: Any, unit_ns: int, *, annotation: str, instance: int) -> _Frames:
    module: Any = importlib.import_module("hta.analyzers.critical_path_analysis")
    if hasattr(module, "KERNEL_KERNEL_DELAY_THRESHOLD_US"):  # from 0.6 on; a longer gap is no delay between kernels
        module.KERNEL_KERNEL_DELAY_THRESHOLD_US = KERNEL_GAP_NS / unit_ns
    path = loaded.critical_path_analysis(rank=0, annotation=annotation, instance_id=instance)
    if not path or not path[1]:
        raise ValueError("no path through its graph")
    edges = path[0].get_critical_path_breakdown()
    return {"path": edges.groupby("bound_by")[["duration"]].sum()}


ANALYSES: Final[dict[str, Callable[..., _Frames]]] = {
    "temporal": _temporal,
    "idle": _idle,
    "kernels": _kernels,
    "launches": _launches,
    "queue": _queue,
    "bandwidth": _bandwidth,
    "overlap": _overlap,
    "sequences": _sequences,
    "critical_path": _critical_path,
}
"""Parts the names in `model.Analysis`."""

if __name__ == "__main__":
    sys.exit(main())
