"""The model `tiny`: Gemma 3's true architecture, small enough for a laptop's CPU, with random weights.

A SigLIP tower with 896×896 input and 4,096 patches, average pooling to 256 tokens, the projector, and six decoder
layers of which five slide and one is global, as in Gemma 3 4b and its larger kin. Only the widths, the number of
layers and the vocabulary are small. It needs no network and no token, and what it writes makes no sense.
"""

from __future__ import annotations

from typing import Final

import torch

from gemma_trace.capture.gemma3 import IMAGE_SIZE, PATCH_SIZE, SLIDING_WINDOW, TOKENS_PER_IMAGE

from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig  # isort: skip

# The image tokens follow the text vocabulary, as in the original.
VOCABULARY_SIZE: Final = 1024
BEGIN_IMAGE_ID, END_IMAGE_ID, IMAGE_ID = VOCABULARY_SIZE - 3, VOCABULARY_SIZE - 2, VOCABULARY_SIZE - 1


def tiny_config() -> Gemma3Config:
    """The shape of `tiny`."""
    return Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=VOCABULARY_SIZE,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            query_pre_attn_scalar=32,
            sliding_window=SLIDING_WINDOW,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=96,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            vision_use_head=False,
        ),
        mm_tokens_per_image=TOKENS_PER_IMAGE,
        boi_token_index=BEGIN_IMAGE_ID,
        eoi_token_index=END_IMAGE_ID,
        image_token_index=IMAGE_ID,
    )


def tiny_model(seed: int) -> Gemma3ForConditionalGeneration:
    """The model on the CPU in float32, its weights drawn from a normal distribution with this seed.

    Transformers starts some weights at zero; here none is, since zeros change the speed of some kernels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Gemma3ForConditionalGeneration(tiny_config())
        for name, weight in model.named_parameters():
            torch.nn.init.normal_(weight, mean=0.0, std=0.02)
            if name.endswith("norm.weight") and "vision" in name:
                weight.data += 1.0  # layer norms scale around one; Gemma's own add the one themselves
    return model
