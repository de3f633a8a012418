"""`gemma-trace tree`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import ForceOption, FormatOption, NoCacheOption, OutputOption, RawOption
from gemma_trace.cli.rules import RuleOption, RulesOption, StageOption
from gemma_trace.errors import ConfigError


def tree(
    trace: TraceArgument,
    depth: Annotated[int, typer.Option(min=0, metavar="N", help="Show N levels; 0 shows all.")] = 4,
    min_pct: Annotated[
        float,
        typer.Option(
            min=0,
            max=100,
            metavar="PCT",
            help="Fold what takes less than this share of both the host's and the device's time.",
        ),
    ] = 1.0,
    stage: StageOption = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    request: Annotated[int | None, typer.Option(metavar="N", help="Show request N alone; 0 is the first.")] = None,
    layers: Annotated[
        bool, typer.Option("--layers", help="Show each layer on its own instead of all layers of a kind as one row.")
    ] = False,
    full_names: Annotated[
        bool, typer.Option("--full-names", help="Show kernel names as recorded, with their template arguments.")
    ] = False,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
    no_cache: NoCacheOption = False,
) -> None:
    """Show the time as a tree of stages, layers, ops and kernels.

    The times of children add up to that of their parent, for host and device alike. Small nodes are folded
    into one row.

    Example: gemma-trace tree traces/tiny-float32-cpu-torchvision --stage prefill --depth 6 --min-pct 0.5
    """
    from gemma_trace.analysis.run_health import run_health
    from gemma_trace.analysis.tree import NodeKind, call_tree, prune
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.rules import chosen_stage, read_rules
    from gemma_trace.report.tables.tree import tree_report
    from gemma_trace.trace.folders import one_trace
    from gemma_trace.trace.near_names import no_such_stage

    if min_pct != min_pct:
        raise ConfigError("--min-pct is not a number; give one from 0 to 100")
    chosen = chosen_stage(stage)
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache, detailed=False)
    whole = call_tree(loaded, request, each_layer=layers)
    tops = whole.find(NodeKind.STAGE, chosen) if chosen else list(whole.children)
    if not tops:
        names = dict.fromkeys(node.name for _, node in whole.walk() if node.kind is NodeKind.STAGE)
        raise no_such_stage(loaded, chosen or "", names)
    levels = depth or max(level for level, _ in whole.walk()) + 1
    pruned = [prune(top, levels, min_pct) for top in tops]
    requests = sum(root.count for root in whole.children[:1])
    health = run_health(loaded)
    emit(
        tree_report(pruned, whole, requests, str(loaded.path), health, full_names=full_names),
        form,
        output,
        force=force,
        raw=raw,
    )
