"""`gemma-trace stages`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import PeaksOption, RuleOption, RulesOption

if TYPE_CHECKING:
    from gemma_trace.analysis.breakdown import StageBreakdown
    from gemma_trace.analysis.timeline import Request
    from gemma_trace.report.model import Report
    from gemma_trace.trace.trace import Trace


def stages(
    trace: Annotated[Path, typer.Argument(help="A trace file, or a folder that holds one.", metavar="TRACE")],
    request: Annotated[int | None, typer.Option(metavar="N", help="Show request N alone; 0 is the first.")] = None,
    why: Annotated[
        bool, typer.Option("--why", help="Split the time of every stage by cause, and show the critical path.")
    ] = False,
    rule: RuleOption = None,
    rules: RulesOption = None,
    peaks: PeaksOption = None,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show where the time of a trace went, stage by stage.

    The times of the stages add up to the wall time of the requests, to the nanosecond. Below the table, a verdict says
    what binds each stage. --why shows the split by cause that the verdicts rest on, and the critical path.

    More tables follow where the trace has what they need: decoding (two tokens or more), memory (capture --memory),
    counters, and several devices. In traces of other programs, stages are found by known names (nn.Module frames, the
    steps of vLLM and SGLang) and by your own rules.

    Example: gemma-trace stages foreign.json.gz --why --rule moe='nn.Module: MoE' --rule prefill='my_prefill'
    """
    from gemma_trace.analysis.breakdown import breakdown
    from gemma_trace.analysis.reasons import stage_reasons
    from gemma_trace.analysis.roofline.devices import device_peaks
    from gemma_trace.analysis.roofline.floors import stage_floors
    from gemma_trace.analysis.summary import summarize
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import own_peaks, read_rules
    from gemma_trace.report.views.roofline import Floors
    from gemma_trace.report.views.stages import stages_report
    from gemma_trace.trace.folders import one_trace

    own = own_peaks(peaks)
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache)
    everything = breakdown(loaded)
    shown = everything if request is None else breakdown(loaded, request)
    device = device_peaks(loaded, own)
    floors = Floors(stage_floors(loaded, shown.complete(), device.peaks), device)
    report = stages_report(shown, summarize(loaded, everything), stage_reasons(loaded, request), floors, split=why)
    report = with_devices(report, loaded, shown.complete())
    if why:
        report = with_critical_path(report, loaded, shown.requests)
    report = with_decode(report, loaded, shown.requests)
    report = with_memory(report, loaded, shown.requests)
    report = with_counters(report, loaded, shown.requests)
    emit(report, form, output, force=force, raw=raw)


def with_devices(report: Report, trace: Trace, shown: StageBreakdown) -> Report:
    """The report with the work of each device, if activities ran on several."""
    from gemma_trace.analysis.devices import device_use, devices_of
    from gemma_trace.report.views.devices import device_records, device_section

    if len(devices_of(trace)) < 2:
        return report
    found = device_use(trace, shown.requests)
    section = device_section(found, len(shown.requests), shown.totals.wall_ns)
    return report.extended([section], {"devices": device_records(found)})


def with_critical_path(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with these requests' critical paths."""
    from gemma_trace.analysis.critical_path import critical_paths
    from gemma_trace.analysis.timeline import first_token_ns
    from gemma_trace.report.views.critical_path import critical_path_records, critical_path_section

    paths = critical_paths(trace, requests)
    first = [first_token_ns(trace, request) for request in requests]
    section = critical_path_section(paths, first)
    return report.extended([section], {"critical_path": critical_path_records(paths, first)})


def with_decode(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with the tokens after the first, if there are any."""
    from gemma_trace.analysis.decode import decode_statistics
    from gemma_trace.report.views.decode import decode_record, decode_section, token_section

    found = decode_statistics(trace, requests)
    if found is None:
        return report
    return report.extended([decode_section(found), token_section(found)], {"decode": decode_record(found)})


def with_memory(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with what the allocators gave out, if memory was profiled."""
    from gemma_trace.analysis.memory import memory_use
    from gemma_trace.report.views.memory import memory_record, memory_sections

    found = memory_use(trace, requests)
    if found is None:
        return report
    return report.extended(memory_sections(found, trace.devices), {"memory": memory_record(found)})


def with_counters(report: Report, trace: Trace, requests: Sequence[Request]) -> Report:
    """The report with what counters were during each stage, if the trace has any."""
    from gemma_trace.analysis.counter_means import counter_use
    from gemma_trace.report.views.counters import counter_records, counter_section

    found = counter_use(trace, requests)
    if not found:
        return report
    return report.extended([counter_section(found)], {"counters": counter_records(found)})
