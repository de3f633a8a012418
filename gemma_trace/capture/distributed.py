"""Captures under torchrun: which process this is, and the group that they form."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

from gemma_trace.errors import ConfigError, DeviceError

_NEEDED: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets in the environment of each rank."""


@dataclass(frozen=True)
class Rank:
    """One process of a capture; alone, it is rank 0 of 1.

    Attributes:
        index: over all machines.
        local: on this machine, which is also its CUDA device's number.
        world: how many there are.
        local_world: how many of them are on this machine.
    """

    index: int
    local: int
    world: int
    local_world: int = 1

    @property
    def worker(self) -> str:
        """What this process's trace is named after."""
        return f"rank{self.index}"


def this_rank() -> Rank:
    """Who this process is: as the group says that it is in, or else as torchrun says it in the environment.

    Raises:
        ConfigError: the environment has a part of what torchrun sets, or numbers that can't be.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        index, world = distributed.get_rank(), distributed.get_world_size()
        return Rank(index, _number("LOCAL_RANK", index), world, _number("LOCAL_WORLD_SIZE", world))
    world = _number("WORLD_SIZE", 1)
    missing = [name for name in _NEEDED if not os.environ.get(name)]
    if world > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE is {world}, but {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set; start "
            "all ranks with torchrun, or unset WORLD_SIZE to capture in one process"
        )
    rank = Rank(_number("RANK", 0), _number("LOCAL_RANK", 0), world, _number("LOCAL_WORLD_SIZE", world))
    if world < 1 or rank.index >= world:
        raise ConfigError(
            f"RANK is {rank.index} and WORLD_SIZE {world}, of which one is wrong; start all ranks with torchrun, or "
            "unset both to capture in one process"
        )
    return rank


def _number(name: str, default: int) -> int:
    """A number of the environment; what is empty isn't set."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise ConfigError(f"{name} is {text[:40]!r}, which is not the number of a rank; start all ranks with torchrun")
    return int(text)


@contextmanager
def process_group(rank: Rank, device: torch.device) -> Iterator[None]:
    """Form the group of all ranks while the block runs, unless there is one already, or one rank alone.

    A CUDA device is bound to it, so that NCCL doesn't guess whose it is. At the end the ranks wait for each other; what
    a rank has to keep it writes within the block.
    """
    distributed = torch.distributed
    if rank.world == 1 or distributed.is_initialized():
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", device_id=device)
    else:
        distributed.init_process_group("gloo")
    try:
        yield
        with contextlib.suppress(RuntimeError):  # a rank that failed has said so, and ours is done
            distributed.barrier()
    finally:
        distributed.destroy_process_group()


@contextmanager
def same_verdict(device: torch.device) -> Iterator[None]:
    """What one rank refuses in the block all ranks refuse: none goes on to wait for it.

    Args:
        device: the rank's own.

    Raises:
        DeviceError: another rank raised what it did.
    """
    try:
        yield
    except Exception:
        _any_refuses(True, device)
        raise
    if _any_refuses(False, device):
        raise DeviceError(
            "another rank can't load its part, usually because it lacks memory; the message of that rank says why"
        )


def _any_refuses(refused: bool, device: torch.device) -> bool:
    """Whether one of the ranks does; all of them have to ask."""
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_initialized() or distributed.get_world_size() == 1:
        return refused
    told = torch.tensor([int(refused)], device=device if device.type == "cuda" else "cpu")
    distributed.all_reduce(told, distributed.ReduceOp.MAX)
    return bool(told.item())
