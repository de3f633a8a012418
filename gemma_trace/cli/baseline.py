"""`gemma-trace baseline`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from gemma_trace.cli.output import ForceOption, FormatOption, OutputOption, RawOption
from gemma_trace.errors import ConfigError
from gemma_trace.remote_errors import shown_url


class Action(StrEnum):
    """What is done."""

    SET = "set"
    LIST = "list"
    SHOW = "show"
    REMOVE = "remove"


StoreOption = Annotated[
    str, typer.Option("--store", metavar="STORE", help="The store that has the baselines: a folder, or a URL.")
]


def baseline(
    action: Annotated[Action, typer.Argument(help="What to do: set, list, show or remove.", metavar="ACTION")],
    name: Annotated[str, typer.Argument(help="The name of the baseline.", metavar="[NAME]", show_default=False)] = "",
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="With set, the runs: for each its id or the first digits of that, its name, or its trace.",
            metavar="[RUN...]",
        ),
    ] = None,
    store: StoreOption = "",
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Name runs of a store, to compare other runs with them.

    A baseline is a name for runs that are repeats of one configuration. It holds their ids and no paths: a comparison
    reads their stages from the store, so it works even when the traces are gone.

    Example: gemma-trace baseline set main 3fb2c1d0 9ae01b77 --store store
    """
    from gemma_trace.cli.output import emit
    from gemma_trace.report.tables.baselines import baseline_report
    from gemma_trace.store.baselines import baseline_of, baselines, remove_baseline, set_baseline

    given = runs or []
    if not store:
        raise ConfigError("no store; give --store STORE, a folder or a URL")
    if bool(name) == (action is Action.LIST):
        raise ConfigError("list has no NAME" if name else f"{action.value} requires the NAME of a baseline")
    if bool(given) != (action is Action.SET):
        raise ConfigError(
            f"{action.value} has no RUN" if given else "set requires the RUNs that the baseline consists of"
        )
    if action is Action.LIST:
        shown = baselines(store)
    elif action is Action.SET:
        shown = [set_baseline(store, name, given, force=force)]
    elif action is Action.SHOW:
        shown = [baseline_of(store, name)]
    else:
        shown = [remove_baseline(store, name)]
    emit(baseline_report(shown, shown_url(store)), form, output, force=force, raw=raw)
