"""What kind of model a folder holds, told by its files before anything is loaded, and which class builds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gemma_trace.capture.hub import CHECKPOINTS
from gemma_trace.errors import ModelError

_INSTEAD = "give --model a vision-language model, whose requests have an image and a text"


def refuse_file(label: str, path: Path) -> None:
    """Refuse a file where a folder is wanted.

    Raises:
        ModelError: it is a file.
    """
    if not path.is_file():
        return
    if path.suffix == ".gguf":
        raise ModelError(f"{label} is a GGUF file, which llama.cpp runs but torch does not; {_of_which('it was')}")
    raise ModelError(f"{label} is a file; give --model the folder that a model was saved to")


def check_model(model: str, label: str) -> None:
    """Refuse what is none of a model's names, or a file, or a folder of something else; no network, no transformers.

    Args:
        label: what the message calls it.

    Raises:
        ModelError: it is no preset, folder or Hub id, or it says itself that it is no model.
    """
    refuse_file(label, Path(model))
    if Path(model).is_dir():
        if not (Path(model) / "config.json").is_file():
            _refuse_without_config(label, Path(model))
        return
    presets = ("tiny", *CHECKPOINTS)
    if model not in presets and "/" not in model:
        known = f"a preset ({', '.join(presets)}), folder or Hub id (OWNER/NAME)"
        raise ModelError(f"no model {model!r}: it is not {known}; check --model")


def check_assistant(model: str, label: str) -> None:
    """`check_model` of the model that guesses tokens.

    Raises:
        ModelError: naming `--assistant`.
    """
    try:
        check_model(model, label)
    except ModelError as error:
        raise of_option("--assistant", error) from None


def of_option(option: str, error: ModelError) -> ModelError:
    """An error of `--model`, as that of another option."""
    return ModelError(str(error.args[0]).replace("--model", option))


def check_adapter(adapter: str) -> None:
    """Refuse what is neither a folder that PEFT saved an adapter to nor a Hub id.

    Raises:
        ModelError: there is no such folder, or it has no configuration of an adapter, or one that says no kind.
    """
    folder = Path(adapter)
    if not folder.is_dir():
        if "/" not in adapter or folder.exists() or folder.is_absolute():
            raise ModelError(f"no adapter {folder.name!r}: it is no folder and no Hub id (OWNER/NAME); check --adapter")
        return
    if not (folder / "adapter_config.json").exists():
        raise ModelError(
            f"{folder.name} has no adapter_config.json; give --adapter the folder that PEFT saved an adapter to"
        )
    if not isinstance(_json(folder / "adapter_config.json").get("peft_type"), str):
        raise ModelError(f"the adapter_config.json of {folder.name} is not one of PEFT's; check --adapter")


def refuse_unfit(label: str, folder: Path) -> None:
    """Refuse a folder that transformers would make something else of, or nothing.

    A model whose code is in the folder itself is let through: what it is can't be told.

    Args:
        label: what the message calls it.

    Raises:
        ModelError: saying what it is: an adapter, GGUF files, a pipeline, or a model of text or sound alone.
    """
    if not (folder / "config.json").is_file():
        _refuse_without_config(label, folder)
        return
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or config.get("auto_map"):
        return
    from transformers.models.auto import modeling_auto as auto

    reads_images = {*auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, *auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}
    hears = {
        *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        *auto.MODEL_FOR_CTC_MAPPING_NAMES,
        *auto.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES,
    }
    has_vision = any(name in config for name in ("vision_config", "thinker_config", "img_processor"))
    if kind in auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES or (kind in reads_images and has_vision):
        return
    if kind in hears or kind in reads_images:
        raise ModelError(f"{label} is a {kind} model, which reads sound instead of images; {_INSTEAD}")
    if kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES or kind in auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(f"{label} is a {kind} model, which reads only text; {_INSTEAD}")
    if kind in auto.MODEL_MAPPING_NAMES:
        raise ModelError(f"{label} is a {kind} model, which writes no text about an image; {_INSTEAD}")


def auto_class(config: Any) -> Any:
    """The class of transformers' that builds a model of this configuration; of images and text wherever it can."""
    from transformers import AutoModelForImageTextToText, AutoModelForMultimodalLM

    known = type(config) in AutoModelForImageTextToText._model_mapping
    return AutoModelForImageTextToText if known else AutoModelForMultimodalLM


def _refuse_without_config(label: str, folder: Path) -> None:
    if (folder / "adapter_config.json").is_file():
        base = _json(folder / "adapter_config.json").get("base_model_name_or_path")
        of = f" of {Path(base).name}" if isinstance(base, str) and base else ""
        raise ModelError(
            f"{label} is an adapter{of}, which is not a complete model; give --adapter this folder, and --model that "
            "of its base model"
        )
    if any(folder.glob("*.gguf")) or label.lower().endswith("gguf"):
        raise ModelError(f"{label} holds GGUF files, which llama.cpp runs but torch does not; {_of_which('they were')}")
    if (folder / "model_index.json").is_file():
        raise ModelError(f"{label} is a pipeline of diffusers, which writes no text about an image; {_INSTEAD}")


def _of_which(it_was: str) -> str:
    return f"give --model the folder or the Hub id of the model that {it_was} made of"


def _json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file holds none, of which transformers has more to say."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
