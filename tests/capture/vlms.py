"""Vision-language models of many families, each as small as it can be, with inputs made by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

IMAGE = 120
"""The id of an image token in all of them."""

_TEXT: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "max_position_embeddings": 512,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_SQUARE = _VISION | {"image_size": 28, "patch_size": 14}


def _inputs(ids: list[int], **more: torch.Tensor) -> dict[str, torch.Tensor]:
    tokens = torch.tensor([ids])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), **more}


def llava() -> tuple[Any, dict[str, torch.Tensor]]:
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(**_SQUARE), text_config=hf.LlamaConfig(**_TEXT), image_token_index=IMAGE
    )
    return config, _inputs([1, *[IMAGE] * 4, 5, 6], pixel_values=torch.randn(1, 3, 28, 28))


def paligemma() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = _SQUARE | {"vision_use_head": False, "projection_dim": 32, "num_image_tokens": 4}
    config = hf.PaliGemmaConfig(
        vision_config=hf.SiglipVisionConfig(**vision).to_dict(),
        text_config=hf.GemmaConfig(**_TEXT, head_dim=8).to_dict(),
        image_token_index=IMAGE,
        projection_dim=32,
        hidden_size=32,
    )
    inputs = _inputs([*[IMAGE] * 4, 2, 5, 6], pixel_values=torch.randn(1, 3, 28, 28))
    return config, inputs | {"token_type_ids": (inputs["input_ids"] != IMAGE).long()}


def smolvlm() -> tuple[Any, dict[str, torch.Tensor]]:
    config = hf.SmolVLMConfig(
        vision_config=_VISION | {"image_size": 28, "patch_size": 7},
        text_config=hf.LlamaConfig(**_TEXT, pad_token_id=0).to_dict(),
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )
    pixels = {"pixel_values": torch.randn(1, 1, 3, 28, 28), "pixel_attention_mask": torch.ones(1, 1, 28, 28).long()}
    return config, _inputs([1, *[IMAGE] * 4, 5, 6], **pixels)


def idefics3() -> tuple[Any, dict[str, torch.Tensor]]:
    """SmolVLM's elder sister; its processor takes no package that ours don't bring."""
    config = hf.Idefics3Config(
        vision_config=_VISION | {"image_size": 28, "patch_size": 7},
        text_config=hf.LlamaConfig(**_TEXT, pad_token_id=0).to_dict(),
        image_token_id=IMAGE,
        scale_factor=2,
        pad_token_id=0,
    )
    pixels = {"pixel_values": torch.randn(1, 1, 3, 28, 28), "pixel_attention_mask": torch.ones(1, 1, 28, 28).long()}
    return config, _inputs([1, *[IMAGE] * 4, 5, 6], **pixels)


def internvl() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = _VISION | {"image_size": [28, 28], "patch_size": [7, 7]}
    config = hf.InternVLConfig(
        vision_config=hf.InternVLVisionConfig(**vision).to_dict(),
        text_config=hf.Qwen2Config(**_TEXT).to_dict(),
        image_token_id=IMAGE,
        downsample_ratio=0.5,
    )
    return config, _inputs([1, *[IMAGE] * 4, 5, 6], pixel_values=torch.randn(1, 3, 28, 28))


def qwen2_5_vl() -> tuple[Any, dict[str, torch.Tensor]]:
    vision = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 4, "patch_size": 14}
    vision |= {"spatial_merge_size": 2, "temporal_patch_size": 2, "out_hidden_size": 32, "window_size": 56}
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}
    config = hf.Qwen2_5_VLConfig(
        vision_config=vision | {"fullatt_block_indexes": [1]},
        text_config=_TEXT | {"rope_parameters": rope},
        image_token_id=IMAGE,
        video_token_id=121,
        vision_start_token_id=122,
        vision_end_token_id=123,
    )
    pixels = {"pixel_values": torch.randn(16, 3 * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    inputs = _inputs([1, 122, *[IMAGE] * 4, 123, 5], **pixels)
    return config, inputs | {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).long()}


def gemma4() -> tuple[Any, dict[str, torch.Tensor]]:
    text = _TEXT | {"head_dim": 8, "vocab_size_per_layer_input": 128, "hidden_size_per_layer_input": 8}
    text |= {"layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 8}
    config = hf.Gemma4Config(
        text_config=text,
        vision_config=_VISION | {"num_key_value_heads": 4, "head_dim": 8, "patch_size": 4},
        image_token_id=IMAGE,
        boi_token_id=121,
        eoi_token_id=122,
        video_token_id=123,
        audio_token_id=124,
    )
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    places = torch.stack((columns.flatten(), rows.flatten()), dim=-1)[None]
    inputs = _inputs([2, *[IMAGE] * 4, 5, 6], pixel_values=torch.rand(1, 36, 48), image_position_ids=places)
    return config, inputs | {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).long()}


def gemma3() -> tuple[Any, dict[str, torch.Tensor]]:
    config = hf.Gemma3Config(
        text_config=hf.Gemma3TextConfig(**_TEXT, head_dim=8, sliding_window=64),
        vision_config=hf.SiglipVisionConfig(**_SQUARE, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=121,
        eoi_token_index=122,
    )
    inputs = _inputs([2, 121, *[IMAGE] * 4, 122, 5], pixel_values=torch.randn(1, 3, 28, 28))
    return config, inputs | {"token_type_ids": (inputs["input_ids"] == IMAGE).long()}


FAMILIES: dict[str, Callable[[], tuple[Any, dict[str, torch.Tensor]]]] = {
    family.__name__: family for family in (gemma3, gemma4, qwen2_5_vl, llava, paligemma, smolvlm, idefics3, internvl)
}
