"""`Trace`: a trace file's events and metadata, and what is derived from them on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gemma_trace.errors import InputError, TraceFormatError, UnreadableError
from gemma_trace.remote import path_of
from gemma_trace.stages import (
    FOREIGN_RULES,
    REQUEST_CODE,
    UNATTRIBUTED_CODE,
    StageRule,
    stage_named_by,
    stage_names_of,
)
from gemma_trace.trace.asking import asking_ranges
from gemma_trace.trace.cache import TraceCache, read
from gemma_trace.trace.clients import client_tracks, engines
from gemma_trace.trace.derived import Derived
from gemma_trace.trace.events import (
    NONE,
    BoolArray,
    CodeArray,
    Codes,
    DetailedEvents,
    Details,
    IntArray,
    MemoryEvents,
    Role,
)
from gemma_trace.trace.header import (
    base_ns_of,
    device_multiprocessors,
    device_names,
    distributed_of,
    label_of,
    metadata_of,
)
from gemma_trace.trace.open_spans import OpenSpans
from gemma_trace.trace.places import Places, distinct
from gemma_trace.trace.plausible import plausible
from gemma_trace.trace.reader import ReadReport, TraceFile, read_header
from gemma_trace.trace.requests import Request, place_of, requests_of
from gemma_trace.trace.rule_matches import first_stages, match_rules
from gemma_trace.trace.tree import Segments
from gemma_trace.trace.unusable import unusable
from gemma_trace.trace.waiting import waiting_segments

if TYPE_CHECKING:
    import pandas as pd

    from gemma_trace.metadata import RunMetadata


class Trace(Derived):
    """One trace. Everything is derived on first use and kept; nothing changes afterwards.

    Attributes:
        path: the file it was read from.
        spans: the columns; `DetailedEvents` where the details were read.
        flows: the arrows between them.
        rows: int64, of a part of a trace which of the whole's spans it has; None of a whole.
        counters: the samples of its counters, e.g. how busy a device was.
        names: what its processes and threads are called.
        read_report: what reading brought to light.
        implausible: the spans that were left out or cut because their times can't be.
        metadata: what our capture says of itself; None in everybody else's traces.
        rules: those given to `load`.
        rule_matches: of each rule, int64, the codes of the names that it matches.
        devices: the marketing names of the machine's devices, by index, as the profiler wrote them ("" where it
            wrote none); empty where the trace doesn't tell.
        multiprocessors: how many of them each device has, by index; without those of which the trace doesn't tell.
        base_ns: what is to be added to its times for ns since 1970; 0 in old traces, whose times are that already.
        distributed: which rank of which job the process is, as torch says; None where it doesn't.

    >>> trace = load("traces/tiny/rank0.1.pt.trace.json.gz")      # doctest: +SKIP
    >>> trace.events().groupby("cat", observed=True)["dur_ns"].sum()      # doctest: +SKIP
    """

    def __init__(
        self,
        file: TraceFile,
        path: Path,
        rules: Sequence[StageRule] = (),
        read_again: Callable[[], TraceFile] | None = None,
    ) -> None:
        """Take what was read of a file.

        Args:
            rules: see `load`.
            read_again: reads the same file with its details, where it was read without.
        """
        self.path = path
        self.spans, self.implausible = plausible(file.events)
        self.flows = file.flows
        self.rows: IntArray | None = None
        self._memory, self._content, self._read_again = file.memory, file.content, read_again
        self.counters = file.counters
        self.names = file.names
        self.read_report: ReadReport = file.report
        if self.implausible.displaced:
            self.read_report = replace(self.read_report, first_ns=int(self.spans.ts_ns[0]))
        self.metadata = metadata_of(file.header, path)
        self.devices = device_names(file.header)
        self.multiprocessors = device_multiprocessors(file.header)
        self.base_ns = base_ns_of(file.header)
        self.distributed = distributed_of(file.header)
        self.rules = tuple(rules)
        if reason := unusable(file, self):
            raise TraceFormatError(f"{path} {reason}")
        self.rule_matches = match_rules(self.rules, self.spans.names)

    @property
    def label(self) -> str:
        """The run's name; in a trace that isn't ours the file's, without its endings."""
        return label_of(self.path, self.metadata)

    def events(self) -> pd.DataFrame:
        """The spans as a DataFrame, a row each."""
        return self.details.spans.to_frame()

    @cached_property
    def details(self) -> Details:
        """What few commands need; for it the file is read again, where it was read without.

        Raises:
            UnreadableError: the file has changed meanwhile, or can't be read any more.
        """
        spans, memory = self.spans, self._memory
        if memory is None and self._read_again:
            file = self._read_again()
            if file.content != self._content:
                raise UnreadableError(f"{self.path} changed while it was read; run the command again")
            spans, memory = plausible(file.events)[0], file.memory
            spans = spans if self.rows is None else spans.taken(self.rows)
        if not isinstance(spans, DetailedEvents) or memory is None:
            raise UnreadableError(f"{self.path} was read without its details; read it with detailed=True")
        return Details(spans, memory)

    @property
    def memory(self) -> MemoryEvents:
        """What torch's allocators said, where memory was profiled; one of the `details`."""
        return self.details.memory

    @cached_property
    def memory_on(self) -> Places:
        """By the index of a device the places of its events in `memory`."""
        return Places(self.memory.device)

    @cached_property
    def waits(self) -> BoolArray:
        """bool [s], along `segments`: the stretches in which a thread waits and works at nothing."""
        return waiting_segments(self)

    @cached_property
    def stage_names(self) -> tuple[str, ...]:
        """What stage codes stand for: all of `Stage`, then what the rules add."""
        return stage_names_of([*self.rules, *FOREIGN_RULES])

    @cached_property
    def stage_range(self) -> CodeArray:
        """int32 [n], the stage code of the spans that are stage ranges; `NONE` for all others.

        Our own ranges; then, on any other span of the host, the rules given to `load`; and in a process that has no
        range of ours, the rules for foreign traces, on annotations and Python frames.
        """
        ranges = self._codes([stage_named_by(name) for name in self.spans.names], self.is_annotation)
        framed = (self.is_annotation | self.roles.are(Role.PYTHON)) & ~self._in_our_process()
        if framed.any():
            foreign = self._codes([_first_match(FOREIGN_RULES, name) for name in self.spans.names], framed)
            np.copyto(ranges, foreign, where=ranges == NONE)
        if self.rules:
            ruled = self._codes(first_stages(self.rules, self.rule_matches, len(self.spans.names)), self.on_host)
            np.copyto(ranges, ruled, where=(ruled != NONE) & ~self.is_ours)
        return ranges

    def _in_our_process(self) -> BoolArray:
        """bool [n], which spans are of a process that has ranges of ours."""
        track = self.spans.track
        ours = np.isin(self.process, self.process[distinct(track[self.is_ours])])
        return ours[track]

    @cached_property
    def is_ours(self) -> BoolArray:
        """bool [n], which spans are stage ranges of our own capture."""
        named = np.array([stage_named_by(name) is not None for name in self.spans.names], dtype=bool)
        return named[self.spans.name] & self.is_annotation

    def _codes(self, stages: Sequence[str | None], allowed: BoolArray) -> CodeArray:
        """Stage names by name code → stage codes by span."""
        codes = self._by_name(stages)[self.spans.name]
        codes[~allowed] = NONE
        return codes

    def _by_name(self, stages: Sequence[str | None]) -> CodeArray:
        return np.array([NONE if stage is None else self.stage_names.index(stage) for stage in stages], dtype=np.int32)

    @cached_property
    def requests(self) -> tuple[Request, ...]:
        """Our own requests; failing those the steps of torch.profiler; failing those the whole trace."""
        return requests_of(self)

    @cached_property
    def client_tracks(self) -> BoolArray:
        """bool [tracks], which threads stand for requests of a server's clients, and work at nothing themselves."""
        return client_tracks(self)

    @cached_property
    def engines(self) -> IntArray:
        """int64 [tracks], which of a server's engines each thread belongs to; `NONE` where it is no single one's."""
        return engines(self)

    def chosen(self, request: int | Request | None = None) -> tuple[Request, ...]:
        """The requests that a function is asked for: one, by its index or as it is, or all of them for None.

        Raises:
            InputError: there is no request of this index, or it is another trace's.
            ConfigError: it is neither an index nor a request.
        """
        if request is None:
            return self.requests
        index = request.index if isinstance(request, Request) else request
        kept = self.requests[place_of(index, len(self.requests), str(self.path))]
        if isinstance(request, Request) and request != kept:
            raise InputError(f"{request.label} is of another trace than {self.path}; give its index")
        return (kept,)

    @cached_property
    def windows(self) -> OpenSpans:
        """Which request is open on its own thread at an instant; positions are indices of requests, of `requests`."""
        columns = [(window.start_ns, window.end_ns, window.track) for window in self.requests]
        start, end, track = np.array(columns, dtype=np.int64).T
        return OpenSpans(start, end, track)

    @cached_property
    def stage_ranges(self) -> IntArray:
        """int64 [r], the indices of the stage ranges, requests among them, by start."""
        return np.flatnonzero(self.stage_range != NONE)

    @cached_property
    def open_stages(self) -> OpenSpans:
        """Which stage range is the innermost open one on a thread at an instant; positions are of `stage_ranges`."""
        spans, ranges = self.spans, self.stage_ranges
        return OpenSpans(spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges])

    def stage_range_at(self, track: Codes, ts_ns: IntArray, *, after: bool = False) -> IntArray:
        """int64, the index of the innermost stage range open on each thread at each instant; see `OpenSpans.at`."""
        if not len(self.stage_ranges):
            return np.full(len(ts_ns), NONE, dtype=np.int64)
        place = self.open_stages.at(track, ts_ns, after=after)
        return np.where(place >= 0, self.stage_ranges[place], NONE)

    @cached_property
    def inner_stage_ranges(self) -> IntArray:
        """int64, the indices of the stage ranges that are no requests, by start."""
        ranges: IntArray = self.stage_ranges[self.stage_range[self.stage_ranges] != REQUEST_CODE]
        return ranges

    @cached_property
    def inner_stage_starts_ns(self) -> IntArray:
        """int64, when each of `inner_stage_ranges` starts, ascending."""
        starts: IntArray = self.spans.ts_ns[self.inner_stage_ranges]
        return starts

    @cached_property
    def stage_segments_on(self) -> Places:
        """By thread the places in `stage_segments` of its stretches."""
        return Places(self.spans.track[self.stage_segments.owner])

    @cached_property
    def stage_segments(self) -> Segments:
        """The threads cut where their innermost stage range changes, by thread and start; `owner` indexes the spans."""
        segments = self.open_stages.segments()
        return Segments(segments.start_ns, segments.end_ns, self.stage_ranges.astype(np.int32)[segments.owner])

    @cached_property
    def stage_segments_order(self) -> IntArray:
        """int64 [s], the places in `stage_segments` by start, whatever the thread."""
        return np.argsort(self.stage_segments.start_ns, kind="stable")

    @cached_property
    def innermost_range(self) -> CodeArray:
        """int32 [n], for each span of the host the index of the innermost stage range open on its thread, or of itself.

        `NONE` outside of all stage ranges, and for all that isn't on the host.
        """
        return self.innermost(self.stage_range != NONE)

    @cached_property
    def asking_range(self) -> CodeArray:
        """int32 [n], the index of the stage range that asked for each span of the host; `NONE` where none did.

        The innermost one open on its own thread. Where there is none, and the span is a call into a runtime or in an
        op that computes a gradient, the one open on the thread of the request then; failing that, the one in which the
        gradient's forward op ran.
        """
        return asking_ranges(self)

    def stage_at(self, spans: Codes) -> IntArray:
        """The stage code that asked for each of these host spans; see `asking_range`.

        Args:
            spans: int64, indices of spans, or `NONE`.

        Returns:
            int64; `UNATTRIBUTED_CODE` outside of all stages, in none but a request, or for `NONE`.
        """
        return self.stage_of_ranges(np.where(spans >= 0, self.asking_range[spans], NONE))

    @cached_property
    def labelled_stage(self) -> CodeArray:
        """int32 [m], along `activities`, the stage code that the label of each one's graph node stands for, or `NONE`.

        A label stands for a stage as the name of a span does: it is the name of a range of ours, or else a rule given
        to `load` matches it.
        """
        label = self.spans.node_label[self.activities]
        if not (label != NONE).any():
            return np.full(len(label), NONE, dtype=np.int32)
        ruled = first_stages(self.rules, self.rule_matches, len(self.spans.names))
        stages = [stage_named_by(name) or rule for name, rule in zip(self.spans.names, ruled, strict=True)]
        code = self._by_name(stages)[label]
        code[(label == NONE) | (code == REQUEST_CODE)] = NONE
        return code

    @cached_property
    def activity_stage(self) -> CodeArray:
        """int32 [m], along `activities`, the stage code that each works for; the number of stages if it is unlinked.

        That of its graph node's label, and of all that have none the one that launched it.
        """
        stage = self.stage_at(self.launch).astype(np.int32)
        np.copyto(stage, self.labelled_stage, where=self.labelled_stage != NONE)
        stage[self.launch == NONE] = len(self.stage_names)
        return stage

    def working_stages(self) -> CodeArray:
        """int32 [n], the stage code that each span works for: `activity_stage`, and of the host's `stage_at`."""
        stage = self.stage_at(np.arange(len(self.spans))).astype(np.int32)
        stage[self.activities] = self.activity_stage
        return stage

    def stage_of_ranges(self, ranges: Codes) -> IntArray:
        """int64, the stage codes of stage ranges (or `NONE`); a request's is `UNATTRIBUTED_CODE`."""
        stage = np.where(ranges >= 0, self.stage_range[ranges], UNATTRIBUTED_CODE).astype(np.int64)
        return np.where(stage == REQUEST_CODE, UNATTRIBUTED_CODE, stage)


def _first_match(rules: Sequence[StageRule], name: str) -> str | None:
    return next((rule.stage for rule in rules if rule.matches(name)), None)


def load(
    path: str | Path,
    rules: Sequence[StageRule] = (),
    on_bytes: Callable[[int], None] | None = None,
    cache: TraceCache | None = None,
    jobs: int | None = None,
    *,
    detailed: bool = True,
) -> Trace:
    """Read a trace file.

    Args:
        path: gzip or plain, as torch.profiler wrote it or as `gemma-trace capture` did.
        rules: which spans are ranges of which stage, on top of those that are known; see `stages.stage_rule`.
        on_bytes: hears how many bytes of the file were read, each time some are.
        cache: where a large trace's columns are kept for the next time; None keeps and finds nothing.
        jobs: how many processes may read a large file; by default GEMMA_TRACE_JOBS, else one per core. They read alike.
        detailed: whether the details are read too: strides, the values of inputs that are no tensors, and what
            allocators said. Without them the file is read again where `Trace.details` is asked for.

    Raises:
        InputError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace, or holds no span.
        ConfigError: a rule can't be held against the trace's names within its time, or GEMMA_TRACE_JOBS is no number of
            processes.
    """
    path = path_of(path)
    file = read(path, on_bytes, cache, jobs, detailed=detailed)
    return Trace(file, path, rules, partial(read, path, None, cache, jobs))


def load_metadata(path: str | Path) -> RunMetadata | None:
    """What a trace of ours says of itself, without reading its events; None for anybody else's.

    Raises:
        InputError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace.
    """
    path = path_of(path)
    return metadata_of(read_header(path), path)
