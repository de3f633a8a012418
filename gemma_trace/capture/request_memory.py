"""Whether a request fits before it is run: attention's share grows with the square of the prompt's length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch

from gemma_trace.capture.model_memory import own_bytes
from gemma_trace.errors import DeviceError

_FLOAT32_BYTES: Final = 4


@dataclass(frozen=True)
class RequestShape:
    """How large a request is.

    Attributes:
        prompts: how many are in it.
        images: of each prompt.
        image_pixels: of one of them, as it is in its file.
        prompt_tokens: of each prompt, its images' included.
        new_tokens: that are generated for each.
        chunk_tokens: of one forward of the prefill; None is all.
        typed: whether tokens have types, by which the mask lets those of an image see each other.
    """

    prompts: int
    images: int
    image_pixels: int
    prompt_tokens: int
    new_tokens: int
    chunk_tokens: int | None
    typed: bool


def request_bytes(config: Any, shape: RequestShape, element_bytes: int) -> dict[str, int]:
    """What a request takes beside the weights, in bytes by what takes it: the larger of its two phases.

    Of b prompts of t tokens, c of them in a forward, in elements of e bytes:

    * attention, eager: b·c·t·h·(8, and e more below float32), scores and softmax of h heads in float32, which is what
      `eager_attention_forward` of transformers' models holds at once; and a mask of e bytes a kind of layer.
    * attention, sdpa: where a mask is needed (tokens with types, a sliding window that the prompt exceeds) b·c·t bytes
      a kind of layer (`masking_utils.sdpa_mask`), and b·c·t·e for the one that torch turns into numbers
      (`convert_boolean_attn_mask` in ATen's attention.cpp). FlashAttention takes neither.
    * keys and values: 2·layers·kv_heads·head_dim·b·(t + new)·e.
    * activations: b·c·(6·hidden + 3·intermediate)·e: what a layer of the decoder has at once.
    * logits: b·vocabulary·(e + 4), of the last position, in float32 too.
    * images, the other phase: pixels in bytes and three times in float32, then activations, and eager's scores, of all
      patches of the tower.

    Measured with `tiny` in float32 at the peak: 0.44 GB for 8,192 tokens by sdpa, where this says 0.50; 1.59 GB for
    6,144 by eager, where this says 1.62; 0.55 GB for an image in eager's tower, where this says 0.59.

    Args:
        config: the model's, as transformers has it.
    """
    text = config.get_text_config()
    prompts, prompt = shape.prompts, shape.prompt_tokens
    forward = min(shape.chunk_tokens or prompt, prompt)
    hidden, layers = _number(text, "hidden_size"), _number(text, "num_hidden_layers")
    heads = _number(text, "num_attention_heads", 1)
    kv_heads = _number(text, "num_key_value_heads", heads)
    head_size = _number(text, "head_dim", hidden // heads)
    prefill = {
        "attention": prompts * forward * prompt * _attention_bytes_a_pair(text, shape, heads, element_bytes),
        "keys and values": 2 * layers * kv_heads * head_size * prompts * (prompt + shape.new_tokens) * element_bytes,
        "activations": prompts * forward * _layer_elements(text) * element_bytes,
        "logits": prompts * _number(text, "vocab_size") * (element_bytes + _FLOAT32_BYTES),
    }
    images = {"images": _image_bytes(getattr(config, "vision_config", None), shape, element_bytes)}
    return max(prefill, images, key=lambda parts: sum(parts.values()))


def check_request(config: Any, shape: RequestShape, dtype: torch.dtype, *devices: torch.device) -> None:
    """Refuse a request that is too large for its devices, of which each holds a part of what it takes.

    Raises:
        DeviceError: it needs more than is free.
    """
    parts = request_bytes(config, shape, dtype.itemsize)
    needed, free = sum(parts.values()), sum(map(own_bytes, devices))
    if needed > free:
        most = max(parts, key=parts.__getitem__)
        tokens = f"{shape.prompts * shape.prompt_tokens:,} tokens and {shape.prompts * shape.images:,} images"
        where = f"{' and '.join(map(str, devices))} {'has' if len(devices) == 1 else 'have'}"
        raise DeviceError(
            f"a request of {tokens} needs {needed / 1e9:,.1f} GB, {parts[most] / 1e9:,.1f} of them for {most}, and "
            f"{where} {free / 1e9:,.1f} GB free; lower --prompt-tokens, --batch or --images-per-request, "
            "shorten --prompt, or give --prefill-chunk"
        )


def _attention_bytes_a_pair(text: Any, shape: RequestShape, heads: int, element_bytes: int) -> int:
    """What a layer takes for each pair of a query and a key."""
    implementation = _implementation(text)
    kinds = len(set(getattr(text, "layer_types", None) or ["full_attention"]))
    if implementation == "eager":
        return _eager_bytes_a_pair(heads, element_bytes) + kinds * element_bytes
    if "flash" in implementation:
        return 0
    window = _number(text, "sliding_window")
    slides = "sliding_attention" in (getattr(text, "layer_types", None) or ()) and shape.prompt_tokens > window > 0
    masks = kinds if shape.typed else int(slides)
    return masks + element_bytes if masks else 0


def _eager_bytes_a_pair(heads: int, element_bytes: int) -> int:
    return heads * (2 * _FLOAT32_BYTES + (element_bytes if element_bytes < _FLOAT32_BYTES else 0))


def _image_bytes(vision: Any, shape: RequestShape, element_bytes: int) -> int:
    """What all images of a request take; of a tower that doesn't tell its patches the pixels alone."""
    side, patch = _number(vision, "image_size"), _number(vision, "patch_size", 1)
    patches = (side // max(patch, 1)) ** 2
    of_one = patches * _layer_elements(vision) * element_bytes
    if _implementation(vision) == "eager":
        of_one += patches**2 * _eager_bytes_a_pair(_number(vision, "num_attention_heads", 1), element_bytes)
    processed = 3 * 3 * (side * side or shape.image_pixels) * _FLOAT32_BYTES
    return shape.images * shape.image_pixels * 3 + shape.prompts * shape.images * (of_one + processed)


def _layer_elements(config: Any) -> int:
    """Of one token, the values that a layer has at once."""
    return 6 * _number(config, "hidden_size") + 3 * _number(config, "intermediate_size")


def _implementation(config: Any) -> str:
    return str(getattr(config, "_attn_implementation", None) or "sdpa")


def _number(config: Any, name: str, default: int = 0) -> int:
    """A number of a configuration; of those that have one a layer the largest."""
    value = getattr(config, name, None)
    values = [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, int)]
    return max(values, default=default) or default
