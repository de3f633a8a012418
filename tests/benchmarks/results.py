"""What was measured, as a Markdown page and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from tests.benchmarks.jobs import HTA, INFLATE, ISAL, OURS, PARSE, PERFETTO, PROFILE, SIMDJSON
from tests.benchmarks.load_profile import PARTS
from tests.benchmarks.measure import Series

MB: Final = 1_000_000
BYTES_AN_EVENT: Final = 120
FIXED_BYTES: Final = 200 * MB
LINEAR: Final = 1.15
"""Up to this ratio of the times an event takes, time counts as linear in events."""

CACHED: Final = "kernels, cached"
"""The command on a trace whose columns are in the cache."""

AT_WORK: Final = (1, 2)
"""How many processes read where a load is taken apart."""


@dataclass(frozen=True)
class Input:
    """A trace that was measured on.

    Attributes:
        events: all of them, of whatever phase.
        spans: those with a duration.
    """

    name: str
    compressed_bytes: int
    inflated_bytes: int
    events: int
    spans: int
    activities: int


@dataclass(frozen=True)
class Goal:
    """A ratio that the project wants to reach. `met` is None where it couldn't be measured."""

    what: str
    wanted: str
    measured: str
    met: bool | None


@dataclass
class Results:
    """Everything of one run of the benchmark."""

    machine: dict[str, str]
    notes: list[str] = field(default_factory=list)
    inputs: list[Input] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)

    def find(self, what: str, by: str, on: str) -> Series | None:
        """The good runs of a task; None where there is none."""
        for series in self.series:
            if (series.task.what, series.task.by, series.task.on) == (what, by, on) and series.good:
                return series
        return None

    def ratio(self, what: str, peer: str, on: str, measure: str = "median_s", by: str = "") -> float | None:
        """The peer's figure over ours.

        Args:
            by: what we do meanwhile, where it is called otherwise.
        """
        ours, theirs = self.find(by or what, OURS, on), self.find(what, peer, on)
        return getattr(theirs, measure) / getattr(ours, measure) if ours and theirs else None

    def goals(self) -> list[Goal]:
        """What the project wants, held against what was measured."""
        if not self.inputs:
            return []
        first, largest = self.inputs[0].name, max(self.inputs, key=lambda trace: trace.events)
        found = [
            _at_least(f"load, {first}: times faster than HTA", 13, self.ratio("load", HTA, first)),
            _at_least(f"load, {first}: times faster than Perfetto's engine", 4, self.ratio("load", PERFETTO, first)),
            _at_least(f"load, {first}: HTA's peak memory over ours", 3, self.ratio("load", HTA, first, "peak_bytes")),
            _at_least(f"kernels, {first}: whole process, times faster than HTA", 9, self.ratio("kernels", HTA, first)),
            _at_least(
                f"{CACHED}, {first}: the same, times faster than HTA", 14, self.ratio("kernels", HTA, first, by=CACHED)
            ),
        ]
        one, two = (self.find(f"{PROFILE}, {jobs} at work", OURS, largest.name) for jobs in AT_WORK)
        found.append(
            _at_least(
                f"load, {largest.name}: time with one process over two",
                1.6,
                one.median_s / two.median_s if one and two else None,
            )
        )
        series = self.find("load", OURS, largest.name)
        if series:
            allowed = BYTES_AN_EVENT * largest.events + FIXED_BYTES
            found.append(
                Goal(
                    f"load, {largest.name}: peak memory",
                    f"≤ {BYTES_AN_EVENT} B an event + {FIXED_BYTES // MB} MB = {allowed / MB:.0f} MB",
                    f"{series.peak_bytes / MB:.0f} MB",
                    series.peak_bytes <= allowed,
                )
            )
            found += self._linear(largest)
        return found

    def _linear(self, largest: Input) -> list[Goal]:
        """Whether an event of the largest generated trace takes as long as one of the smallest."""
        generated = [trace for trace in self.inputs if trace.name.startswith("generated")]
        smallest = min(generated, key=lambda trace: trace.events, default=largest)
        few, many = (self.find("load", OURS, trace.name) for trace in (smallest, largest))
        if smallest is largest or largest not in generated or not few or not many:
            return []
        ratio = (many.median_s / largest.events) / (few.median_s / smallest.events)
        what = f"load: time an event, {largest.name} over {smallest.name}"
        return [Goal(what, f"≤ {LINEAR:g}", f"{ratio:.2f}", ratio <= LINEAR)]

    def to_json(self) -> dict[str, Any]:
        """Raw figures; times in seconds, memory in bytes, the runs in the order they were made."""
        return {
            "schema_version": 1,
            "machine": self.machine,
            "notes": self.notes,
            "inputs": [asdict(trace) for trace in self.inputs],
            "series": [_series_json(series) for series in self.series],
            "ratios": [
                {
                    "what": series.task.what,
                    "on": series.task.on,
                    "peer": series.task.by,
                    "time": self.ratio(series.task.what, series.task.by, series.task.on),
                    "wall": self.ratio(series.task.what, series.task.by, series.task.on, "wall_s"),
                    "peak": self.ratio(series.task.what, series.task.by, series.task.on, "peak_bytes"),
                }
                for series in self.series
                if series.task.by != OURS and series.good
            ],
            "goals": [asdict(goal) for goal in self.goals()],
        }

    def to_markdown(self) -> str:
        """The page that is printed."""
        parts = ["# Benchmarks", ", ".join(f"{name} {value}" for name, value in self.machine.items())]
        parts += [f"*{note}*" for note in self.notes]
        parts.append(_table(_INPUT_COLUMNS, map(_input_row, self.inputs)))
        loads = [series for series in self.series if series.task.what == "load"]
        parts += ["## Load to columns", _table(_LOAD_COLUMNS, (self._row(series) for series in loads))]
        stages = [series for series in self.series if series.task.what == "stages"]
        parts += ["## Load and stage table", _table(_STAGE_COLUMNS, (self._stage_row(series) for series in stages))]
        parts += ["## Distance to the limit", _table(_LIMIT_COLUMNS, filter(None, map(self._limit_row, self.inputs)))]
        parts += ["## Where a load's time goes, s", _table(_PROFILE_COLUMNS, self._profile_rows())]
        whole = [series for series in self.series if not series.task.reports]
        parts += ["## Whole process, imports included", _table(_WHOLE_COLUMNS, map(self._whole_row, whole))]
        parts += ["## Memory and time by size", _table(_SIZE_COLUMNS, self._size_rows())]
        parts += ["## Goals", _table(("goal", "wanted", "measured", "met"), map(_goal_row, self.goals()))]
        parts.append(
            "Medians; × is a figure over ours. A process's peak is its largest resident set; the baseline is what it "
            "held before it loaded. ~ marks an interquartile range over 10% of the median."
        )
        return "\n\n".join(part for part in parts if part) + "\n"

    def _row(self, series: Series) -> tuple[str, ...]:
        task = series.task
        if not series.good:
            return (task.on, task.by, series.failure, *[""] * 6)
        times = [self._times(series, measure) for measure in ("median_s", "wall_s", "peak_bytes")]
        return (
            task.on,
            task.by,
            _seconds(series),
            times[0],
            f"{series.wall_s:.2f}",
            times[1],
            f"{series.peak_bytes / MB:.0f}",
            times[2],
            f"{len(series.good)}{'; then ' + series.failure if series.failure else ''}",
        )

    def _times(self, series: Series, measure: str) -> str:
        ratio = self.ratio(series.task.what, series.task.by, series.task.on, measure)
        return f"{ratio:.2f}" if ratio is not None else ""

    def _stage_row(self, series: Series) -> tuple[str, ...]:
        load = self.find("load", OURS, series.task.on)
        if not series.good:
            return (series.task.on, "", series.failure, "", "")
        ratio = f"{series.median_s / load.median_s:.2f}" if load else ""
        alone = f"{load.median_s:.3f}" if load else ""
        return (series.task.on, alone, _seconds(series), ratio, f"{series.peak_bytes / MB:.0f}")

    def _limit_row(self, trace: Input) -> tuple[str, ...] | None:
        """What a reader can't do without, on one core: inflating, and parsing without taking anything out."""
        load, inflate = self.find("load", OURS, trace.name), self.find(INFLATE, ISAL, trace.name)
        if load is None or inflate is None:
            return None
        parse = self.find(PARSE, SIMDJSON, trace.name)
        both_s = inflate.median_s + parse.median_s if parse else None
        return (
            trace.name,
            _seconds(inflate),
            _seconds(parse) if parse else "not measured",
            _seconds(load),
            f"{load.median_s / both_s:.2f}" if both_s else "",
        )

    def _profile_rows(self) -> Iterator[tuple[str, ...]]:
        """Of each trace the parts of our load, with one process and with two, and what a native core would take.

        That is a bound: inflating, and parsing without taking anything out, each as fast as known, on one core.
        """
        for trace in self.inputs:
            for jobs in AT_WORK:
                series = self.find(f"{PROFILE}, {jobs} at work", OURS, trace.name)
                if series:
                    taken = [run.report.parts for run in series.good if run.report and run.report.parts]
                    medians = [statistics.median(parts[part] for parts in taken) for part in PARTS]
                    yield (trace.name, str(jobs), *(f"{each:.3f}" for each in medians), _seconds(series))
            inflate, parse = self.find(INFLATE, ISAL, trace.name), self.find(PARSE, SIMDJSON, trace.name)
            if inflate and parse:
                empty = [""] * (len(PARTS) - 2)
                whole = f"{inflate.median_s + parse.median_s:.3f}"
                yield (
                    trace.name,
                    "native, at best",
                    f"{inflate.median_s:.3f}",
                    "",
                    f"{parse.median_s:.3f}",
                    *empty[1:],
                    whole,
                )

    def _whole_row(self, series: Series) -> tuple[str, ...]:
        task = series.task
        if not series.good:
            return (task.what, task.on, task.by, series.failure, "", "", "")
        times = (self._times(series, "median_s"), self._times(series, "peak_bytes"))
        return (task.what, task.on, task.by, _seconds(series), times[0], f"{series.peak_bytes / MB:.0f}", times[1])

    def _size_rows(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        for trace in sorted(self.inputs, key=lambda trace: trace.events):
            series = self.find("load", OURS, trace.name)
            if series is None:
                continue
            above = series.peak_bytes - series.baseline_bytes
            rows.append(
                (
                    trace.name,
                    f"{trace.events:,}",
                    f"{1e6 * series.median_s / trace.events:.2f}",
                    f"{trace.inflated_bytes / MB / series.median_s:.0f}",
                    f"{series.baseline_bytes / MB:.0f}",
                    f"{series.peak_bytes / MB:.0f}",
                    f"{above / trace.events:.0f}",
                    f"{above / trace.spans:.0f}",
                    f"{max(0, series.peak_bytes - FIXED_BYTES) / trace.events:.0f}",
                )
            )
        return rows


_INPUT_COLUMNS: Final = ("trace", "gzip MB", "inflated MB", "events", "spans", "device activities")
_LOAD_COLUMNS: Final = ("trace", "reader", "load s", "×", "process s", "×", "peak MB", "×", "runs")
_STAGE_COLUMNS: Final = ("trace", "load s", "load + stages s", "ratio", "peak MB")
_LIMIT_COLUMNS: Final = ("trace", "isal inflates alone s", "simdjson parses alone s", "our load s", "load over both")
_PROFILE_COLUMNS: Final = ("trace", "processes", *PARTS, "whole")
_WHOLE_COLUMNS: Final = ("command", "trace", "program", "process s", "×", "peak MB", "×")
_SIZE_COLUMNS: Final = (
    "trace",
    "events",
    "µs an event",
    "MB/s inflated",
    "baseline MB",
    "peak MB",
    "B an event above baseline",
    "B a span above baseline",
    f"B an event above {FIXED_BYTES // MB} MB",
)


def _at_least(what: str, wanted: float, measured: float | None) -> Goal:
    if measured is None:
        return Goal(what, f"≥ {wanted:g}", "not measured", None)
    return Goal(what, f"≥ {wanted:g}", f"{measured:.2f}", measured >= wanted)


def _goal_row(goal: Goal) -> tuple[str, ...]:
    return (goal.what, goal.wanted, goal.measured, {None: "?", True: "yes", False: "no"}[goal.met])


def _input_row(trace: Input) -> tuple[str, ...]:
    sizes = (f"{trace.compressed_bytes / MB:.1f}", f"{trace.inflated_bytes / MB:.1f}")
    return (trace.name, *sizes, f"{trace.events:,}", f"{trace.spans:,}", f"{trace.activities:,}")


def _seconds(series: Series) -> str:
    return f"{series.median_s:.3f}{' ~' if series.noisy else ''}"


def _series_json(series: Series) -> dict[str, Any]:
    task = series.task
    return {
        "what": task.what,
        "by": task.by,
        "on": task.on,
        "failure": series.failure,
        "noisy": series.noisy,
        "median_s": series.median_s if series.good else None,
        "seconds": series.seconds,
        "wall_s": [run.wall_s for run in series.runs],
        "peak_bytes": [run.peak_bytes for run in series.runs],
        "baseline_bytes": [run.report.baseline_bytes for run in series.good if run.report],
    }


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [" | ".join(row) for row in rows]
    if not lines:
        return "Nothing was measured."
    return "\n".join(f"| {line} |" for line in (" | ".join(columns), " | ".join("---" for _ in columns), *lines))
