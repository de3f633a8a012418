"""`--stage NAME=REGEX` and `--stages FILE` on the command line → stage rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import say
from gemma_trace.errors import ConfigError, InputError
from gemma_trace.foreign import read_toml
from gemma_trace.stages import Stage, StageRule, stage_rule

if TYPE_CHECKING:
    from gemma_trace.analysis.roofline.peaks import Peaks
    from gemma_trace.trace.trace import Trace

RulesOption = Annotated[
    list[str] | None,
    typer.Option("--stage", "-s", metavar="NAME=REGEX", help="Spans whose name matches are this stage; repeatable."),
]


def _stage_names() -> list[str]:
    return [stage.value for stage in Stage if stage is not Stage.REQUEST]


ChosenStageOption = Annotated[
    list[str] | None,
    typer.Option(
        "--stage",
        "-s",
        metavar="NAME[=REGEX]",
        help="Only this stage; NAME=REGEX makes it of the spans whose name matches. Repeatable, for rules of one "
        "stage, or for rules beside the one NAME to show.",
        autocompletion=_stage_names,
    ),
]
RulesFileOption = Annotated[
    Path | None,
    typer.Option(
        "--stages", metavar="FILE", help='A TOML file of such rules: a table "stages" of lines NAME = "REGEX".'
    ),
]

PeaksOption = Annotated[
    Path | None,
    typer.Option(
        "--peaks", metavar="FILE", help="A TOML file of your device's peak rates; doctor --measure prints one."
    ),
]


def chosen_stage(given: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """The one stage that is asked for, if any, and the rules beside it.

    A name alone asks for its stage, whatever the rules are of; without one the rules ask for theirs.

    Raises:
        ConfigError: two stages are asked for.
    """
    rules = [text for text in given or () if "=" in text]
    chosen = [text for text in given or () if "=" not in text]
    if len(chosen) > 1:
        raise ConfigError(f"one stage at a time; --stage was given {' and '.join(chosen)}")
    if chosen:
        return chosen[0], rules
    ruled = list(dict.fromkeys(text.partition("=")[0] for text in rules))
    if len(ruled) > 1:
        raise ConfigError(
            f"one stage at a time; --stage was given rules for {' and '.join(ruled)}: say which one to show with "
            f"--stage {ruled[0]} beside them, or put the rules into a file for --stages to show everything"
        )
    return (ruled[0] if ruled else None), rules


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
        say(f"gemma-trace: {finding.severity.value}: {finding.message}; {finding.advice}")


def own_peaks(file: Path | None) -> list[Peaks]:
    """The peak rates of the user's file; none without one.

    Raises:
        InputError: the file can't be read, or isn't such a file.
    """
    if file is None:
        return []
    from gemma_trace.analysis.roofline.peaks_file import read_peaks

    return read_peaks(file)


def _parsed(text: str) -> StageRule:
    name, equals, pattern = text.partition("=")
    if not equals or not pattern:
        raise ConfigError(f"--stage {text!r} is no rule; give NAME=REGEX, e.g. vision_tower='nn.Module: Siglip'")
    return stage_rule(name, pattern)


def _read_file(path: Path) -> list[StageRule]:
    stages = read_toml(path, "--stages").get("stages")
    if not isinstance(stages, dict):
        raise InputError(f'{path} has no [stages]; write [stages] and lines such as vision_tower = "nn.Module: Siglip"')
    rules = []
    for name, patterns in stages.items():
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            if not isinstance(pattern, str):
                raise InputError(f"{path}: the stage {name} has a rule that is no text; give a regular expression")
            rules.append(stage_rule(name, pattern))
    return rules
