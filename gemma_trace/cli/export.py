"""`gemma-trace export`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, NoCacheOption
from gemma_trace.cli.rules import RulesFileOption, RulesOption

if TYPE_CHECKING:
    from gemma_trace.export.viewer import ExportResult


def export(
    trace: Annotated[Path, typer.Argument(help="A trace file, or a folder that holds one.", metavar="TRACE")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file; by default <run>.perfetto.json.gz in this folder."),
    ] = None,
    speedscope: Annotated[
        bool, typer.Option("--speedscope", help="Write what https://www.speedscope.app opens instead.")
    ] = False,
    stage: RulesOption = None,
    stages_file: RulesFileOption = None,
    force: ForceOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Write a trace that viewers open without loss, with its stages and counters on top.

    Stages have a process of their own: what the host was in, whom the device worked for, whose time it was. Beside
    them counters: how busy each device was, how many launches waited for it, and its memory. Nothing of the trace is
    dropped; its times are relative to its first event. The file's name goes to stdout, what was done to stderr.

    Example: gemma-trace export traces/demo && gemma-trace export traces/demo --speedscope
    """
    from gemma_trace.cli.inputs import one_trace, open_trace
    from gemma_trace.cli.output import refuse_existing
    from gemma_trace.cli.progress import reading
    from gemma_trace.cli.rules import read_rules, warn_of_rules
    from gemma_trace.export import speedscope as speedscope_export
    from gemma_trace.export import viewer

    loaded = open_trace(one_trace(trace), read_rules(stage, stages_file), cached=not no_cache)
    warn_of_rules(loaded)
    suffix = speedscope_export.SUFFIX if speedscope else viewer.SUFFIX
    target = output or Path(Path(loaded.label).name + suffix)
    refuse_existing(target, force=force)
    if speedscope:
        profiles = speedscope_export.export_speedscope(loaded, target)
        print(f"{profiles} profiles; open it at https://www.speedscope.app", file=sys.stderr)
    else:
        with reading(f"writing {target.name}", loaded.path) as on_bytes:
            done = viewer.export_trace(loaded, target, on_bytes)
        print(f"{said(done)}; open it at https://ui.perfetto.dev, or: gemma-trace view {trace}", file=sys.stderr)
    print(target)


def said(done: ExportResult) -> str:
    """What was written, in a line."""
    record, written = done.record, dict(done.written)
    spans, arrows = written.pop("X", 0), sum(written.pop(phase, 0) for phase in "stf")
    parts = [f"{spans:,} spans", f"{arrows:,} flow events", f"{sum(written.values()):,} other events"]
    parts += [f"{done.added:,} added for stages, counters and names"]
    if record.moved_spans:
        parts.append(f"{record.moved_spans:,} that cross others on tracks of their own")
    if record.cut_spans:
        parts.append(f"{record.cut_spans:,} cut short to nest")
    parts += [f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(done.left_out.items()) if count]
    return ", ".join(parts)
