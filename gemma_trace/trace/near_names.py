"""The names of a trace that are nearest to what a rule's regular expression spells."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

from gemma_trace.errors import InputError
from gemma_trace.stages import StageRule
from gemma_trace.trace.places import distinct

if TYPE_CHECKING:
    from gemma_trace.trace.trace import Trace

MOST_NAMES: Final = 3
_LONGEST: Final = 60
"""How much of a name is shown."""
_READ: Final = 120
"""How much of a name is compared."""
_COMPARED: Final = 60
"""How many names are compared letter by letter."""
_PIECES: Final = 40
"""How many runs of three letters are looked for in every name."""
_NUMBER: Final = re.compile(r"\d+")
_LEAST: Final = 0.5
"""What is less alike is nothing like it."""


def names_like(trace: Trace, pattern: str) -> list[str]:
    """Up to three names of spans of the host, the nearest first, shortened; none where nothing is like it.

    Names that differ in their numbers alone count as one.
    """
    spans = trace.spans
    alike: dict[str, str] = {}
    for code in distinct(spans.name[trace.host]).tolist():
        name = spans.names[code][:_READ]
        alike.setdefault(_NUMBER.sub("#", name), name)
    return [_shown(name) for name in nearest(spelled(pattern), list(alike.values()))]


def spelled(pattern: str) -> str:
    """The parts of a regular expression that are plain text.

    >>> spelled(r"^nn\\.Module: MoE\\w*_(\\d+)$")
    'nn.Module: MoE _'
    """
    text = re.sub(r"\\[A-Za-z]|\(\?[A-Za-z]*[:=!)]", " ", pattern[:_READ])
    text = re.sub(r"\\(.)|[\^$*+?{}()\[\]|]", lambda match: match[1] or " ", text)
    return " ".join(text.split())


def nearest(text: str, names: Sequence[str]) -> list[str]:
    """The names that are nearest to a text, or have a part that is."""
    wanted, lowered = text.lower(), [name.lower() for name in names]
    pieces = list(dict.fromkeys(wanted[place : place + 3] for place in range(max(1, len(wanted) - 2))))
    pieces = pieces[:: max(1, -(-len(pieces) // _PIECES))]
    if not wanted:
        return []
    shared = [sum(map(name.__contains__, pieces)) for name in lowered]
    order = sorted(range(len(names)), key=lambda place: -shared[place])
    scored = [(_likeness(wanted, lowered[place]), place) for place in order[:_COMPARED]]
    best = sorted((-likeness, place) for likeness, place in scored if likeness >= _LEAST)
    return [names[place] for _, place in best[:MOST_NAMES]]


def _likeness(wanted: str, name: str) -> float:
    """0 to 1, how much of a text is in a name in runs of three letters, or how alike it is to a part of the name."""
    matcher = SequenceMatcher(None, name, wanted, autojunk=False)
    runs = sum(block.size for block in matcher.get_matching_blocks() if block.size >= 3) / len(wanted)
    longest = matcher.find_longest_match()
    start = max(0, longest.a - longest.b)
    part = name[start : start + len(wanted)]
    return max(runs, SequenceMatcher(None, part, wanted, autojunk=False).ratio())


def _shown(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def near_said(trace: Trace, rule: StageRule) -> str:
    """What a message that a rule matches nothing goes on with."""
    near = names_like(trace, rule.pattern)
    return f", and the nearest names are {', '.join(map(repr, near))}" if near else ", and no name is similar"


def no_such_stage(trace: Trace, stage: str, present: Iterable[str]) -> InputError:
    """The error that a trace has no such stage; where a rule was to make it, with what that could have meant.

    Args:
        present: the stages that the trace has.
    """
    text = f"{trace.path} has no stage {stage!r}; it has {', '.join(present) or 'none'}"
    for rule, names in zip(trace.rules, trace.rule_matches, strict=True):
        if rule.stage == stage and not len(names):
            text += f"; the rule {rule} matches no span{near_said(trace, rule)}"
    return InputError(text)
