"""What is done slowly, alone and together, and which rule should speak of it. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Fault:
    """Something that is done slowly.

    Attributes:
        rule: the rule that should speak of it.
        what: what is changed, in words.
        option: the option of a capture that changes it, and its slow and its fast value; empty where none does.
    """

    name: str
    rule: str
    what: str
    option: tuple[str, str, str] | tuple[()] = ()


FAULTS: Final = {
    fault.name: fault
    for fault in (
        Fault("loader", "image_load", "an image loader that sleeps → none"),
        Fault("attention", "unfused_attention", "attention eager → sdpa", ("attn", "eager", "sdpa")),
        Fault("threads", "cpu_threads", "one thread → two", ("threads", "1", "2")),
        Fault(
            "images",
            "image_processor",
            "image processor on Pillow → torchvision",
            ("image_backend", "pil", "torchvision"),
        ),
        Fault("processor", "processor_per_request", "processor and tokenizer made for every request → once"),
        Fault("float32", "low_precision", "float32 → bfloat16", ("dtype", "float32", "bfloat16")),
    )
}


@dataclass(frozen=True)
class Model:
    """The widths of a model like `tiny`, and what its requests are.

    Attributes:
        image: the size of a request's picture in pixels, WIDTHxHEIGHT.
        side: the pixels of a side of what the vision tower sees.
        patches: the patches of a side, a multiple of 16.
        hidden: the width of the decoder; its MLP is four times as wide.
        prompt_tokens: of a request, those of its image included.
    """

    image: str = "640x480"
    side: int = 224
    patches: int = 16
    hidden: int = 128
    prompt_tokens: int = 320


@dataclass(frozen=True)
class Case:
    """Requests with one fault or several.

    Attributes:
        sleep_ms: how long the image loader sleeps.
        share: of the time that there is, its part.
    """

    name: str
    faults: tuple[str, ...]
    model: Model
    sleep_ms: int = 200
    share: float = 1.0

    @property
    def cores(self) -> int:
        """How many its process runs on: one, where threads aren't what it is about, since two are disturbed more."""
        return 2 if "threads" in self.faults else 1


SMALL: Final = Model()
TOGETHER: Final = "together"
CASES: Final = (
    Case(
        TOGETHER,
        ("loader", "attention", "threads", "images", "processor"),
        Model(image="1024x768", side=896, patches=32, hidden=896),
        sleep_ms=800,
        share=5.0,
    ),
    Case("loader", ("loader",), SMALL),
    Case("processor", ("processor",), SMALL),
    Case("images", ("images",), Model(image="1024x768", side=896)),
    Case("attention", ("attention",), Model(side=448, patches=32)),
    Case("threads", ("threads",), Model(hidden=512)),
    Case("float32", ("float32",), SMALL, share=0.6),
)
"""Several faults at once, and each in requests in which nothing else takes as long."""
