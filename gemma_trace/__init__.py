"""Where does the time to the first token of a multimodal model go?

    import gemma_trace

    trace = gemma_trace.load("traces/tiny-float32-cpu-torchvision/rank0.1.pt.trace.json.gz")
    gemma_trace.breakdown(trace).rows              # where the wall time went, stage by stage
    gemma_trace.kernel_table(trace, "prefill")     # which kernels cost a stage its time
    gemma_trace.summarize(trace).measures          # TTFT and its parts, with spread
    gemma_trace.diff(trace, other).stages          # what changed, with intervals
    gemma_trace.critical_path(trace, gemma_trace.find_requests(trace)[0])   # the chain that fills a request
    gemma_trace.decode_statistics(trace)           # the tokens after the first
    gemma_trace.memory_use(trace)                  # peaks and growth by stage, if memory was profiled
    gemma_trace.export_trace(trace, Path("out.json.gz"))     # for viewers, without loss

    gemma_trace.profile(image_backend="pil")       # capture; needs the extra gemma-trace[capture]

Names are imported on first use, so that importing this package costs nothing and never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gemma_trace._version import __version__

if TYPE_CHECKING:
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.critical_path import critical_path
    from gemma_trace.analysis.decode import decode_statistics
    from gemma_trace.analysis.diff import diff
    from gemma_trace.analysis.kernels import kernel_table
    from gemma_trace.analysis.memory import memory_use
    from gemma_trace.analysis.statistics import Distribution
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.analysis.timeline import find_requests
    from gemma_trace.capture.annotate import annotate
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.session import profile
    from gemma_trace.errors import GemmaTraceError
    from gemma_trace.export.viewer import export_trace
    from gemma_trace.stages import Stage
    from gemma_trace.trace.trace import Trace, load

__all__ = [
    "CaptureConfig",
    "Distribution",
    "GemmaTraceError",
    "Stage",
    "Trace",
    "__version__",
    "annotate",
    "breakdown",
    "critical_path",
    "decode_statistics",
    "diff",
    "export_trace",
    "find_requests",
    "kernel_table",
    "load",
    "memory_use",
    "profile",
    "summarize",
]

_HOME = {
    "CaptureConfig": "gemma_trace.capture.config",
    "Distribution": "gemma_trace.analysis.statistics",
    "GemmaTraceError": "gemma_trace.errors",
    "Stage": "gemma_trace.stages",
    "Trace": "gemma_trace.trace.trace",
    "annotate": "gemma_trace.capture.annotate",
    "breakdown": "gemma_trace.analysis.breakdown",
    "critical_path": "gemma_trace.analysis.critical_path",
    "decode_statistics": "gemma_trace.analysis.decode",
    "diff": "gemma_trace.analysis.diff",
    "export_trace": "gemma_trace.export.viewer",
    "find_requests": "gemma_trace.analysis.timeline",
    "kernel_table": "gemma_trace.analysis.kernels",
    "load": "gemma_trace.trace.trace",
    "memory_use": "gemma_trace.analysis.memory",
    "profile": "gemma_trace.capture.session",
    "summarize": "gemma_trace.analysis.summary",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'gemma_trace' has no attribute {name!r}")
    if name in ("annotate", "profile"):
        from gemma_trace.capture import require_capture_extra

        require_capture_extra()
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
