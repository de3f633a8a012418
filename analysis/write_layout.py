"""Writes docs/layout.md: what each file of the package is for, from the first line of its docstring. Run: make docs"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "gemma_trace"
PAGE = Path(__file__).parent / "docs" / "layout.md"

HEAD = """# Layout

One row per file of `gemma_trace/`, with the first line of its docstring. `CONTRIBUTING.md`
describes how the folders depend on each other and where to start reading. `make docs` writes this page.
"""


def page() -> str:
    """The page as Markdown: a section per folder, in alphabetical order, with a table of its files."""
    folders = sorted(path.parent for path in PACKAGE.rglob("__init__.py"))
    return "\n".join([HEAD, *(line for folder in folders for line in section(folder))])


def section(folder: Path) -> Iterator[str]:
    """The lines of one folder: its heading, what it is for, and its files."""
    yield f"## `{folder.relative_to(ROOT).as_posix()}/`\n"
    yield f"{purpose(folder / '__init__.py')}\n"
    files = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    if files:
        yield "| File | What it is for |\n|---|---|"
        yield from (f"| `{path.name}` | {purpose(path).replace('|', chr(92) + '|')} |" for path in files)
        yield ""


def purpose(module: Path) -> str:
    """The first line of a module's docstring.

    Raises:
        ValueError: the module has none.
    """
    text = ast.get_docstring(ast.parse(module.read_text()))
    if not text:
        raise ValueError(f"{module.relative_to(ROOT)} has no docstring; its first line says what the file is for.")
    return text.splitlines()[0]


def main() -> None:
    """Write the page."""
    PAGE.write_text(page())


if __name__ == "__main__":
    main()
