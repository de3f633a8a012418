"""`gemma-trace capture`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemma_trace.capture.config import (
    DEFAULT_PROMPT,
    CompileMode,
    Detail,
    Dtype,
    ImageBackend,
    Weights,
)
from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import OutDirOption, answer, remark, say
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
        Weights,
        typer.Option(help="random: the exact shape without a download; auto: the Hub's weights if there is access."),
    ] = Weights.AUTO,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="The type of the weights and activations.")] = Dtype.FLOAT32,
    image_backend: Annotated[
        ImageBackend,
        typer.Option(help="The image processor of transformers: torchvision is its use_fast=True."),
    ] = ImageBackend.TORCHVISION,
    attn: Annotated[str | None, typer.Option(help="eager, sdpa or flash_attention_2; default is the model's.")] = None,
    stage_module: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A module that is vision, projector or decoder; repeatable."),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An image file to send; repeatable. By default JPEGs are made for it."),
    ] = None,
    prompt: Annotated[str, typer.Option(help="The text that goes with the image.")] = DEFAULT_PROMPT,
    prompt_tokens: Annotated[
        int | None, typer.Option(help="Lengthen the prompt to so many tokens, the images' included.")
    ] = None,
    images_per_request: Annotated[int, typer.Option(min=1, help="How many images each request has.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="How many prompts each request has.")] = 1,
    image_device: Annotated[str | None, typer.Option(help="Where images are processed: cpu or cuda.")] = None,
    prefill_chunk: Annotated[int | None, typer.Option(help="Tokens of a forward of the prefill.")] = None,
    compile_mode: Annotated[
        CompileMode,
        typer.Option("--compile", help="stages: compile vision tower, projector and decoder, each by itself."),
    ] = CompileMode.OFF,
    new_tokens: Annotated[int, typer.Option(help="Tokens to generate; decode appears from 2 on.")] = 1,
    runs: Annotated[int, typer.Option(help="Requests timed without the profiler.")] = 10,
    warmup: Annotated[int, typer.Option(help="Requests before those, not counted.")] = 10,
    profile_runs: Annotated[int, typer.Option(help="Requests recorded by the profiler.")] = 3,
    detail: Annotated[Detail, typer.Option(help="How deep the ranges go.")] = Detail.LAYER,
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
    out_dir: OutDirOption = Path("traces"),
    force: Annotated[bool, typer.Option("--force", help="Replace the trace of a run of the same name.")] = False,
) -> None:
    """Run requests under torch.profiler and write a trace.

    The default model, tiny, is a Gemma 3 small enough for a laptop, with random weights; it needs no network.

    Example: gemma-trace capture --image photo.jpg --new-tokens 8
    """
    from gemma_trace.capture import require_capture_extra
    from gemma_trace.capture.config import CaptureConfig

    config = CaptureConfig(
        model=model,
        weights=weights.value,
        device=device,
        dtype=dtype.value,
        image_backend=image_backend.value,
        attn=attn,
        stage_modules=tuple(stage_module or ()),
        images=tuple(image or ()),
        images_per_request=images_per_request,
        batch=batch,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        image_device=image_device,
        prefill_chunk=prefill_chunk,
        compile=compile_mode.value,
        new_tokens=new_tokens,
        warmup=warmup,
        runs=runs,
        profile_runs=profile_runs,
        detail=detail.value,
        stacks=stacks,
        shapes=not no_shapes,
        memory=memory,
        sync_stages=sync_stages,
        keep_paths=keep_paths,
        seed=seed,
        name=name,
        output=out_dir,
        force=force,
    )
    require_capture_extra()
    from gemma_trace.capture.failure import as_capture_error

    with _progress(quiet=asked().quiet or os.environ.get("RANK", "0") != "0") as progress:
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
    remark(f"Next: gemma-trace stages {result.path.parent}")


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
