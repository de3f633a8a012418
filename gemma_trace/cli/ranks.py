"""`gemma-trace ranks`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.ranks.job import Job
    from gemma_trace.stages import StageRule


def ranks(
    paths: Annotated[
        list[Path],
        typer.Argument(help="The folder of a job, or the trace files of its ranks.", metavar="PATH...", parser=path_of),
    ],
    request: Annotated[
        int | None, typer.Option(metavar="N", help="Show the stages and stragglers of request N alone; 0 is the first.")
    ] = None,
    top: Annotated[int, typer.Option(metavar="N", min=0, help="Show N rows of a table; 0 shows all.")] = 16,
    rule: RuleOption = None,
    rules: RulesOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Show which rank of a job is late, where, and who waits.

    The traces of all ranks are matched by their collectives. Each rank's time in a collective is split into its
    latency, the shortest duration over the ranks, and the wait for the rank that came last. What a stage takes without
    that wait is the rank's own time: a rank whose own time stands out is a straggler, shown with the cause and with
    what a request would take without it. Bytes and bandwidths are those of nccl-tests.

    Which rank a trace is of comes from its distributedInfo, else from the name of its file. A file into which ranks
    were merged is split.

    Example: gemma-trace ranks traces/job8 --format json -o job8.json
    """
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import read_rules
    from gemma_trace.report.tables.ranks import ranks_report

    job = open_job(paths, read_rules(rule, rules))
    job = job if request is None else job.of_request(request)
    emit(ranks_report(job, [str(path) for path in paths], top), form, output, force=force, raw=raw)


def open_job(paths: Sequence[Path], rules: Sequence[StageRule] = ()) -> Job:
    """Read the ranks of a job, one process per core.

    Raises:
        InputError: no trace can be read.
    """
    from gemma_trace.parallel import map_files
    from gemma_trace.ranks.job import load_job
    from gemma_trace.trace.folders import find_traces

    return load_job(find_traces(paths), rules, map_files)
