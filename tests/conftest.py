from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
SAMPLES = ROOT / "traces" / "samples"


@pytest.fixture
def corpus() -> Path:
    """The folder of real traces with independently counted figures."""
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus, real traces that this project reads but does not ship")
    return folder
