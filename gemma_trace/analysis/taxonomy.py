"""Kernel families: what kind of work a kernel, a copy or an op is. One table of rules, read from the first to the last.

A kernel's name is a signature: what it does stands in the function's name; what a generic one (`elementwise_kernel`,
`cutlass::Kernel2`) does stands in its template arguments; its parameters say nothing and are never looked at. So the
rules look at the function's name first, at its template arguments second, at the op that launched it last.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from gemma_trace.analysis.family_rules import EXTERNAL, FORMS, MARKS
from gemma_trace.lazy_patterns import AnyOf, LazyPattern

OTHER: Final = "other"

FAMILIES: Final = (*dict.fromkeys(family for family, _ in (*MARKS, *FORMS)), OTHER)
"""All families, in the order in which the rules look for them."""


_MARK_PATTERNS: Final = tuple((family, AnyOf(pattern)) for family, pattern in MARKS)
_FORM_PATTERNS: Final = tuple((family, AnyOf(pattern)) for family, pattern in FORMS)
_FUSED: Final = re.compile(r"triton_(?!tem_)[a-z_]+_fused_|(graph_\d+_)?cpp_fused_")
_EXTERNAL: Final = LazyPattern(EXTERNAL)
_BACKWARD: Final = re.compile(r"^(?:autograd::engine::evaluate_function: )?(?:torch::autograd::)?(\w+?)backward\d+$")


_MOST: Final = 16_384
"""How much of a name is looked at; no compiler writes longer ones."""


@cache
def family_of(name: str, op: str = "") -> str:
    """The family of a kernel, copy or op: by its name, failing that by the op that launched it; else `other`.

    >>> family_of("ampere_bf16_s16816gemm_bf16_128x64_ldg8_relu_f2f_stages_64x4_tn")
    'gemm'
    >>> family_of("Memcpy HtoD (Pageable -> Device)")
    'memcpy HtoD'
    >>> family_of("kernel_0", "aten::softmax")
    'softmax'
    """
    function, arguments = _signature(_plain(name[:_MOST]))
    return (
        _first(_MARK_PATTERNS, function)
        or _first(_MARK_PATTERNS, arguments)
        or _first(_FORM_PATTERNS, function)
        or _first(_FORM_PATTERNS, arguments)
        or _first((*_MARK_PATTERNS, *_FORM_PATTERNS), _plain(op[:_MOST]))
        or OTHER
    )


def _first(rules: tuple[tuple[str, AnyOf], ...], text: str) -> str | None:
    if not text:
        return None
    return next((family for family, pattern in rules if pattern.is_in(text)), None)


def _plain(name: str) -> str:
    """The name as the rules are written: in lower case, and of a node of autograd its op's.

    What `torch.compile` fuses is named after all the ops it stems from, also those that libraries run around it; they
    don't count.

    >>> _plain("triton_poi_fused_addmm_relu_0")
    'triton_poi_fused_epilogue_relu_0'
    >>> _plain("autograd::engine::evaluate_function: NativeLayerNormBackward0")
    'aten::nativelayernorm'
    """
    name = name.lower().removesuffix(" [clone .kd]").removesuffix(".kd")
    if _FUSED.match(name):
        return _EXTERNAL.sub("epilogue", name)
    return _BACKWARD.sub(r"aten::\1", name)


def _signature(name: str) -> tuple[str, str]:
    """The function's name and its template arguments, without its parameters.

    >>> _signature("void at::native::reduce_kernel<512, 1, meanops<float> >(meanops<float>)")
    ('at::native::reduce_kernel', '<512, 1, meanops<float> >')
    >>> _signature("std::enable_if<!(false), void>::type internal::gemvx::kernel<int, float>(params<int>)")
    ('internal::gemvx::kernel', '<!(false), void><int, float>')
    """
    if name.startswith(("memcpy", "memset")):
        return name, ""
    name = name.removeprefix("void ").replace("(anonymous namespace)::", "").replace("->", "")
    function: list[str] = []
    arguments: list[str] = []
    depth = begin = 0
    for bracket in re.finditer(r"[<>(]", name):
        if bracket[0] == "(" and depth == 0:
            break
        if bracket[0] == "<":
            depth += 1
            if depth == 1:
                function.append(name[begin : bracket.start()])
                begin = bracket.start()
        elif bracket[0] == ">" and depth:
            depth -= 1
            if depth == 0:
                arguments.append(name[begin : bracket.end()])
                begin = bracket.end()
    else:
        bracket = None
    end = len(name) if bracket is None else bracket.start()
    (arguments if depth else function).append(name[begin:end])
    return re.sub(r"^\S*::type ", "", "".join(function)), "".join(arguments)
