"""The skill that tells an agent how to use us: its files, which are data of the package, and how they are installed.

It has the open layout: a folder of the skill's name with SKILL.md, which begins with its name and what it is for, and
`references/`, which is read only where it is needed.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Final

from gemma_trace.errors import OutputError

NAME: Final = "gemma-trace"
MAIN: Final = "SKILL.md"
_FILES: Final = (MAIN, "references/verdicts.md", "references/own-model.md")


def skill_files() -> dict[str, str]:
    """The texts of the skill's files by their path in its folder."""
    folder = files("gemma_trace.agents") / "skill_files"
    return {name: folder.joinpath(*name.split("/")).read_text(encoding="utf-8") for name in _FILES}


def install_skill(skills: Path, *, force: bool = False) -> Path:
    """Write the skill into a folder of skills; each file appears whole or not at all.

    Args:
        skills: the folder that has a folder per skill; it is made where it isn't there.
        force: overwrite files that differ.

    Returns:
        The skill's folder.

    Raises:
        OutputError: a file is there that differs and `force` isn't set, or one can't be written.
    """
    from gemma_trace.trace.files import output_file

    folder = skills / NAME
    texts = skill_files()
    for name, text in texts.items():
        if not force and _differs(folder / name, text):
            raise OutputError(f"{folder / name} exists already and is another; give --force to overwrite it")
    for name, text in texts.items():
        path = folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"can't make the folder {path.parent}: {error.strerror}; check --install") from error
        with output_file(path, "check --install") as out:
            out.write(text.encode())
    return folder


def _differs(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() != text.encode()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OutputError(f"can't read {path}: {error.strerror}; check --install") from error
