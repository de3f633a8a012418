"""Prints the lowest versions that pyproject.toml allows, a requirement a line, as pip installs them.

python -m tests.lowest [EXTRA...]; it needs nothing but Python itself.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"
TOOLS = ("pytest", "pytest-xdist", "hypothesis")
"""What the tests that need no torch run with, of the extra `dev`."""

_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+(?:\[[^]]*\])?)\s*>=\s*(?P<version>[0-9][^,;\s]*)")


def lowest(requirements: Sequence[str]) -> Iterator[str]:
    """Each requirement with the lowest version that it allows.

    Raises:
        ValueError: one has no lower bound.
    """
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} has no lower bound")
        yield f"{found['name']}=={found['version']}"


def main() -> None:
    """Print those of the package, of the extras that are given, and of the tools."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    tools = [each for each in extras["dev"] if re.split(r"[<>=]", each)[0] in TOOLS]
    for requirement in lowest(
        [*project["dependencies"], *(each for name in sys.argv[1:] for each in extras[name]), *tools]
    ):
        print(requirement)


if __name__ == "__main__":
    main()
