from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from gemma_trace.capture import activation_memory
from gemma_trace.capture.activation_memory import LARGE_BYTES, profiled_heap
from tests.conftest import HUNG_S

MAPPED = (
    "import ctypes, torch\n"
    "from gemma_trace.capture import activation_memory\n"
    "activation_memory.host_free_bytes = lambda: 0\n"  # so that memory is short from the start
    "class Info(ctypes.Structure):\n"
    "    _fields_ = [(name, ctypes.c_size_t) for name in 'arena ordblks smblks hblks hblkhd a b c d e'.split()]\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.mallinfo2.restype = Info\n"
    "def own_mappings(size, blocks):\n"
    "    before = libc.mallinfo2().hblks\n"
    "    kept = [torch.empty(size, dtype=torch.uint8) for _ in range(blocks)]\n"
    "    return libc.mallinfo2().hblks > before\n"
    "torch.empty(31 * 2**20, dtype=torch.uint8)\n"  # once freed, glibc carves what is smaller out of the heap
    f"sizes = ({2 * LARGE_BYTES}, {LARGE_BYTES // 2})\n"
    "print(*(own_mappings(size, 16) for size in sizes))\n"
    "with activation_memory.profiled_heap():\n"
    "    print(*(own_mappings(size, 32) for size in sizes))\n"  # more than the places that the others left in the heap
    "print(*(own_mappings(size, 64) for size in sizes))\n"
)


def test_large_tensors_stay_out_of_the_heap_where_memory_is_short_under_the_profiler() -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33, which says what is mapped")
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, timeout=HUNG_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["False False", "True False", "False False"]


GB = 10**9


@pytest.mark.parametrize(
    ("resident", "free", "apart"),
    [
        ([1 * GB, 3 * GB, 5 * GB, 7 * GB], 20 * GB, [False, False, False, False]),  # 3 × 2 GB to come, 10 to spend
        ([1 * GB, 3 * GB, 5 * GB, 7 * GB], 11 * GB, [False, True, True, True]),
        ([1 * GB, 1 * GB, 7 * GB, 8 * GB], 11 * GB, [False, False, True, True]),  # grows later
        ([1 * GB, 1 * GB, 1 * GB, 9 * GB], 11 * GB, [False, False, False, False]),  # by the last, with none to come
        ([9 * GB, 9 * GB, 9 * GB, 9 * GB], 4 * GB, [True, True, True, True]),  # a large model on a full machine
        ([9 * GB, 2 * GB, 1 * GB, 1 * GB], 5 * GB, [False, False, False, False]),  # shrinks
    ],
)
def test_large_tensors_are_kept_apart_only_once_memory_would_run_out(
    resident: list[int], free: int, apart: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    thresholds: list[int] = []

    def set_threshold(size: int) -> bool:
        thresholds.append(size)
        return True

    held = iter(resident)
    monkeypatch.setattr(activation_memory, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(activation_memory, "host_free_bytes", lambda: free)
    monkeypatch.setattr(activation_memory, "_set_threshold", set_threshold)
    with profiled_heap() as heap:
        seen = [heap.apart]
        for still_to_come in (3, 2, 0):
            heap.after_request(still_to_come)
            seen.append(heap.apart)
    assert seen == apart
    assert thresholds == ([LARGE_BYTES, 32 * 2**20] if any(apart) else [])


def test_what_the_profiler_collects_between_two_cycles_is_no_requests_growth(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter([1 * GB, 2 * GB, 3 * GB, 8 * GB, 8 * GB, 8 * GB])
    monkeypatch.setattr(activation_memory, "resident_bytes", lambda: next(held))
    monkeypatch.setattr(activation_memory, "host_free_bytes", lambda: 10 * GB)
    with profiled_heap() as heap:
        heap.after_request(1)
        heap.after_request(0)
        heap.begin_cycle()  # 5 GB more than at the last request's end
        heap.after_request(2)
        heap.after_request(1)
    assert not heap.apart


def test_nothing_is_kept_apart_where_the_c_library_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation_memory, "host_free_bytes", lambda: 0)
    monkeypatch.setattr(activation_memory, "_set_threshold", lambda _: False)
    with profiled_heap() as heap:
        heap.after_request(1)
    assert not heap.apart
