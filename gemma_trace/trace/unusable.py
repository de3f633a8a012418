"""Why nothing can be said of a trace, in the words of whoever has to capture it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gemma_trace.trace.plausible import can_be_summed
from gemma_trace.wording import counted

if TYPE_CHECKING:
    from gemma_trace.trace.reader import TraceFile
    from gemma_trace.trace.trace import Trace

UNSEEN: Final = (
    "has no spans of the host or of a device, only the profiler's own marks; was the work done in a thread that the "
    "profiler did not see? Record all threads: torch.profiler.profile(experimental_config="
    "torch._C._profiler._ExperimentalConfig(profile_all_threads=True))"
)
"""Of what an empty trace says, the end: the profiler was on in another thread than the work."""
_DISPLACED: Final = (
    "has no spans of the host or of a device with possible times: they lie at time zero, or years from the others, and "
    "were left out; capture again, with a newer torch or driver"
)
_ENDLESS: Final = (
    "holds spans with impossible times: they are over 36 years apart, or their lengths sum up to over 146; capture "
    "again, with a newer torch or driver"
)


def unusable(file: TraceFile, trace: Trace) -> str:
    """Why a trace can't be used, as the rest of a sentence that begins with its path; nothing where it can."""
    if not len(trace.spans):
        return f"holds {_held(file, trace)} but no span; was anything run under the profiler?"
    if not len(trace.host) and not len(trace.activities):
        return _DISPLACED if trace.implausible.displaced else UNSEEN
    return "" if can_be_summed(trace.spans) else _ENDLESS


def _held(file: TraceFile, trace: Trace) -> str:
    """What a file without spans holds."""
    counts = {"counter": len(file.counters), "memory event": len(trace.memory), "flow event": len(file.flows)}
    known = [counted(count, what) for what, count in counts.items() if count]
    others = ", ".join(f"{count:,} of {phase}" for phase, count in file.report.passed_over.items())
    return " and ".join([*known, *([f"events of other phases ({others[:80]})"] if others else [])]) or "metadata"
