"""Decodes blocks of a trace for another process; see `block_workers.py`, which starts it.

Orders come on the standard input, the blocks' texts and columns go through shared memory, and everything else that a
block gave goes to the standard output. It ends when its input does.
"""

from __future__ import annotations

import mmap
import signal
import struct
import sys
from typing import Any, Final, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from gemma_trace.trace.collected import Block
from gemma_trace.trace.sink import decoded_block

TEXT_BYTES: Final = 2 << 20
"""The longest text of a block."""

COLUMN_BYTES: Final = 6 << 20
"""What the columns of a block may take."""

SLOT_BYTES: Final = TEXT_BYTES + COLUMN_BYTES
SLOTS: Final = 3
"""How many blocks a process has at a time: one in work, one that waits, and one that is decoded but not yet fetched,
since whoever asked decodes a block too. With 2 the process is idle a fifth of the time."""

ORDER: Final = struct.Struct("<II")
"""The slot, and the length of the text in it."""

LENGTH: Final = struct.Struct("<I")
"""The length of an answer, which stands before it. An empty one says that the block has to be decoded elsewhere."""

READY: Final = b"r"

_ALIGNED: Final = 8


class Placed(msgspec.Struct, array_like=True):
    """Where a column is."""

    part: str
    name: str
    dtype: str
    offset: int
    count: int


class BlockAnswer(msgspec.Struct, array_like=True):
    """All of a `Block` but its columns, and where those are in the slot."""

    columns: list[Placed]
    names: tuple[str, ...]
    cats: tuple[str, ...]
    texts: tuple[bytes, ...]
    flow_cats: tuple[str, ...]
    flow_ids: tuple[str, ...]
    tracks: tuple[tuple[int | str, int | str], ...]
    begun: int
    first_ns: int | None
    phases: dict[str, int]
    repairs: dict[str, int]


def block_of(answer: bytes, slot: memoryview) -> Block:
    """The block that a process answered with; its columns are views of the slot.

    Args:
        slot: of shared memory.
    """
    decoded = msgspec.msgpack.decode(answer, type=BlockAnswer)
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {"spans": {}, "flows": {}, "memory": {}}
    for each in decoded.columns:
        parts[each.part][each.name] = np.frombuffer(slot, each.dtype, each.count, TEXT_BYTES + each.offset)
    rest: dict[str, Any] = {name: getattr(decoded, name) for name in decoded.__struct_fields__ if name != "columns"}
    return Block(spans=parts["spans"], flows=parts["flows"], memory=parts["memory"], **rest)


def _answer(block: Block, slot: memoryview) -> bytes:
    """Write a block's columns into a slot.

    Returns:
        The rest of it; nothing where the slot is too small.
    """
    placed, end = [], 0
    for part in ("spans", "flows", "memory"):
        for name, column in getattr(block, part).items():
            begin, end = end, end + -(-column.nbytes // _ALIGNED) * _ALIGNED
            if end > COLUMN_BYTES:
                return b""
            np.frombuffer(slot, column.dtype, len(column), TEXT_BYTES + begin)[:] = column
            placed.append(Placed(part, name, column.dtype.str, begin, len(column)))
    rest = {name: getattr(block, name) for name in BlockAnswer.__struct_fields__ if name != "columns"}
    return msgspec.msgpack.encode(BlockAnswer(placed, **rest))


def _answered(slot: memoryview, length: int, *, detailed: bool) -> bytes:
    try:
        block = decoded_block(slot[:length], detailed=detailed)
        return b"" if block is None else _answer(block, slot)
    except Exception:  # a number that no answer holds: whoever asked decodes it again, and says what is wrong
        return b""


def main(descriptor: int, detailed: int) -> NoReturn:
    """Answer orders until there are no more, and exit; see `answer_orders`."""
    answer_orders(descriptor, detailed=bool(detailed))
    sys.exit(0)


def answer_orders(descriptor: int, *, detailed: bool) -> None:
    """Answer orders until there are no more.

    Args:
        descriptor: of the shared memory's file.
        detailed: whether the details are read too.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asks is interrupted too, and closes the input
    shared = memoryview(mmap.mmap(descriptor, SLOTS * SLOT_BYTES))
    with open(0, "rb", closefd=False) as orders, open(1, "wb", closefd=False) as answers:
        answers.write(READY)
        answers.flush()
        while len(order := orders.read(ORDER.size)) == ORDER.size:
            slot, length = ORDER.unpack(order)
            answer = _answered(shared[slot * SLOT_BYTES : (slot + 1) * SLOT_BYTES], length, detailed=detailed)
            answers.write(LENGTH.pack(len(answer)) + answer)
            answers.flush()
