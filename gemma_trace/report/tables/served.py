"""What a client saw of its requests to a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from gemma_trace.report.table import Col, Report, Table
from gemma_trace.report.units import COUNT, LABEL, MS, TEXT
from gemma_trace.served.metrics import Told, told
from gemma_trace.served.record import ClientRequest, ServedRecord


@dataclass(frozen=True)
class ServedLine:
    """A request of one of the passes.

    Attributes:
        requests: the pass: `timed` or `profiled`.
    """

    requests: str
    number: int
    request: ClientRequest

    @property
    def tpot_ns(self) -> int | None:
        """The mean interval between pieces of text."""
        tokens = self.request.token_ns
        return (tokens[-1] - tokens[0]) // (len(tokens) - 1) if len(tokens) > 1 else None

    @property
    def longest_itl_ns(self) -> int | None:
        """The longest interval between two pieces of text."""
        tokens = self.request.token_ns
        return max((after - before for before, after in pairwise(tokens)), default=None)

    @property
    def tokens(self) -> int:
        """As the server counts them; else the pieces that came."""
        return self.request.output_tokens or len(self.request.token_ns)


SERVED_FILE: Final = (
    Col("requests", "requests", TEXT, definition="`timed` ran without the profiler, `profiled` under it"),
    Col("number", "", COUNT, definition="its number in its pass, from 0"),
    Col("label", "images", LABEL, definition="the images that it has", priority=3, value="request.label"),
    Col("ttft_ns", "TTFT", MS, definition="from sending until the first text", value="request.ttft_ns"),
    Col("tpot_ns", "TPOT", MS, definition="mean interval between pieces of text"),
    Col(
        "longest_itl_ns",
        "longest interval",
        MS,
        definition="the longest interval between two pieces of text",
        priority=2,
    ),
    Col(
        "done_ns",
        "whole",
        MS,
        definition="from sending until the answer is complete",
        priority=1,
        value="request.done_ns",
    ),
    Col("prompt_tokens", "prompt", COUNT, definition="as the server counts", priority=4, value="request.prompt_tokens"),
    Col(
        "tokens",
        "tokens",
        COUNT,
        definition="as the server counts them; if it does not, the pieces of text that came",
        priority=1,
    ),
    Col("error", "", LABEL, definition="why it has no answer, or only part of one", priority=5, value="request.error"),
)
"""A row per request."""


MEASURE_COLS: Final = (
    Col("what", "", LABEL, definition="what the server's /metrics say of the timed requests"),
    Col("value", "", TEXT, definition="with its unit"),
)


def served_report(record: ServedRecord, source: str) -> Report:
    """All requests, and what the server itself says of them.

    Args:
        source: the record's folder.
    """
    lines = [
        ServedLine(name, number, request)
        for name, requests in (("timed", record.timed), ("profiled", record.profiled))
        for number, request in enumerate(requests)
    ]
    shown = [col for col in SERVED_FILE if col.key != "error" or any(line.request.error for line in lines)]
    tables: list[Table[Any]] = [Table("Requests, as the client saw them", tuple(shown), lines)]
    if said := told(record.measures):
        tables.append(_told_table(said))
    totals = {"server": record.server, "model": record.model, "measures": Table("measures", MEASURE_COLS, said)}
    return Report("serve-capture", [source], tuple(tables), Table("served", SERVED_FILE, lines), totals)


def _told_table(said: Sequence[Told]) -> Table[Told]:
    return Table("What the server itself measured for the timed requests", MEASURE_COLS, said)
