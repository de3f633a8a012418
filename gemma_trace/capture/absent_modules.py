"""Which models of transformers have none of a stage's modules, and why; so that nobody looks for them."""

from __future__ import annotations

from typing import Final

_REASONS: Final[dict[str, dict[str, str]]] = {}
"""By model type and stage. A test builds every registered model and compares."""


def reason_of_absence(model_type: str, stage: str) -> str:
    """Why models of this type have no `vision`, `projector` or `decoder`; "" where that isn't known.

    >>> reason_of_absence("gemma3", "vision")
    ''
    """
    return _REASONS.get(model_type, {}).get(stage, "")
