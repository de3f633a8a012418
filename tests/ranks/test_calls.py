"""What a trace says of its collectives, and which of different ranks are the same one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gemma_trace
from gemma_trace.ranks.aligning import by_their_ends
from gemma_trace.ranks.kinds import Comm, bus_factor, item_bytes, kind_of, size_elements
from gemma_trace.ranks.matching import matched
from gemma_trace.trace.collective_args import CollectiveArgs, collective_args, collective_text

PLAIN = {
    "Collective name": "allreduce",
    "dtype": "BFloat16",
    "In msg nelems": 1024,
    "Out msg nelems": 1024,
    "Group size": 4,
    "Process Group Name": "3",
    "Process Group Description": "tp",
    "Process Group Ranks": "[0, 1, 2, 3]",
    "Seq": 17,
}


def args_of(args: dict[str, Any]) -> CollectiveArgs | None:
    text = collective_text(json.dumps(args).encode())
    return collective_args(text.decode()) if text else None


def test_arguments_are_read_as_torch_writes_them() -> None:
    found = args_of({"External id": 9, **PLAIN})
    assert found == CollectiveArgs("allreduce", "BFloat16", 1024, 1024, "3", "tp", 4, (0, 1, 2, 3), 17)


@pytest.mark.parametrize(
    ("changes", "ranks"),
    [
        ({"Process Group Ranks": [4, 5, 6, 7]}, (4, 5, 6, 7)),
        (
            {
                "Process Group Ranks": "[8, 16, ..., 248]",
                "Group size": 31,
                "Global rank start": 8,
                "Global rank stride": 8,
            },
            tuple(range(8, 256, 8)),
        ),
        ({"Process Group Ranks": "[0, 1, ...]", "Group size": 40}, ()),
        ({"Process Group Ranks": "[0, 1]"}, ()),
        ({"Process Group Ranks": "[0, 99999999999999999999]", "Group size": None}, ()),
        ({"Process Group Ranks": {"0": 1}}, ()),
        ({"Process Group Ranks": None, "Group size": -5, "Global rank start": 0, "Global rank stride": 1}, ()),
    ],
)
def test_ranks_of_a_group(changes: dict[str, Any], ranks: tuple[int, ...]) -> None:
    found = args_of({**PLAIN, **changes})
    assert found is not None
    assert found.ranks == ranks


@pytest.mark.parametrize("value", [10**400, "many", [], {}, None, 1.5, -7])
def test_a_value_that_is_no_number_costs_itself_alone(value: Any) -> None:
    found = args_of({**PLAIN, "Seq": value, "In msg nelems": value})
    assert found is not None
    assert (found.seq if value != -7 else -1, found.in_elements) == (-1, -1)
    assert (found.name, found.out_elements) == ("allreduce", 1024)


@pytest.mark.parametrize("args", [b"{}", b"", b"[]", b'{"Collective name": null}', b"\xff", b'{"Collective name"'])
def test_what_is_no_collective_says_nothing(args: bytes) -> None:
    text = collective_text(args)
    assert not text or collective_args(text.decode()) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("allreduce_coalesced", Comm.ALL_REDUCE),
        ("allgather_into_tensor_coalesced", Comm.ALL_GATHER),
        ("_reduce_scatter_base", Comm.REDUCE_SCATTER),
        ("all_to_allv", Comm.ALL_TO_ALL),
        ("c10d::alltoall_base_", Comm.ALL_TO_ALL),
        ("gloo:all_gather", Comm.ALL_GATHER),
        ("ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)", Comm.SEND_RECEIVE),
        ("batch_isend_irecv", Comm.SEND_RECEIVE),
        ("recv 2<-1", Comm.RECEIVE),
        ("send", Comm.SEND),
        ("barrier", Comm.BARRIER),
        ("ncclKernel_Broadcast_RING_LL_Sum_int8_t(ncclDevComm*)", Comm.BROADCAST),
        ("something_else", Comm.OTHER),
    ],
)
def test_kinds(name: str, kind: Comm) -> None:
    assert kind_of(name) is kind


def test_sizes_and_factors_are_those_of_nccl_tests() -> None:
    assert size_elements(Comm.ALL_GATHER, 8, 32, 4) == size_elements(Comm.ALL_GATHER, 8, -1, 4) == 32
    assert size_elements(Comm.REDUCE_SCATTER, 32, 8, 4) == 32
    assert size_elements(Comm.ALL_TO_ALL, 10, 30, 4) == 30
    assert size_elements(Comm.ALL_REDUCE, -1, -1, 4) == -1
    assert [bus_factor(kind, 8) for kind in (Comm.ALL_REDUCE, Comm.ALL_GATHER, Comm.BROADCAST)] == [1.75, 0.875, 1.0]
    assert bus_factor(Comm.BARRIER, 8) is None
    assert [item_bytes(dtype) for dtype in ("Float", "c10::Half", "signed char", "Long", "Moon")] == [4, 2, 1, 8, -1]


def test_kernels_and_calls_of_a_trace_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rank0.json"
    call = {
        "ph": "X",
        "cat": "cpu_op",
        "name": "record_param_comms",
        "pid": 1,
        "tid": 1,
        "ts": 5,
        "dur": 20,
        "args": PLAIN,
    }
    launch = {
        "ph": "X",
        "cat": "cuda_runtime",
        "name": "cudaLaunchKernel",
        "pid": 1,
        "tid": 1,
        "ts": 7,
        "dur": 3,
        "args": {"correlation": 4},
    }
    kernel = {
        "ph": "X",
        "cat": "kernel",
        "name": "ncclDevKernel_AllReduce_Sum_bf16_RING_LL(x)",
        "pid": 0,
        "tid": 9,
        "ts": 12,
        "dur": 100,
        "args": {"correlation": 4, "device": 0, "stream": 9},
    }
    path.write_text(json.dumps({"traceEvents": [call, launch, kernel]}))
    job = gemma_trace.load_ranks(path)
    (row,) = job.collective_lines
    assert (row.kind, row.dtype, row.size_bytes, row.group_size) == (Comm.ALL_REDUCE, "BFloat16", 2048, 4)
    assert (row.description, row.unmatched) == ("tp", 1)


def columns(rows: list[tuple[int, str, int, int]]) -> dict[str, np.ndarray]:
    """Calls by rank and start: rank, kind, seq, peer; all of one group, type and size."""
    ranks, kinds, seqs, peers = zip(*rows, strict=True)
    kind = np.array([list(Comm).index(Comm(name)) for name in kinds])
    same = np.zeros(len(rows), dtype=np.int64)
    times = np.arange(len(rows)) * 10
    return {
        "rank": np.array(ranks),
        "kind": kind,
        "dtype": same,
        "group": same,
        "size_bytes": same,
        "start_ns": times,
        "dur_ns": same + 5,
        "seq": np.array(seqs),
        "peer": np.array(peers),
    }


def test_calls_of_one_number_are_one_collective() -> None:
    rows = [(0, "all_reduce", 1, -1), (0, "all_reduce", 2, -1), (1, "all_reduce", 2, -1), (1, "all_reduce", 3, -1)]
    match, mismatched = matched(columns(rows), np.array([0, 1]))
    assert match.tolist() == [-1, 0, 0, -1]
    assert mismatched == 0


def test_calls_of_one_number_and_another_kind_are_counted() -> None:
    rows = [(0, "all_reduce", 1, -1), (1, "all_reduce", 1, -1), (2, "all_gather", 1, -1)]
    match, mismatched = matched(columns(rows), np.array([0, 1, 2]))
    assert match.tolist() == [0, 0, -1]
    assert mismatched == 1


def test_a_send_is_the_receive_of_its_peer_in_order() -> None:
    """Ranks 4 and 6: two sends one way, one the other; the numbers that torch gives them don't count."""
    rows = [
        *[(0, "send", 1, 6), (0, "send", 5, 6), (0, "receive", 9, 6)],
        *[(1, "receive", 3, 4), (1, "send", 4, 4), (1, "receive", 8, 4), (1, "send", 11, 9)],
    ]
    match, _ = matched(columns(rows), np.array([4, 6]))
    assert match.tolist() == [0, 1, 2, 0, 2, 1, -1]


def test_several_kernels_of_one_collective_are_matched_one_by_one() -> None:
    rows = [(rank, "all_to_all", 1, -1) for rank in (0, 0, 1, 1)]
    match, _ = matched(columns(rows), np.array([0, 1]))
    assert match.tolist() == [0, 1, 0, 1]


def test_sequences_that_differ_are_matched_by_when_they_end() -> None:
    """The second rank lacks two calls, and its clock is 1 ms ahead."""
    signature = np.array([1, 1, 2, 1, 1, 2])
    ends = np.array([100_000, 200_000, 300_000, 400_000, 500_000, 600_000])
    left = np.array([1, 2, 4, 5])
    jitter = np.array([3, -5, 8, 0])
    found = by_their_ends(signature[left], ends[left] + 1_000_000 + jitter, signature, ends)
    assert found.tolist() == left.tolist()
