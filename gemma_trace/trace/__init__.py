"""Trace files → columns. Free of torch."""

from __future__ import annotations

from gemma_trace.trace.events import Events, Track
from gemma_trace.trace.reader import ReadReport, read_trace
from gemma_trace.trace.trace import Trace, load, load_metadata

__all__ = ["Events", "ReadReport", "Trace", "Track", "load", "load_metadata", "read_trace"]
