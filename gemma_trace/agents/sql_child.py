"""Runs one SELECT for an agent, in a process of its own: what it may take ends with the process, whatever it does.

Reads an `Order` behind its length and writes an answer in JSON: `{"columns", "rows", "total", "lost"}`, or `{"error"}`.
It ends when its input does, whatever it does by then: so it never outlives the server.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import msgspec

from gemma_trace.errors import GemmaTraceError
from gemma_trace.sql.limits import Limits
from gemma_trace.stages import StageRule

if TYPE_CHECKING:
    from gemma_trace.sql.sources import Source
    from gemma_trace.trace.trace import Trace

LENGTH: Final = struct.Struct("<Q")
"""How long the order is, which follows."""
LONGEST_CELL: Final = 2_000
"""So many characters of a text are passed on."""


@dataclass(frozen=True)
class AgentLimits(Limits):
    """What a query may take, said to somebody who can't change it."""

    @property
    def time_text(self) -> str:
        """What is said where the time is over."""
        return f"the query took longer than {self.timeout_s:g} s; ask for less"

    @property
    def memory_text(self) -> str:
        """What is said where the memory is."""
        return f"the query needs more than {self.memory_bytes / 1e6:g} MB of memory; ask for less"


@dataclass(frozen=True)
class Order:
    """What is to be asked.

    Attributes:
        path: a store; None where it is traces.
        files: the traces.
        is_job: they are the ranks of one job.
        most_rows: so many of the first rows are passed on.
        cached: keep the columns of large traces on disk.
    """

    path: Path | None
    files: Sequence[Path]
    rules: Sequence[StageRule]
    sql: str
    limits: AgentLimits
    most_rows: int
    is_job: bool
    cached: bool


def main() -> None:
    """Answer the order on the standard input; nothing else is written to the standard output."""
    source = sys.stdin.buffer
    order: Order = pickle.loads(source.read(LENGTH.unpack(source.read(LENGTH.size))[0]))
    threading.Thread(target=_end_with, args=(source,), daemon=True).start()
    out = os.dup(1)
    os.dup2(2, 1)

    def answer(value: Any) -> None:
        with os.fdopen(os.dup(out), "wb") as file:
            file.write(msgspec.json.encode(value))

    def give_up(reason: str) -> None:
        answer({"error": reason})
        os._exit(0)

    try:
        answer(answered(order, give_up))
    except GemmaTraceError as error:
        answer({"error": str(error)})
    except MemoryError:
        answer({"error": order.limits.memory_text})
    os._exit(0)  # a thread still reads


def _end_with(source: IO[bytes]) -> None:
    source.read()
    os._exit(1)


def answered(order: Order, give_up: Any = lambda reason: None) -> dict[str, Any]:
    """The result's first rows.

    Raises:
        GemmaTraceError: as `query` does.
    """
    from gemma_trace.sql.engine import query, refuse_all_but_one_select

    refuse_all_but_one_select(order.sql)  # before a large trace is read
    lost: list[str] = []
    result = query(_source(order, lost), order.sql, order.limits, give_up)
    columns = [column.to_pylist() for column in result.slice(0, order.most_rows).columns]
    rows = [[_cell(value) for value in row] for row in zip(*columns, strict=True)]
    return {"columns": result.column_names, "rows": rows, "total": result.num_rows, "lost": lost}


def _source(order: Order, lost: list[str]) -> Source:
    from gemma_trace.sql.sources import FolderSource, StoreSource, TraceSource
    from gemma_trace.trace.cache import TraceCache
    from gemma_trace.trace.trace import load

    def read(file: Path) -> Trace:
        return load(file, order.rules, cache=TraceCache() if order.cached else None)

    if order.path is not None:
        return StoreSource(order.path)
    if len(order.files) == 1:
        return TraceSource(read(order.files[0]))
    return FolderSource(
        order.files, read, is_job=order.is_job, on_unreadable=lambda error: lost.append(str(error)[:LONGEST_CELL])
    )


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    text = value if isinstance(value, str) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL // 2]}…{text[-LONGEST_CELL // 2 :]}"


if __name__ == "__main__":
    main()
