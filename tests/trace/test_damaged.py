"""Damaged variants of one real trace, against counts by the json module where it can read them."""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from gemma_trace.errors import TraceFormatError
from gemma_trace.health.examine import examine
from gemma_trace.trace.reader import read_header, read_trace
from gemma_trace.trace.trace import load


class Outcome(NamedTuple):
    """What is left of a damaged trace."""

    spans: int
    activities: int
    verdict: str
    repairs: dict[str, int]
    truncated: bool = False


OUTCOMES = {
    "backslash.json": Outcome(2060, 61, "ok", {"broken_escapes": 2}),
    "badutf8.json": Outcome(2060, 61, "ok", {"bad_utf8": 2}),
    "ctrl.json": Outcome(2060, 61, "ok", {"control_characters": 2}),
    "cpuonly.json": Outcome(1866, 0, "ok", {}),
    "listform.json": Outcome(2060, 61, "ok", {}),
    "nan.json": Outcome(2060, 61, "warning", {"not_a_number": 1, "missing_durations": 1}),
    "negdur.json": Outcome(2060, 61, "warning", {"negative_durations": 1}),
    "noflow.json": Outcome(2060, 61, "ok", {}),
    "strts.json": Outcome(2060, 61, "ok", {"text_numbers": 4611}),
    "trunc_plain.json": Outcome(605, 0, "error", {}, truncated=True),
    "truncated.json.gz": Outcome(745, 0, "error", {}, truncated=True),
}

REFUSALS = {
    "empty.json": "is empty; was the trace written to its end?",
    "empty.json.gz": "is empty; was the trace written to its end?",
    "emptyinner.json.gz": "is empty; was the trace written to its end?",
    "nokey.json": "is not a trace: it has no traceEvents; give a file that torch.profiler exported",
    "noevents.json": "has no trace events; was the profiler running?",
    "metaonly.json": "holds metadata but no span; was anything run under the profiler?",
}

VALID_JSON = ["cpuonly.json", "listform.json", "nan.json", "negdur.json", "noflow.json", "strts.json"]
"""What the json module reads, NaN among it."""


def decoded(path: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """The events and the other members, as the json module reads them."""
    data = json.loads(path.read_text(), parse_float=Decimal)
    if isinstance(data, list):
        return data, set()
    return data["traceEvents"], set(data) - {"traceEvents"}


def expected_ns(value: Any) -> int:
    """A duration or time of the json module, as it should be read."""
    if value is None or value != value:  # NaN
        return 0
    return int(Decimal(value) * 1000)


@pytest.mark.parametrize("name", OUTCOMES)
def test_a_damaged_trace_yields_what_is_whole_and_says_what_isnt(corpus: Path, name: str) -> None:
    trace = load(corpus / "bad" / name)
    outcome = Outcome(
        len(trace.spans),
        len(trace.activities),
        examine(trace).verdict,
        trace.read_report.repairs,
        trace.read_report.truncated,
    )
    assert outcome == OUTCOMES[name]
    assert not trace.read_report.damaged


@pytest.mark.parametrize("name", VALID_JSON)
def test_what_the_json_module_reads_is_read_alike(corpus: Path, name: str) -> None:
    path = corpus / "bad" / name
    events, members = decoded(path)
    file = read_trace(path)
    assert file.report.phases == Counter(event["ph"] for event in events)
    assert set(file.header) == members
    spans = [event for event in events if event["ph"] == "X"]
    found = zip(
        (file.events.names[code] for code in file.events.name),
        file.events.ts_ns.tolist(),
        file.events.dur_ns.tolist(),
        file.events.correlation.tolist(),
        strict=True,
    )
    assert Counter(found) == Counter(
        (
            span["name"],
            expected_ns(span["ts"]),
            max(0, expected_ns(span["dur"])),
            span.get("args", {}).get("correlation", -1),
        )
        for span in spans
    )


def test_the_counted_repairs_are_those_that_the_file_needs(corpus: Path) -> None:
    negative, _ = decoded(corpus / "bad" / "negdur.json")
    assert sum(event.get("dur", 0) < 0 for event in negative) == 1
    texts, _ = decoded(corpus / "bad" / "strts.json")
    assert sum(isinstance(event.get(key), str) for event in texts for key in ("ts", "dur")) == 4611
    assert len((corpus / "bad" / "badutf8.json").read_text(errors="replace").split("\ufffd")) == 1 + 2


@pytest.mark.parametrize("name", ["trunc_plain.json", "truncated.json.gz"])
def test_a_truncated_trace_is_the_beginning_of_the_whole_one(corpus: Path, name: str) -> None:
    cut = read_trace(corpus / "bad" / name)
    whole = read_trace(corpus / "h100_bert_small.json.gz")
    kept, all_spans = (
        Counter(zip(file.events.ts_ns.tolist(), file.events.dur_ns.tolist(), strict=True)) for file in (cut, whole)
    )
    assert kept <= all_spans
    assert 0 < sum(cut.report.phases.values()) < sum(whole.report.phases.values())


@pytest.mark.parametrize("name", REFUSALS)
def test_what_holds_nothing_is_refused_in_one_line(corpus: Path, name: str) -> None:
    path = corpus / "bad" / name
    with pytest.raises(TraceFormatError) as caught:
        load(path)
    assert str(caught.value) == f"{path} {REFUSALS[name]}"


def test_the_header_of_a_trace_without_spans_can_still_be_read(corpus: Path) -> None:
    assert list(read_header(corpus / "bad" / "metaonly.json")) == ["metadata"]


def test_every_damaged_trace_is_in_a_table(corpus: Path) -> None:
    assert {path.name for path in (corpus / "bad").iterdir()} == set(OUTCOMES) | set(REFUSALS)
