"""The reference study's table, cell for cell: one view of the same measures.

Three numbers of three significant digits a cell: the median, the population's standard deviation, and the largest
deviation from the median. Columns and row labels are the study's own (mstojkoTT/gemma_profiling, README); its header
gives seconds for the last column, which is a percentage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gemma_trace.analysis.statistics import Distribution
from gemma_trace.analysis.summary import RequestMeasures, RunSummary
from gemma_trace.stages import Stage

NO_CELL: Final = ""


def _seconds(*stages: Stage) -> Callable[[RequestMeasures], float | None]:
    def value(request: RequestMeasures) -> float | None:
        if not all(stage in request.stages_ns for stage in stages):
            return None
        return sum(request.stages_ns[stage] for stage in stages) / 1e9

    return value


def _ttft(request: RequestMeasures) -> float | None:
    return None if request.ttft_ns is None else request.ttft_ns / 1e9


def _share_of_ttft(request: RequestMeasures) -> float | None:
    processing = request.stages_ns.get(Stage.IMAGE_PROCESSING)
    return 100 * processing / request.ttft_ns if processing is not None and request.ttft_ns else None


def _share_of_processor_call(request: RequestMeasures) -> float | None:
    processing, whole = request.stages_ns.get(Stage.IMAGE_PROCESSING), request.preprocessing_ns
    return 100 * processing / whole if processing is not None and whole else None


COLUMNS: Final[tuple[tuple[str, Callable[[RequestMeasures], float | None]], ...]] = (
    ("ttft [s]", _ttft),
    ("preprocessing [s]", _seconds(Stage.IMAGE_PROCESSING)),
    ("img encoder [s]", _seconds(Stage.VISION_TOWER, Stage.PROJECTOR)),
    ("text model prefill [s]", _seconds(Stage.PREFILL)),
    ("preproc./ttft [%]", _share_of_ttft),
    ("img. enc. tower time [s]", _seconds(Stage.VISION_TOWER)),
    ("img. enc. multi-modal projector time [s]", _seconds(Stage.PROJECTOR)),
    ("preproc. / preproc. with overhead [s]", _share_of_processor_call),
)
"""The study's columns after `Config`, and what each is of one request."""


@dataclass(frozen=True)
class StudySection:
    """One of the study's tables.

    Attributes:
        title: model and dtype, e.g. "27b bfloat16".
        rows: (config, a cell a column).
    """

    title: str
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def study_sections(runs: Sequence[RunSummary]) -> list[StudySection]:
    """The runs as the study's tables, a section a model and dtype, in the order they come.

    Runs that drew their requests from one file, and differ in nothing else, are the loads of one configuration: a row.
    """
    loads: dict[tuple[object, ...], list[RunSummary]] = {}
    for place, run in enumerate(runs):
        key = (run.drawn_from, run.settings, *_config_of(run)) if run.drawn_from else (place,)
        loads.setdefault(key, []).append(run)
    sections: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
    told = Counter(_config_of(first) for first, *_ in loads.values())
    for load in loads.values():
        title, config = _config_of(load[0])
        if told[title, config] > 1:  # runs that differ in what the study has no column for
            config += f" ({load[0].run})"
        cells = tuple(_cell([value(request) for run in load for request in run.requests]) for _, value in COLUMNS)
        sections.setdefault(title, []).append((config, cells))
    return [StudySection(title, tuple(rows)) for title, rows in sections.items()]


def _config_of(run: RunSummary) -> tuple[str, str]:
    """A run's section and row, as the study names them."""
    title = f"{run.model or run.run} {run.dtype}".strip()
    return title, f"{run.device} use_fast={run.image_backend == 'torchvision'}"


def _cell(values: Sequence[float | None]) -> str:
    known = tuple(value for value in values if value is not None)
    if not known:
        return NO_CELL
    distribution = Distribution(known, "")
    return f"{distribution.median:.3g} {distribution.population_std:.3g} {distribution.max_deviation:.3g}"
