"""What messages are made of: counts with their nouns, and options, which programs know as arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ARGUMENTS: Final = {
    "image": "images",
    "image-size": "image_sizes",
    "memory-limit": "memory_limit_bytes",
    "out-dir": "output",
    "stage-module": "stage_modules",
    "timeout": "timeout_s",
}
"""Options whose arguments have another name."""

_FLAGS: Final = frozenset(
    {"cold", "cudnn-benchmark", "force", "keep-paths", "memory", "online", "repeats", "sample", "stacks", "sync-stages"}
)

_OPTION: Final = re.compile(
    r"(?P<command>\b(?:gemma-trace|hf|nvidia-smi|pip|vLLM) [^;,)]*|(?<!\w)'[^']*'(?!\w))"
    r"|(?<![\w-])--(?P<name>[a-z][a-z0-9-]*[a-z0-9])"
    r"(?P<is>(?= is ))?"
    r"(?: (?P<value>-?\d+(?:\.\d+)?(?![\w.])|(?:bfloat16|cpu|decode|dynamic|random|sdpa|stages|static|torchvision)\b"
    r"|'[^']*'|\w+(?= is ))(?!\w))?"
)

_options_meant: list[bool] = []
"""Not empty while a command of the command line runs."""


@contextmanager
def speaking_of_options() -> Iterator[None]:
    """While the block runs, messages are for the command line: they name `--output`, not `output=`."""
    _options_meant.append(True)
    try:
        yield
    finally:
        _options_meant.pop()


def as_spoken(message: str) -> str:
    """A message that names options, as whoever reads it knows them: options on the command line, else arguments."""
    return message if _options_meant else as_arguments(message)


def as_arguments(message: str) -> str:
    """A message that names options, in terms of arguments. Commands in it, and what is in quotes, stay as they are.

    >>> as_arguments("--image-device requires --image-backend torchvision; run: gemma-trace doctor --hub")
    "image_device= requires image_backend='torchvision'; run: gemma-trace doctor --hub"
    >>> as_arguments("--runs is -1; give --force to overwrite it"), as_arguments("leave out --device 7")
    ('runs is -1; give force=True to overwrite it', 'leave out device=7')
    >>> as_arguments("--varies weather is not a setting"), as_arguments("--fail-on '5' is not a limit")
    ("varies='weather' is not a setting", "fail_on='5' is not a limit")
    """
    return _OPTION.sub(_argument, message)


def _argument(option: re.Match[str]) -> str:
    if option["command"]:
        return option["command"]
    name = _ARGUMENTS.get(option["name"], option["name"].replace("-", "_"))
    if option["is"] is not None:
        return name
    if option["value"]:
        value = option["value"]
        is_literal = value.startswith("'") or value.strip("-.").replace(".", "").isdigit()
        return f"{name}={value if is_literal else repr(value)}"
    if option["name"] in _FLAGS:
        return f"{name}=True"
    return "shapes=False" if option["name"] == "no-shapes" else f"{name}="


def option_of(argument: str) -> str:
    """What an argument of a capture is called on the command line.

    >>> option_of("new_tokens"), option_of("image_sizes")
    ('--new-tokens', '--image-size')
    """
    renamed = {argument: option for option, argument in _ARGUMENTS.items()}
    return f"--{renamed.get(argument, argument).replace('_', '-')}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    >>> counted(1, "request"), counted(1200, "span"), counted(2, "all-to-all", "all-to-alls")
    ('1 request', '1,200 spans', '2 all-to-alls')
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
