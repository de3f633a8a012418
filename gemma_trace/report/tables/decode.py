"""The tokens after the first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from gemma_trace.analysis.decode import MIN_FOR_INTERVAL, MIN_FOR_LINE, DecodeStatistics, TokenIntervals
from gemma_trace.report.number_text import significant
from gemma_trace.report.table import Col, Table, holding
from gemma_trace.report.tables.summary import JITTER, SLOPE, TOKENS_PER_SECOND, TPOT, median_alone
from gemma_trace.report.units import BAR, COUNT, FIGURES, MEASURE, MEASURE_MS, NUMBER, rising
from gemma_trace.store import columns

MOST_ROWS: Final = 16
"""A longer series is shown as stretches of tokens."""

BATCHED: Final = "the batch has several sequences"

_TITLES: Final = {
    "timed": "Decode, without the profiler",
    "profiled": "Decode, under the profiler",
    "steps": "Decode, step by step, under the profiler",
}

_NOTES: Final = {
    "timed": "Intervals between tokens on the host, after the first.",
    "profiled": "Intervals between tokens on the host, after the first. A token is there when its sampling range ends.",
    "steps": (
        "The trace has no tokens, so these are intervals between the starts of decode steps on the host. A step "
        "gives one token to each sequence of its batch, and an interval includes whatever ran between two steps."
    ),
}


def _slope_text(slope: Any) -> str:
    return rising(slope.median)


def _interval_text(ends: tuple[float, float]) -> str:
    return " to ".join(map(rising, ends))


def _requests(statistics: DecodeStatistics) -> int:
    return len(statistics.requests)


def _series(statistics: DecodeStatistics) -> list[dict[str, Any]]:
    return [{"token": step.first, "interval_ms": step.intervals} for step in statistics.token_by_token()]


_TPOT: Final = replace(
    TPOT.at(0),
    definition="Distribution over the requests: mean interval between the tokens after the first",
    value="tpot",
)
_RATE: Final = replace(TOKENS_PER_SECOND.at(0), definition="of one sequence: 1 / TPOT")
_THROUGHPUT: Final = Col(
    "throughput_tokens_per_second",
    "tokens per second",
    MEASURE,
    definition="of the whole batch while it decodes: `batch` / TPOT",
    priority=1,
    when=BATCHED,
    value="throughput",
)
_SLOPE: Final = replace(
    SLOPE.at(0),
    definition=(
        "how much longer each token takes than the one before, in µs: of each request (of each series, where there "
        "are several) the median slope of all pairs of intervals (Theil–Sen); of over 32 intervals, of the medians of "
        "32 stretches; from 6 tokens on"
    ),
    show=_slope_text,
    value="slope",
)
_INTERVAL: Final = Col(
    "slope_interval_us",
    "95% interval",
    FIGURES,
    _interval_text,
    definition=(
        "95% interval of its median over the requests: percentile bootstrap of requests and, within them, of what the "
        "line leaves; from 11 tokens on"
    ),
    priority=2,
)
_JITTER: Final = replace(
    JITTER.at(0),
    definition=("100 · 1.4826 · median absolute deviation of the intervals from the line / TPOT; from 6 tokens on"),
    show=median_alone,
    value="jitter",
)
_TOKENS: Final = Col(
    "tokens", "tokens", COUNT, definition="tokens of the longest request, including the first", priority=3
)

DECODE_FILE: Final = (
    Col(
        "source",
        definition=(
            "`timed`: intervals between tokens on the host, without the profiler; `profiled`: the same under it, by "
            "the ends of the `sampling` ranges; `steps`, in a trace without such ranges: between the starts of "
            "`decode` ranges on the host, which is a token of each sequence in the batch, and holds whatever ran in "
            "between. In a trace that tells no requests a series of tokens ends where a prefill begins, and where "
            "nothing was to be done for longer than a step takes"
        ),
    ),
    Col.stored(columns.BATCH),
    *(_TOKENS, _TPOT, _RATE, _THROUGHPUT, _SLOPE, _INTERVAL, _JITTER),
    Col(
        "series",
        definition=(
            "by `token`, from the second: `interval_ms`, the Distribution over the requests of the interval before it"
        ),
        value=_series,
    ),
)
"""One row."""


def decode_table(statistics: DecodeStatistics) -> Table[DecodeStatistics]:
    """TPOT, tokens per second, slope and jitter, over the requests."""
    throughput = replace(_THROUGHPUT, header=f"tokens per second, batch of {statistics.batch}")
    cols = (
        *(_TPOT, _RATE, throughput, _SLOPE, _INTERVAL, _JITTER, _TOKENS),
        Col("requests", "n", COUNT, priority=4, value=_requests),
    )
    notes = (_NOTES[statistics.source], *_line_notes(statistics))
    conditions = holding({BATCHED: statistics.batch > 1})
    return Table(_TITLES[statistics.source], cols, [statistics], notes=notes, conditions=conditions)


def _line_notes(statistics: DecodeStatistics) -> list[str]:
    if statistics.slope is None:
        return [f"Slope and jitter require {MIN_FOR_LINE + 1} tokens per request."]
    notes = [
        "Slope: how much longer each token takes than the one before. Jitter: the spread around that line, in % of "
        "TPOT. A few slow tokens change neither."
    ]
    if statistics.slope_interval_us is None:
        notes.append(f"The interval of the slope requires {MIN_FOR_INTERVAL + 1} tokens per request.")
    elif statistics.slope_interval_us[0] <= 0 <= statistics.slope_interval_us[1]:
        notes.append("The interval includes 0: nothing shows that tokens get slower or faster.")
    return notes


@dataclass(frozen=True)
class _Step:
    """A token, or a stretch of tokens.

    Attributes:
        share: of the longest median interval.
    """

    tokens: TokenIntervals
    share: float


def _tokens_text(step: _Step) -> str:
    first, last = step.tokens.first, step.tokens.last
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


_STEP_COLS: Final = (
    Col("interval_ms", "interval", MEASURE_MS, value="tokens.intervals"),
    Col("share", "", BAR, priority=1),
    Col("longest_ms", "longest", replace(NUMBER, suffix="ms"), significant, priority=2, value="tokens.intervals.max"),
)


def token_table(statistics: DecodeStatistics) -> Table[_Step]:
    """The series: how long each token took, or each stretch of tokens where there are many."""
    series = statistics.token_by_token(MOST_ROWS)
    most = max(step.intervals.median for step in series)
    steps = [_Step(step, step.intervals.median / most if most else 0.0) for step in series]
    header = "step" if statistics.source == "steps" else "token"
    first = Col("tokens", header, FIGURES, value=_tokens_text)
    title = "Decode steps" if statistics.source == "steps" else "Decode, token by token"
    return Table(title, (first, *_STEP_COLS), steps)


def decode_record(statistics: DecodeStatistics) -> dict[str, Any]:
    """For JSON: all of it."""
    return {col.key: col.raw(statistics) for col in DECODE_FILE}
