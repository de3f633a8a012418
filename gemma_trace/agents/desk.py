"""What a server has at hand: its roots, its rules, and the traces and answers that it had last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from gemma_trace.agents.roots import Roots
from gemma_trace.errors import InputError
from gemma_trace.stages import StageRule

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace

MOST_FILES: Final = 2_000
"""Of a folder with more traces than this not even the headers are read."""
MOST_TRACES: Final = 3
MOST_SPANS: Final = 2_000_000
"""Of all traces that are kept, but for the last one, which is kept whatever its size."""
MOST_ANSWERS: Final = 4

_Kept = TypeVar("_Kept")


class Desk:
    """Reads traces below the roots, and keeps the last ones.

    Args:
        rules: the user's stages.
        cached: keep the columns of large traces on disk for the next time, as commands do.
    """

    def __init__(self, roots: Roots, rules: Sequence[StageRule] = (), *, cached: bool = True) -> None:
        self.roots, self.rules, self.is_cached = roots, rules, cached
        self._traces: OrderedDict[Path, tuple[str, Trace]] = OrderedDict()
        self._answers: OrderedDict[str, object] = OrderedDict()

    def files(self, given: str) -> list[Path]:
        """The traces that a path names.

        Raises:
            InputError: there is none, or it lies outside of the roots, or there are too many.
        """
        traces = self.roots.traces(self.roots.path(given))
        if len(traces) > MOST_FILES:
            example = self.roots.shown(traces[0].parent)
            raise InputError(
                f"that folder has {len(traces):,} traces, more than {MOST_FILES:,}; give a folder below it, e.g. "
                f"{example}, or ask a store of them, which gemma-trace index makes, with sql"
            )
        return traces

    def trace(self, given: str) -> Trace:
        """The one trace that a path names.

        Raises:
            InputError: there is none, or there are several, or it can't be read.
        """
        files = self.files(given)
        if len(files) > 1:
            raise InputError(f"that folder has {len(files)} traces in it; give one of them, as summarize shows them")
        return self.read(files[0])

    def read(self, file: Path) -> Trace:
        """A trace; one of the last ones isn't read again unless its file has changed.

        Raises:
            InputError: it can't be read.
        """
        from gemma_trace.trace.cache import TraceCache
        from gemma_trace.trace.trace import load

        stamp = stamp_of([file])
        known = self._traces.pop(file, None)
        trace = known[1] if known and known[0] == stamp else None
        if trace is None:
            self._make_room()
            trace = load(file, self.rules, cache=TraceCache() if self.is_cached else None)
        self._traces[file] = (stamp, trace)
        return trace

    def answered(self, call: str, find: Callable[[], _Kept]) -> _Kept:
        """What was found for a call, which isn't looked for again for its next page.

        Args:
            call: what tells the call, and the state of its traces, from all others.
        """
        if call not in self._answers:
            answer = find()
            self._answers[call] = answer
            while len(self._answers) > MOST_ANSWERS:
                self._answers.popitem(last=False)
        self._answers.move_to_end(call)
        return self._answers[call]  # type: ignore[return-value]  # it was found for this call

    def _make_room(self) -> None:
        while len(self._traces) >= MOST_TRACES or self._spans() > MOST_SPANS:
            self._traces.popitem(last=False)

    def _spans(self) -> int:
        return sum(len(trace.spans) for _, trace in self._traces.values())


def stamp_of(files: Sequence[Path]) -> str:
    """What changes when one of the files does.

    Raises:
        InputError: one of them has gone.
    """
    try:
        states = [(str(file), file.stat()) for file in files]
    except OSError as error:
        raise InputError(f"a trace has gone: {error.strerror}; summarize shows what is there") from None
    return repr([(name, state.st_size, state.st_mtime_ns) for name, state in states])
