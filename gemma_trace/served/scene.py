"""What a server's processes did, of several traces, on one clock: steps of the engine, and work of the front end.

Times are ns since 1970, as the processes' traces tell them (`baseTimeNanoseconds`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from gemma_trace.served.stamps import Stamp
from gemma_trace.served.steps import EngineStep, StepCounts, engine_steps, forwards, hides_encoder
from gemma_trace.stages import DETOKENIZATION, DEVICE_STAGES, PREPROCESSING_PARTS, Stage
from gemma_trace.trace.trace import Trace

BEFORE_ENGINE: Final = frozenset({Stage.IMAGE_LOAD.value, Stage.PREPROCESSING.value, *PREPROCESSING_PARTS})
"""The stages of a front end that lie before the engine's first step."""

_ENGINE: Final = frozenset(stage.value for stage in DEVICE_STAGES)


class Stretch(NamedTuple):
    """Some time in a stage."""

    start_ns: int
    end_ns: int
    stage: str


@dataclass(frozen=True)
class ServedStep:
    """A step of the engine.

    Attributes:
        end_ns: with the sampling behind it.
        parts: the stages in it, disjoint, by start.
        request_ids: the requests in it, as the engine calls them; empty where that isn't told.
    """

    start_ns: int
    end_ns: int
    counts: StepCounts
    parts: tuple[Stretch, ...]
    request_ids: tuple[str, ...] = ()

    @property
    def reads(self) -> bool:
        """Whether it read tokens of a prompt."""
        return self.counts.context_requests != 0

    @property
    def generates(self) -> bool:
        """Whether it gave a token to a request whose prompt it didn't read."""
        return self.counts.generation_requests != 0


@dataclass(frozen=True)
class Scene:
    """What a server did.

    Attributes:
        steps: of one worker; of several that run the same steps the one with most of them.
        front: image loading and preprocessing, each thread's stretches, by start.
        calls: the outermost of them, by start.
        detokenization: by start.
        engines: how many traces have steps.
        encoder_hidden: whether there are prefills, and no image encoder apart from them.
    """

    steps: tuple[ServedStep, ...]
    front: tuple[Stretch, ...]
    calls: tuple[Stretch, ...]
    detokenization: tuple[Stretch, ...]
    engines: int
    encoder_hidden: bool


def scene_of(traces: Sequence[Trace], stamps: Sequence[Stamp] = ()) -> Scene:
    """Look at the traces of a server's processes.

    Args:
        stamps: what the plugin wrote beside them.
    """
    known = [(trace, engine_steps(trace) or forwards(trace)) for trace in traces]
    engines = [(trace, busy) for trace, steps in known if (busy := [s for s in steps if s.counts.kind != "empty"])]
    trace, steps = max(engines, key=lambda pair: len(pair[1])) if engines else (None, [])
    front = [stretch for each in traces for stretch in _stretches(each)]
    stamped = [Stretch(stamp.start_ns, stamp.end_ns, stamp.stage) for stamp in stamps]
    before = [stretch for stretch in stamped if stretch.stage in BEFORE_ENGINE]
    told = [stretch for stretch in front if stretch.stage in BEFORE_ENGINE] or before
    calls = [call for each in traces for call in _calls(each)] or before
    return Scene(
        steps=_served(trace, steps, stamps) if trace is not None else (),
        front=tuple(sorted(told)),
        calls=tuple(sorted(calls)),
        detokenization=tuple(sorted(stretch for stretch in [*front, *stamped] if stretch.stage == DETOKENIZATION)),
        engines=len(engines),
        encoder_hidden=trace is not None and hides_encoder(trace, steps),
    )


def _stretches(trace: Trace) -> list[Stretch]:
    """The stages of a trace's threads, cut where the innermost changes."""
    found = trace.stage_segments
    stages = [trace.stage_names[code] for code in trace.stage_of_ranges(found.owner).tolist()]
    rows = zip((found.start_ns + trace.base_ns).tolist(), (found.end_ns + trace.base_ns).tolist(), stages, strict=True)
    return [Stretch(*row) for row in rows]


def _calls(trace: Trace) -> list[Stretch]:
    """The outermost ranges of the front end's stages."""
    spans = trace.spans
    chosen = [trace.stage_names[code] in BEFORE_ENGINE for code in trace.stage_range[trace.stage_ranges].tolist()]
    ranges = trace.stage_ranges[np.array(chosen, dtype=bool)]
    found: list[Stretch] = []
    last_end: dict[int, int] = {}
    columns = (spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges], ranges)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for start_ns, end_ns, track, index in rows:
        if end_ns > last_end.get(track, -1):
            stage = trace.stage_names[int(trace.stage_range[index])]
            found.append(Stretch(start_ns + trace.base_ns, end_ns + trace.base_ns, stage))
            last_end[track] = end_ns
    return found


def _served(trace: Trace, steps: Sequence[EngineStep], stamps: Sequence[Stamp]) -> tuple[ServedStep, ...]:
    segments = trace.stage_segments
    places = np.flatnonzero(trace.spans.track[segments.owner] == steps[0].track)
    start, end = segments.start_ns[places], segments.end_ns[places]
    stages = [trace.stage_names[code] for code in trace.stage_of_ranges(segments.owner[places]).tolist()]
    base, found = trace.base_ns, []
    stamped = sorted(stamp for stamp in stamps if stamp.request_ids)
    for step, following in zip(steps, [*(step.start_ns for step in steps[1:]), 2**62], strict=False):
        low, high = np.searchsorted(end, step.start_ns, side="right"), np.searchsorted(start, following)
        parts, end_ns = [], step.end_ns
        for place in range(int(low), int(high)):
            if stages[place] not in _ENGINE or (start[place] >= step.end_ns and stages[place] != Stage.SAMPLING):
                continue
            part_end = min(int(end[place]), following)
            parts.append(Stretch(base + max(int(start[place]), step.start_ns), base + part_end, stages[place]))
            end_ns = max(end_ns, part_end)
        ids = _ids(stamped, base + step.start_ns, base + step.end_ns)
        found.append(ServedStep(base + step.start_ns, base + end_ns, step.counts, tuple(parts), ids))
    return tuple(found)


def _ids(stamped: Sequence[Stamp], start_ns: int, end_ns: int) -> tuple[str, ...]:
    """The requests of the stamp that overlaps a step most; none where none does."""
    overlaps = [(min(stamp.end_ns, end_ns) - max(stamp.start_ns, start_ns), stamp) for stamp in stamped]
    longest = max(overlaps, key=lambda pair: pair[0], default=None)
    return longest[1].request_ids if longest and longest[0] > 0 else ()
