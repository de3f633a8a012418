"""A capture under torchrun: two ranks on the CPU, over gloo."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from gemma_trace.trace.trace import load
from tests.conftest import HUNG_S


def test_two_ranks_write_a_trace_each(small_gemma: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "gemma_trace", "capture", "--model", str(small_gemma), "--device", "cpu", "--quiet"]
    command += ["--runs", "0", "--warmup", "0", "--profile-runs", "1", "--out-dir", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HUNG_S)
    assert done.returncode == 0, done.stderr[-2000:]
    traces = sorted((tmp_path / "out").glob("*/*.pt.trace.json.gz"))
    assert [trace.name.split(".")[0] for trace in traces] == ["rank0", "rank1"]
    for path in traces:
        trace = load(path)
        assert {"vision_tower", "projector", "prefill", "sampling"} <= {
            trace.stage_names[code] for code in set(trace.stage_range[trace.stage_range >= 0].tolist())
        }
        names = " ".join(trace.spans.names)
        assert "allreduce" in names or "all_reduce" in names, "the layers are split, so their parts are added up"
