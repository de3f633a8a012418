"""A server's own measures, as it gives them to Prometheus: what they were before and after the requests."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from gemma_trace.served.api import Server, ServerError
from gemma_trace.served.record import Measure

MOST_KEPT: Final = 500

_LINE: Final = re.compile(r"([a-zA-Z_:][\w:]{0,199})(\{[^\n]{0,1000}\})? ([-+.0-9eE]{1,40})(?: \d{1,20})?")
_OURS: Final = re.compile(r"(?:vllm|sglang)[:_].*")
_LEFT_OUT: Final = re.compile(r".*(?:_bucket|_created)")
_LABEL: Final = re.compile(r',?(?:model_name|engine|engine_type|tp_rank|pp_rank|moe_ep_rank)="(?:[^"\\]|\\.)*"')

_MEANS: Final = (
    ("time in the queue", "request_queue_time_seconds"),
    ("time in the queue", "queue_time_seconds"),
    ("prefill", "request_prefill_time_seconds"),
)
_CACHES: Final = (("multimodal cache", "mm_cache"), ("prefix cache", "prefix_cache"))


@dataclass(frozen=True)
class Told:
    """One thing that a server says of the requests.

    Attributes:
        value: with its unit.
    """

    what: str
    value: str


def read_measures(server: Server) -> dict[str, float]:
    """The server's measures by name and labels; none where it offers none."""
    try:
        answer = server.ask("GET", "/metrics")
    except ServerError:
        return {}
    if answer.status != 200:
        return {}
    measures: dict[str, float] = {}
    for line in answer.body.decode("utf-8", "replace").splitlines():
        sample = _LINE.fullmatch(line)
        if sample is None or not _OURS.fullmatch(sample[1]) or _LEFT_OUT.fullmatch(sample[1]):
            continue
        labels = _LABEL.sub("", sample[2] or "").replace("{,", "{")
        try:
            value = float(sample[3])
        except ValueError:
            continue
        if math.isfinite(value):
            name = sample[1] + (labels if labels != "{}" else "")
            measures[name] = measures.get(name, 0.0) + value
    return measures


def changed(before: Mapping[str, float], after: Mapping[str, float]) -> tuple[Measure, ...]:
    """The measures that changed, by name; the first `MOST_KEPT`."""
    names = sorted(name for name in after if after[name] != before.get(name, 0.0))
    return tuple(Measure(name, before.get(name, 0.0), after[name]) for name in names[:MOST_KEPT])


def told(measures: tuple[Measure, ...]) -> list[Told]:
    """The metrics about the first token: mean times per request, and how often caches had what was asked for."""
    grown: dict[str, float] = {}
    for measure in measures:
        bare = re.split(r"[:{]", measure.name.partition("{")[0])[-1].removesuffix("_total")
        grown[bare] = grown.get(bare, 0.0) + measure.after - measure.before
    by_what: dict[str, Told] = {}
    for what, name in _MEANS:
        if count := grown.get(f"{name}_count"):
            by_what.setdefault(what, Told(what, f"{1e3 * grown.get(f'{name}_sum', 0.0) / count:,.3f} ms per request"))
    for what, name in _CACHES:
        if asked := grown.get(f"{name}_queries"):
            by_what[what] = Told(what, f"had {grown.get(f'{name}_hits', 0.0):,.0f} of {asked:,.0f}")
    return list(by_what.values())
