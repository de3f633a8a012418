"""`gemma-trace capture`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.capture.config import COMPILE_MODES, DEFAULT_PROMPT, DETAILS, DTYPES, IMAGE_BACKENDS, WEIGHTS
from gemma_trace.cli.output import answer, say
from gemma_trace.errors import GemmaTraceError

if TYPE_CHECKING:
    from gemma_trace.capture.progress import Progress


def capture(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="tiny, 4b, 12b, 27b, a Hub id (OWNER/NAME), or a folder.",
            autocompletion=lambda: ["tiny", "4b", "12b", "27b"],
        ),
    ] = "tiny",
    weights: Annotated[
        str,
        typer.Option(
            help="hub, random (exact shape, no download), or auto: the Hub's if there is access.",
            autocompletion=lambda: list(WEIGHTS),
        ),
    ] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str, typer.Option(help=f"{', '.join(DTYPES)}.", autocompletion=lambda: list(DTYPES))] = "float32",
    image_backend: Annotated[
        str,
        typer.Option(
            help="transformers' image processor: torchvision (use_fast=True) or pil.",
            autocompletion=lambda: list(IMAGE_BACKENDS),
        ),
    ] = "torchvision",
    attn: Annotated[str | None, typer.Option(help="eager, sdpa or flash_attention_2; default is the model's.")] = None,
    stage_module: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A module that is vision, projector or decoder; repeatable."),
    ] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="An image file to send; repeatable. Default: JPEGs made for it.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="The text that goes with the image.")] = DEFAULT_PROMPT,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Lengthen the prompt to so many tokens, the images' included.")
    ] = None,
    images: Annotated[int, typer.Option(help="Images a request.")] = 1,
    batch: Annotated[int, typer.Option(help="Prompts a request.")] = 1,
    image_device: Annotated[str | None, typer.Option(help="Where images are processed: cpu or cuda.")] = None,
    prefill_chunk: Annotated[int | None, typer.Option(help="Tokens of a forward of the prefill.")] = None,
    compile_mode: Annotated[
        str,
        typer.Option(
            "--compile",
            help="off, or stages: tower, projector and decoder each by itself.",
            autocompletion=lambda: list(COMPILE_MODES),
        ),
    ] = "off",
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate; decode appears from 2 on.")] = 1,
    runs: Annotated[int, typer.Option(help="Requests timed without the profiler.")] = 10,
    warmup: Annotated[int, typer.Option(help="Requests before those, not counted.")] = 10,
    profile_runs: Annotated[int, typer.Option(help="Requests recorded by the profiler.")] = 3,
    detail: Annotated[
        str,
        typer.Option(help="How deep the ranges go: stage, layer or module.", autocompletion=lambda: list(DETAILS)),
    ] = "layer",
    stacks: Annotated[bool, typer.Option("--stacks", help="Record Python's stack frames.")] = False,
    no_shapes: Annotated[bool, typer.Option("--no-shapes", help="Don't record the ops' input shapes.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Record allocations.")] = False,
    sync_stages: Annotated[
        bool,
        typer.Option("--sync-stages", help="Wait for the device at every stage's ends, as the study does."),
    ] = False,
    keep_paths: Annotated[
        bool,
        typer.Option("--keep-paths", help="Leave the folders of files in the trace; else a path is its last part."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the random weights.")] = 0,
    name: Annotated[str | None, typer.Option(help="The run's name, its folder. Default: made of the options.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder that holds runs.")] = Path("traces"),
    force: Annotated[bool, typer.Option("--force", help="Replace the trace of a run of the same name.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; print the trace's path alone.")] = False,
) -> None:
    """Run requests under torch.profiler and write a trace.

    The default model, tiny, is a Gemma 3 small enough for a laptop, with random weights; it needs no network.

    Example: gemma-trace capture --image photo.jpg --new-tokens 8
    """
    from gemma_trace.capture import require_capture_extra
    from gemma_trace.capture.config import CaptureConfig

    config = CaptureConfig(
        model=model,
        weights=weights,
        device=device,
        dtype=dtype,
        image_backend=image_backend,
        attn=attn,
        stage_modules=tuple(stage_module or ()),
        images=tuple(image or ()),
        images_per_request=images,
        batch=batch,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        image_device=image_device,
        prefill_chunk=prefill_chunk,
        compile=compile_mode,
        new_tokens=new_tokens,
        warmup=warmup,
        runs=runs,
        profile_runs=profile_runs,
        detail=detail,
        stacks=stacks,
        shapes=not no_shapes,
        memory=memory,
        sync_stages=sync_stages,
        keep_paths=keep_paths,
        seed=seed,
        name=name,
        output=output,
        force=force,
    )
    require_capture_extra()
    from gemma_trace.capture.failure import as_capture_error

    with _progress(quiet=quiet or os.environ.get("RANK", "0") != "0") as progress:
        progress.phase("importing torch and transformers", 1)
        from gemma_trace.capture.session import profile

        try:
            result = profile(config, progress=progress)
        except GemmaTraceError:
            raise
        except Exception as error:
            raise as_capture_error(error) from error
    for warning in result.metadata.warnings:
        say(f"gemma-trace: warning: {warning}")
    answer(result.path)
    if not quiet:
        say(f"Next: gemma-trace summarize {result.path.parent}")


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress]:
    """Bars on a terminal; elsewhere a line as each phase begins, since bars would all come at the end."""
    if quiet or sys.stderr.isatty():
        from gemma_trace.cli.progress import capture_progress

        with capture_progress(quiet=quiet) as bars:
            yield bars
    else:
        yield _Lines()


class _Lines:
    """Progress in a file or a pipe."""

    def phase(self, name: str, steps: int) -> None:
        """A phase of so many steps begins."""
        if steps:
            say(f"{name} ({steps})" if steps > 1 else name)

    def step(self) -> None:
        """Nothing: a line a phase is enough."""
