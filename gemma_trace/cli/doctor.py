"""`gemma-trace doctor`."""

from __future__ import annotations

from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, Format, FormatOption, OutputOption


def doctor(
    hub: Annotated[
        bool, typer.Option("--hub", help="Ask the Hub whether it gives access to Gemma 3; uses the network.")
    ] = False,
    form: FormatOption = Format.TABLE,
    output: OutputOption = None,
    force: ForceOption = False,
) -> None:
    """Show what this machine can capture, what is missing, and the command that mends it.

    Ends with 1 if a capture can't run here. Nothing is asked of the network unless you say --hub.

    Example: gemma-trace doctor --format json
    """
    from gemma_trace.capture.doctor import examine_machine, is_capable
    from gemma_trace.cli.output import emit
    from gemma_trace.report.views.doctor import doctor_report

    checks = examine_machine(ask_hub=hub)
    capable = is_capable(checks)
    emit(doctor_report(checks, capable=capable), form, output, force=force)
    if not capable:
        raise typer.Exit(1)
