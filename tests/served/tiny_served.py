"""Writes the model `tiny` as vLLM takes it: python -m tests.served.tiny_served FOLDER"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def write(folder: Path) -> None:
    """Save the model and its processor, with the names and the tokens that vLLM asks for."""
    from gemma_trace.capture.gemma3 import gemma3_processor
    from gemma_trace.capture.tiny import tiny_model

    folder.mkdir(parents=True, exist_ok=True)
    model = tiny_model(0)
    model.config.architectures = ["Gemma3ForConditionalGeneration"]
    model.save_pretrained(folder)
    gemma3_processor(model.config, "torchvision").save_pretrained(folder)
    _rename_tower(folder / "model.safetensors")
    _add_newlines(folder / "tokenizer.json")


def _rename_tower(path: Path) -> None:
    """vLLM knows the tower's weights as `vision_tower.vision_model.*`."""
    from safetensors.torch import load_file, save_file

    def renamed(name: str) -> str:
        head, tower, rest = name.partition("vision_tower.")
        return name if not tower or rest.startswith("vision_model.") else f"{head}{tower}vision_model.{rest}"

    save_file({renamed(name): tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def _add_newlines(path: Path) -> None:
    """It asks for tokens of one to four line breaks, as Gemma's own tokenizer has."""
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    free = (number for number in range(600, 10**6) if number not in set(vocabulary.values()))
    for count in range(2, 5):
        vocabulary.setdefault("\n" * count, next(free))
        merge = ["\n" * (count - 1), "\n"]
        if merge not in tokenizer["model"]["merges"]:
            tokenizer["model"]["merges"].append(merge)
    path.write_text(json.dumps(tokenizer))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
