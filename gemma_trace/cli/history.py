"""`gemma-trace history`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, OutputOption, RawOption, remark
from gemma_trace.report.formats import Format


def history(
    store: Annotated[
        str, typer.Argument(help="A store: a folder, or a URL such as s3://bucket/store.", metavar="STORE")
    ],
    measure: Annotated[
        list[str] | None,
        typer.Option(
            "--measure",
            metavar="NAME",
            help="Follow ttft (the default), tpot, wall, a stage, family:NAME, kernel:NAME or peak_memory. Repeatable.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN,COLUMN",
            help="Runs that differ in one of these columns of the table runs are in different series. By default "
            "these are all columns of a configuration except versions.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--since", metavar="DATE", help="Show only runs since this date, or no older than this, e.g. 30d."
        ),
    ] = None,
    least_pct: Annotated[
        float, typer.Option("--least-pct", metavar="PCT", min=0, help="Show no change smaller than this.")
    ] = 1.0,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page that draws the series.")
    ] = None,
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Show how a measure changed over the runs of a store.

    There is one series per configuration: its runs in the order of their capture, each as the median over its requests.
    Where the level of a series changes, that is shown with its date, its size with a 95% interval, the first run after
    it, and the versions (driver, torch and so on) that changed with that run. A series needs about 12 runs, at least
    three on each side of a change; about 1 in 100 series without a change shows one.

    Example: gemma-trace history store --measure ttft --measure vision_tower --since 90d --html history.html
    """
    from gemma_trace.cli.ages import instant_ns
    from gemma_trace.cli.output import emit, refuse_another_format, refuse_existing
    from gemma_trace.history.measures import measure_named
    from gemma_trace.history.series import BY, history_of
    from gemma_trace.report.tables.history import history_report

    refuse_another_format(html, Format.HTML, "a page is HTML", "--html")
    if html is not None:
        refuse_existing(html, force=force)
    names = tuple(dict.fromkeys(part.strip() for part in by.split(",") if part.strip())) if by is not None else BY
    measures = [measure_named(name) for name in dict.fromkeys(measure or ["ttft"])]
    since_ns = None if since is None else instant_ns(since, "--since")
    followed = history_of(store, measures, by=names, since_ns=since_ns, least_pct=least_pct)
    emit(history_report(followed), form, output, force=force, raw=raw)
    if html is not None:
        from gemma_trace.report.html.history_page import render_history
        from gemma_trace.trace.files import output_file

        page = render_history(followed)
        with output_file(html) as file:
            file.write(page)
        remark(f"The page is at {html}.")
