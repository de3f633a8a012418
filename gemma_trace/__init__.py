"""Where does the time to the first token of a multimodal model go?

    import gemma_trace

    trace = gemma_trace.load("traces/demo")        # a file, a folder that holds one, or a URL
    trace.stages()                                 # where the wall time went, stage by stage
    trace.kernels("prefill", by="op")              # what costs a stage its time
    trace.tree(); trace.critical_path(0)           # the call tree; the chain that fills a request
    trace.summary().measures                       # TTFT and its parts, with spread
    trace.check()                                  # what is missing, damaged or odd
    trace.report("page.html")                      # one HTML file
    trace.stages().to_frame()                      # any of these as a DataFrame
    gemma_trace.diff(trace, other)                 # what changed, with intervals
    gemma_trace.load_ranks("traces/job8")          # many ranks of one job: waits, stragglers, collectives
    gemma_trace.Store("store").index("traces")     # thousands of traces: what they say, in tables
    trace.sql("SELECT name, dur_ns FROM activities")  # its tables in SQL; a store's too
    gemma_trace.export_trace(trace, Path("out.json.gz"))     # for viewers, without loss

    gemma_trace.profile(image_backend="pil")       # capture; needs the extra gemma-trace[capture]

Names are imported on first use, so that importing this package costs nothing and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gemma_trace._version import __version__

if TYPE_CHECKING:
    from gemma_trace.advice.findings import Advice
    from gemma_trace.analysis.allocations import MemoryUse, memory_use
    from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
    from gemma_trace.analysis.changes import TraceDiff
    from gemma_trace.analysis.critical_path import CriticalPath, critical_path
    from gemma_trace.analysis.decode import DecodeStatistics, decode_statistics
    from gemma_trace.analysis.diff import diff
    from gemma_trace.analysis.kernels import KernelTable, kernel_table
    from gemma_trace.analysis.lanes import DeviceLanes, StageLanes, device_lanes, stage_lanes
    from gemma_trace.analysis.reasons import StageReason, StageReasons, stage_reasons
    from gemma_trace.analysis.roofline.floors import StageFloor, stage_floors
    from gemma_trace.analysis.statistics import Distribution
    from gemma_trace.analysis.summary import RunSummary, summarize
    from gemma_trace.analysis.timeline import StageTime
    from gemma_trace.analysis.tree import TreeNode, call_tree
    from gemma_trace.api import FolderDiff, Trace, advise_all, diff_folders, load, load_all, load_ranks
    from gemma_trace.capture.annotate import annotate
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.session import profile
    from gemma_trace.errors import (
        CaptureError,
        ConfigError,
        GemmaTraceError,
        InputError,
        MissingExtraError,
        OutputError,
        TraceFormatError,
        UnreadableError,
    )
    from gemma_trace.export.redact import redact
    from gemma_trace.export.viewer import export_trace
    from gemma_trace.health.examine import examine
    from gemma_trace.health.findings import Finding, Health
    from gemma_trace.ranks.job import Job
    from gemma_trace.ranks.stragglers import Straggler
    from gemma_trace.stages import Stage, StageRule, stage_rule
    from gemma_trace.store.store import Store
    from gemma_trace.trace.requests import Request
    from gemma_trace.whatif.engine import WhatIf

__all__ = [
    "Advice",
    "CaptureConfig",
    "CaptureError",
    "ConfigError",
    "CriticalPath",
    "DecodeStatistics",
    "DeviceLanes",
    "Distribution",
    "Finding",
    "FolderDiff",
    "GemmaTraceError",
    "Health",
    "InputError",
    "Job",
    "KernelTable",
    "MemoryUse",
    "MissingExtraError",
    "OutputError",
    "Request",
    "RunSummary",
    "Stage",
    "StageBreakdown",
    "StageFloor",
    "StageLanes",
    "StageReason",
    "StageReasons",
    "StageRule",
    "StageTime",
    "Store",
    "Straggler",
    "Trace",
    "TraceDiff",
    "TraceFormatError",
    "TreeNode",
    "UnreadableError",
    "WhatIf",
    "__version__",
    "advise_all",
    "annotate",
    "breakdown",
    "call_tree",
    "critical_path",
    "decode_statistics",
    "device_lanes",
    "diff",
    "diff_folders",
    "examine",
    "export_trace",
    "kernel_table",
    "load",
    "load_all",
    "load_ranks",
    "memory_use",
    "profile",
    "redact",
    "stage_floors",
    "stage_lanes",
    "stage_reasons",
    "stage_rule",
    "summarize",
]

_HOME = {
    "Advice": "gemma_trace.advice.findings",
    "CaptureConfig": "gemma_trace.capture.config",
    "CaptureError": "gemma_trace.errors",
    "ConfigError": "gemma_trace.errors",
    "CriticalPath": "gemma_trace.analysis.critical_path",
    "DecodeStatistics": "gemma_trace.analysis.decode",
    "DeviceLanes": "gemma_trace.analysis.lanes",
    "Distribution": "gemma_trace.analysis.statistics",
    "Finding": "gemma_trace.health.findings",
    "FolderDiff": "gemma_trace.api",
    "GemmaTraceError": "gemma_trace.errors",
    "Health": "gemma_trace.health.findings",
    "InputError": "gemma_trace.errors",
    "Job": "gemma_trace.ranks.job",
    "KernelTable": "gemma_trace.analysis.kernels",
    "MemoryUse": "gemma_trace.analysis.allocations",
    "MissingExtraError": "gemma_trace.errors",
    "OutputError": "gemma_trace.errors",
    "Request": "gemma_trace.trace.requests",
    "RunSummary": "gemma_trace.analysis.summary",
    "Stage": "gemma_trace.stages",
    "StageBreakdown": "gemma_trace.analysis.breakdown",
    "StageFloor": "gemma_trace.analysis.roofline.floors",
    "StageLanes": "gemma_trace.analysis.lanes",
    "StageReason": "gemma_trace.analysis.reasons",
    "StageReasons": "gemma_trace.analysis.reasons",
    "StageRule": "gemma_trace.stages",
    "StageTime": "gemma_trace.analysis.timeline",
    "Store": "gemma_trace.store.store",
    "Straggler": "gemma_trace.ranks.stragglers",
    "Trace": "gemma_trace.api",
    "TraceDiff": "gemma_trace.analysis.changes",
    "TraceFormatError": "gemma_trace.errors",
    "TreeNode": "gemma_trace.analysis.tree",
    "UnreadableError": "gemma_trace.errors",
    "WhatIf": "gemma_trace.whatif.engine",
    "annotate": "gemma_trace.api",
    "breakdown": "gemma_trace.analysis.breakdown",
    "call_tree": "gemma_trace.analysis.tree",
    "critical_path": "gemma_trace.analysis.critical_path",
    "decode_statistics": "gemma_trace.analysis.decode",
    "device_lanes": "gemma_trace.analysis.lanes",
    "diff": "gemma_trace.analysis.diff",
    "diff_folders": "gemma_trace.api",
    "examine": "gemma_trace.health.examine",
    "export_trace": "gemma_trace.export.viewer",
    "kernel_table": "gemma_trace.analysis.kernels",
    "load": "gemma_trace.api",
    "advise_all": "gemma_trace.api",
    "load_all": "gemma_trace.api",
    "load_ranks": "gemma_trace.api",
    "memory_use": "gemma_trace.analysis.allocations",
    "profile": "gemma_trace.api",
    "redact": "gemma_trace.export.redact",
    "stage_floors": "gemma_trace.analysis.roofline.floors",
    "stage_lanes": "gemma_trace.analysis.lanes",
    "stage_reasons": "gemma_trace.analysis.reasons",
    "stage_rule": "gemma_trace.stages",
    "summarize": "gemma_trace.analysis.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gemma_trace' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
