"""`gemma-trace view`."""

from __future__ import annotations

import signal
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.cli.inputs import TraceArgument
from gemma_trace.cli.output import NoCacheOption, answer, remark, say
from gemma_trace.cli.rules import RuleOption, RulesOption

if TYPE_CHECKING:
    from gemma_trace.view.perfetto import Sight


def view(
    trace: TraceArgument,
    online: Annotated[
        bool,
        typer.Option(
            "--online", help="Use https://ui.perfetto.dev, which reads the trace from port 9001 of this machine."
        ),
    ] = False,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and serve, without opening a browser.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, metavar="N", help="Serve on port N; 0 chooses a free one.")
    ] = 0,
    rule: RuleOption = None,
    rules: RulesOption = None,
    no_cache: NoCacheOption = False,
) -> None:
    """Open a trace in the Perfetto UI, with its stages on top.

    The stages and counters are pinned, and the slowest request is selected. It shows what `gemma-trace export` writes.

    Without --online it requires gemma-trace[view] and no network: a server on this machine serves the UI and this one
    trace. It stops when the tab is closed, or on Ctrl-C. The address goes to stdout.

    Example: gemma-trace view traces/demo
    """
    from gemma_trace.cli.inputs import open_trace
    from gemma_trace.cli.progress import reading
    from gemma_trace.cli.rules import read_rules, warn_of_rules
    from gemma_trace.errors import ConfigError
    from gemma_trace.export.viewer import export_trace
    from gemma_trace.export.viewer_file import SUFFIX
    from gemma_trace.trace.folders import one_trace
    from gemma_trace.trace.scratch import scratch_folder
    from gemma_trace.view.perfetto import offline_ui, slowest_request

    if online and port:
        raise ConfigError("--online always uses port 9001; leave out --port")
    ui = None if online else offline_ui()
    loaded = open_trace(one_trace(trace), read_rules(rule, rules), cached=not no_cache)
    warn_of_rules(loaded)
    with scratch_folder() as folder:
        exported = folder / f"trace{SUFFIX}"
        with reading("preparing the view", loaded.path) as on_bytes:
            export_trace(loaded, exported, on_bytes)
        _serve(exported, ui, slowest_request(loaded), port, open_browser=not no_browser)


def _serve(exported: Path, ui: Path | None, sight: Sight, port: int, *, open_browser: bool) -> None:
    """Serve a trace, and the UI unless it is the online one, until nobody looks any more."""
    from gemma_trace.view.perfetto import ONLINE, ONLINE_PORT, deep_link
    from gemma_trace.view.server import Site, TraceServer, offline_site

    site = offline_site(ui, exported) if ui else Site({exported.name: exported}, {}, ONLINE)
    with TraceServer(site, port if ui else ONLINE_PORT) as server:
        link = deep_link(server.address if ui else ONLINE, f"{server.address}/{exported.name}", sight)
        answer(link)
        if open_browser and not webbrowser.open(link):
            say("gemma-trace: found no browser; open the address above in one")
        until = "the tab is closed" if ui else "the UI has read the trace"
        remark(f"serving until {until}; Ctrl-C stops")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the exported trace goes then too
        try:
            server.watch.wait_until_done()
        except KeyboardInterrupt:
            say("")
