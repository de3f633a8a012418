"""Runs that paths name, baselines of a store among them: `baseline:NAME` stands where a path does."""

from __future__ import annotations

from pathlib import Path

from gemma_trace.errors import ConfigError
from gemma_trace.ranks.folders import Runs
from gemma_trace.store.baselines import PREFIX, is_baseline
from gemma_trace.store.sides import StoredSide, stored_sides


class BaselineRuns(Runs):
    """Runs of paths and of baselines.

    Args:
        store: which the baselines are of; "" for none.

    Attributes:
        stored: the runs of baselines, by what stands for their paths.
    """

    def __init__(self, store: str = "") -> None:
        super().__init__()
        self.stored: dict[Path, StoredSide] = {}
        self._store = store

    def named_by(self, path: Path) -> list[Path]:
        """See `Runs`.

        Raises:
            ConfigError: it is a baseline, and no store was given.
        """
        if not is_baseline(path):
            return super().named_by(path)
        if not self._store:
            raise ConfigError(f"{path} is in a store; give --store STORE")
        sides = stored_sides(self._store, str(path).removeprefix(PREFIX))
        by_source = {path / side.side.run.source: side for side in sides}
        self.stored |= by_source
        return list(by_source)
