"""What was read of a trace so far: columns that grow, and the tables that their codes point into."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gemma_trace.trace.budget import EVENT_BYTES, SPAN_BYTES
from gemma_trace.trace.events import (
    NONE,
    TEXT_COLUMNS,
    CodeArray,
    DetailedEvents,
    Events,
    Flows,
    IntArray,
    MemoryEvents,
    Track,
)
from gemma_trace.trace.growing import GrowingColumn, Interner, OptionalColumn, TextInterner, TrackInterner, rows_of
from gemma_trace.trace.schema import ARGUMENT_COLUMNS, DETAIL_COLUMNS, FLOW_COLUMNS, MEMORY_COLUMNS, SPAN_COLUMNS

_NEGATIVE_IDS: Final = -2
"""Ids of arrows that are no numbers are this less their code."""


@dataclass(frozen=True)
class Block:
    """What one array of a trace's events gave: columns in the file's order, whose codes point into its own tables.

    Attributes:
        spans, flows, memory: by the column's name, as in `schema.py`; columns of arguments that no span has are absent.
        names, cats, texts, flow_cats, flow_ids, tracks: the tables.
        begun: how many spans began.
        first_ns: the earliest time; None where there is none.
        phases, repairs: see `ColumnBuilder`.
    """

    spans: Mapping[str, npt.NDArray[Any]]
    flows: Mapping[str, npt.NDArray[Any]]
    memory: Mapping[str, npt.NDArray[Any]]
    names: tuple[str, ...]
    cats: tuple[str, ...]
    texts: tuple[bytes, ...]
    flow_cats: tuple[str, ...]
    flow_ids: tuple[str, ...]
    tracks: tuple[tuple[int | str, int | str], ...]
    begun: int
    first_ns: int | None
    phases: Mapping[str, int]
    repairs: Mapping[str, int]


class Collected:
    """The columns of spans, arrows and memory events, and their tables.

    Args:
        detailed: whether `DETAIL_COLUMNS` and memory events are among them.

    Attributes:
        phases: how many events there were of each `ph`.
        repairs: how many events had to be mended or were lost, by what was wrong.
        first_ns: the earliest time of an event that isn't metadata; None before there is one.
        begun: how many spans have begun.
    """

    def __init__(self, *, detailed: bool = True) -> None:
        self._is_detailed = detailed
        self.phases: Counter[str] = Counter()
        self.repairs: Counter[str] = Counter()
        self.first_ns: int | None = None
        self.begun = 0
        self.names, self.cats, self.flow_cats, self.flow_ids = (Interner() for _ in range(4))
        self.texts = TextInterner()
        self.tracks = TrackInterner()
        self._spans = {name: GrowingColumn(dtype) for name, dtype in SPAN_COLUMNS.items()}
        self._arguments = {
            name: OptionalColumn(dtype)
            for name, dtype in ARGUMENT_COLUMNS.items()
            if detailed or name not in DETAIL_COLUMNS
        }
        self._flows = {name: GrowingColumn(dtype) for name, dtype in FLOW_COLUMNS.items()}
        self._memory = {name: GrowingColumn(dtype) for name, dtype in MEMORY_COLUMNS.items()}

    def add_spans(
        self, columns: Mapping[str, npt.ArrayLike], place: IntArray | slice, arguments: Mapping[str, npt.ArrayLike]
    ) -> None:
        """Append spans.

        Args:
            columns: the columns that every span has a value in.
            place: int64, which of the spans have arguments.
            arguments: the columns of those; what isn't among them has no value.
        """
        for name, growing in self._spans.items():
            growing.extend(columns[name])
        count = np.size(columns["ts_ns"])
        for name, column in self._arguments.items():
            column.extend(count, place, arguments.get(name, ()))

    def add_flows(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Append ends of arrows."""
        for name, growing in self._flows.items():
            growing.extend(columns[name])

    def add_memory(self, columns: Mapping[str, npt.ArrayLike]) -> None:
        """Append memory events."""
        for name, growing in self._memory.items():
            growing.extend(columns[name])

    def note_first(self, ts_ns: IntArray) -> None:
        """Take the times of events into account."""
        if len(ts_ns):
            first = int(ts_ns.min())
            self.first_ns = first if self.first_ns is None else min(self.first_ns, first)

    def code_of_flow_id(self, text: str) -> int:
        """The id of an arrow whose own is no number."""
        return _NEGATIVE_IDS - self.flow_ids[text]

    @property
    def needed_bytes(self) -> int:
        """What a command on the events so far takes at its peak, some."""
        tables = (self.names, self.cats, self.texts, self.flow_cats, self.flow_ids)
        texts = sum(table.held_bytes for table in tables)
        tracks = len(self.tracks) * EVENT_BYTES
        return len(self._spans["ts_ns"]) * SPAN_BYTES + self.phases.total() * EVENT_BYTES + texts + tracks

    def build(self) -> Events:
        """All spans as columns, sorted by start, the longer first."""
        columns = {name: column.take() for name, column in self._spans.items()}
        columns |= {name: column.take() for name, column in self._arguments.items()}
        self._spans.clear()  # or each column would be in memory twice, sorted and not
        self._arguments.clear()
        order = _start_order(columns["ts_ns"], columns["dur_ns"], columns["place"])
        spare: dict[str, npt.NDArray[Any]] = {}
        for name, column in columns.items():
            columns[name] = rows_of(column, order, spare.get(column.dtype.str))
            if columns[name] is not column:
                spare[column.dtype.str] = column  # whose memory takes the next one's rows
        return (DetailedEvents if self._is_detailed else Events)(
            **columns,
            names=tuple(self.names),
            cats=tuple(self.cats),
            tracks=tuple(Track(str(pid), str(tid)) for pid, tid in self.tracks.known),
            texts=tuple(text.decode("utf-8", "replace") for text in self.texts.known),
        )

    def build_flows(self) -> Flows:
        """All ends of arrows."""
        columns = {name: column.take() for name, column in self._flows.items()}
        return Flows(**columns, cats=tuple(self.flow_cats))

    def build_memory(self) -> MemoryEvents | None:
        """All memory events; None where they aren't collected."""
        if not self._is_detailed:
            return None
        return MemoryEvents(**{name: column.take() for name, column in self._memory.items()})

    def block(self) -> Block:
        """All of it, as it is; nothing can be added any more."""
        spans = {name: column.take() for name, column in self._spans.items()}
        spans |= {name: column.take() for name, column in self._arguments.items() if not column.is_empty}
        return Block(
            spans=spans,
            flows={name: column.take() for name, column in self._flows.items()},
            memory={name: column.take() for name, column in self._memory.items()},
            names=tuple(self.names),
            cats=tuple(self.cats),
            texts=self.texts.known,
            flow_cats=tuple(self.flow_cats),
            flow_ids=tuple(self.flow_ids),
            tracks=tuple(self.tracks.known),
            begun=self.begun,
            first_ns=self.first_ns,
            phases=dict(self.phases),
            repairs=dict(self.repairs),
        )

    def absorb(self, block: Block) -> None:
        """Append what the next array of the file gave, its codes turned into ours."""
        texts, tracks = _codes(self.texts, block.texts), _codes(self.tracks, block.tracks)
        ours = dict.fromkeys(TEXT_COLUMNS, texts) | {"track": tracks}
        names = _codes(self.names, block.names)
        ours |= {"name": names, "node_label": names, "cat": _codes(self.cats, block.cats)}
        spans = {name: ours[name][values] if name in ours else values for name, values in block.spans.items()}
        self.add_spans(spans | {"place": spans["place"] + self.begun}, slice(None), spans)
        ids, flow_ids = block.flows["id"], _NEGATIVE_IDS - _codes(self.flow_ids, block.flow_ids)
        flows = {
            "track": tracks[block.flows["track"]],
            "cat": _codes(self.flow_cats, block.flow_cats)[block.flows["cat"]],
            "id": np.where(ids < 0, flow_ids[np.where(ids < 0, _NEGATIVE_IDS - ids, NONE)], ids),
        }
        self.add_flows({**block.flows, **flows})
        self.add_memory({**block.memory, "track": tracks[block.memory["track"]]})
        if block.first_ns is not None:
            self.note_first(np.array([block.first_ns]))
        self.begun += block.begun
        self.phases.update(block.phases)
        self.repairs.update(block.repairs)


def _codes(table: dict[Any, int], values: Sequence[Any]) -> IntArray:
    """int64, the codes of values in a table of ours; behind the last `NONE`, which is where `NONE` as a place leads."""
    return np.array([*[table[value] for value in values], NONE], dtype=np.int64)


def _start_order(ts_ns: IntArray, dur_ns: IntArray, place: CodeArray) -> IntArray:
    """The order by start, the longer first, then the file's. Few spans start together: only those are sorted twice."""
    order = np.argsort(ts_ns, kind="stable")
    together = np.diff(ts_ns[order]) == 0
    alike = np.flatnonzero(np.append(together, False) | np.append(False, together))
    same = order[alike]
    order[alike] = same[np.lexsort((place[same], -dur_ns[same], ts_ns[same]))]
    return order
