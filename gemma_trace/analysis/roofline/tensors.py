"""What Kineto records of an op's inputs, as shapes, dtypes and values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from gemma_trace.foreign import list_of

ITEM_BYTES: Final = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Size of an element, by dtype."""

_DTYPES: Final = {
    "double": "float64",
    "float": "float32",
    "c10::Half": "float16",
    "c10::BFloat16": "bfloat16",
    "c10::Float8_e4m3fn": "float8",
    "c10::Float8_e5m2": "float8",
    "c10::Float8_e4m3fnuz": "float8",
    "c10::Float8_e5m2fnuz": "float8",
    "long int": "int64",
    "long": "int64",
    "int": "int32",
    "short int": "int16",
    "short": "int16",
    "signed char": "int8",
    "unsigned char": "uint8",
    "bool": "bool",
}
"""The C++ types that `Input type` names, as dtypes."""


MOST: Final = 2**53
"""No tensor has as many elements: what says so isn't understood."""

_DIGITS: Final = 17
_INTEGERS: Final = re.compile(r"\[[-0-9, ]{1,1000}\]")


@dataclass(frozen=True)
class Tensor:
    """A tensor among an op's inputs.

    Attributes:
        shape: as the op sees it.
        dtype: a key of `ITEM_BYTES`.
        stored: how many elements lie in memory: a dimension that is expanded (stride 0) counts once.
    """

    shape: tuple[int, ...]
    dtype: str
    stored: int

    @property
    def elements(self) -> int:
        """How many there are."""
        return prod(self.shape)

    @property
    def bytes(self) -> int:
        """The size of the tensor in memory."""
        return self.stored * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class Inputs:
    """An op's inputs, by place in its signature.

    Attributes:
        tensors: None where an input is no tensor, or of a type that has no fixed size here (lists, complex numbers).
        values: the text of the others' values: `[14, 14]`, `False`, `0.125`; "" where none is recorded.
    """

    tensors: tuple[Tensor | None, ...]
    values: tuple[str, ...]

    def tensor(self, place: int) -> Tensor | None:
        """The tensor at a place; None where there is none."""
        return self.tensors[place] if place < len(self.tensors) else None

    def value(self, place: int) -> str:
        """The text at a place; "" where there is none."""
        return self.values[place] if place < len(self.values) else ""

    def integers(self, place: int) -> tuple[int, ...] | None:
        """The list of integers at a place; None where there is none.

        >>> Inputs((), ("[14, 14]",)).integers(0)
        (14, 14)
        """
        text = self.value(place)
        if not _INTEGERS.fullmatch(text):
            return None
        digits = re.findall(r"-?[0-9]+", text)
        return tuple(map(int, digits)) if all(len(each) < _DIGITS for each in digits) else None

    def is_true(self, place: int) -> bool:
        """Whether the value at a place is True."""
        return self.value(place) == "True"

    @property
    def given(self) -> tuple[Tensor, ...]:
        """The tensors alone."""
        return tuple(tensor for tensor in self.tensors if tensor is not None)


def read_inputs(dims: str, types: str, strides: str = "", values: str = "") -> Inputs:
    """Kineto's texts, each a JSON list with an entry an input, as inputs.

    Args:
        dims: `Input Dims`.
        types: `Input type`.
        strides: `Input Strides`; "" where it isn't recorded: then nothing counts as expanded.
        values: `Concrete Inputs`; "" where it isn't recorded.
    """
    shapes, names, steps, texts = (list_of(text) if text else [] for text in (dims, types, strides, values))
    steps += [None] * (len(shapes) - len(steps))
    tensors = (_tensor(shape, name, step) for shape, name, step in zip(shapes, names, steps, strict=False))
    return Inputs(tuple(tensors), tuple(text if isinstance(text, str) else "" for text in texts))


def _tensor(shape: Any, name: Any, strides: Any) -> Tensor | None:
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None or not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        return None
    dense = [1] * len(shape)
    steps = strides if isinstance(strides, list) and len(strides) == len(shape) else dense
    if prod(filter(None, shape)) > MOST:
        return None
    stored = prod(size for size, step in zip(shape, steps, strict=True) if step != 0)
    return Tensor(tuple(shape), dtype, 0 if 0 in shape else stored)
