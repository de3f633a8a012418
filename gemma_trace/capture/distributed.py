"""Captures under torchrun: which process this is, and the group that they form."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rank:
    """One process of a capture; alone, it is rank 0 of 1.

    Attributes:
        index: over all machines.
        local: on this machine, which is also its CUDA device's number.
        world: how many there are.
    """

    index: int
    local: int
    world: int

    @property
    def worker(self) -> str:
        """What this process's trace is named after."""
        return f"rank{self.index}"


def this_rank() -> Rank:
    """Who this process is, as torchrun says it in the environment."""
    values = (os.environ.get(name, default) for name, default in (("RANK", 0), ("LOCAL_RANK", 0), ("WORLD_SIZE", 1)))
    return Rank(*(int(value) for value in values))


@contextmanager
def process_group(rank: Rank, device: torch.device) -> Iterator[None]:
    """Form the group of all ranks while the block runs, unless there is one already, or one rank alone."""
    distributed = torch.distributed
    if rank.world == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
