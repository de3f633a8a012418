"""All rules."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from gemma_trace.advice import rules
from gemma_trace.advice.rule import Rule


def all_rules() -> tuple[Rule, ...]:
    """The rule of each file of `rules/`, by name."""
    return tuple(import_module(f"{rules.__name__}.{module.name}").RULE for module in iter_modules(rules.__path__))


RULES: Final = all_rules()
"""In the order of their names."""
