"""What each command does, in a line: the help of all of them is shown without importing any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUMMARIES: Final[Mapping[str, str]] = {
    "capture": "Run requests under torch.profiler and write a trace.",
    "serve-capture": "Drive an OpenAI-compatible server, and show where the time of each request went, through all of "
    "its processes.",
    "sweep": "Capture a matrix of configurations, one process per cell.",
    "compare": "Run configurations in turns, and show what differs.",
    "summarize": "Show the time to first token and its parts, one row per run.",
    "stages": "Show where the time of a trace went, stage by stage.",
    "kernels": "Show which kernels or ops take the time of a trace or a stage.",
    "tree": "Show the time as a tree of stages, layers, ops and kernels.",
    "ranks": "Show which rank of a job is late, where, and what the others wait for.",
    "diff": "Show what changed between traces, by stage, op and kernel.",
    "check": "Say whether a trace can be trusted, and what is wrong with it.",
    "advise": "Say what to change, and what it would bring at most.",
    "what-if": "Say what the requests would take if some of their work were shorter, gone, or beside the rest.",
    "report": "Write one HTML file that shows where the time goes.",
    "view": "Open a trace in the Perfetto UI, with its stages on top.",
    "export": "Write a trace for viewers, or a copy that is safe to share.",
    "hta": "Run Holistic Trace Analysis, and show its figures beside ours.",
    "index": "Add traces to a store: what they say, in small Parquet files that SQL and history read.",
    "history": "Show how a measure went over the runs of a store, and where it changed.",
    "sql": "Ask a trace, a folder of traces or a store in SQL, with DuckDB.",
    "baseline": "Name runs of a store, to compare others with them.",
    "mcp": "Serve the tables to an agent, as tools of the Model Context Protocol.",
    "skill": "Print or install the skill that tells a coding agent how to optimise a model with gemma-trace.",
    "doctor": "Show what this machine can capture, and how to mend the rest.",
}
"""In the order of the help. Each is the first sentence of a function, in the module of the same name, a dash for an
underscore."""
