"""How many cores one trace may keep busy."""

from __future__ import annotations

import os
import re
import sys
from typing import Final

from gemma_trace.errors import ConfigError

JOBS_VARIABLE: Final = "GEMMA_TRACE_JOBS"
"""The environment variable that says how many processes may read one trace."""

MOST_JOBS: Final = 8
"""Of more than this one process, which inflates and puts together, is the slowest."""


def jobs_of(given: int | None) -> int:
    """How many processes may read one trace: what is given, else what the environment says, else one a core.

    Raises:
        ConfigError: it is no whole number above zero.
    """
    text = os.environ.get(JOBS_VARIABLE, "") if given is None else str(given)
    if not text:
        return 1 if _is_one_of_many() else min(_cores(), MOST_JOBS)
    if not re.fullmatch(r"[1-9][0-9]{0,3}", text):
        name = JOBS_VARIABLE if given is None else "jobs"
        raise ConfigError(f"{name} is {text[:40]!r}; it requires a whole number of processes, such as 1 or 4")
    return min(int(text), MOST_JOBS)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_one_of_many() -> bool:
    """Whether this process is one of several that were started to share the cores."""
    processes, dask = sys.modules.get("multiprocessing.process"), sys.modules.get("distributed.worker")
    if processes is not None and processes.parent_process() is not None:
        return True
    try:
        return dask is not None and dask.get_worker() is not None
    except ValueError:  # there is none
        return False
