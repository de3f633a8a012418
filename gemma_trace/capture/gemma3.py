"""Gemma 3 at its public sizes: configurations, and a processor that needs no network."""

from __future__ import annotations

from typing import Final

from gemma_trace.capture.torchvision_ops import declare_missing_operators
from gemma_trace.gemma3_shapes import IMAGE_SIZE, PATCH_SIZE, SIGLIP, SLIDING_WINDOW, TOKENS_PER_IMAGE
from gemma_trace.gemma3_shapes import SHAPES as SHAPES

declare_missing_operators()  # or the imports below fail beside a torch without CUDA

from transformers import (  # noqa: E402
    Gemma3Config,
    Gemma3ImageProcessor,
    Gemma3Processor,
    Gemma3TextConfig,
    GemmaTokenizer,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil  # noqa: E402


def gemma3_config(size: str) -> Gemma3Config:
    """The published configuration of a size: `4b`, `12b` or `27b`."""
    shape = SHAPES[size]
    return Gemma3Config(
        text_config=Gemma3TextConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.hidden,
            intermediate_size=shape.intermediate,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
            head_dim=shape.head_dim,
            query_pre_attn_scalar=shape.query_pre_attn_scalar,
            sliding_window=SLIDING_WINDOW,
            max_position_embeddings=131_072,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1_000_000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
            },
        ),
        vision_config=SiglipVisionConfig(
            hidden_size=SIGLIP.hidden,
            intermediate_size=SIGLIP.intermediate,
            num_hidden_layers=SIGLIP.layers,
            num_attention_heads=SIGLIP.heads,
            image_size=IMAGE_SIZE,
            patch_size=PATCH_SIZE,
            vision_use_head=False,
        ),
        mm_tokens_per_image=TOKENS_PER_IMAGE,
        boi_token_index=255_999,
        eoi_token_index=256_000,
        image_token_index=262_144,
    )


# Gemma's ids for what its chat format needs.
SPECIAL_TOKENS: Final = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "<mask>": 4}
START_OF_TURN_ID: Final = 105
END_OF_TURN_ID: Final = 106
FIRST_BYTE_ID: Final = 107

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


def byte_tokenizer(config: Gemma3Config) -> GemmaTokenizer:
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
    ids = (config.boi_token_index, config.eoi_token_index, config.image_token_index)
    vocabulary |= dict(zip(image_tokens.values(), ids, strict=True))
    turns = {"sot_token": "<start_of_turn>", "eot_token": "<end_of_turn>"}
    return GemmaTokenizer(vocab=vocabulary, merges=[], extra_special_tokens=image_tokens | turns)


def gemma3_processor(config: Gemma3Config, image_backend: str) -> Gemma3Processor:
    """The processor with Gemma 3's published settings: 896×896, bilinear, mean and std 0.5, no pan and scan.

    Its tokenizer knows letters, not words: a prompt has a few more tokens than Gemma's own would give it.
    """
    image_processor_class = Gemma3ImageProcessorPil if image_backend == "pil" else Gemma3ImageProcessor
    image_processor = image_processor_class(
        size={"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        do_pan_and_scan=False,
    )
    return Gemma3Processor(
        image_processor=image_processor,
        tokenizer=byte_tokenizer(config),
        chat_template=CHAT_TEMPLATE,
        image_seq_length=TOKENS_PER_IMAGE,
    )
