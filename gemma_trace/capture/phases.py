"""How far a capture is, for whoever wants to hear it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Hears how far a capture is."""

    def phase(self, name: str, steps: int) -> None:
        """A phase of so many steps begins; the one before is done."""

    def step(self) -> None:
        """One step of the phase is done."""


class NoProgress:
    """Says nothing."""

    def phase(self, name: str, steps: int) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""
