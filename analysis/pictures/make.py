"""Draws the README's picture: what `make demo` prints, of the committed sample. Run: make picture"""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console
from rich.text import Text

from gemma_trace.analysis.breakdown import breakdown
from gemma_trace.analysis.reasons import stage_reasons
from gemma_trace.analysis.summary import summarize
from gemma_trace.report.tables.stages import stages_report
from gemma_trace.report.tables.summary import summary_report
from gemma_trace.report.terminal import print_report
from gemma_trace.trace.trace import load

HERE = Path(__file__).parent
SAMPLES = HERE.parent.parent / "traces" / "samples"


def draw() -> str:
    """The picture as SVG, without the web font that rich would have it fetch."""
    traces = [load(path) for path in sorted(SAMPLES.glob("*/*.json.gz"), reverse=True)]
    runs = [summarize(trace) for trace in traces]
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True)
    for command, report in (
        ("gemma-trace summarize traces/", summary_report(runs, ["traces/"])),
        (
            "gemma-trace stages traces/sample-tiny-cpu-torchvision",
            stages_report(breakdown(traces[0]), runs[0], stage_reasons(traces[0])),
        ),
    ):
        console.print(Text(f"$ {command}", style="bold green"))
        print_report(report, console)
    svg = console.export_svg(title="gemma-trace")
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def main() -> None:
    """Write demo.svg."""
    (HERE / "demo.svg").write_text(draw())


if __name__ == "__main__":
    main()
