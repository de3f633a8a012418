"""A capture of the tiny model with its vision tower slowed down on purpose: what a comparison has to find.

python analysis/comparing/slowed_capture.py FOLDER MILLISECONDS
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import gemma_trace
from gemma_trace.capture.config import CaptureConfig
from gemma_trace.capture.models import load_model


def main(folder: Path, milliseconds: float) -> None:
    """Capture with a pause of so many ms at the end of every forward of the vision tower."""
    config = CaptureConfig(
        output=folder.parent, name=folder.name, force=True, device="cpu", warmup=5, runs=10, profile_runs=1
    )
    loaded = load_model(config)
    tower = next(part for name, part in loaded.model.named_modules() if name.rpartition(".")[2] == "vision_tower")
    tower.register_forward_hook(lambda *_: time.sleep(milliseconds / 1e3))
    gemma_trace.profile(config, model=loaded.model, processor=loaded.processor)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
