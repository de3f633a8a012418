"""Writes analysis/models.md: which stages are found in which models, captured and registered. Run: make models"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import torch
import transformers

from gemma_trace.capture.annotate import annotate
from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.stages import Stage
from gemma_trace.trace.trace import load
from tests.capture.registered import KINDS, Registered, look_at, registered_types

PAGE: Final = Path(__file__).resolve().parents[2] / "analysis" / "models.md"
NEW_TOKENS: Final = 3
STAGES: Final = ("vision_tower", "audio_tower", "projector", "prefill", "sampling", "decode")
_MOST_PATHS: Final = 2

_HEAD: Final = """# Models

Which stages are found in which models of transformers {transformers}, with torch {torch} on a CPU. `make models` writes
this page.

## Captured

Each family was built from a tiny random configuration, and its `generate` was asked for {tokens} tokens under
`torch.profiler` with `gemma_trace.annotate`. The columns count the ranges of each stage in the trace. Right are one
`prefill` (two in an encoder-decoder, whose encoder reads the prompt), {tokens} of `sampling`, one for each token, and
{steps} of `decode`, one for each token after the first.

"""

_REGISTERED: Final = """
## Registered

Every class that transformers registers for images and text, built without weights. A dash is explained below where
transformers has no such module; where it isn't, none was found, and `--stage-module` names it.

"""


@dataclass(frozen=True)
class Captured:
    """What the trace of a family has.

    Attributes:
        counts: ranges by stage.
        layers: how many layers have a range.
    """

    family: str
    name: str
    counts: dict[str, int]
    layers: int


def capture(family: str, folder: Path) -> Captured:
    """Build a family, generate under the profiler, and count what the trace holds."""
    from tests.capture.vlms_more import ALL_FAMILIES, built

    torch.manual_seed(0)
    model, inputs = built(ALL_FAMILIES[family])
    path = folder / f"{family}.json"
    with (
        torch.inference_mode(),
        torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler,
        annotate(model) as ranges,
        ranges.stage(Stage.REQUEST),
    ):
        model.generate(**inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False)
    profiler.export_chrome_trace(str(path))
    trace = load(path)
    counts = {
        stage: int((trace.stage_range == code).sum())
        for code, stage in enumerate(trace.stage_names)
        if (trace.stage_range == code).any()
    }
    layers = sum(name.startswith("gemma_trace::layer::") for name in trace.spans.names)
    return Captured(family, type(model).__name__, counts, layers)


def _captured_lines() -> Iterator[str]:
    from tests.capture.vlms_more import ALL_FAMILIES

    yield f"| family | class | {' | '.join(f'`{stage}`' for stage in STAGES)} | layers |"
    yield "|---|---|" + "--:|" * (len(STAGES) + 1)
    with tempfile.TemporaryDirectory() as folder:
        for family in sorted(ALL_FAMILIES):
            found = capture(family, Path(folder))
            cells = [str(found.counts.get(stage, "–")) for stage in STAGES]
            yield f"| {family} | `{found.name}` | {' | '.join(cells)} | {found.layers} |"
            print(family, found.counts, file=sys.stderr)


def _paths(found: Registered, kind: str) -> str:
    paths = found.found.get(kind, ())
    if not paths:
        return "–"
    more = f" and {len(paths) - _MOST_PATHS} more" if len(paths) > _MOST_PATHS else ""
    return ", ".join(f"`{path}`" for path in paths[:_MOST_PATHS]) + more


def _registered_lines() -> Iterator[str]:
    yield "| model type | class | vision tower | audio tower | projector | text decoder |"
    yield "|---|---|---|---|---|---|"
    absent: list[str] = []
    for model_type in registered_types():
        found = look_at(model_type)
        if found.failure:
            yield f"| {model_type} | `{found.name}` | not built: {found.failure} | | | |"
            continue
        yield f"| {model_type} | `{found.name}` | {' | '.join(_paths(found, kind) for kind in KINDS)} |"
        absent += [f"* {model_type} has no {kind}: {reason}." for kind, reason in found.absent.items()]
    yield ""
    yield from absent


def main() -> None:
    """Write the page."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    declare_missing_operators()
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]}
    head = _HEAD.format(tokens=NEW_TOKENS, steps=NEW_TOKENS - 1, **versions)
    captured = "\n".join(_captured_lines())
    registered = "\n".join(_registered_lines())
    PAGE.write_text(f"{head}{captured}\n{_REGISTERED}{registered}\n")


if __name__ == "__main__":
    main()
