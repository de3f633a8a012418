"""The model `tiny`: Gemma 3's true architecture, small enough for a laptop's CPU, with random weights.

A SigLIP tower with 896×896 input and 4,096 patches, average pooling to 256 tokens, the projector, and six decoder
layers of which five slide and one is global, as in Gemma 3 4b and its larger kin. Only the widths, the number of
layers and the vocabulary are small. It needs no network and no token, and what it writes makes no sense.
"""

from __future__ import annotations

import torch

from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.gemma3_shapes import IMAGE_SIZE, PATCH_SIZE, SLIDING_WINDOW, TINY, TINY_SIGLIP, TOKENS_PER_IMAGE

declare_missing_operators()  # or the import below fails beside a torch without CUDA

from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig  # noqa: E402

# The image tokens follow the text vocabulary, as in the original.
BEGIN_IMAGE_ID, END_IMAGE_ID, IMAGE_ID = TINY.vocabulary - 3, TINY.vocabulary - 2, TINY.vocabulary - 1


def tiny_config() -> Gemma3Config:
    """The shape of `tiny`."""
    return Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=TINY.vocabulary,
            hidden_size=TINY.hidden,
            intermediate_size=TINY.intermediate,
            num_hidden_layers=TINY.layers,
            num_attention_heads=TINY.heads,
            num_key_value_heads=TINY.kv_heads,
            head_dim=TINY.head_dim,
            query_pre_attn_scalar=TINY.query_pre_attn_scalar,
            sliding_window=SLIDING_WINDOW,
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=TINY_SIGLIP.hidden,
            intermediate_size=TINY_SIGLIP.intermediate,
            num_hidden_layers=TINY_SIGLIP.layers,
            num_attention_heads=TINY_SIGLIP.heads,
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
