"""The finding that the profiler distorts a stage of a capture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gemma_trace.analysis.distortion import StageDistortion
from gemma_trace.health.findings import Finding, Severity

NOTABLE_FACTOR: Final = 1.5
"""A stage that takes over this many times as long under the profiler is distorted, if that adds `NOTABLE_SHARE`."""

NOTABLE_SHARE: Final = 0.05
"""Of the timed request."""


def distortion_findings(distortions: Sequence[StageDistortion]) -> Iterator[Finding]:
    """Which stages the profiler makes so much longer that their share of a request is off."""
    wrong = [each for each in distortions if each.factor > NOTABLE_FACTOR and each.added_share > NOTABLE_SHARE]
    if not wrong:
        return
    most = wrong[0]
    others = "".join(f", {each.stage} × {each.factor:.2f}" for each in wrong[1:])
    yield Finding(
        "profiler_distortion",
        Severity.WARNING,
        len(wrong),
        f"the profiler distorts {most.stage} most: it takes {most.factor:.2f} times as long as without it, "
        f"{most.profiled_ns / 1e6:,.3f} instead of {most.timed_ns / 1e6:,.3f} ms ({most.requests} requests){others}",
        "its share of the profiled time is too large; use the timed columns, or capture without --stacks",
    )
