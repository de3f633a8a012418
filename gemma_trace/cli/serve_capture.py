"""`gemma-trace serve-capture`."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.capture.option_texts import size_of
from gemma_trace.cli.output import ForceOption, FormatOption, OutDirOption, OutputOption, RawOption, answer, remark, say
from gemma_trace.errors import ConfigError
from gemma_trace.remote import path_of

if TYPE_CHECKING:
    from gemma_trace.served.drive import Served


def serve_capture(
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="The server's address, e.g. http://127.0.0.1:8000.")
    ] = None,
    traces: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder that the server writes its traces into; also as a URL. Without it, requests are only "
            "timed.",
            parser=path_of,
        ),
    ] = None,
    merge: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Merge the traces of an earlier capture's folder, or of a server's folder, without asking a server.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", metavar="NAME", help="The model's name. The default is the first that the server lists."
        ),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Send the requests of a JSONL file, in OpenAI's form, instead.", parser=path_of
        ),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Fetch the images of --requests that are http(s) URLs.")
    ] = False,
    runs: Annotated[
        int, typer.Option(min=1, metavar="N", help="Time N requests without the profiler, then profile N.")
    ] = 5,
    images: Annotated[
        int,
        typer.Option(
            "--images-per-request", "--image-count", min=0, metavar="N", help="The number of images in each request."
        ),
    ] = 1,
    image_size: Annotated[str, typer.Option(metavar="WxH", help="The width and height of the images.")] = "896x896",
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="The text that goes with the images.")] = None,
    new_tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Generate N tokens.")] = 16,
    repeat_images: Annotated[
        bool,
        typer.Option(
            "--repeat-images", help="Send the same images each time, so that the server finds them in its cache."
        ),
    ] = False,
    warmup: Annotated[int, typer.Option(min=0, metavar="N", help="Send N requests first, which are not counted.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, max=1024, metavar="N", help="Keep N requests open at once.")] = 1,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Send N requests a second, as far as --concurrency allows.")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="The seed of the images. By default they are new each time."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(min=0.1, metavar="S", help="Allow S seconds for an answer, or for each piece of its text."),
    ] = 600.0,
    stop_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="S", help="Wait S seconds for the server to write its traces.")
    ] = 600.0,
    name: Annotated[str, typer.Option(metavar="NAME", help="The name of the run and of its folder.")] = "served",
    out_dir: OutDirOption = Path("traces"),
    form: FormatOption = None,
    output: OutputOption = None,
    force: ForceOption = False,
    raw: RawOption = False,
) -> None:
    """Drive an OpenAI-compatible server, and trace its requests.

    The trace shows where the time of each request went, through all processes of the server.

    Requests are sent as streams, first without the profiler, then, with --traces, under the server's own: vLLM's or
    SGLang's. Their traces and what the client saw become one trace on one clock, which every other command reads by its
    folder. Times are the client's. Each request has new images, since servers cache the images that they have seen.

    A bearer token is taken from the environment variable GEMMA_TRACE_API_KEY, if it is set.

    Example: gemma-trace serve-capture --server http://127.0.0.1:8000 --traces /tmp/traces && gemma-trace traces/served
    """
    from gemma_trace.cli.everywhere import asked
    from gemma_trace.cli.output import emit
    from gemma_trace.cli.progress import phases
    from gemma_trace.report.tables.served import served_report
    from gemma_trace.served.drive import ServeConfig, check, drive
    from gemma_trace.served.payloads import PROMPT

    if (server is None) == (merge is None):
        raise ConfigError("give --server with its address, or --merge with the folder of an earlier capture")
    if merge is not None:
        _merge(merge)
        return
    assert server is not None
    if not re.fullmatch(r"[\w][\w.+=-]{0,150}", name):
        raise ConfigError(f"--name {name!r} is not the name of a folder; use letters, digits, dots and dashes")
    config = ServeConfig(
        server=server,
        out_dir=out_dir,
        name=name,
        traces=traces,
        model=model,
        requests=requests,
        online=online,
        runs=runs,
        images=images,
        size=size_of(image_size),
        prompt=PROMPT if prompt is None else prompt,
        new_tokens=new_tokens,
        repeat_images=repeat_images,
        warmup=warmup,
        concurrency=concurrency,
        rate=rate,
        seed=seed,
        timeout_s=timeout,
        stop_timeout_s=stop_timeout,
        force=force,
    )
    check(config)
    with phases(quiet=asked().quiet) as progress:
        done = drive(config, progress)
    emit(served_report(done.record, str(done.folder)), form, output, force=force, raw=raw)
    _close(done)


def _close(done: Served) -> None:
    """Say what came of it; a failure is raised when all else is said."""
    for warning in done.record.warnings:
        if done.failure is None or warning != str(done.failure):
            say(f"gemma-trace: warning: {warning}")
    if done.trace is not None:
        remark(f"{done.trace}; next: gemma-trace stages {done.folder}")
    if done.failure is not None:
        raise done.failure


def _merge(folder: Path) -> None:
    from gemma_trace.cli.progress import reading
    from gemma_trace.served.merge import merge, merge_processes
    from gemma_trace.served.record import RECORD, ServedRecord

    def watch(path: Path) -> AbstractContextManager[Callable[[int], None] | None]:
        return reading(f"reading {path.name}", path)

    if folder.is_dir() and not (folder / RECORD).is_file():
        done, notes = merge_processes(folder, watch)
    else:
        done, notes = merge(folder, ServedRecord.read(folder), watch)
    for note in notes:
        say(f"gemma-trace: warning: {note}")
    answer(done)
