"""A command imports nothing that it doesn't use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from gemma_trace.lazy_patterns import LazyPattern
from tests.trace_builder import TraceBuilder

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import sys
from gemma_trace.cli import main
code = main(sys.argv[2:])
held = sorted(set(sys.argv[1].split(",")) & set(sys.modules))
print(held, code, file=sys.stderr)
"""

NEVER = ("pandas", "numpy.ma", "pyarrow", "torch", "duckdb", "jinja2", "rich.progress")


def imported(unwanted: tuple[str, ...], *arguments: str, **more: str) -> str:
    """Of some modules those that a command imported, and its exit code.

    Args:
        more: variables of its environment.
    """
    command = [sys.executable, "-c", SCRIPT, ",".join(unwanted), *arguments]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "OPENBLAS_NUM_THREADS": "1", **more}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return done.stderr.splitlines()[-1]


@pytest.fixture
def trace(tmp_path: Path) -> str:
    built = TraceBuilder().range("ProfilerStep#1", 0, 1000).op("aten::mm", 10, 100)
    built.launch(7, 20).kernel("gemm", 50, 200, correlation=7)
    return str(built.write(tmp_path / "trace.json"))


def test_kernels_of_a_trace_that_is_not_ours_import_nothing_of_a_summary(trace: str) -> None:
    unwanted = (*NEVER, "gemma_trace.analysis.summary", "gemma_trace.analysis.decode", "statistics")
    assert imported(unwanted, "kernels", trace, "--by", "op", "--no-cache") == "[] 0"


def test_kernels_of_a_large_trace_import_no_more(corpus: Path) -> None:
    unwanted = (*NEVER, "gemma_trace.metadata", "hashlib", "tempfile")
    assert imported(unwanted, "kernels", str(corpus / "h100_owlv2_vlm_proxy.json.gz"), "--no-cache") == "[] 0"


def test_a_cached_trace_is_opened_without_a_library_for_it(corpus: Path, tmp_path: Path) -> None:
    path = str(corpus / "h100_owlv2_vlm_proxy.json.gz")
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    assert imported(NEVER, "kernels", path, **cache) == "[] 0"
    assert len(list(tmp_path.glob("gemma-trace/traces/*"))) == 1
    assert imported(NEVER, "kernels", path, **cache) == "[] 0"


def test_a_pattern_is_compiled_when_it_is_used() -> None:
    pattern = LazyPattern("a+")
    assert "compiled" not in vars(pattern)
    assert pattern.search("caat")
    assert vars(pattern)["compiled"].pattern == pattern.pattern == "a+"
    assert pattern.sub(lambda found: str(len(found[0])), "caat") == "c2t"
