"""How long it took to import torch and transformers, where that was ours to do. Imports neither."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_took_ns: list[int] = []


@contextmanager
def imports_timed() -> Iterator[None]:
    """Around the import of what captures; it counts if torch isn't imported yet."""
    if "torch" in sys.modules:
        yield
        return
    began = time.perf_counter_ns()
    yield
    _took_ns.append(time.perf_counter_ns() - began)


def import_ns() -> int | None:
    """How long it took; None where the program had imported torch before."""
    return _took_ns[0] if _took_ns else None
