"""Findings about how a trace of ours was captured."""

from __future__ import annotations

from collections.abc import Iterator

from gemma_trace.health.findings import RANDOM_WEIGHTS, Finding, Severity
from gemma_trace.trace.trace import Trace


def capture_findings(trace: Trace) -> Iterator[Finding]:
    """What a capture says of itself."""
    metadata = trace.metadata
    if metadata is None:
        return
    for warning in metadata.warnings:
        yield Finding("capture_warning", Severity.WARNING, 1, warning, "see the message")
    if metadata.run.weights == "random":
        yield Finding(
            RANDOM_WEIGHTS,
            Severity.INFO,
            1,
            f"the weights of {metadata.run.model} are random",
            "times depend on the shapes and not on the values, but the text that the model writes makes no sense",
        )
    if metadata.config.get("warmup") == 0:
        yield Finding(
            "no_warmup",
            Severity.WARNING,
            1,
            "no request ran before the timed ones, and a first request can take 20 times as long",
            "capture with --warmup 10",
        )
