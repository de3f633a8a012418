"""How much of a critical path belongs to each stage, by request and summed up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gemma_trace.analysis.critical_path import CriticalPath, PathKind


@dataclass(frozen=True)
class PathStage:
    """The part of a critical path that belongs to one stage.

    Attributes:
        request: the request's index; None where it is several summed up.
        path_ns: the sum of the five kinds; over the stages it is the request's wall time.
        to_first_token_ns: what of it lies before the first token; None where the trace doesn't tell when that was.
    """

    request: int | None
    stage: str
    path_ns: int
    to_first_token_ns: int | None
    host_ns: int
    launch_ns: int
    device_ns: int
    gap_ns: int
    sync_ns: int
    wall_ns: int

    @property
    def share_pct(self) -> float | None:
        """Its part of the wall time, in percent; None where that is 0."""
        return 100 * self.path_ns / self.wall_ns if self.wall_ns else None


def path_stages(paths: Sequence[CriticalPath], first_tokens_ns: Sequence[int | None]) -> list[PathStage]:
    """A row per request and stage on its path.

    Args:
        paths: one per request.
        first_tokens_ns: when each request had its first token, on the trace's clock.
    """
    rows = []
    for path, first_ns in zip(paths, first_tokens_ns, strict=True):
        before = None if first_ns is None else path.by_stage_ns(first_ns)
        for stage, kinds in path.by_stage_ns().items():
            to_first_ns = None if before is None else sum(before.get(stage, {}).values())
            lengths = {f"{kind.value}_ns": kinds.get(kind, 0) for kind in PathKind}
            wall_ns = path.request.wall_ns
            rows.append(
                PathStage(path.request.index, stage, sum(kinds.values()), to_first_ns, **lengths, wall_ns=wall_ns)
            )
    return rows


def summed_path_stages(rows: Sequence[PathStage], paths: Sequence[CriticalPath]) -> list[PathStage]:
    """The rows summed up by stage, in the stages' order."""
    wall_ns = sum(path.request.wall_ns for path in paths)
    stages = {row.stage for row in rows}
    return [
        _sum(stage, [row for row in rows if row.stage == stage], wall_ns)
        for stage in paths[0].stages
        if stage in stages
    ]


def _sum(stage: str, rows: Sequence[PathStage], wall_ns: int) -> PathStage:
    known = [row.to_first_token_ns for row in rows if row.to_first_token_ns is not None]
    return PathStage(
        request=None,
        stage=stage,
        path_ns=sum(row.path_ns for row in rows),
        to_first_token_ns=sum(known) if known else None,
        host_ns=sum(row.host_ns for row in rows),
        launch_ns=sum(row.launch_ns for row in rows),
        device_ns=sum(row.device_ns for row in rows),
        gap_ns=sum(row.gap_ns for row in rows),
        sync_ns=sum(row.sync_ns for row in rows),
        wall_ns=wall_ns,
    )
