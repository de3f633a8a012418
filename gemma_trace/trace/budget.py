"""How much memory a trace may take: what takes more than is free is refused before the machine swaps."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from gemma_trace.errors import ConfigError

VARIABLE: Final = "GEMMA_TRACE_MEMORY_GB"
"""The environment variable that sets the budget, in GB."""

SPAN_BYTES: Final = 600
"""What a span takes at the peak of a command: its columns, and those that are derived from them. Measured."""

EVENT_BYTES: Final = 120
"""What any other event takes."""


def memory_budget_bytes() -> int:
    """What reading a trace and a command on it may take: what the user allows, else nine tenths of what is free.

    Raises:
        ConfigError: the variable is set to something that is no number of GB.
    """
    given = os.environ.get(VARIABLE, "")
    if not given:
        return host_free_bytes() * 9 // 10
    if not re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", given):
        raise ConfigError(f"{VARIABLE} is a number of GB such as 8 or 0.5, not {given[:40]!r}")
    return int(float(given) * 1e9)


def host_free_bytes() -> int:
    """The host's memory that is free, within the limit of its control group."""
    return min([available_bytes(), *group_limits_bytes()])


def available_bytes() -> int:
    """Linux's own estimate of what can be had without swapping."""
    try:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        match = None
    if match:
        return int(match[1]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident_bytes() -> int:
    """What this process has in memory; 0 where that can't be told."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def group_limits_bytes() -> list[int]:
    """What the control group leaves, if it has a limit; file caches of its own can be given up."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        cached = re.search(r"^inactive_file (\d+)", (folder / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):
        return []
    return [] if limit == "max" else [int(limit) - used + (int(cached[1]) if cached else 0)]
