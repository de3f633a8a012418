"""What `gemma-trace kernels TRACE` does, with Holistic Trace Analysis: load a trace, print its kernels by time."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path


def main() -> int:
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"
    analysis = importlib.import_module("hta.trace_analysis").TraceAnalysis
    path = Path(sys.argv[1]).absolute()
    loaded = analysis(trace_files={0: str(path)}, trace_dir=str(path.parent), include_last_profiler_step=True)
    kinds, kernels = loaded.get_gpu_kernel_breakdown(visualize=False)
    print(kinds.to_string())
    print(kernels.to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
