from __future__ import annotations

from pathlib import Path

import pytest

from gemma_trace.agents.desk import Desk
from gemma_trace.agents.roots import Roots
from tests.conftest import SAMPLES
from tests.store.traces import built


def desk_of(*folders: Path) -> Desk:
    return Desk(Roots([str(folder) for folder in folders]), cached=False)


@pytest.fixture(scope="session")
def samples() -> Desk:
    """The two samples: the tiny model on a CPU, with either image processor."""
    return desk_of(SAMPLES)


@pytest.fixture
def small(tmp_path: Path) -> Desk:
    """Two traces of a device, whose figures are known: the first kernel of the other is 80 ns longer."""
    built(tmp_path / "root" / "a" / "rank0.1.pt.trace.json")
    built(tmp_path / "root" / "b" / "rank0.1.pt.trace.json", 80)
    return desk_of(tmp_path / "root")
