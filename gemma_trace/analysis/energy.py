"""Energy of a request and of a token, with how far off it can be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gemma_trace.metadata import Energy, RunMetadata


@dataclass(frozen=True)
class Amount:
    """Joules, give or take."""

    joules: float
    uncertainty: float


def energy_of(metadata: RunMetadata | None) -> Energy | None:
    """What a run's timed pass took, where that was counted."""
    energy = metadata.energy if metadata else None
    return energy if energy and energy.requests else None


def per_request(energy: Energy | None) -> Amount | None:
    """Joules per request, with all of its prompts and tokens."""
    return (
        None if energy is None else Amount(energy.joules / energy.requests, energy.uncertainty_joules / energy.requests)
    )


def per_token(energy: Energy | None) -> Amount | None:
    """Joules per generated token, including the prefill and the preprocessing of the requests."""
    if energy is None or not energy.tokens:
        return None
    return Amount(energy.joules / energy.tokens, energy.uncertainty_joules / energy.tokens)


def energy_of_ranks(ranks: Sequence[Energy | None]) -> Energy | None:
    """What a job took: the sum over its ranks' GPUs; None where a rank doesn't tell.

    RAPL counts a whole machine, and which ranks share one isn't known, so that its figures can't be summed.
    """
    known = [energy for energy in ranks if energy is not None]
    if not known or len(known) < len(ranks) or any(energy.source == "rapl" for energy in known):
        return None
    return replace(
        known[0],
        joules=sum(energy.joules for energy in known),
        uncertainty_joules=sum(energy.uncertainty_joules for energy in known),
        requests=min(energy.requests for energy in known),
        tokens=min(energy.tokens for energy in known),
    )
