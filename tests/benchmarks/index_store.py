"""How long indexing takes, and what it writes: many small traces, and real ones where they lie beside the checkout.

    python -m tests.benchmarks.index_store --traces 2000

Prints a line of JSON per measurement. Each is a process of its own; its memory is the largest resident set of it or of
any of its workers. `processor_s` tells more than `wall_s` on a machine that does other things.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Final

from tests.benchmarks.measure import ROOT
from tests.trace_builder import TraceBuilder

REAL: Final = [ROOT.parent / "shared" / name for name in ("corpus", "corpus_2")]
ONE_BY_ONE: Final = 20
"""So many traces are read by a command each."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--traces", type=int, default=2000, metavar="N", help="small traces")
    parser.add_argument("--temp", metavar="FOLDER", help="make the traces and stores here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gemma-trace-bench-", dir=options.temp) as folder:
        small = Path(folder) / "small"
        for number in range(options.traces):
            small_trace(small / f"rank0.{number}.pt.trace.json.gz", number)
        few = Path(folder) / "few"
        few.mkdir()
        for trace in sorted(small.iterdir())[: options.traces // 10]:
            shutil.copy(trace, few)
        real = [path for each in REAL if each.is_dir() for path in sorted(each.rglob("*.json.gz"))]
        one_by_one("small", sorted(small.iterdir())[:ONE_BY_ONE], Path(folder))
        for jobs in (1, 2):
            for name, paths in (("few", [few]), ("small", [small]), ("real", real)):
                if paths:
                    index(f"{name}, {jobs} at once", paths, Path(folder) / f"{name}{jobs}", jobs)
        store = Path(folder) / "small2"
        index("small again, all known", [small], store, 2)
        small_trace(Path(folder) / "one.json.gz", -1)
        index("one more", [Path(folder) / "one.json.gz"], store, 2)
        index("compact", [], store, 2, "--compact")
        index("one more, known, compacted", [Path(folder) / "one.json.gz"], store, 2)
        if real:
            one_by_one("real", real, Path(folder))
    return 0


def small_trace(path: Path, seed: int) -> None:
    """A request of five stages with 100 kernels: some 430 spans, 10 kB compressed."""
    random = Random(seed)
    trace = TraceBuilder().range("request", 0, 1_000_000)
    trace.header |= {"baseTimeNanoseconds": (1_750_000_000 + 600 * max(seed, 0)) * 10**9}
    for place, stage in enumerate(("vision_tower", "projector", "prefill", "sampling", "decode")):
        trace.range(stage, 10_000 + 190_000 * place, 180_000)
    for place in range(100):
        start = 12_000 + 9_400 * place
        name = f"kernel_{random.randrange(20)}"
        trace.op(f"aten::{name}", start, 4_000, dims=[[1, place]]).op("aten::empty", start + 100, 500)
        trace.launch(place + 1, start + 1_000, 900)
        trace.kernel(name, start + 3_000, 2_000 + random.randrange(3_000), correlation=place + 1)
    trace.write(path)


def index(what: str, paths: Sequence[Path], store: Path, jobs: int, *more: str) -> None:
    """Index once, and tell what it took."""
    command = ["index", *map(str, paths), "--to", str(store), "--jobs", str(jobs), "--format", "json", *more]
    wall_s, processor_s, peak_bytes, out = run(command)
    totals = json.loads(out)["totals"]
    traces = totals["indexed"] + totals["known"]
    print(
        json.dumps(
            {
                "what": what,
                "traces": traces,
                "wall_s": round(wall_s, 2),
                "processor_s": round(processor_s, 2),
                "processor_ms_a_trace": round(1e3 * processor_s / max(traces, 1), 2),
                "peak_mb": round(peak_bytes / 1e6, 1),
                "files_a_trace": round(totals["written_files"] / max(totals["indexed"], 1), 2),
                "bytes_a_trace": round(totals["written_bytes"] / max(totals["indexed"], 1)),
                "read_mb": round(totals["read_bytes"] / 1e6, 2),
                **({"compaction": totals["compaction"]} if "compaction" in totals else {}),
                "load": os.getloadavg()[0],
            }
        ),
        flush=True,
    )


def one_by_one(what: str, traces: Sequence[Path], folder: Path) -> None:
    """Read each trace by a command of its own, as was done before there were stores."""
    wall_s = processor_s = 0.0
    peak_bytes = 0
    for trace in traces:
        command = ["stages", str(trace), "--no-cache", "-o", str(folder / "out.json"), "--force"]
        each_wall_s, each_processor_s, peak, _ = run(command)
        wall_s, processor_s, peak_bytes = wall_s + each_wall_s, processor_s + each_processor_s, max(peak, peak_bytes)
    print(
        json.dumps(
            {
                "what": f"{what}, a command each",
                "traces": len(traces),
                "wall_s": round(wall_s, 2),
                "processor_s": round(processor_s, 2),
                "processor_ms_a_trace": round(1e3 * processor_s / len(traces), 2),
                "peak_mb": round(peak_bytes / 1e6, 1),
                "load": os.getloadavg()[0],
            }
        ),
        flush=True,
    )


def run(arguments: Sequence[str]) -> tuple[float, float, int, str]:
    """Wall and processor seconds, peak bytes and output of a command."""
    code = (
        "import resource, sys; from gemma_trace.cli import entry; sys.argv = ['gemma-trace', *sys.argv[1:]]; "
        "code = entry(); peak = max(resource.getrusage(who).ru_maxrss for who in "
        "(resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)); print(peak * 1024, file=sys.stderr); sys.exit(code)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began_s = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    wall_s = time.perf_counter() - began_s
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 4):
        sys.exit(done.stderr)
    processor_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall_s, processor_s, int(done.stderr.splitlines()[-1]), done.stdout


if __name__ == "__main__":
    sys.exit(main())
