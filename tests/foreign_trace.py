"""The small trace of the fifth notebook, as another program would have written it: nothing in it is gemma-trace's.

It is made up, so that it can be small and can have a GPU: a script runs a vision-language model with a
mixture-of-experts layer under `torch.profiler`, with Python frames. Run: python -m tests.foreign_trace
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from typing import Final

from tests.conftest import ROOT
from tests.trace_builder import TraceBuilder

PATH: Final = ROOT / "analysis" / "foreign" / "script.pt.trace.json.gz"
STEPS: Final = 4
_US: Final = 1_000

# (module, kernel, kernels per step, µs of a kernel, µs of the host per launch)
MODULES: Final = (
    ("SiglipVisionTransformer_0", "sm90_xmma_gemm_bf16_tilesize128x128", 24, 38, 9),
    ("MultiModalProjector_0", "sm90_xmma_gemm_bf16_tilesize64x64", 2, 15, 9),
    ("MoELayer_0", "moe_align_block_size_kernel", 6, 4, 30),
    ("MoELayer_1", "fused_moe_kernel", 6, 52, 12),
    ("DecoderLayer_0", "flash_fwd_kernel", 12, 21, 9),
    ("LMHead_0", "sm90_xmma_gemm_bf16_tilesize128x256", 1, 90, 9),
)
"""What a step runs, one after another."""


def build() -> TraceBuilder:
    """The trace: steps whose modules launch kernels, which run behind the host on one stream."""
    scatter = random.Random(5)
    built = TraceBuilder()
    built.header["deviceProperties"] = [{"id": 0, "name": "Example GPU", "totalGlobalMem": 80_000_000_000}]
    built.names("process_name", "python", pid=1).names("thread_name", "python", pid=1, tid=100)
    now_ns = free_ns = 1_000_000
    correlation = 0
    for step in range(STEPS):
        step_ns = now_ns
        now_ns += 200 * _US  # the script reads its input
        for module, kernel, count, kernel_us, host_us in MODULES:
            module_ns = now_ns
            for _ in range(count):
                correlation += 1
                host_ns, length_ns = (round(us * _US * scatter.uniform(0.9, 1.1)) for us in (host_us, kernel_us))
                built.op("aten::mm", now_ns, host_ns).launch(correlation, now_ns + host_ns // 2, 3 * _US)
                free_ns = max(free_ns, now_ns + host_ns // 2 + 5 * _US)
                built.kernel(kernel, free_ns, length_ns, correlation=correlation)
                free_ns += length_ns
                now_ns += host_ns + _US
            built.frame(f"nn.Module: {module}", module_ns, now_ns - module_ns)
        correlation += 1
        end_ns = max(now_ns, free_ns) + 10 * _US
        built.launch(correlation, now_ns, end_ns - now_ns, name="cudaDeviceSynchronize")
        built.range(f"ProfilerStep#{step}", step_ns, end_ns - step_ns)
        now_ns = free_ns = end_ns + 50 * _US
    return built


def content() -> bytes:
    """The file, the same at every run."""
    return gzip.compress(build().json(), mtime=0)


if __name__ == "__main__":
    Path(PATH).parent.mkdir(parents=True, exist_ok=True)
    PATH.write_bytes(content())
    print(f"{PATH.relative_to(ROOT)}: {PATH.stat().st_size / 1000:.0f} kB")
