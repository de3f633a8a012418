"""The TTFT table: one row per run, every measure a `Distribution` over its requests.

Measures come from the timed pass, which ran without the profiler. A trace that has none (everybody else's, or a
capture with `--runs 0`) gives its profiled requests instead, and the row says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

from gemma_trace.analysis.breakdown import StageBreakdown, breakdown
from gemma_trace.analysis.cold_start import ColdPart, cold_parts
from gemma_trace.analysis.decode import DecodeStatistics, decode_statistics
from gemma_trace.analysis.distortion import StageDistortion, distortions
from gemma_trace.analysis.energy import energy_of
from gemma_trace.analysis.run_settings import Settings, settings_of
from gemma_trace.analysis.statistics import Distribution, distribution_ms
from gemma_trace.arguments import checked
from gemma_trace.health.distortion import distortion_findings, inflation_findings
from gemma_trace.health.examine import examine
from gemma_trace.health.findings import Health
from gemma_trace.metadata import Energy, RequestSample, RunMetadata, StageSample
from gemma_trace.stages import DEVICE_STAGES, PREPROCESSING_PARTS, Stage
from gemma_trace.tabular import Tabular
from gemma_trace.trace.trace import Trace
from gemma_trace.wording import counted

MEASURES: Final = (
    "ttft_ms",
    "image_load_ms",
    "preprocessing_ms",
    "chat_template_ms",
    "image_processing_ms",
    "video_processing_ms",
    "audio_processing_ms",
    "tokenization_ms",
    "transfer_ms",
    "vision_tower_ms",
    "audio_tower_ms",
    "projector_ms",
    "draft_ms",
    "prefill_ms",
    "sampling_ms",
    "unattributed_ms",
    "decode_ms",
    "tpot_ms",
    "tokens_per_second",
    "decode_slope_us",
    "decode_jitter_pct",
    "image_processing_share_pct",
    "profiled_ttft_ms",
)
"""The measures of a row, in order. `preprocessing_ms` is the whole processor call, its parts included;
`unattributed_ms` is what TTFT has left when all stages are taken off."""


_STAGES: Final = frozenset(stage.value for stage in Stage)


@dataclass(frozen=True)
class RequestMeasures:
    """One request in nanoseconds.

    Attributes:
        stages_ns: exclusive time by stage, up to the first token; `decode` is the mean of a step.
        unattributed_ns: None where host and device clocks mix, so that a difference means nothing.
        tpot_ns: the mean interval between the tokens after the first; None for one token.
        name: the request's id or its image's label; of a profiled one its label in the trace.
        prompt_tokens: of one of its prompts; None where that isn't known, and neither are `image_pixels`.
        image_pixels: of each image of a prompt.
        tokens: that were generated; None where that isn't known.
        step_tokens: in assisted decoding, how many each step brought, the prefill first; else empty.
        step_guesses: how many had been guessed before each of those steps.
    """

    ttft_ns: int | None
    stages_ns: dict[str, int]
    unattributed_ns: int | None
    tpot_ns: int | None
    name: str = ""
    prompt_tokens: int | None = None
    image_pixels: tuple[int, ...] = ()
    tokens: int | None = None
    step_tokens: tuple[int, ...] = ()
    step_guesses: tuple[int, ...] = ()

    @property
    def steps(self) -> int | None:
        """How many steps of assisted decoding there were; None without it."""
        return len(self.step_tokens) or None

    @property
    def guessed_tokens(self) -> int | None:
        """How many tokens were guessed in assisted decoding."""
        return sum(self.step_guesses) if self.step_guesses else None

    @property
    def accepted_tokens(self) -> int | None:
        """How many of them were right: of those that a step brings only the last is the model's own."""
        return sum(self.step_tokens) - len(self.step_tokens) if self.step_guesses else None

    @property
    def preprocessing_ns(self) -> int | None:
        """The whole processor call."""
        parts = [
            self.stages_ns[stage] for stage in (Stage.PREPROCESSING, *PREPROCESSING_PARTS) if stage in self.stages_ns
        ]
        return sum(parts) if parts else None


@dataclass(frozen=True, repr=False)
class RunSummary(Tabular):
    """One run: its measures, each with its spread over the requests, and its health.

    Attributes:
        run: its name, or the file's where the trace isn't ours.
        model, weights, dtype, device, image_backend: "" where the trace isn't ours.
        device_name: marketing name of the device.
        timing: `timed` (without the profiler) or `profiled`.
        runs: how many requests the measures are of.
        requests: those requests.
        measures: by name, see `MEASURES`; None where the run has no such stage.
        inflation: profiled over timed TTFT, median over the profiled requests of the ratio to the timed ones with
            the same image; None without a timed pass.
        distortions: the same by stage, the most distorted first; empty without a timed pass.
        ranks: how many ranks of a job it is of.
        settings: how its requests were run, by the names of options; empty where the trace isn't ours.
        cold_start: its parts, where it was recorded.
        energy: that the timed pass took, where that was counted.
        drawn_from: the file of requests in which they were drawn by a seed; "" where they weren't.
    """

    source: Path
    run: str
    model: str
    weights: str
    dtype: str
    device: str
    image_backend: str
    device_name: str
    timing: Literal["timed", "profiled"]
    runs: int
    requests: tuple[RequestMeasures, ...]
    measures: dict[str, Distribution | None]
    inflation: float | None
    health: Health
    distortions: tuple[StageDistortion, ...] = ()
    ranks: int = 1
    settings: Settings = ()
    drawn_from: str = ""
    cold_start: tuple[ColdPart, ...] = ()
    energy: Energy | None = None

    def stage_ms(self, stage: str) -> Distribution | None:
        """The time of one stage, a value per request that has it; of the stages in `MEASURES` what stands there."""
        if stage in _STAGES:
            return self.measures.get(f"{stage}_ms")
        return distribution_ms([request.stages_ns[stage] for request in self.requests if stage in request.stages_ns])

    def headline(self) -> str:
        """What the result is, in a line."""
        return f"{self.run}: {counted(self.runs, f'{self.timing} request')}, check: {self.health.verdict}"

    def records(self) -> Iterator[dict[str, Any]]:
        """One row per measure that the run has."""
        for name, measured in self.measures.items():
            if measured is not None:
                low, high = measured.median_interval or (None, None)
                yield {
                    "measure": name,
                    "median": measured.median,
                    "interval_low": low,
                    "interval_high": high,
                    "q1": measured.q1,
                    "q3": measured.q3,
                    "min": measured.min,
                    "max": measured.max,
                    "n": measured.n,
                    "unit": measured.unit,
                }


@checked
def summarize(trace: Trace, profiled: StageBreakdown | None = None) -> RunSummary:
    """Sum a trace up as a row of the TTFT table.

    Args:
        profiled: the trace's `breakdown`, if it is at hand.
    """
    profiled = profiled or breakdown(trace)
    metadata = trace.metadata
    timed = metadata.timed_requests if metadata else ()
    requests = (
        [_timed(sample, metadata) for sample in timed] if metadata and timed else profiled_requests(profiled.complete())
    )
    run = metadata.run if metadata else None
    measures = measures_of(requests)
    measures |= _decode_measures(decode_statistics(trace, profiled.requests))
    known = [ttft for ttft in profiled.ttfts_ns if ttft is not None]
    measures["profiled_ttft_ms"] = distribution_ms(known)
    inflation = _inflation(metadata, profiled.ttfts_ns) if metadata else None
    distorted = distortions(metadata, profiled) if metadata else ()
    return RunSummary(
        source=trace.path,
        run=trace.label,
        model=run.model if run else "",
        weights=run.weights if run else "",
        dtype=run.dtype if run else "",
        device=run.device if run else "",
        image_backend=run.image_backend if run else "",
        device_name=metadata.environment.device_name if metadata else "",
        timing="timed" if timed else "profiled",
        runs=len(requests),
        requests=tuple(requests),
        measures={name: measures.get(name) for name in MEASURES},
        inflation=inflation,
        health=examine(trace).plus(
            [*inflation_findings(inflation, metadata), *distortion_findings(distorted, metadata)]
        ),
        distortions=distorted,
        settings=settings_of(metadata),
        cold_start=cold_parts(metadata),
        energy=energy_of(metadata),
        drawn_from=str(metadata.config["requests"]) if metadata and metadata.config.get("shuffle") is not None else "",
    )


def _timed(sample: RequestSample, metadata: RunMetadata) -> RequestMeasures:
    """A sample of the timed pass. On a GPU the device's stages are read off the device's clock.

    Image processing on a device that isn't the model's waits for that one, so that the host's clock tells it.
    """
    by_events = metadata.run.device != "cpu" and not metadata.config.get("sync_stages")
    on_host = metadata.config.get("image_device") in (None, "cpu") or metadata.config.get("images_waited_for")
    device_stages = DEVICE_STAGES if on_host else (*DEVICE_STAGES, Stage.IMAGE_PROCESSING)

    def time_ns(stage: str, timed: StageSample) -> int:
        on_device = by_events and timed.device_ns is not None and stage in device_stages
        return timed.device_ns if on_device and timed.device_ns is not None else timed.host_ns

    stages = {stage: time_ns(stage, timed) for stage, timed in sample.ttft_stages.items()}
    decode = sample.stages.get(Stage.DECODE)
    inside = sum(ns for stage, ns in stages.items() if stage != Stage.IMAGE_LOAD)
    if decode and decode.count:
        stages[Stage.DECODE] = time_ns(Stage.DECODE, decode) // decode.count
    tokens = sample.token_ns
    return RequestMeasures(
        ttft_ns=sample.ttft_ns,
        stages_ns=stages,
        unattributed_ns=None if by_events or not stages else sample.ttft_ns - inside,
        tpot_ns=(tokens[-1] - tokens[0]) // (len(tokens) - 1) if len(tokens) > 1 else None,
        name=sample.image,
        prompt_tokens=sample.prompt_tokens,
        image_pixels=sample.image_pixels,
        tokens=len(tokens),
        step_tokens=sample.step_tokens,
        step_guesses=sample.step_guesses,
    )


def profiled_requests(profiled: StageBreakdown) -> list[RequestMeasures]:
    """The profiled requests by their share of the wall time, where there is no timed pass."""
    requests = []
    by_request: dict[int, dict[str, int]] = {window.index: {} for window in profiled.requests}
    for row in profiled.rows:
        by_request[row.request][row.stage] = row.time_ns
    for window, ttft in zip(profiled.requests, profiled.ttfts_ns, strict=True):
        rows = by_request[window.index]
        unattributed = rows.pop(Stage.UNATTRIBUTED.value, 0)
        requests.append(RequestMeasures(ttft, rows, unattributed, None, window.label))
    return requests


def measures_of(requests: Sequence[RequestMeasures]) -> dict[str, Distribution | None]:
    """A distribution a measure, over the requests that have it."""

    def over(values: Sequence[int | None]) -> Distribution | None:
        return distribution_ms([value for value in values if value is not None])

    measures = {
        f"{stage.value}_ms": over([request.stages_ns.get(stage.value) for request in requests])
        for stage in Stage
        if stage not in (Stage.REQUEST, Stage.PREPROCESSING, Stage.UNATTRIBUTED)
    }
    measures["ttft_ms"] = over([request.ttft_ns for request in requests])
    measures["preprocessing_ms"] = over([request.preprocessing_ns for request in requests])
    measures["unattributed_ms"] = over([request.unattributed_ns for request in requests])
    shares = [
        100 * request.stages_ns[Stage.IMAGE_PROCESSING] / request.ttft_ns
        for request in requests
        if request.ttft_ns and Stage.IMAGE_PROCESSING in request.stages_ns
    ]
    measures["image_processing_share_pct"] = Distribution(tuple(shares), "%") if shares else None
    return measures


def _decode_measures(statistics: DecodeStatistics | None) -> dict[str, Distribution | None]:
    """What is said of the tokens after the first."""
    if statistics is None:
        return {}
    return {
        "tpot_ms": statistics.tpot,
        "tokens_per_second": statistics.tokens_per_second,
        "decode_slope_us": statistics.slope,
        "decode_jitter_pct": statistics.jitter,
    }


def _inflation(metadata: RunMetadata, profiled_ttfts_ns: Sequence[int | None]) -> float | None:
    """How much slower the profiler makes TTFT, image for image."""
    timed: dict[str, list[int]] = {}
    for sample in metadata.timed_requests:
        timed.setdefault(sample.image, []).append(sample.ttft_ns)
    ratios = [
        ttft / median(timed[image])
        for image, ttft in zip(metadata.profiled_images, profiled_ttfts_ns, strict=False)
        if ttft and median(timed.get(image, [0])) > 0  # in a damaged trace a request may have no length
    ]
    return median(ratios) if ratios else None
