"""`Trace`: a trace file's events and metadata, and what is derived from them on first use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from gemma_trace.errors import TraceFormatError
from gemma_trace.metadata import METADATA_KEY, SCHEMA_VERSION, RunMetadata
from gemma_trace.stages import (
    FOREIGN_RULES,
    LAYER_PREFIX,
    MODULE_PREFIX,
    REQUEST_CODE,
    UNATTRIBUTED_CODE,
    StageRule,
    stage_names_of,
    stage_of_range,
)
from gemma_trace.trace.cache import WORTHWHILE_BYTES, TraceCache
from gemma_trace.trace.events import NONE, BoolArray, IntArray, Role
from gemma_trace.trace.links import link_backward, link_launches
from gemma_trace.trace.reader import ReadReport, TraceFile, read_header, read_trace
from gemma_trace.trace.roles import Roles, roles_of
from gemma_trace.trace.tree import Nesting, Segments, inherit, innermost_segments, nest

if TYPE_CHECKING:
    import pandas as pd

EXPORT_KEY: Final = "gemma_trace_export"
"""The top-level key of what `gemma-trace export` writes, which is for viewers: ranges and launches share no track."""

DEVICES_KEY: Final = "deviceProperties"
"""The top-level key under which Kineto lists the machine's devices."""

_TRACE_SUFFIX: Final = re.compile(r"(\.pt\.trace)?(\.json)?(\.gz)?$")
_LAYER: Final = re.compile(rf"{re.escape(LAYER_PREFIX)}|nn\.Module: \w*(?:Layer|Block)_\d+$")
_MODULE_PREFIXES: Final = (LAYER_PREFIX, MODULE_PREFIX, "nn.Module: ")


class Trace:
    """One trace. Everything is derived on first use and kept; nothing changes afterwards.

    Attributes:
        path: the file it was read from.
        spans: the columns.
        flows: the arrows between them.
        memory: what torch's allocators said, where memory was profiled.
        counters: the samples of its counters, e.g. how busy a device was.
        names: what its processes and threads are called.
        report: what reading brought to light.
        metadata: what our capture says of itself; None in everybody else's traces.
        devices: the marketing names of the machine's devices, by index, as the profiler wrote them ("" where it
            wrote none); empty where the trace doesn't tell.

    >>> trace = load("traces/tiny/rank0.1.pt.trace.json.gz")      # doctest: +SKIP
    >>> trace.events().groupby("cat", observed=True)["dur_ns"].sum()      # doctest: +SKIP
    """

    def __init__(self, file: TraceFile, path: Path, rules: Sequence[StageRule] = ()) -> None:
        self.path = path
        self.spans = file.events
        self.flows = file.flows
        self.memory = file.memory
        self.counters = file.counters
        self.names = file.names
        self.report: ReadReport = file.report
        self.metadata = metadata_of(file.header, path)
        self.devices = _device_names(file.header)
        self._rules = tuple(rules)
        if not len(self.spans):
            others = ", ".join(f"{count:,} of {phase}" for phase, count in self.report.passed_over.items())
            held = f"events of other phases ({others[:80]})" if others else "metadata"
            raise TraceFormatError(f"{path} holds {held} but no span; was anything run under the profiler?")

    @property
    def label(self) -> str:
        """The run's name; in a trace that isn't ours the file's, without its endings."""
        return label_of(self.path, self.metadata)

    def events(self) -> pd.DataFrame:
        """The spans as a DataFrame, a row each."""
        return self.spans.to_frame()

    @cached_property
    def roles(self) -> Roles:
        """What every span stands for."""
        return roles_of(self.spans, self.names)

    @cached_property
    def is_activity(self) -> BoolArray:
        """bool [n], which spans are device activities: kernels, copies, fills."""
        return self.roles.are(Role.DEVICE)

    @cached_property
    def activities(self) -> IntArray:
        """int64 [m], the indices of the device activities, by start."""
        return np.flatnonzero(self.is_activity)

    @cached_property
    def host(self) -> IntArray:
        """int64 [k], the indices of the spans on the host's threads, by start.

        That is all but device activities, annotations mirrored onto the device, and the profiler's own marks.
        """
        return np.flatnonzero(~self.is_activity & ~self.roles.are(Role.ASIDE))

    @cached_property
    def nesting(self) -> Nesting:
        """The host's spans as trees; its columns run along `host`."""
        host = self.host
        return nest(self.spans.ts_ns[host], self.spans.end_ns[host], self.spans.track[host])

    @cached_property
    def segments(self) -> Segments:
        """The host's time, each stretch with its innermost span; `owner` indexes the spans, not `host`."""
        host = self.host
        found = innermost_segments(self.spans.ts_ns[host], self.spans.track[host], self.nesting)
        return Segments(found.start_ns, found.end_ns, host[found.owner])

    @cached_property
    def launch(self) -> IntArray:
        """int64 [m], the index of the call that launched each activity; `NONE` where it is unlinked."""
        return link_launches(self.spans, self.flows, self.activities, self.host)

    @cached_property
    def is_op(self) -> BoolArray:
        """bool [n], which spans are PyTorch ops."""
        return self.roles.are(Role.OP)

    @cached_property
    def is_annotation(self) -> BoolArray:
        """bool [n], which spans are `record_function` ranges on the host."""
        return self.roles.are(Role.ANNOTATION)

    @cached_property
    def stage_names(self) -> tuple[str, ...]:
        """What stage codes stand for: all of `Stage`, then what the rules add."""
        return stage_names_of([*self._rules, *FOREIGN_RULES])

    @cached_property
    def stage_range(self) -> IntArray:
        """int64 [n], the stage code of the spans that are stage ranges; `NONE` for all others.

        Our own ranges; then, on any other span of the host, the rules given to `load`; and where a trace has no
        range of ours, the rules for foreign traces, on annotations and Python frames.
        """
        ours = self._codes([stage_of_range(name) for name in self.spans.names], self.is_annotation)
        found = self._codes([_first_match(self._rules, name) for name in self.spans.names], self._on_host)
        if not self._is_ours.any():
            framed = self.is_annotation | self.roles.are(Role.PYTHON)
            ours = self._codes([_first_match(FOREIGN_RULES, name) for name in self.spans.names], framed)
        return np.where((found == NONE) | self._is_ours, ours, found)

    @cached_property
    def _is_ours(self) -> BoolArray:
        """bool [n], which spans are stage ranges of our own capture."""
        named = np.array([stage_of_range(name) is not None for name in self.spans.names], dtype=bool)
        return named[self.spans.name] & self.is_annotation

    def _codes(self, stages: Sequence[str | None], allowed: BoolArray) -> IntArray:
        """Stage names by name code → stage codes by span."""
        codes = [NONE if stage is None else self.stage_names.index(stage) for stage in stages]
        return np.where(allowed, np.array(codes, dtype=np.int64)[self.spans.name], NONE)

    @cached_property
    def _on_host(self) -> BoolArray:
        on_host = np.zeros(len(self.spans), dtype=bool)
        on_host[self.host] = True
        return on_host

    def innermost(self, wanted: BoolArray) -> IntArray:
        """For each span of the host, the innermost wanted span around it on its thread, or itself if it is wanted.

        Args:
            wanted: bool [n], e.g. `is_op`.

        Returns:
            int64 [n], indices of spans; `NONE` where there is none, and for all that isn't on the host.
        """
        host = self.host
        found = inherit(np.where(wanted[host], np.arange(len(host)), NONE), self.nesting)
        result = np.full(len(self.spans), NONE, dtype=np.int64)
        result[host] = np.where(found >= 0, host[found], NONE)
        return result

    @cached_property
    def innermost_op(self) -> IntArray:
        """int64 [n], for each span of the host the innermost op around it; see `innermost`."""
        return self.innermost(self.is_op)

    @cached_property
    def innermost_module(self) -> IntArray:
        """int64 [n], for each span of the host the innermost `nn.Module` frame or module range around it."""
        is_module = np.array([name.startswith(_MODULE_PREFIXES) for name in self.spans.names], dtype=bool)
        return self.innermost(is_module[self.spans.name])

    @cached_property
    def innermost_layer(self) -> IntArray:
        """int64 [n], for each span of the host the innermost layer around it: our range, or a frame that is named so.

        A layer's frame is an `nn.Module` whose class ends in Layer or Block, e.g. `Owlv2EncoderLayer_3`.
        """
        is_layer = np.array([bool(_LAYER.match(name)) for name in self.spans.names], dtype=bool)
        return self.innermost(is_layer[self.spans.name])

    @cached_property
    def innermost_range(self) -> IntArray:
        """int64 [n], for each span of the host the index of the innermost stage range around it, or of itself.

        An op of the autograd thread that no range of its own thread holds is in its forward op's.
        `NONE` outside of all stage ranges, and for all that isn't on the host.
        """
        found = self.innermost(self.stage_range != NONE)
        backward, forward = link_backward(self.spans, self.flows, np.flatnonzero(self.is_op))
        if not len(backward):
            return found
        asked = np.zeros(len(self.spans), dtype=bool)
        asked[backward] = True
        range_of_forward = np.full(len(self.spans), NONE, dtype=np.int64)
        range_of_forward[backward] = found[forward]
        gradient = self.innermost(asked)
        through = np.where(gradient >= 0, range_of_forward[gradient], NONE)
        return np.where(found == NONE, through, found)

    def stage_at(self, spans: IntArray) -> IntArray:
        """The stage code each of these host spans runs in.

        Args:
            spans: int64, indices of spans, or `NONE`.

        Returns:
            int64; `UNATTRIBUTED_CODE` outside of all stages, in none but a request, or for `NONE`.
        """
        ranges = np.where(spans >= 0, self.innermost_range[spans], NONE)
        stage = np.where(ranges >= 0, self.stage_range[ranges], UNATTRIBUTED_CODE)
        return np.where(stage == REQUEST_CODE, UNATTRIBUTED_CODE, stage)


class _Device(msgspec.Struct):
    """What of an entry of `deviceProperties` is read."""

    id: int = 0
    name: str = ""


def _device_names(header: dict[str, msgspec.Raw]) -> dict[int, str]:
    """The devices among a trace's top-level members; none where they can't be read."""
    try:
        listed = msgspec.json.decode(header.get(DEVICES_KEY, b"[]"), type=list[_Device])
    except msgspec.MsgspecError:
        return {}
    return {device.id: device.name for device in listed}


def _first_match(rules: Sequence[StageRule], name: str) -> str | None:
    return next((rule.stage for rule in rules if rule.matches(name)), None)


def load(
    path: str | Path,
    rules: Sequence[StageRule] = (),
    on_bytes: Callable[[int], None] | None = None,
    cache: TraceCache | None = None,
) -> Trace:
    """Read a trace file.

    Args:
        path: gzip or plain, as torch.profiler wrote it or as `gemma-trace capture` did.
        rules: which spans are ranges of which stage, on top of those that are known; see `stages.stage_rule`.
        on_bytes: hears how many bytes of the file were read, each time some are.
        cache: where a large trace's columns are kept for the next time; None keeps and finds nothing.

    Raises:
        InputError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace, or holds no span.
    """
    path = Path(path)
    if cache is None or not path.is_file() or path.stat().st_size < WORTHWHILE_BYTES:
        return Trace(read_trace(path, on_bytes), path, rules)
    kept = cache.path_of(path)
    file = cache.load(kept)
    if file is None:
        file = read_trace(path, on_bytes)
        cache.keep(file, kept)
    return Trace(file, path, rules)


def label_of(path: Path, metadata: RunMetadata | None) -> str:
    """The run's name; of a trace that isn't ours the file's, without its endings."""
    return metadata.run.name if metadata else _TRACE_SUFFIX.sub("", path.name)


def load_metadata(path: str | Path) -> RunMetadata | None:
    """What a trace of ours says of itself, without reading its events; None for anybody else's.

    Raises:
        InputError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace.
    """
    path = Path(path)
    return metadata_of(read_header(path), path)


def metadata_of(header: dict[str, msgspec.Raw], path: Path) -> RunMetadata | None:
    """The metadata among a trace's top-level members.

    Raises:
        TraceFormatError: the metadata is of a newer schema, or damaged.
    """
    if EXPORT_KEY in header:
        raise TraceFormatError(f"{path} was made for viewers by gemma-trace export; give the trace that it was made of")
    raw = header.get(METADATA_KEY)
    if raw is None:
        return None
    try:
        metadata = RunMetadata.from_json(raw)
    except msgspec.MsgspecError as error:
        raise TraceFormatError(f"{path}: its {METADATA_KEY} metadata can't be read: {error}") from error
    if metadata.schema_version > SCHEMA_VERSION:
        raise TraceFormatError(f"{path} was written by a newer gemma-trace; run: pip install --upgrade gemma-trace")
    return metadata
