"""The reference study as sweeps: `study`, as near to it as can be, and `study-fast`, which asks the same in a tenth.

The study loads the model ten times per configuration; after each load it sends eleven requests, each with a prompt and
a picture that are drawn from ten, and takes the last one's times. Its pictures are 3500 × 2500 pixels but for one
(mstojkoTT/gemma_profiling, of whose pictures six are known). `analysis/study.md` lists what is still different here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from gemma_trace.errors import OutputError
from gemma_trace.trace.files import output_file

STUDY_FAST: Final[Mapping[str, Any]] = {
    "matrix": {
        "model": ["4b", "12b", "27b"],
        "dtype": ["bfloat16", "float32"],
        "device": ["cuda", "cpu"],
        "image_backend": ["torchvision", "pil"],
    },
    "options": {"runs": 10, "warmup": 10, "profile_runs": 1},
}
"""The study's configurations with our own requests: 24 cells, 10 runs after 10 warm-ups of one load."""

LOADS: Final = 10
PICTURES: Final = ((3500, 2500),) * 5 + ((266, 190),)
SYSTEM: Final = "You are a helpful assistant."
PROMPTS: Final = (
    "Say what can be seen in this picture, from the left to the right.",
    "Write a full description of what this photograph shows.",
    "List the objects in this image and where each of them is.",
    "Tell me what happens in this scene, as exactly as you can.",
    "Go through this picture and name everything that is in it.",
    "Describe the colours, the light and the things in this image.",
    "Say what this image is about and what stands out in it.",
    "Give a clear account of the place that this picture shows.",
    "Name what is in this image and say what each thing looks like.",
    "Describe this picture so that someone could draw it again.",
)
"""As many as the study has, of its length: 10 to 13 words."""

_FOLDER: Final = "study-requests"


def study_requests(output: Path) -> Path:
    """Where the requests of the study stand in a folder that holds runs."""
    return output / _FOLDER / "requests.jsonl"


def study_matrix(output: Path) -> Mapping[str, Any]:
    """The study's matrix: its configurations, each loaded ten times."""
    return {
        "matrix": {**STUDY_FAST["matrix"], "shuffle": list(range(LOADS))},
        "options": {
            "runs": 1,
            "warmup": 10,
            "profile_runs": 1,
            "sync_stages": True,
            "cudnn_benchmark": True,
            "requests": str(study_requests(output)),
        },
    }


def write_study_requests(output: Path) -> None:
    """Write each picture with each prompt as a request, unless they are there.

    Raises:
        OutputError: they can't be written.
    """
    from gemma_trace.capture.images import write_sample_image

    path = study_requests(output)
    if path.exists():
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        names = [write_sample_image(path.parent, *size).name for size in dict.fromkeys(PICTURES)]
    except OSError as error:
        raise OutputError(f"can't write into {path.parent}: {error.strerror}; check --out-dir") from error
    named = dict(zip(dict.fromkeys(PICTURES), names, strict=True))
    with output_file(path, "check --out-dir") as out:
        for place, size in enumerate(PICTURES):
            for number, prompt in enumerate(PROMPTS):
                request = _request(f"picture {place}, prompt {number}", named[size], prompt)
                out.write(msgspec.json.encode(request) + b"\n")


def _request(name: str, picture: str, prompt: str) -> dict[str, Any]:
    content = [{"type": "image_url", "image_url": {"url": picture}}, {"type": "text", "text": prompt}]
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
    return {"id": name, "messages": messages}
