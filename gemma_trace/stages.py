"""The stage vocabulary: the contract between a capture and the analysis of its trace.

A range's name is `gemma_trace::<stage>`. Requests nest stages; stages nest layers
(`gemma_trace::layer::<module path>`), and, on request, modules (`gemma_trace::module::<module path>`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gemma_trace.arguments import check_argument, checked
from gemma_trace.errors import ConfigError

PREFIX: Final = "gemma_trace::"
LAYER_PREFIX: Final = PREFIX + "layer::"
MODULE_PREFIX: Final = PREFIX + "module::"
INTERLEAVED: Final = PREFIX + "interleaved"
"""A range of no length, at which a block began or ended that overlaps another one on its thread without nesting."""


class Stage(StrEnum):
    """A part of a request, in the order in which a request goes through them."""

    REQUEST = "request"
    """One prompt, from the messages in hand to the last token on the host. The root."""
    IMAGE_LOAD = "image_load"
    """Reading and decoding the image file. Outside TTFT."""
    PREPROCESSING = "preprocessing"
    """The whole processor call."""
    CHAT_TEMPLATE = "chat_template"
    """Messages to prompt text. Inside preprocessing."""
    IMAGE_PROCESSING = "image_processing"
    """Image to pixel values. Inside preprocessing."""
    VIDEO_PROCESSING = "video_processing"
    """Video to pixel values. Inside preprocessing."""
    AUDIO_PROCESSING = "audio_processing"
    """Sound to features. Inside preprocessing."""
    TOKENIZATION = "tokenization"
    """Prompt text to token ids. Inside preprocessing."""
    TRANSFER = "transfer"
    """The inputs to the device."""
    VISION_TOWER = "vision_tower"
    """The image encoder."""
    AUDIO_TOWER = "audio_tower"
    """The audio encoder."""
    PROJECTOR = "projector"
    """The multimodal projector."""
    DRAFT = "draft"
    """Guesses at the next tokens, in assisted decoding: an assistant's forwards, or a look-up in the prompt."""
    PREFILL = "prefill"
    """The text model's first forward, without the encoder."""
    SAMPLING = "sampling"
    """Logits to a token id, and that id on the host."""
    DECODE = "decode"
    """One later forward each; in assisted decoding it checks several tokens."""
    UNATTRIBUTED = "unattributed"
    """The rest of the request. Never a range; never hidden, never negative."""

    @property
    def range_name(self) -> str:
        """The name of this stage's ranges in a trace.

        >>> Stage.PREFILL.range_name
        'gemma_trace::prefill'
        """
        return PREFIX + self.value


REQUEST_CODE: Final = list(Stage).index(Stage.REQUEST)
"""Stages are integers in columns: indices into `stage_names_of(...)`, which starts with all of `Stage`."""

UNATTRIBUTED_CODE: Final = list(Stage).index(Stage.UNATTRIBUTED)

PREPROCESSING_PARTS: Final = (
    Stage.CHAT_TEMPLATE,
    Stage.IMAGE_PROCESSING,
    Stage.VIDEO_PROCESSING,
    Stage.AUDIO_PROCESSING,
    Stage.TOKENIZATION,
)
"""The stages that nest in `preprocessing`."""

DEVICE_STAGES: Final = (
    Stage.TRANSFER,
    Stage.VISION_TOWER,
    Stage.AUDIO_TOWER,
    Stage.PROJECTOR,
    Stage.DRAFT,
    Stage.PREFILL,
    Stage.SAMPLING,
    Stage.DECODE,
)
"""The stages that give the device work: on a GPU their time is read off the device's clock."""

READING_STAGES: Final = (Stage.VISION_TOWER, Stage.AUDIO_TOWER, Stage.PROJECTOR, Stage.PREFILL)
"""The stages that read a prompt, which a request goes through before its first token."""

HTTP: Final = "http"
"""A stage of a served request: what its front end does beside images and processor: parse, download, decode base64."""

FRONT_END: Final = "front_end"
"""All that lies before the engine's first step, where the front end's trace says nothing of it."""

QUEUE: Final = "queue"
"""Between the front end and the engine, and between two steps of the engine: the scheduler, and messages."""

DETOKENIZATION: Final = "detokenization"
"""Token ids to text, in the front end."""

RETURN: Final = "return"
"""From the end of a step on the engine until the client has the token; without `detokenization`."""

SERVED_STAGES: Final = (HTTP, FRONT_END, QUEUE, DETOKENIZATION, RETURN)
"""The stages that only a request has which came over a network."""

STAGE_ORDER: Final = (
    *(HTTP, FRONT_END, Stage.IMAGE_LOAD.value, Stage.PREPROCESSING.value),
    *(Stage.CHAT_TEMPLATE.value, Stage.IMAGE_PROCESSING.value, Stage.TOKENIZATION.value, QUEUE),
    *(Stage.TRANSFER.value, Stage.DRAFT.value, Stage.VISION_TOWER.value, Stage.PROJECTOR.value, Stage.PREFILL.value),
    *(Stage.SAMPLING.value, Stage.DECODE.value, DETOKENIZATION, RETURN),
)
"""The stages in the order in which a request goes through them, whoever it comes from."""

_BY_RANGE_NAME: Final = {stage.range_name: stage for stage in Stage if stage is not Stage.UNATTRIBUTED}
_SERVED_BY_RANGE_NAME: Final = {PREFIX + stage: stage for stage in SERVED_STAGES}


def stage_of_range(name: str) -> Stage | None:
    """The stage that a range of this name marks; None for any other name.

    >>> stage_of_range("gemma_trace::vision_tower")
    <Stage.VISION_TOWER: 'vision_tower'>
    >>> stage_of_range("gemma_trace::layer::model.language_model.layers.0") is None
    True
    """
    return _BY_RANGE_NAME.get(name)


OF_OTHER_MODALITIES: Final = (Stage.VIDEO_PROCESSING, Stage.AUDIO_PROCESSING, Stage.AUDIO_TOWER, Stage.DRAFT)
"""The stages that a request with an image and a text, decoded without an assistant, doesn't have."""


def stage_named_by(name: str) -> str | None:
    """The stage that a range of this name marks, those of served requests included; None for any other name.

    >>> stage_named_by("gemma_trace::queue")
    'queue'
    """
    stage = stage_of_range(name)
    return _SERVED_BY_RANGE_NAME.get(name) if stage is None else stage.value


def place_of_stage(name: str) -> int:
    """Where a stage stands in a request's order; those that aren't ours stand behind all of ours.

    >>> place_of_stage("http") < place_of_stage("prefill") < place_of_stage("moe") == place_of_stage("idle")
    True
    """
    return STAGE_ORDER.index(name) if name in STAGE_ORDER else len(STAGE_ORDER)


TEXT_TOWER: Final = "text_tower"
"""A stage of dual encoders (CLIP, OWL-ViT), which have no prefill."""

IDLE: Final = "idle"
"""A stage in which a server's worker waits for the next step."""

RESERVED: Final = frozenset({Stage.REQUEST.value, Stage.UNATTRIBUTED.value, "unlinked"})
"""Names that no rule can give to a span."""


_SHOWN: Final = 80
"""How much of a pattern a message shows."""


def _shortened(pattern: str) -> str:
    return pattern if len(pattern) <= _SHOWN else f"{pattern[: _SHOWN - 1]}…"


@dataclass(frozen=True)
class StageRule:
    """Spans of the host whose whole name matches `pattern` are ranges of the stage `stage`.

    Attributes:
        pattern: a regular expression; `re` compiles it when it is needed, and keeps it.
        hint: a part of every name that matches, which is looked for first: most names have none of them.
        anywhere: whether it is enough that a part of the name matches.

    Raises:
        ConfigError: a value is no text.
    """

    stage: str
    pattern: str
    hint: str = ""
    anywhere: bool = False

    def __post_init__(self) -> None:
        for name in ("stage", "pattern", "hint"):
            check_argument(name, getattr(self, name), "str")

    def __str__(self) -> str:
        """As it is written on the command line, shortened."""
        return f"{self.stage}={_shortened(self.pattern)!r}"

    def matches(self, name: str) -> bool:
        """Whether a span of this name is a range of the stage. Patterns of strangers: `rule_matches.match_rules`."""
        find = re.search if self.anywhere else re.fullmatch
        return self.hint in name and find(self.pattern, name, re.DOTALL) is not None


@checked
def stage_rule(stage: str, pattern: str) -> StageRule:
    """A rule; the pattern may match anywhere in a span's name.

    >>> stage_rule("moe", "MoELayer").matches("nn.Module: MoELayer_3")
    True

    Raises:
        ConfigError: the name is reserved or unfit, or the pattern is no regular expression.
    """
    if stage in RESERVED or not re.fullmatch(r"[A-Za-z][\w.-]*", stage):
        raise ConfigError(f"{stage!r} can't be a stage's name; use letters, digits and underscore")
    check_pattern(pattern)
    return StageRule(stage, pattern, anywhere=True)


def check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression.

    Raises:
        ConfigError: it is none.
    """
    try:
        re.compile(pattern, re.DOTALL)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{_shortened(pattern)!r} is not a regular expression: {error}") from error


def _rules(*rows: tuple[str, str, str]) -> tuple[StageRule, ...]:
    return tuple(StageRule(stage, pattern, hint) for stage, hint, pattern in rows)


_MODULE: Final = r"nn\.Module: (?=\w*\Z)"
"""A module's frame. That its class is one word is asked just once: asked after every repeat, long names take hours."""

# (stage, a part of every name that matches, the whole name)
FOREIGN_RULES: Final = _rules(
    # vLLM names a step after its tokens of context (prefill) and of generation (decode); a step with both is prefill.
    (Stage.PREFILL, "execute_", r"execute_(\w+_)?context_[1-9]\d*\(.*"),
    (Stage.DECODE, "execute_", r"execute_(\w+_)?context_0\(.*\)_generation_[1-9].*"),
    # vLLM's worker after a step's forward, and while it has none; its front end reading and processing images.
    (Stage.SAMPLING, "sample_tokens", r".*\bgpu_worker\.py\(\d+\): sample_tokens"),
    (Stage.SAMPLING, "gpu_model_runner: ", r"gpu_model_runner: (sample|bookkeep)"),
    (IDLE, "dequeue", r".*\bshm_broadcast\.py\(\d+\): dequeue"),
    (DETOKENIZATION, "process_outputs", r".*\bvllm/v1/engine/output_processor\.py\(\d+\): process_outputs"),
    (Stage.CHAT_TEMPLATE, "safe_apply_chat_template", r".*\bvllm/.*\.py\(\d+\): safe_apply_chat_template"),
    (Stage.PREPROCESSING, "_process_multimodal", r".*\bvllm/.*\.py\(\d+\): _process_multimodal"),
    (Stage.IMAGE_LOAD, "load_base64", r".*\bmultimodal/(media/)?image\.py\(\d+\): load_base64"),
    (Stage.IMAGE_LOAD, "load_bytes", r".*\bmultimodal/(media/)?image\.py\(\d+\): load_bytes"),
    (Stage.IMAGE_LOAD, "load_file", r".*\bmultimodal/(media/)?image\.py\(\d+\): load_file"),
    (Stage.PREPROCESSING, "apply", r".*\bvllm/multimodal/processing(/processor)?\.py\(\d+\): apply"),
    # SGLang: step[EXTEND bs=15 toks=15360], step[DECODE bs=8].
    (Stage.PREFILL, "step[", r"step\[(EXTEND|MIXED)\b.*"),
    (Stage.DECODE, "step[", r"step\[(DECODE|TARGET_VERIFY)\b.*"),
    # With stacks: SGLang's scheduler asking for requests, its model runner, and the processes beside them.
    (IDLE, "recv_requests", r".*\bsglang/srt/managers/.*\.py\(\d+\): recv_requests"),
    (Stage.SAMPLING, "sample", r".*\bsglang/srt/model_executor/model_runner\.py\(\d+\): sample"),
    (Stage.VISION_TOWER, "get_image_feature", r".*\bsglang/srt/models/.*\.py\(\d+\): get_image_feature"),
    (Stage.IMAGE_LOAD, "load_image", r".*\bsglang/srt/utils(/common)?\.py\(\d+\): load_image"),
    (Stage.PREPROCESSING, "process_mm_data", r".*\bsglang/srt/.*\.py\(\d+\): process_mm_data"),
    (DETOKENIZATION, "handle_batch_", r".*\bdetokenizer_manager\.py\(\d+\): handle_batch_\w+"),
    # transformers serve, which generates with `generate`: its loop, and in it the prefill.
    (Stage.PREFILL, "_prefill", r".*\btransformers/generation/utils\.py\(\d+\): _prefill"),
    (Stage.DECODE, "_sample", r".*\btransformers/generation/utils\.py\(\d+\): _sample"),
    (Stage.IMAGE_LOAD, "load_image", r".*\btransformers/image_utils\.py\(\d+\): load_image"),
    (Stage.PREPROCESSING, "apply_chat_template", r".*\btransformers/processing_utils\.py\(\d+\): apply_chat_template"),
    (Stage.CHAT_TEMPLATE, "render_jinja", r".*\bchat_template_utils\.py\(\d+\): render_jinja_template"),
    # torch.utils.data and transformers' processors, the latter with Python's stack frames.
    (Stage.PREPROCESSING, "enumerate(", r"enumerate\(DataLoader\)#.*"),
    (Stage.IMAGE_PROCESSING, "image_processing_", r".*\bimage_processing_\w+\.py\(\d+\): (preprocess|__call__)"),
    (Stage.TOKENIZATION, "tokenization_", r".*\btokenization_\w+\.py\(\d+\): __call__"),
    (Stage.PREPROCESSING, "processing_", r".*\bprocessing_\w+\.py\(\d+\): __call__"),
    # torch.profiler's with_stack and with_modules name modules after their class.
    (Stage.PROJECTOR, "nn.Module: ", rf"{_MODULE}\w*(Projector|Connector|Aligner|PatchMerger)\w*"),
    (
        Stage.VISION_TOWER,
        "nn.Module: ",
        rf"{_MODULE}(?!VisionEncoderDecoder)(?>\w*?Vision)\w*(Transformer|Tower|Model|Encoder|Backbone)\w*",
    ),
    (TEXT_TOWER, "nn.Module: ", rf"{_MODULE}\w*Text(Transformer|Tower|Encoder)\w*"),
)
"""Stages of traces that others made, first match wins. They hold in processes that have no ranges of ours."""


def stage_names_of(rules: Sequence[StageRule]) -> tuple[str, ...]:
    """All stages that a trace can have under these rules: our own, the rules' own, and those of served requests."""
    named = [*(stage.value for stage in Stage), *(str(rule.stage) for rule in rules), *SERVED_STAGES]
    return tuple(dict.fromkeys(named))
