"""`gemma-trace stages`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import PeaksOption, RuleOption, RulesOption, StageOption
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.analysis.breakdown import StageBreakdown
    from gemma_trace.analysis.reasons import StageReason
    from gemma_trace.analysis.summary import RunSummary
    from gemma_trace.analysis.timeline import Request
    from gemma_trace.report.table import Report
    from gemma_trace.stages import StageRule
    from gemma_trace.trace.trace import Trace


def stages(
    trace: Annotated[
        Path,
        typer.Argument(
            help="A trace file, a folder that holds one, or the folder of a job.", metavar="TRACE", parser=path_of
        ),
    ],
    request: Annotated[int | None, typer.Option(metavar="N", help="Show request N alone; 0 is the first.")] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Split the time of every stage by cause, and show the critical path.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show the rule, the thresholds and the figures behind every verdict.")
    ] = False,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    peaks: PeaksOption = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show where the time of a trace went, stage by stage.

    The times of the stages add up to the wall time of the requests, to the nanosecond. Below the table, a verdict says
    what binds each stage. --why shows the split by cause that the verdicts rest on, and the critical path.

    Of the folder of a job with several ranks it shows each stage over the ranks: the mean, the least, the most and
    which rank that is, and the exposed communication. See also `gemma-trace ranks`.

    More tables follow where the trace has what they need: decoding (two tokens or more), memory (capture --memory),
    counters, several devices, and the steps of a server's engine. In traces of other programs, stages are found by
    known names (nn.Module frames, the steps of vLLM and SGLang) and by your own rules.

    Example: gemma-trace stages foreign.json.gz --why --rule moe='nn.Module: MoE' --rule prefill='my_prefill'
    """
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.reasons import stage_reasons
    from gemma_trace.analysis.roofline.floor_sums import floors_of
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, own_peaks, read_rules
    from gemma_trace.report.tables.stages import stages_report
    from gemma_trace.trace.folders import one_trace
    from gemma_trace.trace.near_names import no_such_stage

    user_peaks, chosen = own_peaks(peaks), chosen_stage(stage)
    if report := of_ranks(trace, request, chosen, read_rules(rule, rules)):
        emit(report, form, output, force=force, raw=raw)
        return
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache)
    everything = breakdown(loaded)
    shown = everything if request is None else breakdown(loaded, request)
    reasons: list[StageReason] = stage_reasons(loaded, request)
    if chosen is not None:
        if chosen not in (present := dict.fromkeys(row.stage for row in shown.rows)):
            raise no_such_stage(loaded, chosen, present)
        shown, reasons = shown.of_stage(chosen), [reason for reason in reasons if reason.stage == chosen]
    floors = floors_of(loaded, shown.complete(), user_peaks)
    run = summarize(loaded, everything)
    report = stages_report(shown, run, reasons, floors, split=why)
    if explain:
        report = with_explanations(report, shown, run, reasons)
    if chosen is not None:
        emit(report, form, output, force=force, raw=raw)
        return
    report = with_devices(report, loaded, shown.complete())
    if why:
        report = with_critical_path(report, loaded, shown.requests)
    report = with_decode(report, loaded, shown.requests)
    report = with_memory(report, loaded, shown.requests)
    report = with_counters(report, loaded, shown.requests)
    report = with_steps(report, loaded)
    emit(report, form, output, force=force, raw=raw)


def of_ranks(path: Path, request: int | None, stage: str | None, rules: Sequence[StageRule]) -> Report | None:
    """The stages of a job over its ranks; None where the path is no folder of a job's ranks.

    Raises:
        InputError: there is no such request or stage.
    """
    from gemma_trace.trace.folders import find_traces

    files = find_traces([path])
    if len(files) < 2:
        return None
    from gemma_trace.cli.ranks import open_job
    from gemma_trace.ranks.folders import is_job
    from gemma_trace.report.tables.ranks import rank_stages_report

    if not is_job(files):
        return None
    job = open_job([path], rules)
    return rank_stages_report(job if request is None else job.of_request(request), [str(path)], stage)


def with_explanations(report: Report, shown: StageBreakdown, run: RunSummary, reasons: Sequence[StageReason]) -> Report:
    """The report with how each stage's verdict came about."""
    from gemma_trace.analysis.bindings import binding, doubt_of
    from gemma_trace.report.tables import explain

    doubt = doubt_of(shown, run.health)
    return explain.with_explanations(report, [binding(reason, doubt) for reason in reasons])


def with_devices(report: Report, trace: Trace, shown: StageBreakdown) -> Report:
    """The report with the work of each device, if activities ran on several."""
    from gemma_trace.analysis.devices import device_use, devices_of
    from gemma_trace.report.tables.devices import device_data, device_table

    if len(devices_of(trace)) < 2:
        return report
    uses = device_use(trace, shown.requests)
    table = device_table(uses, len(shown.requests), shown.totals.wall_ns)
    return report.extended([table], {"devices": device_data(uses)})


def with_critical_path(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with these requests' critical paths."""
    from gemma_trace.analysis.critical_path import critical_paths
    from gemma_trace.analysis.timeline import first_token_ns
    from gemma_trace.report.tables.critical_path import critical_path_data, critical_path_table

    paths = critical_paths(trace, requests)
    first = [first_token_ns(trace, request) for request in requests]
    table = critical_path_table(paths, first)
    return report.extended([table], {"critical_path": critical_path_data(paths, first)})


def with_decode(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with the tokens after the first, if there are any."""
    from gemma_trace.analysis.decode import decode_statistics
    from gemma_trace.report.tables.decode import decode_record, decode_table, token_table

    statistics = decode_statistics(trace, requests)
    if statistics is None:
        return report
    return report.extended([decode_table(statistics), token_table(statistics)], {"decode": decode_record(statistics)})


def with_memory(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with what the allocators gave out, if memory was profiled."""
    from gemma_trace.analysis.allocations import memory_use
    from gemma_trace.report.tables.memory import memory_record, memory_tables

    use = memory_use(trace, requests)
    if use is None:
        return report
    return report.extended(memory_tables(use, trace.devices), {"memory": memory_record(use)})


def with_counters(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with what counters were during each stage, if the trace has any."""
    from gemma_trace.analysis.counter_means import counter_use
    from gemma_trace.report.tables.counters import counter_data, counter_table

    uses = counter_use(trace, requests)
    if not uses:
        return report
    return report.extended([counter_table(uses)], {"counters": counter_data(uses)})


def with_steps(report: Report, trace: Trace) -> Report:
    """The report with the steps of a server's engine, if it is a trace of one."""
    from gemma_trace.report.tables.steps import steps_data, steps_table
    from gemma_trace.served.steps import engine_steps, hides_encoder

    served_steps = engine_steps(trace)
    if not served_steps:
        return report
    return report.extended(
        [steps_table(served_steps, encoder_hidden=hides_encoder(trace, served_steps))],
        {"steps": steps_data(served_steps)},
    )
