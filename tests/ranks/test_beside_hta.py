"""Holistic Trace Analysis on the ranks of a job: its overlap of communication and computation is ours."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import gemma_trace
from tests.conftest import SHARED

ASKED = """
import json, logging, sys, warnings
warnings.filterwarnings("ignore")
logging.disable(logging.CRITICAL)
from gemma_trace.hta.shims import put_on
put_on()
from hta.trace_analysis import TraceAnalysis
files = {rank: path for rank, path in enumerate(sys.argv[1:])}
overlap = TraceAnalysis(trace_files=files, trace_dir="/").get_comm_comp_overlap(visualize=False)
print(json.dumps(dict(zip(overlap["rank"].tolist(), overlap["comp_comm_overlap_pctg"].tolist()))))
"""


@pytest.mark.skipif(find_spec("hta") is None, reason="needs HolisticTraceAnalysis")
def test_the_overlap_of_eight_ranks_is_htas() -> None:
    """To HTA's two decimals of a percent, but for copies and fills, behind which HTA sees no communication hidden."""
    folder = SHARED / "corpus_2" / "dlrm_8_ranks"
    if not folder.is_dir():
        pytest.skip("needs ../shared/corpus_2, real traces that this project reads but does not ship")
    paths = [folder / f"rank{rank}.json.gz" for rank in range(8)]
    said = subprocess.run([sys.executable, "-c", ASKED, *map(str, paths)], capture_output=True, text=True, check=True)
    overlap = {int(rank): share for rank, share in json.loads(said.stdout.splitlines()[-1]).items()}
    job = gemma_trace.load_ranks(folder)
    assert len(overlap) == 8
    for line, path in zip(job.rank_lines, paths, strict=True):
        behind_copies_us = _communication_behind_copies_us(path)
        ours_us = line.overlapped_ns / 1000 - behind_copies_us
        assert 100 * ours_us / (line.collective_ns / 1000) == pytest.approx(overlap[line.rank], abs=0.006)


def _communication_behind_copies_us(path: Path) -> int:
    """The µs in which NCCL runs beside copies and fills alone, counted one by one."""
    instants: dict[str, set[int]] = {"nccl": set(), "copy": set(), "compute": set()}
    for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]:
        if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset"):
            kind = "copy" if event["cat"] != "kernel" else "nccl" if event["name"].startswith("nccl") else "compute"
            instants[kind].update(range(event["ts"], event["ts"] + event["dur"]))
    return len((instants["nccl"] & instants["copy"]) - instants["compute"])
