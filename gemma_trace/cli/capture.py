"""`gemma-trace capture`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from gemma_trace.capture.config import (
    DEFAULT_PROMPT,
    CacheMode,
    CompileMode,
    Detail,
    Dtype,
    ImageBackend,
    Weights,
)
from gemma_trace.capture.modes import Quantization
from gemma_trace.cli.everywhere import asked
from gemma_trace.cli.output import OutDirOption, answer, remark, say
from gemma_trace.cli.progress import phases


def capture(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="The model: tiny, 4b, 12b, 27b, a Hub id (OWNER/NAME) or a folder.",
            autocompletion=lambda: ["tiny", "4b", "12b", "27b"],
        ),
    ] = "tiny",
    weights: Annotated[
        Weights,
        typer.Option(
            help="Where the weights come from: hub downloads them, random needs no download and takes as long to run; "
            "auto uses the Hub's if they are cached or there is a token."
        ),
    ] = Weights.AUTO,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="The device: auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[Dtype, typer.Option(help="The data type of the weights and activations.")] = Dtype.FLOAT32,
    image_backend: Annotated[
        ImageBackend,
        typer.Option(help="Which of transformers' image processors to use: torchvision (use_fast=True) or pil."),
    ] = ImageBackend.TORCHVISION,
    attn: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The attention implementation: eager, sdpa or flash_attention_2. The default is the model's own.",
        ),
    ] = None,
    stage_module: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=PATH",
            help="Say which module is the vision tower, projector or decoder, e.g. vision=model.vit. Repeatable.",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An image file to send. Repeatable. Without it, JPEGs are generated."),
    ] = None,
    image_size: Annotated[
        list[str] | None,
        typer.Option(metavar="WxH", help="Generate a JPEG of this size in pixels, e.g. 3500x2500. Repeatable."),
    ] = None,
    prompt: Annotated[str, typer.Option(metavar="TEXT", help="The text that goes with the images.")] = DEFAULT_PROMPT,
    system: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The system message that comes before the prompt.")
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A JSONL file of chat requests to send, instead of images and a prompt."),
    ] = None,
    shuffle: Annotated[
        int | None, typer.Option(metavar="SEED", help="Send the requests of the file in an order drawn with this seed.")
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Fetch the images that the requests of the file name by http(s) URLs.")
    ] = False,
    prompt_tokens: Annotated[
        int | None,
        typer.Option(metavar="N", help="Lengthen the prompt to N tokens, including those of the images."),
    ] = None,
    images_per_request: Annotated[
        int,
        typer.Option(
            "--images-per-request", "--image-count", min=1, metavar="N", help="The number of images in each request."
        ),
    ] = 1,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="The number of prompts in each request.")] = 1,
    image_device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="Process the images on this device: cpu, cuda or cuda:N.")
    ] = None,
    prefill_chunk: Annotated[
        int | None, typer.Option(metavar="N", help="Split the prefill into forward passes of N tokens.")
    ] = None,
    compile_mode: Annotated[
        CompileMode,
        typer.Option(
            "--compile",
            help="stages applies torch.compile to the vision tower, the projector and the decoder, one by one; "
            "decode applies it to the decode steps, with the static cache.",
        ),
    ] = CompileMode.OFF,
    cache: Annotated[
        CacheMode | None,
        typer.Option(help="How keys and values are kept: dynamic grows with each token, static is allocated once."),
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw each token by the model's own temperature, top-k and top-p.")
    ] = False,
    quantize: Annotated[
        Quantization | None, typer.Option(help="Store the weights of the linear layers quantized, by bitsandbytes.")
    ] = None,
    adapter: Annotated[
        str | None, typer.Option(metavar="ADAPTER", help="Add a PEFT adapter to the model: a folder or a Hub id.")
    ] = None,
    assistant: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Let this model draft tokens, which the main model then checks: tiny, a Hub id or a folder.",
        ),
    ] = None,
    prompt_lookup: Annotated[
        int | None,
        typer.Option(metavar="N", help="Draft N tokens: those that followed the same tokens earlier in the prompt."),
    ] = None,
    threads: Annotated[int | None, typer.Option(metavar="N", help="Let torch use N CPU threads per op.")] = None,
    cpu_affinity: Annotated[
        str | None, typer.Option(metavar="CPUS", help="Run only on these CPUs of the host, e.g. 0-3,8.")
    ] = None,
    numa_node: Annotated[int | None, typer.Option(metavar="N", help="Run only on the CPUs of this NUMA node.")] = None,
    cudnn_benchmark: Annotated[
        bool, typer.Option("--cudnn-benchmark", help="Let cuDNN measure which of its algorithms is fastest.")
    ] = False,
    new_tokens: Annotated[
        int, typer.Option(metavar="N", help="Generate N tokens. From 2 on, there is a decode stage.")
    ] = 1,
    runs: Annotated[int, typer.Option(metavar="N", help="Time N requests without the profiler.")] = 10,
    warmup: Annotated[
        int,
        typer.Option(
            metavar="N", help="Run N requests first, which are not counted; each kind of request runs at least once."
        ),
    ] = 10,
    profile_runs: Annotated[int, typer.Option(metavar="N", help="Record N requests with the profiler.")] = 3,
    detail: Annotated[
        Detail, typer.Option(help="Put ranges around the stages only, around layers too, or around every module.")
    ] = Detail.LAYER,
    stacks: Annotated[
        bool, typer.Option("--stacks", help="Record Python stack frames. The trace gets much larger.")
    ] = False,
    no_shapes: Annotated[bool, typer.Option("--no-shapes", help="Do not record the input shapes of ops.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Record memory allocations.")] = False,
    sync_stages: Annotated[
        bool,
        typer.Option(
            "--sync-stages",
            help="Synchronize the device at the start and the end of every stage, as the reference study does.",
        ),
    ] = False,
    cold: Annotated[
        bool,
        typer.Option("--cold", help="Record the cold start, too: import, load, and each request of the warm-up."),
    ] = False,
    keep_paths: Annotated[
        bool,
        typer.Option(
            "--keep-paths",
            help="Keep the folders of file paths in the trace. By default only the last part of a path is kept.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="The seed of the random weights.")] = 0,
    name: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="The name of the run and of its folder. By default it is made of the options."
        ),
    ] = None,
    out_dir: OutDirOption = Path("traces"),
    force: Annotated[
        bool, typer.Option("--force", help="Replace the trace of an earlier run of the same name.")
    ] = False,
) -> None:
    """Run requests under torch.profiler and write a trace.

    The default model, tiny, is a Gemma 3 with random weights that is small enough for a laptop. It needs no network.

    The requests run three times: first to warm up, then timed without the profiler, then recorded by it.

    Example: gemma-trace capture --image photo.jpg --new-tokens 8
    """
    from gemma_trace.capture import require_capture_extra
    from gemma_trace.capture.config import CaptureConfig
    from gemma_trace.capture.early import check_early
    from gemma_trace.capture.imports import imports_timed

    config = CaptureConfig(
        model=model,
        weights=weights.value,
        device=device,
        dtype=dtype.value,
        image_backend=image_backend.value,
        attn=attn,
        stage_modules=tuple(stage_module or ()),
        images=tuple(image or ()),
        image_sizes=tuple(image_size or ()),
        requests=requests,
        shuffle=shuffle,
        online=online,
        system=system,
        images_per_request=images_per_request,
        batch=batch,
        prompt=prompt,
        prompt_tokens=prompt_tokens,
        image_device=image_device,
        prefill_chunk=prefill_chunk,
        compile=compile_mode.value,
        cache=cache.value if cache else None,
        sample=sample,
        quantize=quantize.value if quantize else None,
        adapter=adapter,
        assistant=assistant,
        prompt_lookup=prompt_lookup,
        threads=threads,
        cpu_affinity=cpu_affinity,
        numa_node=numa_node,
        cudnn_benchmark=cudnn_benchmark,
        new_tokens=new_tokens,
        warmup=warmup,
        runs=runs,
        profile_runs=profile_runs,
        detail=detail.value,
        stacks=stacks,
        shapes=not no_shapes,
        memory=memory,
        sync_stages=sync_stages,
        cold=cold,
        keep_paths=keep_paths,
        seed=seed,
        name=name,
        output=out_dir,
        force=force,
    )
    check_early(config)
    require_capture_extra()
    with phases(quiet=asked().quiet or os.environ.get("RANK", "0") != "0") as progress:
        progress.phase("importing torch and transformers", 1)
        with imports_timed():
            from gemma_trace.capture.session import profile

        result = profile(config, progress=progress)
    for warning in result.metadata.warnings:
        say(f"gemma-trace: warning: {warning}")
    answer(result.path)
    remark(f"Next: gemma-trace stages {result.path.parent}")
