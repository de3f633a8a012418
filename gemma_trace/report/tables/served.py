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
        """From the first piece of text to the last, over the tokens after the first."""
        pieces = self.request.token_ns
        return (pieces[-1] - pieces[0]) // (self.tokens - 1) if len(pieces) > 1 and self.tokens > 1 else None

    @property
    def longest_itl_ns(self) -> int | None:
        """The longest interval between two pieces of text."""
        tokens = self.request.token_ns
        return max((after - before for before, after in pairwise(tokens)), default=None)

    @property
    def tokens(self) -> int:
        """As the server counts them; else the pieces that came."""
        return self.request.output_tokens or len(self.request.token_ns)

    @property
    def prompt_tokens(self) -> int | None:
        """As the server counts them; None where it doesn't say."""
        return self.request.prompt_tokens or None


SERVED_FILE: Final = (
    Col("requests", "requests", TEXT, definition="`timed` ran without the profiler, `profiled` under it"),
    Col("number", "", COUNT, definition="its number in its pass, from 0"),
    Col("label", "images", LABEL, definition="the images that it has", priority=3, value="request.label"),
    Col("ttft_ns", "TTFT", MS, definition="from sending until the first text", value="request.ttft_ns"),
    Col("tpot_ns", "TPOT", MS, definition="from the first text to the last, over `tokens` - 1"),
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
    Col("prompt_tokens", "prompt", COUNT, definition="as the server counts; null where it doesn't say", priority=4),
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
    tables: list[Table[Any]] = [Table("Requests, as the client saw them", tuple(shown), lines, notes=_notes(lines))]
    if said := told(record.measures):
        tables.append(_told_table(said))
    totals = {"server": record.server, "model": record.model, "measures": Table("measures", MEASURE_COLS, said)}
    return Report("serve-capture", [source], tuple(tables), Table("served", SERVED_FILE, lines), totals)


def _notes(lines: Sequence[ServedLine]) -> tuple[str, ...]:
    notes = []
    if not any(line.requests == "profiled" for line in lines):
        notes.append("Where their time goes inside of the server is in its traces: --traces and the folder of those.")
    apart = [line for line in lines if line.request.token_ns and line.tokens != len(line.request.token_ns)]
    if apart:
        notes.append(
            f"Of {len(apart)} requests, text came in more or fewer pieces than the server counts tokens: intervals are "
            "between pieces, TPOT is by its count."
        )
    return tuple(notes)


def _told_table(said: Sequence[Told]) -> Table[Told]:
    return Table("What the server itself measured for the timed requests", MEASURE_COLS, said)
