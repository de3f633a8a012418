"""`CaptureConfig`: every option of a capture, in one frozen dataclass. Free of torch."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Final

from gemma_trace.capture.modes import Quantization, check_modes
from gemma_trace.capture.natural_types import check_path, check_text, checked, shown
from gemma_trace.capture.option_texts import module_paths, size_of
from gemma_trace.errors import ConfigError
from gemma_trace.metadata import ConfigValue
from gemma_trace.wording import option_of

DEFAULT_PROMPT: Final = "Describe this image in one sentence."
DEVICE_PATTERN: Final = re.compile(r"auto|cpu|cuda(:\d+)?")
IMAGE_DEVICE_PATTERN: Final = re.compile(r"cpu|cuda(:\d+)?")
_PARTS_OF_REQUESTS: Final = (
    ("images", "image"),
    ("image_sizes", "image-size"),
    ("images_per_request", "images-per-request"),
    ("prompt", "prompt"),
    ("prompt_tokens", "prompt-tokens"),
    ("system", "system"),
)
"""Options whose place a file of requests takes: fields, and what they are called on the command line."""
_MOST: Final = 2**63 - 1
"""What 64 bits hold, and so what a trace can say of an option."""
_MOST_32: Final = 2**31 - 1
_BOUNDS: Final = {
    "new_tokens": (1, _MOST),
    "warmup": (0, _MOST),
    "runs": (0, _MOST),
    "profile_runs": (1, _MOST),
    "seed": (0, _MOST),
    "shuffle": (0, _MOST),
    "images_per_request": (1, 10_000),
    "batch": (1, _MOST_32),
    "prompt_tokens": (1, _MOST),
    "prefill_chunk": (1, _MOST_32),
    "threads": (1, 1024),
    "prompt_lookup": (1, _MOST_32),
    "numa_node": (0, _MOST_32),
}
"""The least and the most of every whole number."""
_NAMES: Final = ("model", "adapter", "assistant", "requests", "output", "images")
"""Options that are paths, or may be."""
_INSTEAD_OF_NOTHING: Final = {
    "model": "a preset, a Hub id or a folder",
    "adapter": "a folder or a Hub id",
    "assistant": "a folder or a Hub id",
    "attn": "eager, sdpa or flash_attention_2",
    "prompt": "some text",
}
_TEXTS: Final = ("prompt", "system", "attn", "stage_modules")
MOST_NAME_CHARACTERS: Final = 100
RUN_NAME_PATTERN: Final = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MOST_NAME_CHARACTERS - 1}}}")


class Weights(StrEnum):
    """Where weights come from."""

    AUTO = "auto"
    HUB = "hub"
    RANDOM = "random"


class Dtype(StrEnum):
    """The type of weights and activations."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class ImageBackend(StrEnum):
    """The image processors of transformers."""

    TORCHVISION = "torchvision"
    PIL = "pil"


class CompileMode(StrEnum):
    """What torch.compile compiles."""

    OFF = "off"
    STAGES = "stages"
    DECODE = "decode"


class CacheMode(StrEnum):
    """How keys and values are kept."""

    DYNAMIC = "dynamic"
    STATIC = "static"


class Detail(StrEnum):
    """How deep the ranges go."""

    STAGE = "stage"
    LAYER = "layer"
    MODULE = "module"


@dataclass(frozen=True)
class CaptureConfig:
    """What to run, how often, and what to record.

    Values may be what programs have: paths as text, one file or text for a list of one, torch's devices and dtypes, and
    for `stage_modules` a dictionary.

    Attributes:
        model: a preset (`tiny`, `4b`, `12b`, `27b`), a Hub id (`OWNER/NAME`), or a folder that holds a model saved by
            `save_pretrained`.
        weights: `hub` (the published ones), `random` (at the exact shape, without a download where it is a preset), or
            `auto`: of a preset the Hub's where they are cached or there is a token, else random; of all else its own.
        device: `auto` (CUDA where there is one, else the CPU), `cpu`, `cuda`, `cuda:N`.
        dtype: of the weights and activations.
        image_backend: which image processor transformers uses, what used to be `use_fast=True` and `False`.
        attn: transformers' attention implementation (`eager`, `sdpa`, `flash_attention_2`); None is its default.
        stage_modules: `vision=PATH`, `projector=PATH` or `decoder=PATH`: modules that stand over what is found.
        images: files to send; requests take them in turn. Empty: JPEGs made for the purpose.
        image_sizes: `WIDTHxHEIGHT` in pixels of JPEGs made for the purpose, in place of those of the usual sizes.
        images_per_request: how many images each request has.
        requests: a JSONL file of chat requests (`requests_file.py`), in place of images and prompt.
        shuffle: the seed by which the order of `requests` is drawn; None is the file's own.
        online: whether images of `requests` may be fetched from http(s) URLs.
        batch: how many prompts, all alike, are one request.
        prompt: the text that goes with the image.
        system: the system message that stands before it; None is none.
        prompt_tokens: lengthen the prompt to so many tokens, those of the images included; None leaves it as it is.
        image_device: where images are processed, `cpu`, `cuda` (the model's own device where that is one) or `cuda:N`;
            None is the processor's default, the CPU. Takes the torchvision backend.
        prefill_chunk: tokens of a forward of the prefill, which then makes several; None is all at once.
        compile: `stages` compiles vision tower, projector and decoder each by itself, so that their ranges survive;
            `decode` has transformers compile the forward of decode steps, on a static cache.
        cache: how keys and values are kept: `dynamic` grows with each token, `static` is allocated once for all; None
            is the model's own.
        sample: draw each token, by the model's own temperature, top-k and top-p, rather than take the likeliest.
        quantize: store the weights of linear layers as `int8`, `nf4` or `fp4`, by bitsandbytes; None leaves them.
        adapter: a PEFT adapter to put on the model: a folder or a Hub id.
        assistant: a model that guesses tokens, which this one checks several at a time: `tiny`, a folder or a Hub id.
        prompt_lookup: guess so many tokens, by what followed the last ones where they stood before.
        threads: how many threads torch has on the host for an op; None leaves it as it is.
        cpu_affinity: the CPUs to run on, in Linux's form, such as `0-3,8`; None is all that the process has.
        numa_node: run on the CPUs of this NUMA node, whose memory the weights then lie in.
        cudnn_benchmark: let cuDNN try its algorithms at each new shape, as the reference study does.
        new_tokens: tokens to generate; the stage `decode` appears from 2 on.
        warmup: requests before the timed pass, not counted; each that is measured comes once at least, unless it is 0.
        runs: requests timed without the profiler.
        profile_runs: requests recorded by the profiler, in cycles (`cycles.py`), each after one more that warms it up.
        detail: how deep the ranges go: `stage`, `layer`, `module`.
        stacks: record Python's stack frames.
        shapes: record the shapes of the ops' inputs.
        memory: record allocations.
        sync_stages: wait for the device at both ends of every stage, as the reference study does.
        cold: record the cold start too: import, load, and the times of each warm-up request. Nothing is processed
            before the first request, so that its size isn't checked beforehand.
        keep_paths: leave the folders of files in the trace's texts, but for the home folder, which is always `~`.
        seed: of the random weights.
        name: the run's name, its folder under `output`; None makes one of the options.
        output: the folder that holds runs.
        force: replace the traces of a run of the same name.

    Raises:
        ConfigError: a value makes no sense.
    """

    model: str = "tiny"
    weights: str = "auto"
    device: str = "auto"
    dtype: str = "float32"
    image_backend: str = "torchvision"
    attn: str | None = None
    stage_modules: tuple[str, ...] = ()
    images: tuple[Path, ...] = ()
    image_sizes: tuple[str, ...] = ()
    images_per_request: int = 1
    requests: Path | None = None
    shuffle: int | None = None
    online: bool = False
    batch: int = 1
    prompt: str = DEFAULT_PROMPT
    system: str | None = None
    prompt_tokens: int | None = None
    image_device: str | None = None
    prefill_chunk: int | None = None
    compile: str = "off"
    cache: str | None = None
    sample: bool = False
    quantize: str | None = None
    adapter: str | None = None
    assistant: str | None = None
    prompt_lookup: int | None = None
    threads: int | None = None
    cpu_affinity: str | None = None
    numa_node: int | None = None
    cudnn_benchmark: bool = False
    new_tokens: int = 1
    warmup: int = 10
    runs: int = 10
    profile_runs: int = 3
    detail: str = "layer"
    stacks: bool = False
    shapes: bool = True
    memory: bool = False
    sync_stages: bool = False
    cold: bool = False
    keep_paths: bool = False
    seed: int = 0
    name: str | None = None
    output: Path = Path("traces")
    force: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = checked(CaptureConfig, field.name, getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        self._check_values()
        _require_one_of("weights", self.weights, Weights)
        _require_one_of("dtype", self.dtype, Dtype)
        _require_one_of("image backend", self.image_backend, ImageBackend)
        _require_one_of("detail", self.detail, Detail)
        module_paths(self.stage_modules)
        if not DEVICE_PATTERN.fullmatch(self.device):
            raise ConfigError(f"no device {shown(self.device)}; give auto, cpu, cuda or cuda:N")
        _require_one_of("compile mode", self.compile, CompileMode)
        if self.cache is not None:
            _require_one_of("cache", self.cache, CacheMode)
        if self.quantize is not None:
            _require_one_of("quantization", self.quantize, Quantization)
        check_modes(self)
        self._check_requests()
        if self.cold and (not self.warmup or self.prompt_tokens):
            raise ConfigError("--cold times the warm-up; give --warmup 1 or more, and no --prompt-tokens")
        if self.image_device is not None and self.image_backend != "torchvision":
            raise ConfigError("--image-device requires --image-backend torchvision; Pillow runs on the CPU only")
        if self.image_device is not None and not IMAGE_DEVICE_PATTERN.fullmatch(self.image_device):
            raise ConfigError(f"no image device {shown(self.image_device)}; give cpu, cuda or cuda:N")
        if self.name is not None and not RUN_NAME_PATTERN.fullmatch(self.name):
            raise ConfigError(
                f"the run name {shown(self.name)} can't be a folder's; use letters, digits, dot, dash and underscore, "
                f"{MOST_NAME_CHARACTERS} at most, a letter or digit first"
            )

    def _check_values(self) -> None:
        """What is out of bounds, or can't be a path, a name or text at all."""
        for option, (least, most) in _BOUNDS.items():
            value = getattr(self, option)
            if value is not None and not least <= value <= most:
                allowed = f"{least} or more" if value < least else f"from {least} to {most:,}"
                raise ConfigError(f"{option_of(option)} is {shown(value)}; it must be {allowed}")
        for check, options in ((check_path, _NAMES), (check_text, _TEXTS)):
            for option in options:
                value = getattr(self, option)
                for each in value if isinstance(value, tuple) else (value,):
                    if each is not None:
                        check(option_of(option), each)
        for option, instead in _INSTEAD_OF_NOTHING.items():
            value = getattr(self, option)
            if value is not None and not value.strip():
                raise ConfigError(f"the {option} is empty; give --{option} {instead}")

    def _check_requests(self) -> None:
        """What says twice what a request is, or says it of nothing."""
        sizes = tuple("{}x{}".format(*size_of(text)) for text in self.image_sizes)
        object.__setattr__(self, "image_sizes", sizes)
        if self.image_sizes and self.images:
            raise ConfigError("--image and --image-size both say which images to send; give one of them")
        if self.requests is None:
            for option in ("shuffle", "online"):
                if getattr(self, option) not in (None, False):
                    raise ConfigError(f"--{option} requires --requests FILE")
            return
        defaults = {option.name: option.default for option in fields(self)}
        for option, name in _PARTS_OF_REQUESTS:
            if getattr(self, option) != defaults[option]:
                raise ConfigError(f"--requests already says what is sent; leave out --{name}")

    @property
    def stage_module_paths(self) -> dict[str, str]:
        """The given stage modules, paths by name."""
        return module_paths(self.stage_modules)

    def run_name(self, device: str, dtype: str = "", image_backend: str = "") -> str:
        """The run's name: the one given, or one made of what tells this run from its neighbours.

        Args:
            device: the kind of device that `device` was resolved to.
            dtype, image_backend: those of a model and a processor in hand, which stand over the options.

        >>> CaptureConfig(image_backend="pil").run_name("cpu")
        'tiny-float32-cpu-pil'
        """
        if self.name is not None:
            return self.name
        parts = [self.model_label, dtype or self.dtype, device, image_backend or self.image_backend]
        parts += [self.attn] if self.attn else []
        parts += ["sync"] if self.sync_stages else []
        parts += ["compiled"] if self.compile == "stages" else []
        parts += ["compiled-decode"] if self.compile == "decode" else []
        parts += [self.quantize] if self.quantize else []
        parts += [f"adapter-{Path(self.adapter).name}"] if self.adapter else []
        parts += [f"assistant-{Path(self.assistant).name}"] if self.assistant else []
        parts += [f"lookup{self.prompt_lookup}"] if self.prompt_lookup else []
        parts += [f"batch{self.batch}"] if self.batch > 1 else []
        parts += list(self.image_sizes)
        parts += [f"images{self.images_per_request}"] if self.images_per_request > 1 else []
        parts += [self.requests.stem] if self.requests else []
        parts += [f"shuffle{self.shuffle}"] if self.shuffle is not None else []
        parts += [f"{self.cache}-cache"] if self.cache else []
        parts += ["sampled"] if self.sample else []
        parts += [f"threads{self.threads}"] if self.threads else []
        parts += [f"cpus{self.cpu_affinity}"] if self.cpu_affinity else []
        parts += [f"node{self.numa_node}"] if self.numa_node is not None else []
        parts += ["cudnn-benchmark"] if self.cudnn_benchmark else []
        parts += [f"prompt{self.prompt_tokens}"] if self.prompt_tokens else []
        parts += [f"images-on-{self.image_device}"] if self.image_device else []
        parts += [f"chunk{self.prefill_chunk}"] if self.prefill_chunk else []
        return bounded_name("-".join(parts))

    @property
    def model_label(self) -> str:
        """The model without the path to it: what traces and tables may show."""
        return Path(self.model).name or "model"

    def record(self) -> dict[str, ConfigValue]:
        """The options as a trace may carry them: file names without their folders."""
        values: dict[str, ConfigValue] = {}
        for option in fields(self):
            value = getattr(self, option.name)
            if option.name in ("output", "force", "name", "keep_paths"):
                continue
            if option.name == "model":
                value = self.model_label
            elif option.name in ("adapter", "assistant") and value:
                value = Path(value).name
            elif option.name == "images":
                value = [path.name for path in self.images]
            elif option.name == "requests":
                value = self.requests.name if self.requests else None
            elif isinstance(value, tuple):
                value = list(value)
            values[option.name] = value
        return values


def bounded_name(text: str) -> str:
    """A text as a folder's name: letters, digits, dot, dash and underscore; of a long one the ends and a hash.

    >>> bounded_name(".cache/What is it?")
    'cache-What-is-it'
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("._-") or "run"
    if len(name) <= MOST_NAME_CHARACTERS:
        return name
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=5).hexdigest()
    half = (MOST_NAME_CHARACTERS - len(digest) - 2) // 2
    return f"{name[:half]}-{digest}-{name[-half:]}"


def _require_one_of(what: str, value: str, known: type[StrEnum]) -> None:
    values = [each.value for each in known]
    if value not in values:
        raise ConfigError(f"no {what} {shown(value)}; give one of {', '.join(values)}")
