"""Families beyond those of `vlms.py`: hand over to an inner model, have no tower, encode the prompt, or hear sound."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf

from gemma_trace.capture.random_weights import build_random, fill_random
from tests.capture.vlms import _SQUARE, _TEXT, _VISION, FAMILIES, IMAGE, _inputs

_PIXELS = (1, 3, 28, 28)
_OPT: dict[str, Any] = {
    "hidden_size": 32,
    "word_embed_proj_dim": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
    "max_position_embeddings": 512,
}
_T5: dict[str, Any] = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 4, "num_heads": 4, "vocab_size": 128}
_QFORMER: dict[str, Any] = _VISION | {"encoder_hidden_size": 32, "vocab_size": 128}
_LLAVA: dict[str, Any] = {
    "vision_config": hf.CLIPVisionConfig(**_SQUARE),
    "text_config": hf.LlamaConfig(**_TEXT),
    "image_token_index": IMAGE,
}
_ROPE: dict[str, Any] = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [1, 1, 2]}

Family = tuple[Any, dict[str, torch.Tensor]]


def _tokens(images: int, **more: torch.Tensor) -> dict[str, torch.Tensor]:
    return _inputs([1, *[IMAGE] * images, 5, 6], **more)


def _grid(channels: int = 3) -> dict[str, torch.Tensor]:
    """An image of 4 by 4 patches, two frames deep, as Qwen's take it."""
    return {"pixel_values": torch.randn(16, channels * 2 * 14 * 14), "image_grid_thw": torch.tensor([[1, 4, 4]])}


def llava_next() -> Family:
    config = hf.LlavaNextConfig(**_LLAVA, image_grid_pinpoints=[[28, 28]])
    # The whole image, and the one tile that it has: 4 tokens each, and 2 that end the tile's rows.
    pixels = {"pixel_values": torch.randn(1, 2, 3, 28, 28), "image_sizes": torch.tensor([[28, 28]])}
    return config, _tokens(10, **pixels)


def llava_onevision() -> Family:
    vision = hf.SiglipVisionConfig(**_SQUARE, vision_use_head=False)
    config = hf.LlavaOnevisionConfig(
        vision_config=vision,
        text_config=hf.Qwen2Config(**_TEXT),
        image_token_index=IMAGE,
        video_token_index=121,
        image_grid_pinpoints=[[28, 28]],
        vision_feature_select_strategy="full",
    )
    pixels = {"pixel_values": torch.randn(1, 2, 3, 28, 28), "image_sizes": torch.tensor([[28, 28]])}
    return config, _tokens(10, **pixels)


def vipllava() -> Family:
    config = hf.VipLlavaConfig(**_LLAVA, vision_feature_layers=[-1, -2])
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS))


def video_llava() -> Family:
    config = hf.VideoLlavaConfig(
        vision_config=hf.CLIPVisionConfig(**_SQUARE),
        text_config=hf.LlamaConfig(**_TEXT),
        image_token_index=IMAGE,
        video_token_index=121,
    )
    return config, _tokens(4, pixel_values_images=torch.randn(_PIXELS))


def mistral3() -> Family:
    vision = _VISION | {"image_size": 56, "patch_size": 14, "head_dim": 8}
    config = hf.Mistral3Config(
        vision_config=hf.PixtralVisionConfig(**vision),
        text_config=hf.MistralConfig(**_TEXT, head_dim=8),
        image_token_index=IMAGE,
    )
    sizes = torch.tensor([[56, 56]])
    return config, _tokens(4, pixel_values=torch.randn(1, 3, 56, 56), image_sizes=sizes)


def idefics2() -> Family:
    config = hf.Idefics2Config(
        vision_config=_VISION | {"image_size": 28, "patch_size": 14},
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 1,
            "resampler_n_heads": 4,
            "resampler_head_dim": 8,
            "num_key_value_heads": 2,
        },
        text_config=hf.MistralConfig(**_TEXT, pad_token_id=0).to_dict(),
        image_token_id=IMAGE,
    )
    pixels = {"pixel_values": torch.randn(1, 1, 3, 28, 28), "pixel_attention_mask": torch.ones(1, 1, 28, 28).long()}
    return config, _tokens(4, **pixels)


def qwen2_vl() -> Family:
    vision = {"embed_dim": 32, "hidden_size": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2, "patch_size": 14}
    config = hf.Qwen2VLConfig(
        vision_config=vision,
        text_config=_TEXT | {"rope_parameters": _ROPE},
        image_token_id=IMAGE,
        video_token_id=121,
        vision_start_token_id=122,
        vision_end_token_id=123,
    )
    inputs = _inputs([1, 122, *[IMAGE] * 4, 123, 5], **_grid())
    return config, inputs | {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).long()}


def qwen3_vl() -> Family:
    vision: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "depth": 2, "num_heads": 4, "patch_size": 14}
    vision |= {"out_hidden_size": 32, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
    config = hf.Qwen3VLConfig(
        vision_config=vision,
        text_config=_TEXT | {"rope_parameters": _ROPE, "head_dim": 8},
        image_token_id=IMAGE,
        video_token_id=121,
        vision_start_token_id=122,
        vision_end_token_id=123,
    )
    inputs = _inputs([1, 122, *[IMAGE] * 4, 123, 5], **_grid())
    return config, inputs | {"mm_token_type_ids": (inputs["input_ids"] == IMAGE).long()}


def aya_vision() -> Family:
    config = hf.AyaVisionConfig(
        vision_config=hf.SiglipVisionConfig(**_SQUARE, vision_use_head=False),
        text_config=hf.CohereConfig(**_TEXT),
        image_token_index=IMAGE,
        downsample_factor=2,
        alignment_intermediate_size=32,
    )
    return config, _tokens(1, pixel_values=torch.randn(_PIXELS))


def blip2() -> Family:
    """Hands over to a language model of its own; two modules are its projector."""
    config = hf.Blip2Config(
        vision_config=_SQUARE,
        qformer_config=_QFORMER,
        text_config=hf.OPTConfig(**_OPT).to_dict(),
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS))


def blip2_t5() -> Family:
    """As `blip2`, and its language model encodes the prompt."""
    config = hf.Blip2Config(
        vision_config=_SQUARE,
        qformer_config=_QFORMER,
        text_config=hf.T5Config(**_T5, decoder_start_token_id=0).to_dict(),
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS))


def instructblip() -> Family:
    config = hf.InstructBlipConfig(
        vision_config=_SQUARE,
        qformer_config=_QFORMER,
        text_config=hf.OPTConfig(**_OPT).to_dict(),
        num_query_tokens=4,
        image_token_index=IMAGE,
    )
    asked = torch.tensor([[5, 6]])
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS), qformer_input_ids=asked)


def kosmos2() -> Family:
    """Hands over to a text model of its own."""
    text = {"vocab_size": 128, "embed_dim": 32, "layers": 2, "ffn_dim": 64, "attention_heads": 4}
    config = hf.Kosmos2Config(text_config=text, vision_config=_SQUARE, latent_query_num=4)
    inputs = _tokens(4, pixel_values=torch.randn(_PIXELS))
    return config, inputs | {"image_embeds_position_mask": (inputs["input_ids"] == IMAGE).long()}


def florence2() -> Family:
    """An encoder-decoder that reads the image with the prompt."""
    text = hf.BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=128,
        max_position_embeddings=512,
    )
    vision = {"depths": [1], "patch_size": [7], "patch_stride": [4], "patch_padding": [3], "patch_prenorm": [False]}
    vision |= {"embed_dim": [32], "num_heads": [4], "num_groups": [4], "window_size": 4, "projection_dim": 32}
    config = hf.Florence2Config(text_config=text.to_dict(), vision_config=vision, image_token_id=IMAGE)
    return config, _tokens(65, pixel_values=torch.randn(1, 3, 32, 32))


def fuyu() -> Family:
    """No vision tower: its patches go through one layer."""
    config = hf.FuyuConfig(
        text_config=hf.PersimmonConfig(**_TEXT | {"num_key_value_heads": 4}).to_dict() | {"model_type": "persimmon"},
        patch_size=14,
        image_size=28,
        image_token_id=IMAGE,
    )
    return config, _tokens(4, image_patches=torch.randn(1, 4, 3 * 14 * 14))


def ovis2() -> Family:
    config = hf.Ovis2Config(
        vision_config=_SQUARE | {"vocab_size": 64, "hidden_stride": 1, "num_visual_indicator_tokens": 5},
        text_config=hf.Qwen2Config(**_TEXT).to_dict(),
        image_token_id=IMAGE,
        visual_indicator_token_ids=[121, 122, 123, 124, 125],
        vocab_size=128,
        hidden_size=32,
    )
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS))


def mllama() -> Family:
    """Its decoder looks at the image in layers of its own."""
    vision: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4}
    vision |= {"intermediate_size": 64, "image_size": 28, "patch_size": 14, "max_num_tiles": 1}
    vision |= {"vision_output_dim": 64, "intermediate_layers_indices": [0], "supported_aspect_ratios": [[1, 1]]}
    text = _TEXT | {"num_hidden_layers": 3, "cross_attention_layers": [1], "pad_token_id": 0}
    config = hf.MllamaConfig(vision_config=vision, text_config=text, image_token_index=IMAGE)
    more = {
        "pixel_values": torch.randn(1, 1, 1, 3, 28, 28),
        "aspect_ratio_ids": torch.tensor([[1]]),
        "aspect_ratio_mask": torch.ones(1, 1, 1).long(),
    }
    inputs = _tokens(1, **more)
    return config, inputs | {"cross_attention_mask": torch.ones(1, inputs["input_ids"].shape[1], 1, 1).long()}


def git() -> Family:
    config = hf.GitConfig(
        vision_config=_SQUARE,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        vocab_size=128,
        max_position_embeddings=512,
    )
    return config, _inputs([1, 5, 6], pixel_values=torch.randn(_PIXELS))


def pix2struct() -> Family:
    """An image encoder and a text decoder, and no prompt."""
    text = {"hidden_size": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 128}
    vision = {"hidden_size": 32, "patch_embed_hidden_size": 12, "d_ff": 64, "d_kv": 8, "num_hidden_layers": 2}
    config = hf.Pix2StructConfig(
        text_config=text | {"use_cache": True}, vision_config=vision | {"num_attention_heads": 4}
    )
    patches = torch.cat([torch.arange(8).view(1, 4, 2).float() + 1, torch.randn(1, 4, 12)], dim=-1)
    return config, {"flattened_patches": patches, "attention_mask": torch.ones(1, 4)}


def udop() -> Family:
    """One encoder reads the text, where it stands, and the image."""
    config = hf.UdopConfig(**_T5, image_size=28, patch_size=14, max_2d_position_embeddings=64, decoder_start_token_id=0)
    inputs = _inputs([5, 6, 7], pixel_values=torch.randn(_PIXELS))
    return config, inputs | {"bbox": torch.zeros(1, 3, 4).long()}


def janus() -> Family:
    vision = _SQUARE | {"projection_dim": 32, "num_image_tokens": 4, "mlp_ratio": 2.0}
    vq: dict[str, Any] = {
        "embed_dim": 8,
        "num_embeddings": 32,
        "latent_channels": 32,
        "base_channels": 32,
        "projection_dim": 32,
    }
    vq |= {"channel_multiplier": [1, 1], "num_res_blocks": 1, "num_patches": 2, "image_token_embed_dim": 32}
    config = hf.JanusConfig(
        text_config=hf.LlamaConfig(**_TEXT).to_dict(), vision_config=vision, vq_config=vq, image_token_id=IMAGE
    )
    return config, _tokens(4, pixel_values=torch.randn(_PIXELS))


def whisper() -> Family:
    """Hears, and sees nothing."""
    config = hf.WhisperConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=128,
        num_mel_bins=16,
        max_source_positions=20,
        max_target_positions=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    return config, {"input_features": torch.randn(1, 16, 40)}


def qwen2_audio() -> Family:
    audio = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    audio |= {"num_mel_bins": 16, "max_source_positions": 20}
    config = hf.Qwen2AudioConfig(
        audio_config=audio, text_config=hf.Qwen2Config(**_TEXT).to_dict(), audio_token_index=IMAGE
    )
    inputs = _tokens(10, input_features=torch.randn(1, 16, 40))
    return config, inputs | {"feature_attention_mask": torch.ones(1, 40).long()}


def built(family: Callable[[], Family]) -> tuple[Any, dict[str, torch.Tensor]]:
    """A model of a family with random weights, ready to generate, and its inputs."""
    config, inputs = family()
    if family is whisper:
        model = hf.WhisperForConditionalGeneration(config)
        fill_random(model, 0)
        return model.eval(), inputs
    return build_random(config, torch.device("cpu"), torch.float32, 0).eval(), inputs


MORE_FAMILIES: dict[str, Callable[[], Family]] = {
    family.__name__: family
    for family in (
        *(llava_next, llava_onevision, vipllava, video_llava, mistral3, idefics2, qwen2_vl, qwen3_vl, aya_vision),
        *(blip2, blip2_t5, instructblip, kosmos2, florence2, fuyu, ovis2, mllama, git, pix2struct, udop, janus),
        *(whisper, qwen2_audio),
    )
}

ALL_FAMILIES = FAMILIES | MORE_FAMILIES
