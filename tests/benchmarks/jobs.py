"""What is measured, one job a process: prints one line of JSON.

    python -m tests.benchmarks.jobs load gemma-trace TRACE

Imports, and what else a reader does only once, happen before the clock starts; `baseline_bytes` is the peak memory of
the process at that point.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

OURS: Final = "gemma-trace"
HTA: Final = "HTA"
PERFETTO: Final = "Perfetto"
ISAL: Final = "isal"
SIMDJSON: Final = "simdjson"
INFLATE: Final = "inflate"
PARSE: Final = "parse"
PROFILE: Final = "profile"

BLOCK_BYTES: Final = 1 << 20
"""What is inflated at a time: as much as stays in a processor's cache."""

PERFETTO_HOST: Final = Path(__file__).resolve().parents[3] / "shared" / "tools" / "perfetto_engine.py"
"""Hosts Perfetto's engine; lies beside the checkout and isn't part of the project."""

_DEVICE: Final = ("kernel", "gpu_memcpy", "gpu_memset")


@dataclass(frozen=True)
class Counts:
    """What a reader found in a trace.

    Attributes:
        activities: kernels, copies and fills of a device.
        spans: events with a duration.
        events, inflated_bytes: of the file; known to our reader only.
    """

    activities: int
    spans: int
    events: int = 0
    inflated_bytes: int = 0


@dataclass(frozen=True)
class JobReport:
    """What a job found out about itself.

    Attributes:
        seconds: of the job alone.
        baseline_bytes: peak memory before it began.
        counts: what the reader then held, if it was asked to count.
        parts: seconds of each part of the job, if it was asked for them.
    """

    seconds: float
    baseline_bytes: int
    counts: Counts | None = None
    parts: dict[str, float] | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes) -> JobReport:
        values = json.loads(text)
        counts = values.pop("counts")
        return cls(**values, counts=Counts(**counts) if counts else None)


@dataclass(frozen=True)
class Reader:
    """A way to load a trace, its imports done.

    Attributes:
        load: the path of a trace → what was loaded.
        count: what was loaded → what is in it.
    """

    load: Callable[[str], Any]
    count: Callable[[Any], Counts]


def _ours() -> Reader:
    from gemma_trace.trace.trace import Trace, load

    def count(trace: Trace) -> Counts:
        events, size = sum(trace.read_report.phases.values()), trace.read_report.inflated_bytes
        return Counts(len(trace.activities), len(trace.spans), events, size)

    return Reader(load, count)


def _hta() -> Reader:
    # Without this HTA rounds times to µs, event by event: less exact, and slower.
    os.environ["HTA_DISABLE_NS_ROUNDING"] = "1"
    analysis = importlib.import_module("hta.trace_analysis").TraceAnalysis

    def load(path: str) -> Any:
        folder = str(Path(path).parent)
        return analysis(trace_files={0: path}, trace_dir=folder, include_last_profiler_step=True)

    def count(loaded: Any) -> Counts:
        frame, symbols = loaded.t.traces[0], loaded.t.symbol_table.get_sym_id_map()
        codes = [symbols[name] for name in _DEVICE if name in symbols]
        return Counts(int(frame["cat"].isin(codes).sum()), len(frame))

    return Reader(load, count)


def _perfetto() -> Reader:
    spec = importlib.util.spec_from_file_location("perfetto_engine", PERFETTO_HOST)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    engine = module.PerfettoEngine()

    def load(path: str) -> Any:
        engine.load(path)
        return engine

    def count(loaded: Any) -> Counts:
        names = ", ".join(f"'{name}'" for name in _DEVICE)
        sql = f"select count(*) as spans, sum(category in ({names})) as activities from slice where dur >= 0"
        row = next(iter(loaded.query(sql)))
        return Counts(int(row.activities), int(row.spans))

    return Reader(load, count)


READERS: Final[dict[str, Callable[[], Reader]]] = {OURS: _ours, HTA: _hta, PERFETTO: _perfetto}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load_job(reader: str, path: str, count: bool) -> JobReport:
    """Load a trace to what the reader's own queries start from."""
    ready = READERS[reader]()
    baseline = _peak_bytes()
    started = time.perf_counter()
    loaded = ready.load(path)
    seconds = time.perf_counter() - started
    return JobReport(seconds, baseline, ready.count(loaded) if count else None)


def stages_job(path: str) -> JobReport:
    """Load a trace with our reader and make its stage table."""
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.trace.trace import load

    baseline = _peak_bytes()
    started = time.perf_counter()
    breakdown(load(path))
    return JobReport(time.perf_counter() - started, baseline)


def profile_job(path: str, jobs: int) -> JobReport:
    """Load a trace with our reader, and say what its parts took."""
    from tests.benchmarks.load_profile import profiled_load

    baseline = _peak_bytes()
    parts = profiled_load(Path(path), jobs)
    return JobReport(sum(parts.values()), baseline, parts=parts)


def inflate_job(path: str) -> JobReport:
    """Inflate a trace with isal, a block at a time, and do nothing with it."""
    igzip: Any = importlib.import_module("isal.igzip")

    baseline = _peak_bytes()
    started = time.perf_counter()
    with igzip.open(path) as file:
        while file.read(BLOCK_BYTES):
            pass
    return JobReport(time.perf_counter() - started, baseline)


def parse_job(path: str) -> JobReport:
    """Parse a trace that lies inflated in memory with simdjson, and take nothing out of it."""
    simdjson = importlib.import_module("simdjson")
    igzip: Any = importlib.import_module("isal.igzip")

    with igzip.open(path) as file:
        text = file.read()
    parser = simdjson.Parser()
    baseline = _peak_bytes()
    started = time.perf_counter()
    parser.parse(text)
    return JobReport(time.perf_counter() - started, baseline)


def main() -> int:
    parser = argparse.ArgumentParser(description="One measured job.")
    parser.add_argument("job", choices=("import", "load", "stages", PROFILE, INFLATE, PARSE))
    parser.add_argument("reader", choices=(*READERS, ISAL, SIMDJSON))
    parser.add_argument("path", nargs="?", default="")
    parser.add_argument("--count", action="store_true", help="count what was loaded, after the clock has stopped")
    parser.add_argument("--jobs", type=int, default=1, help="processes that read, of the job `profile`")
    parser.add_argument("--memory-limit", type=int, default=0, metavar="BYTES", help="of address space")
    options = parser.parse_args()
    if options.memory_limit:
        resource.setrlimit(resource.RLIMIT_AS, (options.memory_limit, options.memory_limit))
    if options.reader == OURS:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the program does, which forks what helps it to read
    if options.job == "import":
        started = time.perf_counter()
        READERS[options.reader]()
        report = JobReport(time.perf_counter() - started, _peak_bytes())
    elif options.job == PROFILE:
        report = profile_job(options.path, options.jobs)
    elif options.job == INFLATE:
        report = inflate_job(options.path)
    elif options.job == PARSE:
        report = parse_job(options.path)
    elif options.job == "load":
        report = load_job(options.reader, options.path, options.count)
    else:
        report = stages_job(options.path)
    print(report.to_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
