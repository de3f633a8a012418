"""The columns of energy, in the table of runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from gemma_trace.analysis.energy import Amount, per_request, per_token
from gemma_trace.analysis.summary import RunSummary
from gemma_trace.metadata import Energy
from gemma_trace.report.number_text import decimals, significant
from gemma_trace.report.table import Col
from gemma_trace.report.units import FIGURES, NUMBER, Unit

_WHOSE: Final = {
    "nvml": "the GPUs (NVML)",
    "amdsmi": "the GPUs (AMD SMI)",
    "rapl": "the processor packages (RAPL)",
}
_AMOUNTS: Final = {"request": per_request, "token": per_token}
_DEFINITIONS: Final = {
    "request": "energy that the device's counter recorded over the timed pass, divided by its requests; it includes "
    "idle power and the work of other programs",
    "token": "the same, divided by the tokens that all prompts generated; it includes the prefill",
}


def amount_text(amount: Amount) -> str:
    """Joules, give or take.

    >>> amount_text(Amount(41.25, 0.5))
    '41.25 ±0.50'
    """
    return f"{significant(amount.joules)} ±{amount.uncertainty:,.{decimals(amount.joules)}f}"


JOULES: Final = Unit("J", amount_text)


def _amount(what: str, run: RunSummary) -> Amount | None:
    return _AMOUNTS[what](run.energy)


def _joules(what: str, run: RunSummary) -> float | None:
    amount = _amount(what, run)
    return None if amount is None else amount.joules


def _uncertainty(what: str, run: RunSummary) -> float | None:
    amount = _amount(what, run)
    return None if amount is None else amount.uncertainty


ENERGY_SHOWN: Final = tuple(
    Col(f"energy_{what}", f"energy a {what}", JOULES, priority=8, value=partial(_amount, what)) for what in _AMOUNTS
)
"""What people see, where a run has it."""

ENERGY_FILE: Final = (
    *(
        Col(f"energy_{what}_joules", "", NUMBER, definition=_DEFINITIONS[what], value=partial(_joules, what))
        for what in _AMOUNTS
    ),
    *(
        Col(
            f"energy_{what}_uncertainty_joules",
            "",
            NUMBER,
            definition="how far off that can be: one update of the counter at the mean power, plus one of its steps",
            value=partial(_uncertainty, what),
        )
        for what in _AMOUNTS
    ),
    Col(
        "energy_source",
        "",
        FIGURES,
        definition="`nvml` or `amdsmi`: the model's GPUs, whole; `rapl`: the host's processor packages",
        value="energy.source",
    ),
)


def energy_notes(runs: Sequence[RunSummary]) -> Iterator[str]:
    """Where the figures come from."""
    known: list[Energy] = [run.energy for run in runs if run.energy is not None]
    for source in dict.fromkeys(energy.source for energy in known):
        slowest_ns = max(energy.update_ns for energy in known if energy.source == source)
        yield (
            f"Energy is the increase of the counters of {_WHOSE.get(source, source)} over the timed pass, including "
            f"idle power and the work of other programs; ± is one of their updates, "
            f"{significant(slowest_ns / 1e6)} ms apart, at the mean "
            "power."
        )
