"""`Trace`: a trace file's events and metadata, and what is derived from them on first use."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from gemma_trace.errors import TraceFormatError
from gemma_trace.metadata import METADATA_KEY, SCHEMA_VERSION, RunMetadata
from gemma_trace.stages import Stage, stage_of_range
from gemma_trace.trace.events import (
    ANNOTATION_CATEGORIES,
    DEVICE_CATEGORIES,
    NONE,
    OP_CATEGORIES,
    BoolArray,
    IntArray,
)
from gemma_trace.trace.links import link_launches
from gemma_trace.trace.reader import ReadReport, TraceFile, read_header, read_trace
from gemma_trace.trace.tree import Nesting, Segments, inherit, innermost_segments, nest

if TYPE_CHECKING:
    import pandas as pd

STAGES = tuple(Stage)
"""Stage codes are indices into this."""

_UNATTRIBUTED = STAGES.index(Stage.UNATTRIBUTED)


class Trace:
    """One trace. Everything is derived on first use and kept; nothing changes afterwards.

    Attributes:
        path: the file it was read from.
        spans: the columns.
        report: what reading brought to light.
        metadata: what our capture says of itself; None in everybody else's traces.

    >>> trace = load("traces/tiny/rank0.1.pt.trace.json.gz")      # doctest: +SKIP
    >>> trace.events().groupby("cat", observed=True)["dur_ns"].sum()      # doctest: +SKIP
    """

    def __init__(self, file: TraceFile, path: Path) -> None:
        self.path = path
        self.spans = file.events
        self.report: ReadReport = file.report
        self.metadata = metadata_of(file.header, path)
        if not len(self.spans):
            raise TraceFormatError(f"{path} holds metadata but no span; was anything run under the profiler?")

    def events(self) -> pd.DataFrame:
        """The spans as a DataFrame, a row each."""
        return self.spans.to_frame()

    @cached_property
    def is_activity(self) -> BoolArray:
        """bool [n], which spans are device activities: kernels, copies, fills."""
        return self.spans.in_categories(DEVICE_CATEGORIES)

    @cached_property
    def activities(self) -> IntArray:
        """int64 [m], the indices of the device activities, by start."""
        return np.flatnonzero(self.is_activity)

    @cached_property
    def host(self) -> IntArray:
        """int64 [k], the indices of the spans on the host's threads, by start.

        That is all but device activities, annotations mirrored onto the device, and the profiler's own marks.
        """
        elsewhere = frozenset({"gpu_user_annotation", "overhead", "trace", "cuda_sync"})
        return np.flatnonzero(~self.is_activity & ~self.spans.in_categories(elsewhere))

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
        return link_launches(self.spans, self.activities, self.host)

    @cached_property
    def is_op(self) -> BoolArray:
        """bool [n], which spans are PyTorch ops."""
        return self.spans.in_categories(OP_CATEGORIES)

    @cached_property
    def is_annotation(self) -> BoolArray:
        """bool [n], which spans are `record_function` ranges on the host."""
        return self.spans.in_categories(ANNOTATION_CATEGORIES)

    @cached_property
    def stage_range(self) -> IntArray:
        """int64 [n], the stage code of the spans that are stage ranges; `NONE` for all others."""
        stages = [stage_of_range(name) for name in self.spans.names]
        of_name = np.array([NONE if stage is None else STAGES.index(stage) for stage in stages], dtype=np.int64)
        return np.where(self.is_annotation, of_name[self.spans.name], NONE)

    @cached_property
    def innermost_range(self) -> IntArray:
        """int64 [n], for each span of the host the index of the innermost stage range around it, or of itself.

        `NONE` outside of all stage ranges, and for all that isn't on the host.
        """
        host = self.host
        own = np.where(self.stage_range[host] != NONE, np.arange(len(host)), NONE)
        found = inherit(own, self.nesting)
        result = np.full(len(self.spans), NONE, dtype=np.int64)
        result[host] = np.where(found >= 0, host[found], NONE)
        return result

    def stage_at(self, spans: IntArray) -> IntArray:
        """The stage code each of these host spans runs in.

        Args:
            spans: int64, indices of spans, or `NONE`.

        Returns:
            int64; the code of `unattributed` outside of all stages, in none but a request, or for `NONE`.
        """
        ranges = np.where(spans >= 0, self.innermost_range[spans], NONE)
        stage = np.where(ranges >= 0, self.stage_range[ranges], _UNATTRIBUTED)
        return np.where(stage == STAGES.index(Stage.REQUEST), _UNATTRIBUTED, stage)


def load(path: str | Path) -> Trace:
    """Read a trace file.

    Args:
        path: gzip or plain, as torch.profiler wrote it or as `gemma-trace capture` did.

    Raises:
        InputError: the file can't be read, or is of a newer gemma-trace.
        TraceFormatError: it is no trace, or holds no span.
    """
    path = Path(path)
    return Trace(read_trace(path), path)


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
