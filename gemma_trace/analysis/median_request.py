"""The median request: the one that is shown where a page or a table shows just one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemma_trace.analysis.breakdown import StageBreakdown
from gemma_trace.analysis.timeline import Request


def median_request(breakdown: StageBreakdown) -> Request:
    """The profiled request whose TTFT is the median, or whose wall time is; of two in the middle the faster."""
    ttfts = [ttft for ttft in breakdown.ttfts_ns if ttft is not None]
    is_complete = len(ttfts) == len(breakdown.requests)
    return breakdown.requests[
        _median_place(ttfts if is_complete else [request.wall_ns for request in breakdown.requests])
    ]


def _median_place(lengths: Sequence[int]) -> int:
    order = np.argsort(lengths, kind="stable")
    return int(order[(len(order) - 1) // 2])
