"""`--rule NAME=REGEX` and `--rules FILE` on the command line → stage rules; `--stage NAME` → the stage to show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gemma_trace.cli.output import say
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.foreign import converted, read_toml
from gemma_trace.remote import path_of
from gemma_trace.stages import Stage, StageRule, stage_rule

if TYPE_CHECKING:
    from gemma_trace.peaks import Peaks
    from gemma_trace.trace.trace import Trace

RuleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rule",
        metavar="NAME=REGEX",
        help="Define the stage NAME as the spans whose name matches REGEX. Repeatable. It may be a known stage.",
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        parser=path_of,
        help='A TOML file of such rules: a table "stages" with lines NAME = "REGEX".',
    ),
]


def _stage_names() -> list[str]:
    return [stage.value for stage in Stage if stage is not Stage.REQUEST]


StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage",
        "-s",
        metavar="NAME",
        help="Show this stage only, e.g. prefill.",
        autocompletion=_stage_names,
        show_default=False,
    ),
]

PeaksOption = Annotated[
    Path | None,
    typer.Option(
        "--peaks",
        metavar="FILE",
        parser=path_of,
        help="A TOML file with the peak rates of your device. doctor --measure prints one.",
    ),
]


def chosen_stage(given: str | None) -> str | None:
    """The stage that is asked for, if any.

    Raises:
        ConfigError: it is a rule, not a name.
    """
    if given is not None and "=" in given:
        raise ConfigError(f"--stage {given!r} is not the name of a stage; --rule {given!r} defines one")
    return given


def read_rules(given: Sequence[str] | None, file: Path | None) -> list[StageRule]:
    """The rules on the command line, then those of the file.

    Raises:
        ConfigError: a rule isn't NAME=REGEX, or its regex isn't one.
        InputError: the file can't be read as TOML, or holds no [stages].
    """
    rules = [_parsed(text) for text in given or ()]
    return rules if file is None else rules + _read_file(file)


def warn_of_rules(trace: Trace) -> None:
    """Say which rules have no effect, for commands that print no findings."""
    from gemma_trace.health.rules import rule_findings

    for finding in rule_findings(trace):
        say(f"gemma-trace: {finding.severity.value}: {finding.line}")


def own_peaks(file: Path | None) -> list[Peaks]:
    """The peak rates of the user's file; none without one.

    Raises:
        InputError: the file can't be read, or isn't such a file.
    """
    if file is None:
        return []
    from gemma_trace.peaks_file import read_peaks

    return read_peaks(file)


def _parsed(text: str) -> StageRule:
    name, equals, pattern = text.partition("=")
    if not equals or not pattern:
        raise ConfigError(f"--rule {text!r} is not a rule; give NAME=REGEX, e.g. vision_tower='nn.Module: Siglip'")
    return stage_rule(name, pattern)


def _read_file(path: Path) -> list[StageRule]:
    without = f'{path} has no [stages]; write [stages] and lines such as vision_tower = "nn.Module: Siglip"'
    stages = converted(read_toml(path, "--rules").get("stages"), dict[str, Any], InputError(without))
    rules = []
    for name, given in stages.items():
        no_text = InputError(f"{path}: the stage {name} has a rule that is not text; give a regular expression")
        patterns = converted(given, str | list[str], no_text)
        rules += [stage_rule(name, pattern) for pattern in ([patterns] if isinstance(patterns, str) else patterns)]
    return rules
