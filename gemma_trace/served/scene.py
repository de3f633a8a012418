"""What a server's processes did, of several traces, on one clock: steps of the engine, and work of the front end.

Times are ns since 1970, as the processes' traces tell them (`baseTimeNanoseconds`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final

import numpy as np

from gemma_trace.served.stamps import Stamp
from gemma_trace.served.steps import EngineStep, engine_steps, forwards, hides_encoder
from gemma_trace.served.stretch import ServedStep, Stretch
from gemma_trace.served.workers import Worker, engines_of, steps_of
from gemma_trace.stages import DETOKENIZATION, DEVICE_STAGES, PREPROCESSING_PARTS, Stage
from gemma_trace.trace.trace import Trace

BEFORE_ENGINE: Final = frozenset({Stage.IMAGE_LOAD.value, Stage.PREPROCESSING.value, *PREPROCESSING_PARTS})
"""The stages of a front end that lie before the engine's first step."""

_ENGINE: Final = frozenset(stage.value for stage in DEVICE_STAGES)


_NEAR: Final = 64
"""So many stamps before a step's end are looked at: several workers of an engine write one each."""


@dataclass(frozen=True)
class Scene:
    """What a server did.

    Attributes:
        steps: of all engines, by start; where several workers run an engine's, each as long as the slowest takes.
        front: image loading and preprocessing, each thread's stretches, by start.
        calls: the outermost of them, by start.
        detokenization: by start.
        engines: of each engine the names of the traces of the processes that run its steps.
        encoder_hidden: whether there are prefills, and no image encoder apart from them.
    """

    steps: tuple[ServedStep, ...]
    front: tuple[Stretch, ...]
    calls: tuple[Stretch, ...]
    detokenization: tuple[Stretch, ...]
    engines: tuple[frozenset[str], ...]
    encoder_hidden: bool


def scene_of(traces: Sequence[Trace], stamps: Sequence[Stamp] = ()) -> Scene:
    """Look at the traces of a server's processes.

    Args:
        stamps: what the plugin wrote beside them.
    """
    known = [(trace, engine_steps(trace) or forwards(trace)) for trace in traces]
    busy = [(trace, [step for step in steps if step.counts.kind != "empty"]) for trace, steps in known]
    workers = [Worker(trace.path.name, _served(trace, steps, stamps)) for trace, steps in busy if steps]
    engines = engines_of(workers)
    steps = [replace(step, engine=number) for number, engine in enumerate(engines) for step in steps_of(engine)]
    front = [stretch for each in traces for stretch in _stretches(each)]
    stamped = [Stretch(stamp.start_ns, stamp.end_ns, stamp.stage) for stamp in stamps]
    before = [stretch for stretch in stamped if stretch.stage in BEFORE_ENGINE]
    told = [stretch for stretch in front if stretch.stage in BEFORE_ENGINE] or before
    calls = [call for each in traces for call in _calls(each)] or before
    return Scene(
        steps=tuple(sorted(steps, key=attrgetter("start_ns"))),
        front=tuple(sorted(told)),
        calls=tuple(sorted(calls)),
        detokenization=tuple(sorted(stretch for stretch in [*front, *stamped] if stretch.stage == DETOKENIZATION)),
        engines=tuple(frozenset(worker.name for worker in engine) for engine in engines),
        encoder_hidden=any(hides_encoder(trace, steps) for trace, steps in busy),
    )


def _stretches(trace: Trace) -> list[Stretch]:
    """The stages of a trace's threads, cut where the innermost changes."""
    segments = trace.stage_segments
    stages = [trace.stage_names[code] for code in trace.stage_of_ranges(segments.owner).tolist()]
    rows = zip(
        (segments.start_ns + trace.base_ns).tolist(), (segments.end_ns + trace.base_ns).tolist(), stages, strict=True
    )
    return [Stretch(*row) for row in rows]


def _calls(trace: Trace) -> list[Stretch]:
    """The outermost ranges of the front end's stages."""
    spans = trace.spans
    chosen = [trace.stage_names[code] in BEFORE_ENGINE for code in trace.stage_range[trace.stage_ranges].tolist()]
    ranges = trace.stage_ranges[np.array(chosen, dtype=bool)]
    calls: list[Stretch] = []
    last_end: dict[int, int] = {}
    columns = (spans.ts_ns[ranges], spans.ends_ns(ranges), spans.track[ranges], ranges)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    for start_ns, end_ns, track, index in rows:
        if end_ns > last_end.get(track, -1):
            stage = trace.stage_names[int(trace.stage_range[index])]
            calls.append(Stretch(start_ns + trace.base_ns, end_ns + trace.base_ns, stage))
            last_end[track] = end_ns
    return calls


def _served(trace: Trace, steps: Sequence[EngineStep], stamps: Sequence[Stamp]) -> tuple[ServedStep, ...]:
    segments = trace.stage_segments
    places = np.flatnonzero(trace.spans.track[segments.owner] == steps[0].track)
    start, end = segments.start_ns[places], segments.end_ns[places]
    stages = [trace.stage_names[code] for code in trace.stage_of_ranges(segments.owner[places]).tolist()]
    base, served = trace.base_ns, []
    stamped = sorted(_own(trace, steps[0].track, [stamp for stamp in stamps if stamp.request_ids]))
    for step, following in zip(steps, [*(step.start_ns for step in steps[1:]), 2**62], strict=False):
        low, high = np.searchsorted(end, step.start_ns, side="right"), np.searchsorted(start, following)
        parts, end_ns = [], step.end_ns
        for place in range(int(low), int(high)):
            if stages[place] not in _ENGINE or (start[place] >= step.end_ns and stages[place] != Stage.SAMPLING):
                continue
            part_end = min(int(end[place]), following)
            parts.append(Stretch(base + max(int(start[place]), step.start_ns), base + part_end, stages[place]))
            end_ns = max(end_ns, part_end)
        told = _told(stamped, base + step.start_ns, base + step.end_ns)
        ids, reading = (told.request_ids, told.reading_ids) if told else ((), ())
        served.append(ServedStep(base + step.start_ns, base + end_ns, step.counts, tuple(parts), ids, reading))
    return tuple(served)


def _own(trace: Trace, track: int, stamps: list[Stamp]) -> list[Stamp]:
    """The stamps that a trace's process wrote; all, where none says so."""
    process = trace.spans.tracks[track].pid
    return [stamp for stamp in stamps if str(stamp.process) == process] or stamps


def _told(stamped: Sequence[Stamp], start_ns: int, end_ns: int) -> Stamp | None:
    """The stamp that overlaps a step most; None where none does.

    Args:
        stamped: of one engine, whose steps follow each other, by start.
    """
    behind = bisect_left(stamped, end_ns, key=attrgetter("start_ns"))
    near = stamped[max(behind - _NEAR, 0) : behind]
    overlaps = [(min(stamp.end_ns, end_ns) - max(stamp.start_ns, start_ns), stamp) for stamp in near]
    longest = max(overlaps, key=lambda pair: pair[0], default=None)
    return longest[1] if longest and longest[0] > 0 else None
