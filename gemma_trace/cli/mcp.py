"""`gemma-trace mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.cli.output import NoCacheOption, remark
from gemma_trace.cli.rules import RuleOption, RulesOption


def mcp(
    roots: Annotated[
        list[str] | None,
        typer.Argument(
            help="The folders whose traces may be read, also as URLs; the current one if none is given.",
            metavar="[FOLDER]...",
        ),
    ] = None,
    rule: RuleOption = None,
    rules: RulesOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Serve the tables to an agent, as tools over MCP.

    MCP is the Model Context Protocol. The server answers on standard input and output, the way agents start such
    servers, until the input ends. The tools (summarize, stages, kernels, tree, advise, what_if, diff, check, sql) only
    read, and they read nothing but the traces and stores below the folders.

    It requires gemma-trace[mcp]; the tool sql requires gemma-trace[scale].

    Example: gemma-trace mcp traces/
    """
    import gc

    from gemma_trace.agents.desk import Desk
    from gemma_trace.agents.roots import Roots
    from gemma_trace.agents.server import serve
    from gemma_trace.cli.rules import read_rules

    gc.enable()  # other commands are short, and go without
    desk = Desk(Roots(roots or ["."]), read_rules(rule, rules), cached=not no_cache)
    remark("gemma-trace: serving on standard input and output, for an agent, until the input ends")
    serve(desk)
