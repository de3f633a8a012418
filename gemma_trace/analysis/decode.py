"""The tokens after the first: how long each takes, whether they get slower as the cache grows, how even they are.

TPOT is MLPerf's time per output token: the mean interval between the tokens of a request, without the wait for the
first (MLPerf Inference rules, LLM benchmarks). A request's series is summed up by a straight line. Its slope is the
median of the slopes of all pairs of points (Theil 1950, Sen 1968), which up to 29% of wild points can't move far: the
first steps are often slow, and one stall says nothing about the cache. Its jitter is the spread around that line, as
1.4826 · the median absolute deviation, which estimates the standard deviation of normal noise (Hampel 1974) and
doesn't follow wild points either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from gemma_trace.analysis.intervals import intersect, union
from gemma_trace.analysis.statistics import BOOTSTRAP_RESAMPLES, Distribution, distribution_ms
from gemma_trace.analysis.timeline import Request, ranges_in
from gemma_trace.arguments import checked
from gemma_trace.metadata import RunMetadata
from gemma_trace.stages import IDLE, REQUEST_CODE, Stage
from gemma_trace.tabular import Tabular
from gemma_trace.trace.clients import client_tokens_ns
from gemma_trace.trace.events import NONE, IntArray
from gemma_trace.trace.places import distinct
from gemma_trace.trace.trace import Trace
from gemma_trace.trace.tree import nest
from gemma_trace.wording import counted

FloatArray = npt.NDArray[np.float64]
TokenSource = Literal["timed", "profiled", "steps"]

MIN_FOR_LINE: Final = 5
"""A request with fewer intervals has no slope and no jitter: a line fits a few points whatever they are."""

MIN_FOR_INTERVAL: Final = 10
"""With fewer intervals a request the slope has no 95% interval."""

MOST_POINTS: Final = 32
"""A longer series is cut into this many stretches, and the line is fitted to their medians."""

MOST_AT_ONCE: Final = 0.25
"""A series in which a larger share of the tokens comes together with the one before has no slope and no jitter."""

MAD_TO_STD: Final = 1.4826
"""1 / the 75th percentile of the standard normal distribution."""

_SAMPLING: Final = list(Stage).index(Stage.SAMPLING)
_DECODE: Final = list(Stage).index(Stage.DECODE)
_PREFILL: Final = list(Stage).index(Stage.PREFILL)


@dataclass(frozen=True)
class DecodeRequest:
    """The tokens after the first of one request.

    Attributes:
        intervals_ns: the first is the interval before the second token; at least one, and not all of them 0.
        series_at: where in them another series begins, in a window of several, as of a server that tells no requests.
    """

    intervals_ns: tuple[int, ...]
    series_at: tuple[int, ...] = ()

    @property
    def series(self) -> list[DecodeRequest]:
        """Its series, each on its own; what is said of the tokens' order is said of these."""
        edges = (0, *self.series_at, len(self.intervals_ns))
        parts = [self.intervals_ns[low:high] for low, high in pairwise(edges)]
        return [DecodeRequest(part) for part in parts if sum(part) > 0]

    @property
    def tpot_ns(self) -> int:
        """The mean interval, rounded down."""
        return sum(self.intervals_ns) // len(self.intervals_ns)

    @property
    def tokens_per_second(self) -> float:
        """What one sequence gets: 1 / the mean interval."""
        return 1e9 * len(self.intervals_ns) / sum(self.intervals_ns)

    @cached_property
    def slope_ns(self) -> float | None:
        """By how much each token takes longer than the one before it; None under `MIN_FOR_LINE` intervals.

        None too where tokens come several at a time, as in assisted decoding: most intervals are then none.
        """
        count = len(self.intervals_ns)
        if count < MIN_FOR_LINE or self.intervals_ns.count(0) > MOST_AT_ONCE * count:
            return None
        token, interval_ns = self._points
        return float(np.median(_pair_slopes(token, interval_ns)))

    @cached_property
    def jitter_pct(self) -> float | None:
        """1.4826 · MAD of the intervals around the line, in percent of the mean interval; None without a line."""
        if self.slope_ns is None:
            return None
        rest = np.asarray(self.intervals_ns) - self.slope_ns * np.arange(len(self.intervals_ns))
        return float(100 * MAD_TO_STD * np.median(np.abs(rest - np.median(rest))) / np.mean(self.intervals_ns))

    def resampled_slopes_ns(self, random: np.random.Generator) -> FloatArray:
        """Slopes of the line with its residuals drawn anew (Efron 1979).

        Residuals of a line of two parameters are too small by √((n - 2) / n), which is made good first.

        Returns:
            float64 [BOOTSTRAP_RESAMPLES].
        """
        token, interval_ns = self._points
        slope = np.median(_pair_slopes(token, interval_ns))
        n = len(token)
        residuals = (interval_ns - slope * token) * np.sqrt(n / (n - 2))
        drawn = random.choice(residuals, (BOOTSTRAP_RESAMPLES, n))
        slopes: FloatArray = slope + np.median(_pair_slopes(token, drawn), axis=-1)
        return slopes

    @property
    def _points(self) -> tuple[FloatArray, FloatArray]:
        """What the line is fitted to: token and interval, of stretches their mean and median."""
        parts = np.array_split(np.arange(len(self.intervals_ns)), min(len(self.intervals_ns), MOST_POINTS))
        values = np.asarray(self.intervals_ns, dtype=np.float64)
        return np.array([part.mean() for part in parts]), np.array([np.median(values[part]) for part in parts])


@dataclass(frozen=True)
class TokenIntervals:
    """The intervals before one token, or before several that follow each other, over the requests.

    Attributes:
        first, last: the tokens, counted from 1; equal where it is one.
        intervals: in ms.
    """

    first: int
    last: int
    intervals: Distribution


@dataclass(frozen=True, repr=False)
class DecodeStatistics(Tabular):
    """The tokens after the first, over the requests of a trace.

    Attributes:
        source: `timed`: between tokens on the host, without the profiler; `profiled`: the same under it, by the ends
            of the sampling ranges; `steps`: between the starts of the decode ranges of a trace that tells no tokens.
            Where a trace tells no requests, a series ends where a prefill begins, and where nothing was to be done for
            longer than a step takes.
        batch: sequences per request, each of which gets one token per step.
        requests: those with two tokens at least; one at least.
    """

    source: TokenSource
    batch: int
    requests: tuple[DecodeRequest, ...]

    @cached_property
    def tpot(self) -> Distribution:
        """Mean interval of each request, in ms."""
        measured = distribution_ms([request.tpot_ns for request in self.requests])
        assert measured is not None
        return measured

    @cached_property
    def tokens_per_second(self) -> Distribution:
        """Tokens per second of one sequence, by request."""
        return Distribution(tuple(request.tokens_per_second for request in self.requests), "tokens/s")

    @cached_property
    def throughput(self) -> Distribution:
        """Tokens per second of the whole batch while it decodes, by request."""
        return Distribution(tuple(self.batch * rate for rate in self.tokens_per_second.values), "tokens/s")

    @cached_property
    def series(self) -> tuple[DecodeRequest, ...]:
        """The series of all requests; one a request where the trace tells its requests."""
        return tuple(series for request in self.requests for series in request.series)

    @cached_property
    def slope(self) -> Distribution | None:
        """Slope of each series' line, in µs a token; None where none has enough tokens."""
        known = [series.slope_ns for series in self.series if series.slope_ns is not None]
        return Distribution(tuple(slope / 1e3 for slope in known), "µs/token") if known else None

    @cached_property
    def slope_interval_us(self) -> tuple[float, float] | None:
        """A 95% interval of the median slope; None unless every series has `MIN_FOR_INTERVAL` intervals.

        By the percentile bootstrap of a fixed seed on two levels, series and within them residuals (Davison and
        Hinkley 1997, 3.8): so it is as wide as either the series or the tokens of a single one make it.
        """
        if min(len(series.intervals_ns) for series in self.series) < MIN_FOR_INTERVAL:
            return None
        if any(series.slope_ns is None for series in self.series):
            return None
        random = np.random.default_rng(0)
        slopes = np.array([series.resampled_slopes_ns(random) for series in self.series])
        drawn = random.integers(len(slopes), size=(len(slopes), BOOTSTRAP_RESAMPLES))
        medians = np.median(np.take_along_axis(slopes, drawn, axis=0), axis=0)
        low, high = np.percentile(medians, [2.5, 97.5])
        return float(low) / 1e3, float(high) / 1e3

    @cached_property
    def jitter(self) -> Distribution | None:
        """Jitter of each series, in % of its TPOT; None where none has enough tokens."""
        known = [series.jitter_pct for series in self.series if series.jitter_pct is not None]
        return Distribution(tuple(known), "%") if known else None

    @property
    def tokens(self) -> int:
        """How many tokens the longest series has, including the first."""
        return 1 + max(len(series.intervals_ns) for series in self.series)

    def token_by_token(self, most: int | None = None) -> tuple[TokenIntervals, ...]:
        """The intervals token by token.

        Args:
            most: where there are more tokens than this, stretches of equal length take their place; None is never.
        """
        longest = self.tokens - 1
        width = -(-longest // most) if most else 1
        steps = []
        for low in range(0, longest, width):
            high = min(low + width, longest)
            values = distribution_ms([ns for series in self.series for ns in series.intervals_ns[low:high]])
            assert values is not None
            steps.append(TokenIntervals(low + 2, high + 1, values))
        return tuple(steps)

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"{counted(self.tokens, 'token')}, TPOT {self.tpot.median:,.3f} ms, {self.source}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per token after the first, over the requests."""
        for token in self.token_by_token():
            yield {"token": token.first, "median_ms": token.intervals.median, "n": token.intervals.n}


@checked
def decode_statistics(trace: Trace, requests: Sequence[Request] | None = None) -> DecodeStatistics | None:
    """The tokens after the first, from the best that a trace has to tell; None where it has no two tokens.

    Args:
        requests: the profiled requests to take where there is no timed pass; None is all.
    """
    metadata = trace.metadata
    if metadata and metadata.timed_requests:
        batch = metadata.config.get("batch")
        taken = [[np.asarray(sample.token_ns, dtype=np.int64)] for sample in metadata.timed_requests]
        return _statistics("timed", batch if isinstance(batch, int) else 1, taken)
    windows = trace.requests if requests is None else requests
    batch = metadata.config.get("batch") if metadata else None
    sampled = [_with_all_tokens(_token_ns(trace, window), metadata, window) for window in windows]
    if REQUEST_CODE in trace.stage_range:
        series = [[ns] for ns in sampled]
    else:
        series = [_split(trace, ns, ns) for ns in sampled]
    statistics = _statistics("profiled", batch if isinstance(batch, int) else 1, series)
    return statistics or _statistics("steps", 1, _step_series(trace, windows))


def _statistics(source: TokenSource, batch: int, instants: Sequence[Sequence[IntArray]]) -> DecodeStatistics | None:
    """Statistics of what lies between instants, which are int64 [tokens] for each series of each request."""
    requests = []
    for series in instants:
        intervals = [tuple(np.diff(ns).tolist()) for ns in series if len(ns) > 1]
        edges = np.cumsum([len(each) for each in intervals])[:-1]
        if sum(map(sum, intervals)) > 0:
            requests.append(DecodeRequest(sum(intervals, ()), tuple(edges.tolist())))
    return DecodeStatistics(source, batch, tuple(requests)) if requests else None


def _token_ns(trace: Trace, window: Request) -> IntArray:
    """When each token was on the host, by the sampling ranges; several between two forwards are of one token.

    A client of a server says itself when it had them.
    """
    if trace.client_tracks[window.track]:
        return client_tokens_ns(trace, window)
    ranges = ranges_in(trace, window)
    stage, spans = trace.stage_range[ranges], trace.spans
    sampling = ranges[stage == _SAMPLING]
    forwards = np.sort(spans.ts_ns[ranges[(stage == _PREFILL) | (stage == _DECODE)]])
    before = np.searchsorted(forwards, spans.ts_ns[sampling], side="right")
    if len(distinct(before)) < 2:  # forwards that tell nothing, or one token
        return np.sort(spans.ends_ns(sampling))
    ends = np.zeros(len(forwards) + 1, dtype=np.int64)
    np.maximum.at(ends, before, spans.ends_ns(sampling))
    last: IntArray = ends[distinct(before)]
    return last


def _with_all_tokens(steps_ns: IntArray, metadata: RunMetadata | None, window: Request) -> IntArray:
    """The instants of tokens, of those of steps that may have brought several (assisted decoding)."""
    of_all = metadata.profiled_step_tokens if metadata else ()
    brought = of_all[window.index] if 0 <= window.index < len(of_all) else ()
    return np.repeat(steps_ns, brought) if len(brought) == len(steps_ns) else steps_ns


def _step_series(trace: Trace, windows: Sequence[Request]) -> list[list[IntArray]]:
    """When each decode range starts, by series of each request; all of them together where no request has two.

    A range within another is the same step. Of several threads the one with the most steps tells.
    """
    ranges = np.flatnonzero(trace.stage_range == _DECODE)
    spans = trace.spans
    outermost = nest(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges]).parent == NONE
    ranges = ranges[outermost]
    if not len(ranges):
        return []
    ranges = ranges[spans.track[ranges] == np.bincount(spans.track[ranges]).argmax()]
    starts, ends = spans.ts_ns[ranges], spans.ends_ns(ranges)
    edges = [np.searchsorted(starts, (window.start_ns, window.end_ns)).tolist() for window in windows]
    inside = [slice(low, high) for low, high in edges]
    if not any(high - low > 1 for low, high in edges):
        return [_split(trace, starts, ends)]
    return [_split(trace, starts[chosen], ends[chosen]) for chosen in inside]


def _split(trace: Trace, starts: IntArray, ends: IntArray) -> list[IntArray]:
    """The instants of tokens or steps, cut where a prefill begins between two and where nothing was to be done.

    Args:
        starts, ends: int64 [tokens], ascending; where the steps begin and end, or twice the instants of the tokens.
    """
    if len(starts) < 2:
        return [starts]
    prefills = np.sort(trace.spans.ts_ns[trace.stage_range == _PREFILL])
    begins = np.searchsorted(prefills, starts[1:], side="left") > np.searchsorted(prefills, starts[:-1], side="right")
    typical = np.median(np.diff(starts))
    long = np.flatnonzero(starts[1:] - ends[:-1] > typical)
    if len(long):
        idle = _idle_ns(trace, ends[:-1][long], starts[1:][long])
        begins[long[idle > typical]] = True
    return np.split(starts, np.flatnonzero(begins) + 1)


def _idle_ns(trace: Trace, low: IntArray, high: IntArray) -> IntArray:
    """int64, how long in each of some disjoint windows no device runs anything and no thread works."""
    segments, spans = trace.segments, trace.spans
    works = ~trace.waits & (trace.stage_at(segments.owner) != _idle_code(trace))
    busy = union(
        np.concatenate((segments.start_ns[works], spans.ts_ns[trace.activities])),
        np.concatenate((segments.end_ns[works], spans.ends_ns(trace.activities))),
    )
    start, end, window, _ = intersect((low, high), busy)
    worked = np.zeros(len(low), dtype=np.int64)
    np.add.at(worked, window, end - start)
    return high - low - worked


def _idle_code(trace: Trace) -> int:
    return trace.stage_names.index(IDLE) if IDLE in trace.stage_names else NONE


def _pair_slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """The slopes of the lines through any two points.

    Args:
        x: float64 [n], ascending.
        y: float64 [..., n].

    Returns:
        float64 [..., n (n - 1) / 2].
    """
    i, j = np.triu_indices(len(x), 1)
    slopes: FloatArray = (y[..., j] - y[..., i]) / (x[j] - x[i])
    return slopes
