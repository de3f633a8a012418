"""Which traces of two sides are held against each other: runs of one name, or all of them as repeats of one thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gemma_trace.errors import InputError
from gemma_trace.metadata import RunMetadata
from gemma_trace.trace.header import label_of
from gemma_trace.trace.trace import load_metadata

_INCIDENTAL: Final = frozenset({"output", "name", "force", "quiet"})
"""Options of a capture that change nothing that is measured."""


@dataclass(frozen=True)
class Pairing:
    """One comparison to be made.

    Attributes:
        befores, afters: the trace files of the two sides, one process each.
        is_paired: file i of the two sides is of one round.
        names: what the sides are called; None for what their runs are.
        lost: rounds that one side alone has, a line each.
    """

    befores: tuple[Path, ...]
    afters: tuple[Path, ...]
    is_paired: bool = False
    names: tuple[str, str] | None = None
    lost: tuple[str, ...] = ()


def pair_runs(
    sides: tuple[Sequence[Path], Sequence[Path]], words: tuple[str, str], *, repeats: bool = False
) -> tuple[list[Pairing], list[str]]:
    """What to compare, and what is left over on either side, a line each.

    A side is repeats where its traces say that they were captured with the same options, or where the caller says so.
    Two sides of repeats are one comparison; runs of the same names are its rounds then. Two single traces are compared
    whatever they are called; of anything else, runs of one name are.

    Args:
        sides: the trace files of either side.
        words: what the sides are called in messages.
        repeats: all traces of a side are of one configuration, whatever they say.

    Raises:
        InputError: two runs of one name that aren't repeats, or the sides have no run in common.
    """
    if len(sides[0]) == len(sides[1]) == 1:
        return [Pairing((sides[0][0],), (sides[1][0],))], []
    known = [{path: load_metadata(path) for path in side} for side in sides]
    labels = [{path: label_of(path, metadata) for path, metadata in side.items()} for side in known]
    if repeats or (max(map(len, sides)) > 1 and all(map(_are_repeats, known))):
        return [_of_repeats(labels, words)], []
    first, second = (_by_name(side) for side in labels)
    pairs = [Pairing((first[name],), (second[name],)) for name in first if name in second]
    if not pairs:
        raise InputError(
            f"{words[0]} and {words[1]} have no run in common: {', '.join(first)}; {', '.join(second)}. "
            "Give two trace files, capture both sides with the same --name, or give --repeats if all runs of a side "
            "are of one configuration"
        )
    left = [f"{name}, only in {words[0]}" for name in first if name not in second]
    return pairs, left + [f"{name}, only in {words[1]}" for name in second if name not in first]


def are_repeats(runs: Sequence[RunMetadata | None]) -> bool:
    """Whether runs say of themselves that they are of one configuration."""
    known = [metadata for metadata in runs if metadata]
    return len(known) == len(runs) > 0 and all(_options(metadata) == _options(known[0]) for metadata in known)


def _are_repeats(side: Mapping[Path, RunMetadata | None]) -> bool:
    return are_repeats(list(side.values()))


def _options(metadata: RunMetadata) -> dict[str, object]:
    run = metadata.run
    named = {"model": run.model, "weights": run.weights, "dtype": run.dtype, "on": run.device, "by": run.image_backend}
    return named | {name: value for name, value in metadata.config.items() if name not in _INCIDENTAL}


def _of_repeats(labels: Sequence[Mapping[Path, str]], words: tuple[str, str]) -> Pairing:
    """Rounds where names tell them that both sides have: those of the runs, or, where a command calls all of its
    traces alike, of their folders."""
    for rounds in (labels, [{path: path.parent.name for path in side} for side in labels]):
        first, second = ({name: path for path, name in side.items()} for side in rounds)
        both = [name for name in first if name in second]
        if len(first) == len(labels[0]) and len(second) == len(labels[1]) and len(both) > 1:
            lost = [
                f"round {name} is left out, because it is only in {words[0]}" for name in first if name not in second
            ]
            lost += [
                f"round {name} is left out, because it is only in {words[1]}" for name in second if name not in first
            ]
            befores, afters = (tuple(side[name] for name in both) for side in (first, second))
            return Pairing(befores, afters, is_paired=True, names=words, lost=tuple(lost))
    return Pairing(tuple(labels[0]), tuple(labels[1]), names=words)


def _by_name(labels: Mapping[Path, str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path, name in labels.items():
        if name in named:
            raise InputError(
                f"{path} and {named[name]} are both of run {name!r}; give one of them, or give --repeats if all runs "
                "of a side are of one configuration"
            )
        named[name] = path
    return named
