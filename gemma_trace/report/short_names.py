"""Kernel names as people can read them."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

_TELLING: Final = re.compile(r"\b\w*(?:Functor|Ops?\b|Impl|_kernel_cuda|_kernel_impl|gemm|Gemm|conv|Fwd|Bwd)\w*")
_NAMESPACES: Final = re.compile(
    r"(?:\b(?:at|native|c10|std|detail|internal|binary_internal)|\(anonymous namespace\))::"
)
_MAX_TELLING: Final = 2


@cache
def folded(name: str) -> str:
    """A C++ kernel's name without return type, arguments and namespaces, its template arguments down to what tells.

    Names of other kinds stay as they are.

    >>> folded("void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<int>, X>(int, X)")
    'vectorized_elementwise_kernel<FillFunctor>'
    >>> folded("Memcpy HtoD (Pageable -> Device)")
    'Memcpy HtoD (Pageable -> Device)'
    """
    if "<" not in name and "::" not in name and not name.startswith("void "):
        return name
    if name.startswith(("Memcpy", "Memset", "aten::")):
        return name
    plain = _NAMESPACES.sub("", name.removeprefix("void "))
    base, inside = _split(plain)
    telling = [word for word in dict.fromkeys(_TELLING.findall(inside)) if word not in base][:_MAX_TELLING]
    if not telling:
        return base + ("<…>" if inside else "")
    return f"{base}<{' '.join(telling)}>"


def _split(name: str) -> tuple[str, str]:
    """What stands outside of all brackets before the arguments, and what stands between the angle ones."""
    outside: list[str] = []
    inside: list[str] = []
    depth = 0
    for character in name:
        if character == "(" and depth == 0 and outside:
            break
        if character == ">" and depth:
            depth -= 1
        (inside if depth else outside).append(character)
        if character == "<":
            if not depth:
                outside.pop()
            depth += 1
    return "".join(character for character in outside if character != ">").strip(), "".join(inside)
