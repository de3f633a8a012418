"""An array of events as JSON → columns: decoded in the fastest way that its values allow."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gemma_trace.foreign import UNDECODABLE
from gemma_trace.trace.collected import Block
from gemma_trace.trace.columns import ColumnBuilder
from gemma_trace.trace.event_structs import (
    Event,
    TaggedEvent,
    decode_brief,
    decode_exact,
    decode_fast,
    decode_loose,
    decode_tagged,
)


class ColumnSink:
    """Takes arrays of events, in the file's order.

    Args:
        detailed: whether the details are read too.

    Attributes:
        builder: has what they held.
    """

    def __init__(self, *, detailed: bool = True) -> None:
        self.builder = ColumnBuilder(detailed=detailed)
        self._large = False  # so were the times of the batch before: a trace of epoch times is decoded once a batch

    def decode(self, array: bytes | memoryview) -> bool:
        """Take the events of a JSON array; False, and nothing is taken, where it doesn't decode."""
        builder = self.builder
        try:
            try:
                if self._large and builder.add_exact(decode_exact(array), array, only_large=True):
                    return True
                self._large = not builder.add(_decode_numbers(array, detailed=builder.is_detailed), array)
                if self._large:
                    builder.add_exact(decode_exact(array), array)
            except msgspec.ValidationError:
                try:
                    builder.add_exact(decode_exact(array), array)
                except msgspec.ValidationError:
                    builder.add_loose(decode_loose(array), array)
        except UNDECODABLE:
            return False
        return True


def _decode_numbers(array: bytes | memoryview, *, detailed: bool) -> Sequence[TaggedEvent | Event]:
    """The events of a JSON array whose times are numbers."""
    try:
        return decode_tagged(array) if detailed else decode_brief(array)
    except msgspec.ValidationError:  # one of them has a phase of its own, or none
        return decode_fast(array)


def decoded_block(array: bytes | memoryview, *, detailed: bool) -> Block | None:
    """The events of a JSON array by themselves.

    Args:
        detailed: whether the details are read too.

    Returns:
        None where it doesn't decode, or where what it holds hangs together with what other arrays hold: `B` and `E`
        events, counters, names of threads, and all that is passed over.
    """
    sink = ColumnSink(detailed=detailed)
    if not sink.decode(array):
        return None
    return sink.builder.collected.block() if sink.builder.stands_alone else None
