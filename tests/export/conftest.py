from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.perfetto import Rows, ask


@pytest.fixture
def perfetto() -> Callable[..., list[Rows]]:
    """Load a file into Perfetto's engine and run queries; the first answer is what the engine lost."""
    return ask
