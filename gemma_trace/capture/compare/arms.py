"""What is compared: configurations of a capture, Pythons to run it with, or commands that write traces."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Final

from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.options import field_of, values_of
from gemma_trace.errors import ConfigError

PLACEHOLDER: Final = "{out}"
"""In a command: the folder that its trace has to be written to."""

_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,79}")


@dataclass(frozen=True)
class Arm:
    """One of the things compared.

    Attributes:
        order: its place among them; what is first is what the others are compared with.
        label: what it is called, and its folder.
        config: the capture's options; None for a command.
        python: what runs the capture.
        command: what writes a trace itself; `{out}` stands for the folder.
    """

    order: int
    label: str
    config: CaptureConfig | None = None
    python: str = sys.executable
    command: tuple[str, ...] = ()

    def config_for(self, folder: Path) -> CaptureConfig:
        """The capture's options for one trial: its folder is the run's."""
        assert self.config is not None
        return replace(self.config, output=folder.parent, name=folder.name, force=True)


def plan_arms(
    base: CaptureConfig,
    changes: Sequence[str] = (),
    pythons: Sequence[str] = (),
    commands: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> list[Arm]:
    """The arms: every combination of the values, with every Python; or the commands.

    Args:
        base: the options that all have.
        changes: `OPTION=VALUE,VALUE…`, or a list in JSON; one value alone is for all.
        labels: what the arms are called, in order; without, they are named after what tells them apart.

    Raises:
        ConfigError: fewer than two arms, an option that doesn't exist, or labels that don't fit.
    """
    if commands and (changes or pythons):
        raise ConfigError("--command is run as it is, so it can't be combined with --set or --python")
    arms = _of_commands(commands) if commands else _of_captures(base, changes, pythons)
    if len(arms) < 2:
        raise ConfigError(
            "a comparison requires two or more configurations: give --set OPTION=A,B, or --python or --command twice"
        )
    if labels:
        if len(labels) != len(arms):
            raise ConfigError(f"there are {len(arms)} configurations and {len(labels)} labels; give one for each")
        arms = [replace(arm, label=label) for arm, label in zip(arms, labels, strict=True)]
    for arm in arms:
        if not _LABEL.fullmatch(arm.label):
            raise ConfigError(
                f"the label {arm.label!r} can't be the name of a folder; use letters, digits, dots and dashes"
            )
    label, times = Counter(arm.label for arm in arms).most_common(1)[0]
    if times > 1:
        raise ConfigError(f"two configurations are called {label!r}; tell them apart with --label")
    return arms


def varied_options(arms: Sequence[Arm]) -> list[str]:
    """The options in which arms differ; none of commands, which nobody knows."""
    configs = [arm.config for arm in arms if arm.config]
    return [field.name for field in fields(CaptureConfig) if len({getattr(each, field.name) for each in configs}) > 1]


def _of_captures(base: CaptureConfig, changes: Sequence[str], pythons: Sequence[str]) -> list[Arm]:
    axes: dict[str, list[Any]] = {}
    for text in changes:
        name, equals, values = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text!r} is not OPTION=VALUE,VALUE, e.g. image_backend=torchvision,pil")
        name = field_of(name)
        axes[name] = values_of(name, values)
    interpreters = [_python(python) for python in pythons] or [sys.executable]
    arms: list[Arm] = []
    for place, combination in product(range(len(interpreters)), product(*axes.values())):
        chosen = dict(zip(axes, combination, strict=True))
        parts = [f"{name}-{value}" for name, value in chosen.items() if len(axes[name]) > 1]
        parts += [f"python-{place + 1}"] if len(interpreters) > 1 else []
        label = _as_label("-".join(parts) or "capture")
        arms.append(Arm(len(arms), label, replace(base, **chosen), interpreters[place]))
    return arms


def _of_commands(commands: Sequence[str]) -> list[Arm]:
    arms: list[Arm] = []
    for number, text in enumerate(commands, start=1):
        try:
            words = tuple(shlex.split(text))
        except ValueError as error:
            raise ConfigError(f"--command {text!r} can't be split into words: {error}") from error
        if not words:
            raise ConfigError("--command is empty; give the command that writes a trace")
        if not any(PLACEHOLDER in word for word in words):
            raise ConfigError(f"--command {text!r} has no {PLACEHOLDER}, the folder that its trace must be written to")
        arms.append(Arm(len(arms), f"command-{number}", command=words))
    return arms


def _python(given: str) -> str:
    """The absolute path of a Python, whose links aren't followed: a virtual environment's is one."""
    program = shutil.which(given)
    if program is None:
        raise ConfigError(f"--python {given} is not a program that can be run")
    return str(Path(program).absolute())


def _as_label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._=-]+", "-", text)[:80].strip("-") or "capture"
