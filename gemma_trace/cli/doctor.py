"""`gemma-trace doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import AnyOutputOption, ForceOption, FormatOption, RawOption, format_for
from gemma_trace.printable import printable_lines


def doctor(
    hub: Annotated[
        bool,
        typer.Option(
            "--hub", help="Ask the Hugging Face Hub whether you have access to Gemma 3. This uses the network."
        ),
    ] = False,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the peak rates of the device instead, and print the file that --peaks reads."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with code 1 if this machine can't run a capture.")
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="DEVICE", help="The device that --measure measures: auto, cpu, cuda or cuda:N.")
    ] = "auto",
    form: FormatOption = None,
    output: AnyOutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Show what this machine can capture, and how to do more.

    Without --hub, nothing uses the network.

    Example: gemma-trace doctor --format json

    Example: gemma-trace doctor --measure -o peaks.toml
    """
    if measure:
        print_peaks(device, output, force=force)
        return
    format_for(form, output)
    from gemma_trace.cli.output import emit
    from gemma_trace.machine.doctor import examine_machine, is_capable
    from gemma_trace.report.tables.doctor import doctor_report

    checks = examine_machine(ask_hub=hub)
    capable = is_capable(checks)
    emit(doctor_report(checks, capable=capable), form, output, force=force, raw=raw)
    if strict and not capable:
        raise typer.Exit(1)


def print_peaks(device: str, output: Path | None, *, force: bool) -> None:
    """Measure a device, and print or write the file that `--peaks` takes."""
    from gemma_trace.capture import require_capture_extra
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.cli.output import refuse_existing
    from gemma_trace.cli.progress import capture_progress
    from gemma_trace.peaks_file import peaks_toml

    CaptureConfig(device=device)  # refuses what is no device
    if output is not None:
        refuse_existing(output, force=force)
    require_capture_extra()
    from gemma_trace.capture.models import resolve_device
    from gemma_trace.machine.measure import measure_peaks

    with capture_progress(quiet=False) as progress:
        text = peaks_toml(measure_peaks(resolve_device(device), progress))
    if output is None:
        print(printable_lines(text), end="")
        return
    from gemma_trace.trace.files import output_file

    with output_file(output) as out:
        out.write(text.encode())
