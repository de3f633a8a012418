"""What a page shows of a run: plain, frozen, small enough to be passed between processes. Numbers are raw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from gemma_trace.advice.findings import Advice
from gemma_trace.analysis.changes import TraceDiff
from gemma_trace.analysis.decode import TokenIntervals, TokenSource
from gemma_trace.analysis.kernels import KernelTotals
from gemma_trace.analysis.size_curve import SizedRun
from gemma_trace.analysis.stage_lines import StageLine
from gemma_trace.analysis.stage_splits import FamilyLine, KernelLine
from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.tree import TreeNode
from gemma_trace.health.findings import Health
from gemma_trace.report.table import Table


@dataclass(frozen=True)
class PageDetail:
    """How much of each run a page shows; what is left out is said on the page.

    Attributes:
        kernels: rows of the table of kernels.
        tree_depth, tree_min_pct: as `analysis.tree.prune` takes them; no depth, no tree.
        cells: into how many cells of equal length a lane is cut that has more stretches than that.
    """

    kernels: int
    tree_depth: int
    tree_min_pct: float
    cells: int


FULL: Final = PageDetail(kernels=100, tree_depth=9, tree_min_pct=0.5, cells=800)
BRIEF: Final = PageDetail(kernels=25, tree_depth=6, tree_min_pct=2.0, cells=400)
SHORT: Final = PageDetail(kernels=10, tree_depth=0, tree_min_pct=0.0, cells=200)

MOST_RUNS: Final = 32
"""A page has the details of no more runs than this; the overview has them all."""


def detail_for(runs: int) -> PageDetail:
    """How much there is room for: a page of so many runs stays at about 1 MB."""
    return FULL if runs <= 4 else BRIEF if runs <= 12 else SHORT


@dataclass(frozen=True)
class Stretch:
    """A bar of a lane.

    Attributes:
        start_ns, end_ns: from the request's start.
        own_ns: how much of it is the stage's; less than its length where stretches were drawn as one.
    """

    start_ns: int
    end_ns: int
    stage: str
    own_ns: int


@dataclass(frozen=True)
class DrawnLane:
    """A lane of stages.

    Attributes:
        name: `host`, `device`, or of several devices `device` and the index of each.
        title: of several devices, each one's marketing name; "" where the trace doesn't tell, and of all else.
        stretches: disjoint, by start.
        cell_ns: where the lane has too many stretches to draw, the length of the cells it was cut into: each shows
            the stage that has most of it. None where every stretch is drawn as it is.
        sums_ns: the lane's exact length by stage, whatever is drawn.
    """

    name: str
    stretches: tuple[Stretch, ...]
    cell_ns: float | None
    sums_ns: tuple[tuple[str, int], ...]
    title: str = ""


@dataclass(frozen=True)
class Waterfall:
    """One request over time.

    Attributes:
        label: "request 0", or what the window is in a trace that has no requests of ours.
        index: of the request in its trace.
        requests: how many the trace has; this is the median one.
        wall_ns: the window's length.
        ttft_ns: under the profiler; None where the trace doesn't tell.
        first_token_ns: from the request's start, so with `image_load`; None likewise.
        lanes: the host's, then that of each device that ran anything.
    """

    label: str
    index: int
    requests: int
    wall_ns: int
    ttft_ns: int | None
    first_token_ns: int | None
    lanes: tuple[DrawnLane, ...]


@dataclass(frozen=True)
class Kernels:
    """The table of kernels.

    Attributes:
        on: `device`, or `host` where nothing ran on a device.
        total_rows: how many there are, shown or not.
        sum_ns: of all rows, shown or not.
        table: the lines as a table.
    """

    on: Literal["device", "host"]
    lines: tuple[KernelLine, ...]
    total_rows: int
    sum_ns: int
    totals: KernelTotals
    table: Table[KernelLine]


@dataclass(frozen=True)
class DecodeSeries:
    """How long each token after the first took.

    Attributes:
        source: as in `DecodeStatistics`.
        requests: how many the series is of.
        steps: the intervals by token, or by several where there are many.
        summary: TPOT, tokens per second, slope and jitter.
    """

    source: TokenSource
    requests: int
    steps: tuple[TokenIntervals, ...]
    summary: Table[Any]


@dataclass(frozen=True)
class Fact:
    """A line of the environment."""

    name: str
    value: str


@dataclass(frozen=True)
class Facts:
    """Some lines of the environment under a heading."""

    title: str
    lines: tuple[Fact, ...]


@dataclass(frozen=True)
class Headline:
    """The one number, and where it comes from.

    Attributes:
        name: "TTFT", or "wall" in traces without a first token.
        measured: in ms.
        timing: whether the profiler was off (`timed`) or on.
        labels: what each value is of, e.g. "request 3, 1024x768".
        inflation: profiled over timed TTFT; None where there is no timed pass.
    """

    name: Literal["TTFT", "wall"]
    measured: Distribution
    timing: Literal["timed", "profiled"]
    labels: tuple[str, ...]
    inflation: float | None


@dataclass(frozen=True)
class OverviewRow:
    """A run among others.

    Attributes:
        parts_ms: what its bar is made of, by stage, in order: of `ttft` the medians of the stages up to the first
            token, of `wall` the means a profiled request.
        measures: by name, as in `RunSummary`.
    """

    parts_ms: tuple[tuple[str, float], ...]
    wall_parts_ms: tuple[tuple[str, float], ...]
    measures: dict[str, Distribution | None]
    runs: int


@dataclass(frozen=True)
class RunView:
    """A run as the page shows it.

    Attributes:
        label: the run's name, or the file's.
        file: the file's name without its folders.
        identity: model, weights, dtype and so on; empty where the trace isn't ours.
        weights: `random` or `pretrained`; "" where the trace isn't ours.
        created_utc: when it was captured; "" likewise.
        stage_table: the stages as a table.
        tables: what else is known of the median request, each table under its own heading.
        tree: pruned; None where there is no room for it.
        decode: None where there was at most one token.
        hta: Holistic Trace Analysis's tables, where it was asked for.
        sized: its requests with their sizes.
        stage: the only stage that `stage_table`, families, kernels and tree are of; None where they are of all.
        advice: what to change; None where just one stage is shown.
    """

    label: str
    file: str
    identity: tuple[str, ...]
    weights: str
    created_utc: str
    headline: Headline
    overview: OverviewRow
    waterfall: Waterfall
    stages: tuple[StageLine, ...]
    stage_table: Table[StageLine]
    families: tuple[FamilyLine, ...]
    kernels: Kernels
    tables: tuple[Table[Any], ...]
    tree: TreeNode | None
    decode: DecodeSeries | None
    health: Health
    facts: tuple[Facts, ...]
    sized: SizedRun
    hta: tuple[Table[Any], ...] = ()
    stage: str | None = None
    advice: Advice | None = None

    @property
    def is_ours(self) -> bool:
        """Whether gemma-trace captured it, so that there are timings without the profiler and an environment."""
        return bool(self.identity)


@dataclass(frozen=True)
class Pair:
    """Two runs side by side."""

    diff: TraceDiff
    before: RunView
    after: RunView


@dataclass(frozen=True)
class PageContent:
    """Everything that a page shows.

    Attributes:
        runs: in the order given; of pairs, before and after by turns.
        pairs: the comparisons, if two sides were asked for.
        remarks: what was left out, a line each.
    """

    title: str
    runs: tuple[RunView, ...]
    pairs: tuple[Pair, ...] = ()
    remarks: tuple[str, ...] = ()
