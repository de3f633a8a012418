"""`gemma-trace skill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, answer, answer_lines


def skill(
    install: Annotated[
        Path | None,
        typer.Option("--install", metavar="FOLDER", help="Write the skill to FOLDER/gemma-trace."),
    ] = None,
    force: ForceOption = False,
) -> None:
    """Print or install a skill that teaches agents gemma-trace.

    It tells a coding agent how to optimise a model. The skill has the open SKILL.md layout: how to capture, read and
    compare, and when to stop. Without --install its main file is printed.

    Example: gemma-trace skill --install .agents/skills
    """
    from gemma_trace.agents.skill import MAIN, install_skill, skill_files
    from gemma_trace.cli.output import refuse_existing

    if install is None:
        answer_lines(skill_files()[MAIN])
        return
    refuse_existing(install, force=True)  # a URL is refused
    answer(install_skill(install, force=force))
