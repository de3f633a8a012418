"""The command that shows what an option of a capture brings, all else as the capture had it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from gemma_trace.capture.compare.arms import plan_arms
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.hub import CHECKPOINTS
from gemma_trace.capture.options import option_names
from gemma_trace.errors import ConfigError
from gemma_trace.metadata import ConfigValue

AGAIN: Final = "record a trace with the change, then: gemma-trace diff BEFORE AFTER"
"""How to check what no option of a capture changes."""

RECORDING: Final = frozenset(
    {"warmup", "runs", "profile_runs", "detail", "stacks", "shapes", "memory", "cold", "keep_paths"}
)
"""Options that say how much is recorded, and nothing of what is run: a comparison has its own."""

_MODELS_OWN: Final = {"attn": "sdpa"}
"""What options are that are left to the model, where nothing says it."""

_PRESETS: Final = ("tiny", *CHECKPOINTS)
_FILES: Final = ("model", "adapter", "assistant", "images", "requests")
"""Options of which a trace has the last part of the path alone."""


def compare_command(config: Mapping[str, ConfigValue], option: str, after: str, before: str = "") -> str:
    """The command; "" where there is none: the model was given in hand, or the two sides can't be told or run.

    A trace may say anything of its capture: each value is quoted, so that a shell takes it for nothing else.

    Args:
        config: what the trace says of the options.
        option: the one that is advised, as `compare --set` takes it.
        after: the value that is advised.
        before: the value that the capture had, where its own record doesn't say it.
    """
    default = getattr(CaptureConfig, option)
    before = str(config.get(option) or before or default or _MODELS_OWN.get(option, ""))
    if before == after or config.get("weights") == "given":
        return ""
    settings = [f"{option}={before},{after}", *_own(config, option)]
    try:
        plan_arms(CaptureConfig(), settings)
    except ConfigError:  # the advised value doesn't go together with another option of the capture
        return ""
    command = shlex.join(["gemma-trace", "compare", *(word for each in settings for word in ("--set", each))])
    shortened = list(_shortened(config))
    return f"with the whole path or Hub id of {', '.join(shortened)}: {command}" if shortened else command


def _own(config: Mapping[str, ConfigValue], advised: str) -> Iterator[str]:
    """The capture's other options that aren't as they are by themselves, as `compare --set` takes them."""
    for shown, name in option_names().items():
        value = config.get(name)
        default = getattr(CaptureConfig, name)
        if name == advised or name in RECORDING or value is None:
            continue
        if value != (list(default) if isinstance(default, tuple) else default):
            yield f"{shown}={_as_text(value)}"


def _as_text(value: ConfigValue) -> str:
    """A value so that `compare --set` takes it for one value."""
    value = value[0] if isinstance(value, list) and len(value) == 1 else value  # one text is a list of one
    text = str(value)
    is_one = not isinstance(value, list) and "," not in text and not text.startswith("[")
    return text if is_one else json.dumps([value], ensure_ascii=False)


def _shortened(config: Mapping[str, ConfigValue]) -> Iterator[str]:
    """The models and files that the command names without their folders, as a shell takes them."""
    for name in _FILES:
        value = config.get(name)
        for each in value if isinstance(value, list) else [value]:
            if each and each not in _PRESETS:
                yield shlex.quote(str(each))
