from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from gemma_trace.capture.activation_memory import LARGE_BYTES
from tests.conftest import HUNG_S

MAPPED = (
    "import ctypes, torch\n"
    "from gemma_trace.capture.activation_memory import large_blocks_apart\n"
    "class Info(ctypes.Structure):\n"
    "    _fields_ = [(name, ctypes.c_size_t) for name in 'arena ordblks smblks hblks hblkhd a b c d e'.split()]\n"
    "libc = ctypes.CDLL(None)\n"
    "libc.mallinfo2.restype = Info\n"
    "def own_mappings(size):\n"
    "    before = libc.mallinfo2().hblks\n"
    "    kept = [torch.empty(size, dtype=torch.uint8) for _ in range(16)]\n"  # more than a place left in the heap holds
    "    return libc.mallinfo2().hblks > before\n"
    "torch.empty(31 * 2**20, dtype=torch.uint8)\n"  # once freed, glibc carves what is smaller out of the heap
    f"sizes = ({2 * LARGE_BYTES}, {LARGE_BYTES // 2})\n"
    "print(*map(own_mappings, sizes))\n"
    "with large_blocks_apart(): print(*map(own_mappings, sizes))\n"
    "print(*map(own_mappings, sizes))\n"
)


def test_large_tensors_stay_out_of_the_heap_while_the_profiler_runs() -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("needs glibc 2.33, which says what is mapped")
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, timeout=HUNG_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["False False", "True False", "False False"]
