"""`gemma-trace export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, NoCacheOption, answer, remark, say
from gemma_trace.cli.rules import RuleOption, RulesOption
from gemma_trace.errors import ConfigError
from gemma_trace.report.formats import Format
from gemma_trace.wording import counted

if TYPE_CHECKING:
    from gemma_trace.export.part import ExportResult
    from gemma_trace.stages import StageRule


def export(
    trace: TraceArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write to this file. The default is <run>.perfetto.json.gz in this folder.",
        ),
    ] = None,
    speedscope: Annotated[
        bool, typer.Option("--speedscope", help="Write a file for https://www.speedscope.app instead.")
    ] = False,
    redact: Annotated[
        bool,
        typer.Option(
            "--redact",
            help="Write a copy for sharing instead, without tokens, environments, folders, users and hosts.",
        ),
    ] = False,
    keep_paths: Annotated[
        bool,
        typer.Option(
            "--keep-paths", help="Keep the folders of file paths. By default only the last part of a path is kept."
        ),
    ] = False,
    ranks: Annotated[
        str | None,
        typer.Option(
            "--ranks",
            metavar="N,N",
            help="Write these ranks of the folder's job into one file, on one clock: e.g. 0,5 or 0-3.",
        ),
    ] = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    force: ForceOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Write a trace for viewers, or a copy that is safe to share.

    Viewers open the file without losing a slice. Its stages are on top, as a process of their own: which stage the host
    was in, which stage the device worked for, and which stage each instant counts for. Counters show how busy each
    device was, how many launches waited for it, and its memory. Times are relative to the first event. The name of the
    file goes to stdout, and what was done to stderr.

    With --redact the output is a copy of the trace itself, without what identifies you, your machine or your files. It
    reads with exactly the same figures. What was taken out is listed.

    With --ranks the file has a group of processes for each of these ranks of a job of many processes.

    Example: gemma-trace export traces/demo && gemma-trace export traces/demo --redact
    """
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import file_stem, refuse_another_format, refuse_existing
    from gemma_trace.cli.progress import reading
    from gemma_trace.cli.rules import read_rules, warn_of_rules
    from gemma_trace.export import speedscope as speedscope_export
    from gemma_trace.export import viewer, viewer_file
    from gemma_trace.trace.folders import one_trace

    refuse_another_format(output, Format.JSON, "an export is JSON")
    if redact and keep_paths:
        raise ConfigError("--redact takes paths out and --keep-paths keeps them; give only one of the two")
    if redact and ranks is not None:
        raise ConfigError("--redact copies one trace; leave out --ranks, and redact each rank's")
    if redact:
        answer(redacted_copy(one_trace(trace), output, force=force))
        return
    if ranks is not None:
        if speedscope:
            raise ConfigError("--ranks writes a file for Perfetto; leave out --speedscope")
        known = read_rules(rule, rules)
        answer(merged_ranks(trace, ranks, output, known, keep_paths=keep_paths, force=force, cached=not no_cache))
        return
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache)
    warn_of_rules(loaded)
    suffix = speedscope_export.SUFFIX if speedscope else viewer_file.SUFFIX
    target = output or Path(file_stem(loaded.label) + suffix)
    refuse_existing(target, force=force)
    if speedscope:
        profiles = speedscope_export.export_speedscope(loaded, target, keep_paths=keep_paths)
        remark(f"{profiles} profiles; open it at https://www.speedscope.app")
    else:
        with reading(f"writing {target.name}", loaded.path) as on_bytes:
            done = viewer.export_trace(loaded, target, on_bytes, keep_paths=keep_paths)
        remark(f"{said(done)}; open it at https://ui.perfetto.dev, or: gemma-trace view {trace}")
    answer(target)


def redacted_copy(path: Path, output: Path | None, *, force: bool) -> Path:
    """Write a copy for sharing, and say what it is without."""
    from gemma_trace.cli.output import file_stem, refuse_existing
    from gemma_trace.cli.progress import reading
    from gemma_trace.export.redact import SUFFIX, redact
    from gemma_trace.trace.header import label_of
    from gemma_trace.trace.trace import load_metadata

    target = output or Path(file_stem(label_of(path, load_metadata(path))) + SUFFIX)
    refuse_existing(target, force=force)
    with reading(f"writing {target.name}", path) as on_bytes:
        done = redact(path, target, on_bytes)
    removed = ", ".join(f"{kind} {counted(count, 'time')}" for kind, count in sorted(done.removed.items()))
    remark(f"{counted(done.events, 'event')}; taken out: {removed or 'nothing'}")
    if done.left_out:
        say(f"{counted(done.left_out, 'event')} left out of the copy, which can't be read")
    if done.incomplete:
        say("the original is truncated or damaged; the copy has what can be read of it, and does not show this")
    return target


def merged_ranks(
    folder: Path,
    ranks: str,
    output: Path | None,
    rules: Sequence[StageRule],
    *,
    keep_paths: bool,
    force: bool,
    cached: bool,
) -> Path:
    """Write some ranks of a job into one file, and say what it has of each."""
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import file_stem, refuse_existing
    from gemma_trace.cli.progress import reading
    from gemma_trace.cli.ranks import open_job
    from gemma_trace.cli.rules import warn_of_rules
    from gemma_trace.export.chosen_ranks import parse_ranks, rank_files
    from gemma_trace.export.merged_ranks import export_ranks
    from gemma_trace.export.viewer_file import SUFFIX
    from gemma_trace.trace.folders import find_traces

    wanted = parse_ranks(ranks)
    target = output or Path(file_stem(f"{folder.resolve().name}.ranks") + SUFFIX)
    refuse_existing(target, force=force)
    paths = find_traces([folder])
    files = rank_files(paths, wanted)
    # All ranks of the job, since ranks of different groups find a common clock by way of others.
    offsets_ns = {rank: -ahead_ns for rank, ahead_ns in open_job(paths, rules).offsets_ns().items()}
    traces = {rank: open_trace(path, rules, cached=cached) for rank, path in files.items()}
    warn_of_rules(traces[wanted[0]])
    done = export_ranks(
        traces, target, offsets_ns, lambda path: reading(f"writing {path.name}", path), keep_paths=keep_paths
    )
    for rank, result in done.items():
        remark(f"rank {rank}: {said(result)}")
    remark("open it at https://ui.perfetto.dev")
    return target


def said(done: ExportResult) -> str:
    """What was written, in a line."""
    record, written = done.record, dict(done.written)
    spans, arrows = written.pop("X", 0), sum(written.pop(phase, 0) for phase in "stf")
    parts = [counted(spans, "span"), counted(arrows, "flow event"), counted(sum(written.values()), "other event")]
    parts += [f"{done.added:,} added for stages, counters and names"]
    if record.moved_spans:
        parts.append(f"{record.moved_spans:,} that cross others on tracks of their own")
    if record.cut_spans:
        parts.append(f"{record.cut_spans:,} cut short to nest")
    parts += [f"{count:,} {reason.replace('_', ' ')}" for reason, count in sorted(done.left_out.items()) if count]
    return ", ".join(parts)
