"""The findings that the profiler makes a capture's requests longer, and which stages it distorts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from gemma_trace.analysis.distortion import StageDistortion
from gemma_trace.health.findings import Finding, Severity
from gemma_trace.metadata import RunMetadata
from gemma_trace.wording import counted

NOTABLE_FACTOR: Final = 1.5
"""A stage that takes over this many times as long under the profiler is distorted, if that adds `NOTABLE_SHARE`."""

NOTABLE_SHARE: Final = 0.05
"""Of the timed request."""


NOTABLE_INFLATION: Final = 1.25
"""A TTFT that is so many times as long under the profiler as without it is a finding."""


SLOWER_TIMED_PASS: Final = 0.8
"""Nothing is quicker under the profiler: a TTFT of fewer times the timed one means that the machine's speed changed."""


def inflation_findings(inflation: float | None, metadata: RunMetadata | None) -> Iterator[Finding]:
    """That requests take much longer under the profiler, or, which it can't have done, much shorter."""
    if metadata is None or inflation is None:
        return
    if inflation >= NOTABLE_INFLATION:
        yield Finding(
            "profiler_inflation",
            Severity.WARNING,
            1,
            f"TTFT took {inflation:.2f} times as long under the profiler as without it",
            "use the timed columns for times and the profiled ones for shares" + _or_lighter(metadata),
        )
    elif inflation <= SLOWER_TIMED_PASS:
        yield Finding(
            "slower_without_profiler",
            Severity.WARNING,
            1,
            f"TTFT took {1 / inflation:.2f} times as long without the profiler as under it, so the machine was slower "
            "in the timed pass",
            "capture again while nothing else runs, with more timed requests (--runs N)",
        )


def distortion_findings(distortions: Sequence[StageDistortion], metadata: RunMetadata | None) -> Iterator[Finding]:
    """Which stages the profiler makes so much longer that their share of a request is off."""
    wrong = [each for each in distortions if each.factor > NOTABLE_FACTOR and each.added_share > NOTABLE_SHARE]
    if metadata is None or not wrong:
        return
    most = wrong[0]
    others = "".join(f", {each.stage} × {each.factor:.2f}" for each in wrong[1:])
    yield Finding(
        "profiler_distortion",
        Severity.WARNING,
        len(wrong),
        f"the profiler distorts {most.stage} most: it takes {most.factor:.2f} times as long as without it, "
        f"{most.profiled_ns / 1e6:,.3f} instead of {most.timed_ns / 1e6:,.3f} ms "
        f"({counted(most.requests, 'request')}){others}",
        "its share of the profiled time is too large: use the timed columns" + _or_lighter(metadata),
    )


def _or_lighter(metadata: RunMetadata) -> str:
    lighter = metadata.lighter_options()
    return f", or capture {lighter}" if lighter else ""
