"""What was run, on what, and how long it took without the profiler: embedded in every trace we write.

The trace's JSON carries it as its top-level object `gemma_trace`, so that one file is all there is to keep.
Plain dataclasses, torch-free: a capture writes them, the analysis reads them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final

import msgspec

from gemma_trace.foreign import decoded

SCHEMA_VERSION: Final = 1
"""Raised when a field changes its meaning; new fields alone don't raise it."""

MOST_NS: Final = 2**55 - 1
"""No request takes longer than this, which is 417 days: so sums of them fit 64 bits."""

Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=MOST_NS)]
SignedNanoseconds = Annotated[int, msgspec.Meta(ge=-MOST_NS, le=MOST_NS)]
"""Of two lengths: rounding can make it less than nothing."""

Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Integer = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]

Joules = Annotated[float, msgspec.Meta(ge=0, le=1e15)]

ConfigValue = str | Integer | float | bool | None | list[str]


@dataclass(frozen=True)
class StageSample:
    """One stage in one timed request.

    Times are exclusive: the stages nested in this one are taken off.

    Attributes:
        host_ns: on the host's clock (`time.perf_counter_ns`).
        device_ns: between events of the device at the stage's ends, so idle time of the device inside the stage counts;
            of a model over several devices from when all had done what was asked for before the stage until all had
            done what it asked for; None where there are no events.
        count: how many ranges of the stage the request had (`decode` has one a token).
    """

    host_ns: SignedNanoseconds
    device_ns: SignedNanoseconds | None
    count: Count


@dataclass(frozen=True)
class RequestSample:
    """One timed request, run without the profiler.

    Attributes:
        wall_ns: from the messages in hand to the last token on the host.
        ttft_ns: from the messages in hand to the first token on the host, less `image_load`.
        token_ns: when each token was on the host, from the request's start.
        image: which image the request had, as a label ("1024x768", or a file's name); of a file of requests its id.
        ttft_stages: by stage name, what lies before the first token; with `image_load`, which TTFT leaves out.
        stages: by stage name, the whole request.
        prompt_tokens: of one of its prompts, image tokens included; None in traces of before that was recorded.
        image_pixels: of each image of a prompt, as it was decoded.
        step_tokens: in assisted decoding, how many tokens each step brought, the prefill first; else empty.
        step_guesses: how many had been guessed before that step; of those all but the last that it brought were right.
    """

    wall_ns: Nanoseconds
    ttft_ns: Nanoseconds
    token_ns: tuple[Nanoseconds, ...]
    image: str
    ttft_stages: dict[str, StageSample]
    stages: dict[str, StageSample]
    prompt_tokens: Count | None = None
    image_pixels: tuple[Count, ...] = ()
    step_tokens: tuple[Count, ...] = ()
    step_guesses: tuple[Count, ...] = ()


@dataclass(frozen=True)
class ColdStart:
    """How the process began, before it was warm.

    Attributes:
        import_ns: importing torch and transformers; None where the program had done that before.
        load_ns: making or reading model and processor, up to the device; None for a model in hand.
        requests: the warm-up requests in order, timed as those of the timed pass are.
    """

    import_ns: Nanoseconds | None
    load_ns: Nanoseconds | None
    requests: tuple[RequestSample, ...]


@dataclass(frozen=True)
class RunIdentity:
    """What tells one run from another: the columns of every summary.

    Attributes:
        name: the run's name, also its folder's.
        model: a preset's name, a Hub id, or the last part of a local folder's path.
        weights: `random` or `pretrained`.
        dtype: as torch names it, without "torch.".
        device: the kind of device, `cpu` or `cuda`.
        image_backend: `torchvision` or `pil`.
    """

    name: str
    model: str
    weights: str
    dtype: str
    device: str
    image_backend: str


@dataclass(frozen=True)
class Environment:
    """Versions and hardware. Never a user's, a host's or a path's name.

    Attributes:
        device_name: the accelerator's marketing name; the host CPU's where there is none.
        device_memory_bytes: the device's memory.
        driver: the device driver's version.
        cuda: the CUDA version that torch was built with.
        cpu_bfloat16: whether the host's CPU multiplies bfloat16 by instructions of its own (AVX512_BF16, AMX, Arm's
            BF16); None where that isn't known.
        usable_cores: on how many of the host's cores the process may run; None where that isn't known.
    """

    gemma_trace: str
    python: str
    torch: str
    torchvision: str | None
    transformers: str
    platform: str
    host_cpu: str
    host_cores: Count
    host_memory_bytes: Bytes
    torch_threads: Count
    device_name: str
    device_memory_bytes: Bytes | None = None
    driver: str | None = None
    cuda: str | None = None
    cpu_bfloat16: bool | None = None
    usable_cores: Count | None = None


@dataclass(frozen=True)
class GpuState:
    """A GPU at one instant, by what its driver tells; None for what it doesn't.

    Attributes:
        sm_mhz, memory_mhz: the clocks.
        max_sm_mhz: the highest clock that it has.
        celsius: of the chip.
        power_limit_mw, default_power_limit_mw: what it may take, and what it might before anybody changed that.
        throttled: why the clocks are lower than they could be; empty where nothing holds them.
        ecc: whether memory errors are corrected.
        corrected_errors, uncorrected_errors: of its memory since the driver was loaded.
        mig: whether it is split into instances; what is told then is of the whole GPU.
        compute_mode: `default`, `exclusive process` or `prohibited`.
        other_processes: how many beside this one compute on it, at least.
    """

    sm_mhz: Count | None = None
    memory_mhz: Count | None = None
    max_sm_mhz: Count | None = None
    celsius: Integer | None = None
    power_limit_mw: Count | None = None
    default_power_limit_mw: Count | None = None
    throttled: tuple[str, ...] | None = None
    ecc: bool | None = None
    corrected_errors: Integer | None = None
    uncorrected_errors: Integer | None = None
    mig: bool | None = None
    compute_mode: str | None = None
    other_processes: Count | None = None


@dataclass(frozen=True)
class GpuRecord:
    """A GPU over the timed pass.

    Attributes:
        device: as torch names it, `cuda:0`.
        before, after: just before the pass, when the warm-up has raised the clocks, and just after it.
        sm_mhz_least, sm_mhz_most: of before, after and all instants between two requests.
        throttled: every reason that held at one of those instants; None where the driver tells none.
    """

    device: str
    before: GpuState
    after: GpuState
    sm_mhz_least: Count | None = None
    sm_mhz_most: Count | None = None
    throttled: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Energy:
    """What a counter says that the timed pass took, idle power and all other work on the device included.

    Attributes:
        source: `nvml` or `amdsmi`, whose counters are of whole GPUs, or `rapl`, of the host's processor packages.
        joules: between two readings of the counter.
        uncertainty_joules: how far off that can be: one update of the counter at the pass's mean power, and one step.
        duration_ns: between the readings.
        requests: how many ran in between.
        tokens: that they generated, of all prompts.
        resolution_joules: the counter's step.
        update_ns: the longest time that was seen between two updates of the counter.
    """

    source: str
    joules: Joules
    uncertainty_joules: Joules
    duration_ns: Nanoseconds
    requests: Count
    tokens: Count
    resolution_joules: Joules
    update_ns: Nanoseconds


@dataclass(frozen=True)
class Workload:
    """What a request was made of.

    Attributes:
        images: labels of the image files; requests take them in turn.
        prompt_tokens: tokens of one prompt, image tokens included; one number per image label.
        new_tokens: tokens that each request generates.
        padding_tokens: how many of `prompt_tokens` are padding.
        image_numbers: which images each has, numbered by their content: the same image has the same number.
    """

    images: tuple[str, ...]
    prompt_tokens: tuple[Count, ...]
    new_tokens: Count
    padding_tokens: tuple[Count, ...] = ()
    image_numbers: tuple[tuple[Count, ...], ...] = ()


@dataclass(frozen=True)
class RunMetadata:
    """Everything that a trace of ours says about itself."""

    schema_version: Count
    created_utc: str
    run: RunIdentity
    workload: Workload
    environment: Environment
    config: dict[str, ConfigValue]
    """The capture's options as they were resolved, a verbatim record."""
    timed_requests: tuple[RequestSample, ...] = ()
    """The requests of the timed pass, run without the profiler, in order."""
    profiled_images: tuple[str, ...] = ()
    """The image label of each profiled request, in order."""
    profiled_step_tokens: tuple[tuple[Count, ...], ...] = ()
    """The same as `step_tokens` of the timed ones, of each profiled request; empty without assisted decoding."""
    profiled_step_guesses: tuple[tuple[Count, ...], ...] = ()
    """Likewise `step_guesses`."""
    warnings: tuple[str, ...] = field(default=())
    """What the capture had to say, e.g. that the profiler saw no device activity."""
    cold_start: ColdStart | None = None
    """Recorded where it was asked for."""
    gpus: tuple[GpuRecord, ...] = ()
    """The GPUs that the model was on, where their driver could be asked."""
    energy: Energy | None = None
    """Of the timed pass, where there is a counter."""
    no_energy: str = ""
    """Why there is none."""

    def lighter_options(self) -> str:
        """With which options the same capture has the profiler record less, e.g. "without --stacks, with --no-shapes".

        Empty where it recorded as little as can be.
        """
        recorded = [f"without --{option}" for option in ("stacks", "memory") if self.config.get(option)]
        recorded += ["with --no-shapes"] if self.config.get("shapes") else []
        recorded += ["with --detail stage"] if self.config.get("detail") in ("layer", "module") else []
        return ", ".join(recorded)

    def to_json(self) -> bytes:
        """As JSON, for the trace file."""
        return msgspec.json.encode(self)

    @staticmethod
    def from_json(data: bytes | msgspec.Raw) -> RunMetadata:
        """Read back what `to_json` wrote; fields it doesn't know are left out.

        Raises:
            UnreadableError: it is not what `to_json` writes.
        """
        metadata: RunMetadata = decoded(data, RunMetadata)
        return metadata
