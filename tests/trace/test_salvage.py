"""What is left of files that are broken somewhere."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tests.conftest import thorough
from tests.trace.test_reader import event, names_of, read, spans_of, text_of


def compressed_events(count: int) -> tuple[bytes, int]:
    """A gzip file of events whose names don't compress, and the size of its JSON."""
    names = random.Random(1)
    data = text_of(*(event(name=names.randbytes(40).hex(), ts=index) for index in range(count))).encode()
    return gzip.compress(data), len(data)


@pytest.mark.parametrize("share", [0.5, *thorough([0.1, 0.9])])
def test_a_small_file_damaged_in_its_middle_yields_the_events_before_the_damage(tmp_path: Path, share: float) -> None:
    data, _ = compressed_events(2000)
    damaged = bytearray(data)
    place = int(share * len(data))
    damaged[place : place + 20] = bytes(byte ^ 0xFF for byte in damaged[place : place + 20])
    file = read(tmp_path, bytes(damaged))
    assert file.report.damaged
    assert len(file.events) >= int(2000 * share) - 200


def test_a_file_with_a_wrong_checksum_yields_all_its_events(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(text_of(event(), event(ts=6)).encode()))
    damaged[-8] ^= 0xFF
    file = read(tmp_path, bytes(damaged))
    assert (len(file.events), file.report.damaged) == (2, True)


def test_a_trace_cut_within_a_character_needs_no_repair(tmp_path: Path) -> None:
    whole = text_of(event(), event(name=b'"\xe6\xbc\xa2\xe5\xad\x97"')).encode()
    file = read(tmp_path, whole[: whole.index(b"\xa2")])
    assert (len(file.events), file.report.repairs, file.report.truncated) == (1, {}, True)


def test_a_trace_cut_within_a_bracketed_name_loses_no_event_and_counts_none(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(), event(name="at ]}, [here"))[:-60].split("here")[0])
    assert (len(file.events), file.report.repairs, file.report.truncated) == (1, {}, True)


def test_half_a_surrogate_pair_loses_the_character_and_not_the_event(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event(name="cut \ud83d"), event(ts=6)))
    assert names_of(file.events) == ["cut \ufffd", "op"]


def test_what_is_no_object_among_the_events_is_counted(tmp_path: Path) -> None:
    file = read(tmp_path, text_of("null", event(), "17", '"text"', "[1]"))
    assert len(file.events) == 1
    assert file.report.repairs == {"undecodable_events": 4}


def test_a_brace_too_many_costs_no_other_event(tmp_path: Path) -> None:
    file = read(tmp_path, text_of(event() + "}", event(ts=6)))
    assert [start for _, start, _ in spans_of(file)] == [5000, 6000]


def test_a_head_that_cant_be_read_is_reported(tmp_path: Path) -> None:
    file = read(tmp_path, '{"a" what, "gemma_trace": {}, "traceEvents": [' + event() + "]}")
    assert len(file.events) == 1
    assert file.report.repairs == {"unreadable_header": 1}
