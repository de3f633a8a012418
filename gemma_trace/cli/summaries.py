"""What each command does, in a line: the help of all of them is shown without importing any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

SUMMARIES: Final[Mapping[str, str]] = {
    "capture": "Run requests under torch.profiler and write a trace.",
    "serve-capture": "Drive an OpenAI-compatible server, and trace its requests.",
    "sweep": "Capture a matrix of configurations, one process per cell.",
    "compare": "Run configurations in turns, and show what differs.",
    "summarize": "Show time to first token and its parts, one row per run.",
    "stages": "Show where the time of a trace went, stage by stage.",
    "kernels": "Show which kernels or ops take the time of a trace.",
    "tree": "Show the time as a tree of stages, layers, ops and kernels.",
    "ranks": "Show which rank of a job is late, where, and who waits.",
    "diff": "Show what changed between traces, by stage, op and kernel.",
    "check": "Say whether a trace can be trusted, and what is wrong.",
    "advise": "Say what to change, and what each change gains at most.",
    "what-if": "Say how long requests would take with less or faster work.",
    "report": "Write one HTML file that shows where the time goes.",
    "view": "Open a trace in the Perfetto UI, with its stages on top.",
    "export": "Write a trace for viewers, or a copy that is safe to share.",
    "hta": "Run Holistic Trace Analysis; show its figures beside ours.",
    "index": "Add traces to a store of small files, for sql and history.",
    "history": "Show how a measure changed over the runs of a store.",
    "sql": "Query a trace, a folder of traces or a store with SQL.",
    "baseline": "Name runs of a store, to compare other runs with them.",
    "mcp": "Serve the tables to an agent, as tools over MCP.",
    "skill": "Print or install a skill that teaches agents gemma-trace.",
    "doctor": "Show what this machine can capture, and how to do more.",
}
"""In the order of the help. Each is the first sentence of a function, in the module of the same name, a dash for an
underscore."""
