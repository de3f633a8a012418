"""Who a rank is, what its group is bound to, and that no rank waits for one that refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gemma_trace.capture import model_memory, session
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.distributed import Rank, process_group, same_verdict, this_rank
from gemma_trace.capture.model_memory import check_fits, own_bytes
from gemma_trace.capture.models import LoadedModel
from gemma_trace.errors import ConfigError, DeviceError

WHOLE = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 1)


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*WHOLE, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("values", "rank"),
    [
        ({}, Rank(0, 0, 1, 1)),
        ({"WORLD_SIZE": "1"}, Rank(0, 0, 1, 1)),
        ({"WORLD_SIZE": "", "RANK": " "}, Rank(0, 0, 1, 1)),
        (WHOLE, Rank(1, 1, 2, 2)),
        (WHOLE | {"WORLD_SIZE": "8", "RANK": "5", "LOCAL_WORLD_SIZE": "4"}, Rank(5, 1, 8, 4)),
    ],
)
def test_torchrun_says_who_a_rank_is(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], rank: Rank) -> None:
    set_all(monkeypatch, values)
    assert this_rank() == rank


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT are not set"),
        (WHOLE | {"RANK": ""}, "WORLD_SIZE is 2, but RANK is not set; start all ranks with torchrun, or unset"),
        (WHOLE | {"LOCAL_RANK": ""}, "but LOCAL_RANK is not set"),
        (WHOLE | {"MASTER_PORT": ""}, "but MASTER_PORT is not set"),
        (WHOLE | {"RANK": "2"}, "RANK is 2 and WORLD_SIZE 2, of which one is wrong"),
        ({"RANK": "3"}, "RANK is 3 and WORLD_SIZE 1, of which one is wrong"),
        ({"WORLD_SIZE": "0"}, "RANK is 0 and WORLD_SIZE 0"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two', which is not the number of a rank"),
        (WHOLE | {"RANK": "-1"}, "RANK is '-1', which is not the number of a rank"),
        (WHOLE | {"LOCAL_RANK": "1.0"}, "LOCAL_RANK is '1.0'"),
        ({"RANK": "9" * 5000}, "which is not the number of a rank"),
    ],
)
def test_a_part_of_an_environment_is_a_clear_message(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], said: str
) -> None:
    set_all(monkeypatch, values)
    with pytest.raises(ConfigError) as caught:
        this_rank()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


class Group:
    """In the place of torch.distributed's functions: what is called, in order."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, others_refuse: bool = False, barrier_fails: bool = False
    ) -> None:
        self.calls: list[Any] = []
        self.others_refuse, self.barrier_fails = others_refuse, barrier_fails
        self.is_formed = False
        for name in ("is_initialized", "get_world_size", "get_rank", "init_process_group", "barrier", "all_reduce"):
            monkeypatch.setattr(torch.distributed, name, getattr(self, name))
        monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: self.calls.append("destroy"))
        monkeypatch.setattr(torch.cuda, "set_device", lambda device: self.calls.append(f"bind {device}"))

    def is_initialized(self) -> bool:
        return self.is_formed

    def get_world_size(self) -> int:
        return 4

    def get_rank(self) -> int:
        return 3

    def init_process_group(self, backend: str, device_id: torch.device | None = None) -> None:
        self.is_formed = True
        self.calls.append(f"{backend} {device_id}")

    def barrier(self) -> None:
        self.calls.append("barrier")
        if self.barrier_fails:
            raise RuntimeError("Connection closed by peer")

    def all_reduce(self, told: torch.Tensor, how: object) -> None:
        self.calls.append(int(told.item()))
        told += int(self.others_refuse)


@pytest.mark.parametrize(
    ("device", "first"), [(CUDA, ["bind cuda:1", "nccl cuda:1"]), (CPU, ["gloo None"])], ids=["cuda", "cpu"]
)
def test_a_device_is_bound_before_nccl_begins(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, first: list[str]
) -> None:
    group = Group(monkeypatch)
    with process_group(Rank(1, 1, 4, 4), device):
        group.calls.append("work")
    assert group.calls == [*first, "work", "barrier", "destroy"]


def test_a_rank_that_failed_costs_the_others_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, barrier_fails=True)
    with process_group(Rank(0, 0, 4, 4), CPU):
        pass
    assert group.calls == ["gloo None", "barrier", "destroy"]
    group = Group(monkeypatch)
    with pytest.raises(ZeroDivisionError), process_group(Rank(0, 0, 4, 4), CPU):
        raise ZeroDivisionError
    assert group.calls == ["gloo None", "destroy"], "it waits for nobody"


def test_in_a_group_of_the_programs_own_the_group_says_who_a_rank_is(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch)
    group.is_formed = True
    assert this_rank() == Rank(3, 3, 4, 4)
    with process_group(this_rank(), CPU):
        pass
    assert group.calls == []


def test_what_one_rank_refuses_all_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Group(monkeypatch, others_refuse=True)
    group.is_formed = True
    with pytest.raises(DeviceError, match="another rank can't load its part"), same_verdict(CPU):
        pass
    group.others_refuse = False
    with same_verdict(CPU):
        pass
    with pytest.raises(DeviceError, match="ours"), same_verdict(CPU):
        raise DeviceError("ours")
    assert group.calls == [0, 0, 1]


def test_ranks_share_the_hosts_memory_and_have_a_device_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_memory, "free_bytes", lambda _: 12_000_000_000)
    check_fits("4b", 2_000_000_000, "bfloat16", CPU)
    set_all(monkeypatch, WHOLE | {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "2"})
    assert (own_bytes(CPU), own_bytes(CUDA)) == (6_000_000_000, 12_000_000_000)
    check_fits("4b", 2_000_000_000, "bfloat16", CUDA)
    with pytest.raises(DeviceError, match=r"needs 7\.4 GB and cpu has 6\.0 GB free for each rank"):
        check_fits("4b", 2_000_000_000, "bfloat16", CPU)


def test_traces_are_written_before_ranks_wait(
    quick: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    @contextlib.contextmanager
    def group(rank: Rank, device: torch.device) -> Iterator[None]:
        yield
        written.append(len(list(tmp_path.glob("*/*.pt.trace.json.gz"))))

    monkeypatch.setattr(session, "process_group", group)
    config = CaptureConfig(output=tmp_path, runs=0, warmup=0, profile_runs=1)
    session.profile(config, model=quick.model, processor=quick.processor)
    assert written == [1]
