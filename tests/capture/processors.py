"""The processors that go with the models of `vlms.py`: the real classes, a tokenizer of single characters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import transformers as hf
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tests.capture.vlms import IMAGE

_SQUARE = {"height": 28, "width": 28}
_SMALL = {"longest_edge": 28}
_SPECIAL = {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3}
_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n{% endfor %}"
)


def _template(image: str = "<image>") -> str:
    return _TEMPLATE.replace("IMAGE", image)


def _tokenizer(**named: str) -> Any:
    """A character a token, ids below 128; the named tokens from the image's id on, in their order."""
    vocabulary = _SPECIAL | {chr(code): 8 + place for place, code in enumerate([10, *range(0x20, 0x7F)])}
    vocabulary |= {token: IMAGE + place for place, token in enumerate(named.values())}
    free = set(range(128)) - set(vocabulary.values())
    vocabulary |= {f"<unused{place}>": place for place in free}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    special = {f"{token[1:-1]}_token": token for token in _SPECIAL}
    return hf.PreTrainedTokenizerFast(tokenizer_object=core, **special, extra_special_tokens=named)


def gemma3() -> Any:
    tokenizer = _tokenizer(image_token="<image>", boi_token="<boi>", eoi_token="<eoi>")
    images = hf.Gemma3ImageProcessor(size=_SQUARE)
    return hf.Gemma3Processor(images, tokenizer, chat_template=_template("<boi>"), image_seq_length=4)


def gemma4() -> Any:
    tokenizer = _tokenizer(
        image_token="<image>",
        boi_token="<boi>",
        eoi_token="<eoi>",
        video="<|video|>",
        audio_token="<audio>",
        boa_token="<boa>",
        eoa_token="<eoa>",
    )
    images = hf.Gemma4ImageProcessor(patch_size=4, max_soft_tokens=70)
    others = hf.Gemma4AudioFeatureExtractor(), hf.Gemma4VideoProcessor()
    return hf.Gemma4Processor(others[0], images, tokenizer, others[1], chat_template=_template())


def qwen2_5_vl() -> Any:
    tokenizer = _tokenizer(image_token="<image>", video_token="<video>", start="<start>", end="<end>")
    images = hf.Qwen2VLImageProcessor(min_pixels=56 * 56, max_pixels=84 * 84)
    template = _template("<start><image><end>")
    return hf.Qwen2_5_VLProcessor(images, tokenizer, hf.Qwen2VLVideoProcessor(), chat_template=template)


def llava() -> Any:
    return hf.LlavaProcessor(
        hf.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size=_SQUARE),
        _tokenizer(image_token="<image>"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_template(),
    )


def paligemma() -> Any:
    """Has no chat template."""
    images = hf.SiglipImageProcessor(size=_SQUARE, image_seq_length=4)
    return hf.PaliGemmaProcessor(images, _tokenizer(image_token="<image>"))


def idefics3() -> Any:
    tokenizer = _tokenizer(
        image_token="<image>",
        fake_image_token="<fake_token_around_image>",
        global_image_token="<global-img>",
        end_of_utterance_token="<end_of_utterance>",
    )
    images = hf.Idefics3ImageProcessor(size=_SMALL, max_image_size=_SMALL, do_image_splitting=False)
    return hf.Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=_template())


def internvl() -> Any:
    tokenizer = _tokenizer(
        context_image_token="<image>", start_image_token="<img>", end_image_token="</img>", video_token="<video>"
    )
    images, videos = hf.GotOcr2ImageProcessor(size=_SQUARE, max_patches=4), hf.InternVLVideoProcessor()
    return hf.InternVLProcessor(images, tokenizer, videos, image_seq_length=4, chat_template=_template())


def blip2() -> Any:
    """Has no chat template either, and puts the image's tokens before the text itself."""
    images = hf.BlipImageProcessor(size=_SQUARE)
    return hf.Blip2Processor(images, _tokenizer(picture="<image>"), num_query_tokens=4)


PROCESSORS: dict[str, Callable[[], Any]] = {
    maker.__name__: maker for maker in (gemma3, gemma4, qwen2_5_vl, llava, paligemma, idefics3, internvl)
}
