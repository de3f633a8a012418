"""Runs the notebooks beside it and stores their outputs. Run: make notebooks"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from traitlets.config import Config

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""All that a viewer needs; nothing of the machine that ran it."""


def execute(path: Path) -> NotebookNode:
    """Run a notebook from the top, in its own folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    resources = {"metadata": {"path": str(path.parent)}}
    with TemporaryDirectory() as own:
        # Over sockets in a folder of our own, which no one else on the machine can listen to.
        config = Config({"KernelManager": {"transport": "ipc", "ip": f"{own}/kernel"}})
        client = NotebookClient(notebook, kernel_name="python3", config=config, resources=resources)
        client.record_timing, client.timeout = False, 600
        client.execute()
    return bare(notebook)


def bare(notebook: NotebookNode) -> NotebookNode:
    """The notebook without what differs from one machine and one editor to the next."""
    notebook.metadata = METADATA
    for place, cell in enumerate(notebook.cells, 1):
        cell.id = f"cell-{place:02}"
        cell.metadata = {}
    return notebook


def main(names: Sequence[str]) -> None:
    """Run all notebooks, or those that are named, and write them back."""
    for path in [Path(name) for name in names] or sorted(HERE.glob("*.ipynb")):
        notebook = execute(path)
        nbformat.write(notebook, path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
