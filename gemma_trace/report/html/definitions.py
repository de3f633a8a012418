"""How each number of the page is defined: the rows of analysis/README.md that it needs, word for word.

A test holds the two against each other; the page can't link to a file that isn't mailed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Definition:
    """A number.

    Attributes:
        shown: what the page calls it.
        name: what analysis/README.md calls it in the section's table.
        text: its formula.
    """

    shown: str
    name: str
    text: str


@dataclass(frozen=True)
class DefinitionGroup:
    """Numbers of one part of the page.

    Attributes:
        section: the heading in analysis/README.md, without marks.
    """

    title: str
    section: str
    definitions: tuple[Definition, ...]


def _group(title: str, section: str, *rows: tuple[str, str, str]) -> DefinitionGroup:
    return DefinitionGroup(title, section, tuple(Definition(*row) for row in rows))


DEFINITIONS: Final = (
    _group(
        "The page",
        "report",
        (
            "headline",
            "headline",
            "ttft_ms of the requests that ran without the profiler, else of the profiled ones; in a trace without a "
            "first token the wall time of the profiled requests",
        ),
        (
            "median request",
            "median request",
            "the profiled request whose TTFT (without one, wall time) is the median; of two in the middle the faster. "
            "Lanes, stages, families, kernels and tree are of it",
        ),
        ("host lane", "host lane", "the innermost stage open on the request's thread"),
        (
            "device lane",
            "device lane",
            "the stage whose activity the device runs, the earliest started where several run; gaps are idle",
        ),
        (
            "cells",
            "cells",
            "a lane of more stretches than the page has room for is cut into cells of equal length, each drawn as the "
            "stage that has most of it; figures stay exact",
        ),
        (
            "bar of a run",
            "bar of a run",
            "medians of the stages up to the first token, end to end; the line is the median TTFT, the box its "
            "quartiles. Where a run has no TTFT: means of time_ns a profiled request",
        ),
        (
            "decode interval",
            "decode interval",
            "a token's time on the host less that of the token before it, over the requests without the profiler; "
            "where there are none, the length of a decode range on the host",
        ),
    ),
    _group(
        "Time to first token",
        "summarize",
        ("TTFT", "ttft_ms", "messages in hand → first token id on the host, less image_load"),
        ("image processing share", "image_processing_share_pct", "100 · image_processing / TTFT"),
        ("TPOT", "tpot_ms", "mean interval between the tokens after the first"),
        ("profiled TTFT", "profiled_ttft_ms", "TTFT of the profiled requests, out of the trace"),
        (
            "× timed",
            "profiler_inflation",
            "median over the profiled requests of their TTFT / the median timed TTFT with the same image",
        ),
    ),
    _group(
        "Stages",
        "stages",
        ("time", "time_ns", "share of the request's wall time; Σ over stages = wall, exactly"),
        ("device", "device_ns", "the part of time_ns in which the device works for the stage"),
        (
            "exposed host",
            "exposed_host_ns",
            "the part in which all devices are idle and the stage is the innermost open on the request's thread; where "
            "that has none or only waits, the one open on another thread of the request",
        ),
        (
            "host",
            "host_ns",
            "length of the stage's ranges on the host, less that of the stages nested in them",
        ),
    ),
    _group(
        "Kernels and ops",
        "kernels",
        ("count, sum", "count, sum_ns", "activities of this row, Σ of their durations"),
        ("%", "share_pct", "100 · sum_ns / Σ sum_ns of all rows"),
        ("median, mean, max", "min_ns, median_ns, mean_ns, max_ns", "of the durations"),
        (
            "latency",
            "launch_latency_ns",
            "median of: start of the activity less start of the launching call; long where the device is behind",
        ),
        (
            "family",
            "family",
            "what kind of work most of the row's time is, by the kernel's name, its template arguments, the op that "
            "launched it (gemma_trace/analysis/taxonomy.py)",
        ),
    ),
    _group(
        "Tree",
        "tree",
        ("host", "host_ns", "Σ time, on any thread, in which a span below the node is the innermost on its thread"),
        ("device", "device_ns", "Σ duration of the activities launched from below the node"),
    ),
)

DIFF_DEFINITIONS: Final = _group(
    "Comparison",
    "diff",
    (
        "before, after",
        "before_ms, after_ms",
        "Distribution over the requests; of several processes a value per process, the median of its "
        "requests; of structure the mean per request",
    ),
    (
        "Δ ms, Δ %",
        "difference_ms, relative_pct",
        "median after less median before, of several processes the means of their medians; over what was before",
    ),
    (
        "95% interval",
        "interval_low_ms, interval_high_ms",
        "95% interval of that difference. Of several processes per side: ± Student's t · standard error, "
        "which a bootstrap on two levels gives (1,000 resamples of the processes, and of their requests "
        "in blocks; Davison & Hinkley 1997, 3.8), with k − 1 degrees of freedom for k paired rounds, else"
        " Welch's and Satterthwaite's. Of one process per side: the percentile bootstrap of its requests "
        "in blocks, from n = 5 a side; run-to-run variation is not in it",
    ),
    (
        "slower, faster",
        "status",
        "slower, faster: the difference is 1% of what was before and certain. Of several processes "
        "certain is p_value < 0.05; of one process per side, that the difference exceeds the noise floor "
        "(50%, or what --noise shows; and 0.1% of a request) and its interval, if there is one, leaves "
        "out 0. Inside of stages it is also 0.1% of a request. new, vanished: on one side only. Else same",
    ),
)
