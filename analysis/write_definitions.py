"""Writes the tables of columns in analysis/README.md anew, from the columns' own definitions. Run: make docs"""

from __future__ import annotations

from pathlib import Path

from gemma_trace.report.definitions import with_tables

README = Path(__file__).parent / "README.md"


def main() -> None:
    """Write README.md."""
    README.write_text(with_tables(README.read_text()))


if __name__ == "__main__":
    main()
