"""The model `tiny`: Gemma 3's true architecture, small enough for a laptop's CPU, with random weights.

A SigLIP tower with 896×896 input and 4,096 patches, average pooling to 256 tokens, the projector, and six decoder
layers of which five slide and one is global, as in Gemma 3 4b and its larger kin. Only the widths, the number of
layers and the vocabulary are small. It needs no network and no token, and what it writes makes no sense.
"""

from __future__ import annotations

from typing import Final

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaTokenizer,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

IMAGE_SIZE: Final = 896
PATCH_SIZE: Final = 14
TOKENS_PER_IMAGE: Final = 256
SLIDING_WINDOW: Final = 1024

# Gemma's ids for what its chat format needs; the image tokens follow the text vocabulary, as in the original.
SPECIAL_TOKENS: Final = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
START_OF_TURN_ID: Final = 105
END_OF_TURN_ID: Final = 106
FIRST_BYTE_ID: Final = 107
VOCABULARY_SIZE: Final = 1024
BEGIN_IMAGE_ID, END_IMAGE_ID, IMAGE_ID = VOCABULARY_SIZE - 3, VOCABULARY_SIZE - 2, VOCABULARY_SIZE - 1

CHAT_TEMPLATE: Final = """\
{{ bos_token }}
{%- set system = namespace(text='') -%}
{%- for message in messages -%}
  {%- set parts = [{'type': 'text', 'text': message['content']}] if message['content'] is string
                  else message['content'] -%}
  {%- if message['role'] == 'system' -%}
    {%- for part in parts -%}{%- set system.text = system.text + part['text'] + '\n\n' -%}{%- endfor -%}
  {%- else -%}
    {{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' -}}
    {{- system.text -}}
    {%- set system.text = '' -%}
    {%- for part in parts -%}
      {{- '<start_of_image>' if part['type'] == 'image' else part['text'] | trim -}}
    {%- endfor -%}
    {{- '<end_of_turn>\n' -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}
"""
"""Gemma's chat format: turns between `<start_of_turn>` and `<end_of_turn>`, the system text in the first user turn."""


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


def tiny_tokenizer() -> GemmaTokenizer:
    """A tokenizer made in memory: Gemma's special tokens, printable ASCII, and bytes for all else."""
    vocabulary = dict(SPECIAL_TOKENS)
    vocabulary |= {"<start_of_turn>": START_OF_TURN_ID, "<end_of_turn>": END_OF_TURN_ID}
    vocabulary |= {f"<0x{byte:02X}>": FIRST_BYTE_ID + byte for byte in range(256)}
    characters = ["\n", "\u2581", *(chr(code) for code in range(0x21, 0x7F))]
    vocabulary |= {character: FIRST_BYTE_ID + 256 + index for index, character in enumerate(characters)}
    image_tokens = {
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "image_token": "<image_soft_token>",
    }
    ids = (BEGIN_IMAGE_ID, END_IMAGE_ID, IMAGE_ID)
    vocabulary |= dict(zip(image_tokens.values(), ids, strict=True))
    return GemmaTokenizer(
        vocab=vocabulary,
        merges=[],
        extra_special_tokens=image_tokens,
        additional_special_tokens=["<start_of_turn>", "<end_of_turn>"],
    )


def tiny_processor(image_backend: str) -> Gemma3Processor:
    """The processor with Gemma 3's published settings: 896×896, bilinear, mean and std 0.5, no pan and scan."""
    image_processor_class = Gemma3ImageProcessorPil if image_backend == "pil" else Gemma3ImageProcessor
    image_processor = image_processor_class(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_pan_and_scan=False,
    )
    return Gemma3Processor(
        image_processor=image_processor,
        tokenizer=tiny_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        image_seq_length=TOKENS_PER_IMAGE,
    )
