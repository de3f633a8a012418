"""The tokens after the first."""

from __future__ import annotations

from typing import Any, Final

from gemma_trace.analysis.decode import MIN_FOR_INTERVAL, MIN_FOR_LINE, DecodeStatistics
from gemma_trace.report.model import Column, Section
from gemma_trace.report.numbers import ABSENT, NOISY_MARK, NOISY_NOTE, significant, spread
from gemma_trace.report.views.stages import bar

MOST_ROWS: Final = 16
"""A longer series is shown as stretches of tokens."""

_TITLES: Final = {
    "timed": "Decode, without the profiler",
    "profiled": "Decode, under the profiler",
    "steps": "Decode, step by step, under the profiler",
}

_NOTES: Final = {
    "timed": "Intervals between tokens on the host, after the first.",
    "profiled": "Intervals between tokens on the host, after the first, by the ends of the sampling ranges.",
    "steps": (
        "Intervals between the starts of decode steps on the host, for want of tokens: a step gives each sequence of "
        "its batch one, and whatever ran between two steps is in them too."
    ),
}


def decode_section(found: DecodeStatistics) -> Section:
    """TPOT, tokens a second, slope and jitter, over the requests."""
    batched = found.batch > 1
    columns = (
        Column("TPOT ms", holds="measure"),
        Column("tokens a second", holds="measure"),
        *((Column(f"tokens a second, batch of {found.batch}", 1, holds="measure"),) if batched else ()),
        Column("slope µs a token"),
        Column("95% interval", 2),
        Column("jitter %"),
        Column("tokens", 3),
        Column("n", 4),
    )
    interval = found.slope_interval_us
    row = (
        spread(found.tpot),
        spread(found.tokens_per_second),
        *((spread(found.throughput),) if batched else ()),
        signed(found.slope.median) if found.slope else ABSENT,
        f"{signed(interval[0])} to {signed(interval[1])}" if interval else ABSENT,
        significant(found.jitter.median) if found.jitter else ABSENT,
        f"{found.tokens:,}",
        str(len(found.requests)),
    )
    notes = [_NOTES[found.source], *_line_notes(found)]
    if any(cell.endswith(NOISY_MARK) for cell in row):
        notes.append(NOISY_NOTE)
    return Section(_TITLES[found.source], columns, (row,), notes=tuple(notes))


def _line_notes(found: DecodeStatistics) -> list[str]:
    if found.slope is None:
        return [f"No slope and no jitter: they take {MIN_FOR_LINE + 1} tokens a request."]
    notes = [
        "Slope: how much longer each token takes than the one before. Jitter: spread around that line, in % of TPOT; "
        "both are robust against a few slow tokens."
    ]
    if found.slope_interval_us is None:
        notes.append(f"No interval of the slope: it takes {MIN_FOR_INTERVAL + 1} tokens a request.")
    elif found.slope_interval_us[0] <= 0 <= found.slope_interval_us[1]:
        notes.append("The interval holds 0: tokens aren't shown to get slower or faster.")
    return notes


def token_section(found: DecodeStatistics) -> Section:
    """The series: how long each token took, or each stretch of tokens where there are many."""
    series = found.token_by_token(MOST_ROWS)
    most = max(step.intervals.median for step in series)
    columns = (
        Column("step" if found.source == "steps" else "token"),
        Column("interval ms", holds="measure"),
        Column("", 1, align="left", holds="bar"),
        Column("longest ms", 2),
    )
    rows = tuple(
        (
            f"{step.first:,}" if step.first == step.last else f"{step.first:,} to {step.last:,}",
            spread(step.intervals),
            bar(step.intervals.median / most if most else 0.0),
            significant(step.intervals.max),
        )
        for step in series
    )
    notes = (NOISY_NOTE,) if any(row[1].endswith(NOISY_MARK) for row in rows) else ()
    return Section("Decode, token by token" if found.source != "steps" else "Decode steps", columns, rows, notes=notes)


def decode_record(found: DecodeStatistics) -> dict[str, Any]:
    """All of it, for JSON."""

    def plain(measured: Any) -> Any:
        return measured and measured.to_dict()

    return {
        "source": found.source,
        "batch": found.batch,
        "tokens": found.tokens,
        "tpot_ms": plain(found.tpot),
        "tokens_per_second": plain(found.tokens_per_second),
        "throughput_tokens_per_second": plain(found.throughput),
        "decode_slope_us": plain(found.slope),
        "slope_interval_us": found.slope_interval_us,
        "decode_jitter_pct": plain(found.jitter),
        "series": [{"token": step.first, "interval_ms": plain(step.intervals)} for step in found.token_by_token()],
    }


def signed(value: float) -> str:
    """A number that says which way.

    >>> signed(3.0), signed(-3.0)
    ('+3.000', '-3.000')
    """
    return f"+{significant(value)}" if value > 0 else significant(value)
